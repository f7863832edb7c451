"""`alfw qm retry`: frames that a campaign gave up are tried again."""

from __future__ import annotations

from typing import Annotated

import typer

from alfw.cli.campaign import Json, LaunchpadFile, Name


def register(app: typer.Typer) -> None:
    """Add the verb to `alfw qm`."""
    app.command(name="retry")(retry)


def retry(
    name: Name,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only failures of this class; may be repeated.", metavar="CLASS"),
    ] = None,
    frames: Annotated[
        list[str] | None,
        typer.Option("--frame", help="Only this frame (id or its beginning); may be repeated.", metavar="ID"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Put frames back whose label failed for good."""
