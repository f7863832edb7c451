"""`alfw report`: why a campaign ended, or what is missing, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alfw.cli import output
from alfw.cli.campaign import Json, LaunchpadFile


def register(app: typer.Typer) -> None:
    """Add the report to the command line."""
    app.command(name="report")(report)


def report(
    name: Annotated[str, typer.Argument(help="Name of the campaign.", metavar="NAME")],
    path: Annotated[
        Path, typer.Option("-o", "--output", help="File to write: .html (with pictures), .md or .json.")
    ],
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Write the report of a campaign: stop rules, learning curve, errors, calibration, failures, costs."""
    from alfw.cli.common import find_launchpad
    from alfw.steps.stop_report import save

    _, store = find_launchpad(launchpad)
    found = save(store, name, path)
    if as_json:
        output.show_json(found)
        return
    reason = f": {found['stop_reason']}" if found["stop_reason"] else ""
    output.show(f"{path}: {name} ({found['state']}{reason}), {len(found['rounds'])} rounds")
