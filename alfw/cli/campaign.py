"""Verbs that act on a campaign: init, check, run, amend, pause, resume, stop, reconcile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from alfw.cli import output
from alfw.core.errors import AlfwError, ConfigError

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
    here = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    output.say(
        f"next: {here}alfw db start && lpad add campaign.yaml && rlaunch rapidfire --nlaunches infinite"
    )
    output.say(f"or, all in one: {here}alfw run campaign.yaml")


def check(
    file: File,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take one frame through every back-end.")
    ] = False,
    as_json: Json = False,
) -> int:
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
        try:
            report["dry_run"] = take_one(config, data)
        except AlfwError as error:
            output.fail(f"dry run: {error}")
            return output.CHECK_FAILED
    if as_json:
        output.show_json(report)
    else:
        output.show_pairs(report)
    return output.OK


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


def amend(file: File, launchpad: LaunchpadFile = None, as_json: Json = False) -> None:
    """Record changed settings as a new revision; rounds opened from now on use it. The theory cannot change."""
    from alfw.cli.common import checked_campaign, find_launchpad
    from alfw.steps.context import load_config
    from alfw.workflow.control import revise

    config, _ = checked_campaign(file)
    pad, store = find_launchpad(launchpad)
    differing = config.difference(load_config(store, config.name))
    if differing:
        number = revise(pad, store, config)
        text = f"revision {number} changes {', '.join(differing)}"
    else:
        number, text = len(store.get_campaign(config.name)["revisions"]), "nothing differs"
    _tell(store, config.name, text, as_json, revision=number, changed=differing)


def pause(name: Name, launchpad: LaunchpadFile = None, as_json: Json = False) -> None:
    """Hold a campaign: nothing new begins; what runs may finish."""
    from alfw.cli.common import find_launchpad
    from alfw.workflow import control

    pad, store = find_launchpad(launchpad)
    if control.state(store, name) == "ended":
        raise ConfigError(f"{name} has ended: {store.get_campaign(name)['reason']}")
    control.pause(pad, store, name, "paused by the user")
    _tell(store, name, f"paused; to go on: alfw resume {name}", as_json)


def resume(name: Name, launchpad: LaunchpadFile = None, as_json: Json = False) -> None:
    """Let a paused campaign go on; what held it is accepted."""
    from alfw.cli.common import find_launchpad
    from alfw.workflow import control

    pad, store = find_launchpad(launchpad)
    control.resume(pad, store, name)
    _tell(store, name, "running", as_json)


def stop(name: Name, launchpad: LaunchpadFile = None, as_json: Json = False) -> None:
    """End a campaign for good; everything stored stays."""
    from alfw.cli.common import find_launchpad
    from alfw.workflow import control

    pad, store = find_launchpad(launchpad)
    if control.state(store, name) == "ended":
        text = f"had ended already: {store.get_campaign(name)['reason']}"
    else:
        control.stop(pad, store, name)
        text = "ended; everything stored stays"
    _tell(store, name, text, as_json)


def _tell(store: Any, name: str, text: str, as_json: bool, **more: Any) -> None:
    """What became of a campaign: one line for people, its state and more as JSON."""
    if as_json:
        output.show_json({"campaign": name, "state": store.get_campaign(name)["state"], **more})
    else:
        output.show(f"{name}: {text}")


def reconcile(
    expiration: Annotated[
        float | None,
        typer.Option(help="Seconds without a ping after which a run is lost.", metavar="SECONDS"),
    ] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> int:
    """Put right what killed workers left behind; safe to run twice, and at once."""
    from alfw.cli.common import find_launchpad
    from alfw.workflow.reconcile import reconcile as put_right

    pad, store = find_launchpad(launchpad)
    report = put_right(pad, store, expiration_s=expiration)
    if as_json:
        output.show_json(vars(report))
        return output.CHECK_FAILED if report.trouble else output.OK
    if report.nothing:
        output.show("nothing to put right")
    for what, found in vars(report).items():
        if found:
            output.show(f"{what}: {found if isinstance(found, int) else ', '.join(map(str, found))}")
    return output.CHECK_FAILED if report.trouble else output.OK
