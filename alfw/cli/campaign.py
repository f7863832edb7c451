"""Verbs that act on a campaign: init, check, run, amend, pause, resume, stop, reconcile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alfw.cli import output
from alfw.core.errors import ConfigError

File = Annotated[Path, typer.Argument(help="The campaign file.", metavar="FILE")]
Name = Annotated[str, typer.Argument(help="Name of the campaign.", metavar="NAME")]
LaunchpadFile = Annotated[
    Path | None, typer.Option("-l", "--launchpad", help="Launchpad file; by default the one FireWorks finds.")
]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, and nothing else there.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (init, check, run, amend, pause, resume, stop, reconcile):
        app.command(name=verb.__name__)(verb)


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make.", metavar="DIR")] = Path("."),
    template: Annotated[str, typer.Option(help="Campaign to start from.")] = "ethanol",
    as_json: Json = False,
) -> None:
    """Make a working folder: campaign file, FireWorks settings, worker and queue files."""
    from alfw.cli.folder import make_folder

    written = make_folder(folder, template)
    if as_json:
        output.show_json({"folder": str(folder.resolve()), "files": [path.name for path in written]})
        return
    for path in written:
        output.show(str(path))
    output.say(f"next: cd {folder} && alfw db start && lpad add campaign.yaml   (or: alfw run campaign.yaml)")


def check(
    file: File,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take one frame through every back-end.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Validate a campaign file and the data it names; nothing is written."""
    from alfw.cli.common import checked_campaign
    from alfw.cli.dryrun import dry_run as take_one

    config, data = checked_campaign(file)
    sides = [entry.side for entry in data.entries]
    report = {
        "campaign": config.name,
        **{f"n_{side}": sides.count(side) for side in ("train", "valid", "test")},
    }
    report |= {"theory": str(config.plugins(None).labeler.theory()), "note": data.note}
    if dry_run:
        report["dry_run"] = take_one(config, data)
    if as_json:
        output.show_json(report)
        return
    for key, value in report.items():
        if value is not None:
            output.show(f"{key}: {value}")


def run(
    file: File,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes on this machine.")] = 1,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> int:
    """Work on a campaign until it ends: starts a database if needed, adds the campaign, shows progress.

    Ctrl-C stops cleanly; running it again continues.
    """
    from alfw.cli.runner import run_campaign

    return run_campaign(file, workers, launchpad, as_json)


def amend(file: File, launchpad: LaunchpadFile = None) -> None:
    """Record changed settings as a new revision; rounds opened from now on use it. The theory cannot change."""
    from alfw.cli.common import checked_campaign, find_launchpad
    from alfw.steps.context import load_config
    from alfw.workflow.control import revise

    config, _ = checked_campaign(file)
    pad, store = find_launchpad(launchpad)
    differing = config.difference(load_config(store, config.name))
    if not differing:
        output.show(f"{config.name}: nothing differs")
        return
    number = revise(pad, store, config)
    output.show(f"{config.name}: revision {number} changes {', '.join(differing)}")


def pause(name: Name, launchpad: LaunchpadFile = None) -> None:
    """Hold a campaign: nothing new begins; what runs may finish."""
    from alfw.cli.common import find_launchpad
    from alfw.workflow import control

    pad, store = find_launchpad(launchpad)
    if control.state(store, name) == "ended":
        raise ConfigError(f"{name} has ended: {store.get_campaign(name)['reason']}")
    control.pause(pad, store, name, "paused by the user")
    output.show(f"{name}: paused")


def resume(name: Name, launchpad: LaunchpadFile = None) -> None:
    """Let a paused campaign go on; what held it is accepted."""
    from alfw.cli.common import find_launchpad
    from alfw.workflow import control

    pad, store = find_launchpad(launchpad)
    control.resume(pad, store, name)
    output.show(f"{name}: running")


def stop(name: Name, launchpad: LaunchpadFile = None) -> None:
    """End a campaign for good; everything stored stays."""
    from alfw.cli.common import find_launchpad
    from alfw.workflow import control

    pad, store = find_launchpad(launchpad)
    control.stop(pad, store, name)
    output.show(f"{name}: ended (stopped by the user)")


def reconcile(
    expiration: Annotated[
        float | None,
        typer.Option(help="Seconds without a ping after which a run is lost.", metavar="SECONDS"),
    ] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Put right what killed workers left behind; safe to run twice, and at once."""
    from alfw.cli.common import find_launchpad
    from alfw.workflow.reconcile import reconcile as put_right

    pad, store = find_launchpad(launchpad)
    report = put_right(pad, store, expiration_s=expiration)
    if as_json:
        output.show_json(vars(report))
        return
    if report.nothing:
        output.show("nothing to put right")
    for what, found in vars(report).items():
        if found:
            output.show(f"{what}: {found if isinstance(found, int) else ', '.join(map(str, found))}")
