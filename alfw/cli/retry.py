"""`alfw qm retry`: frames that a campaign gave up are tried again."""

from __future__ import annotations

from typing import Annotated

import typer

from alfw.cli import output
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
    """Put frames back whose label failed for good: without options, all of them.

    They are computed again in the round at hand, or, where its labels are merged, join the next selection, beside the
    frames that `max_frames` allows.
    """
    from alfw.cli.common import find_launchpad
    from alfw.workflow.retry import retry as put_back

    pad, store = find_launchpad(launchpad)
    report = put_back(pad, store, name, classes or (), frames or (), dry_run)
    if as_json:
        output.show_json({"campaign": name, "dry_run": dry_run, **vars(report)})
        return
    counts = ", ".join(f"{key} {number}" for key, number in report.classes.items()) or "nothing new"
    output.show(f"{name}: {'would put back' if dry_run else 'put back'}: {counts}")
    if report.fireworks:
        output.show(f"label Fireworks that run again: {', '.join(map(str, report.fireworks))}")
    if report.later:
        output.show(f"frames that join the next selection: {len(report.later)}")
    if report.sealed:
        output.show(f"frames of the test side, which was sealed without them: {len(report.sealed)} stay out")
    if report.note:
        output.show(report.note)
