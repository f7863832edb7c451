"""`alfw demo`: the whole thing on this machine, from nothing to a table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from alfw.cli import output
from alfw.cli.campaign import Json


def register(app: typer.Typer) -> None:
    """Add the demo to the command line."""
    app.command(name="demo")(demo)


def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Working folder; made if missing.")] = Path("demo"),
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Rounds after the start.")] = 2,
    as_json: Json = False,
) -> int:
    """Run a small campaign here: MongoDB, ethanol, GFN2-xTB, a Nequix ensemble, jax-md; table and report at the end.

    Running it again continues or shows the finished one; another --dir starts afresh.
    """
    from alfw.cli.common import find_launchpad
    from alfw.cli.runner import run_campaign
    from alfw.cli.table import campaign_table
    from alfw.steps.summary import campaign_summary
    from alfw.store import server
    from alfw.store.mongod import find_mongod
    from alfw.workflow.control import fizzled, waiting

    began = time.monotonic()
    program = find_mongod()
    file = _campaign(folder, rounds)
    database = server.start(folder, program)
    output.say(database.note or f"mongod on port {database.port}; campaign {file}")
    try:
        code = run_campaign(file, 1, database.launchpad, False)
        pad, store = find_launchpad(database.launchpad)
        summary = campaign_summary(store, "ethanol") | {"stuck": fizzled(pad, "ethanol")}
        summary["fireworks"] = waiting(pad, "ethanol")
        report = _report(store, folder)
    finally:
        server.stop(folder)
    if as_json:
        output.show_json(summary)
        return code
    output.out.print(campaign_table(summary))
    errors = [
        row["force_rmse_eV_per_A"] for row in summary["rounds"] if row["force_rmse_eV_per_A"] is not None
    ]
    if code == output.OK and errors:
        output.show(
            f"force RMSE on the sealed test file: {errors[0]:.3f} → {errors[-1]:.3f} eV/Å "
            f"in {time.monotonic() - began:.0f} s"
        )
    output.show(f"report: {report}")
    output.show(f"look around: cd {folder} && alfw db start && alfw status ethanol && lpad webgui")
    return code


def _report(store: Any, folder: Path) -> Path:
    """The report of the campaign: a page, or text where nothing draws pictures."""
    from alfw.core.errors import PluginError
    from alfw.steps.stop_report import save

    path = folder / "report.html"
    try:
        save(store, "ethanol", path)
    except PluginError:
        path = path.with_suffix(".md")
        save(store, "ethanol", path)
    return path


def _campaign(folder: Path, rounds: int) -> Path:
    """The campaign file of the demo, in a new folder or in the one of a demo before."""
    from alfw.cli.folder import make_folder

    file = folder / "campaign.yaml"
    if file.exists():
        output.say(f"{folder} is there already: its own campaign goes on; another --dir starts afresh")
        return file
    make_folder(folder, "ethanol")
    text = file.read_text(encoding="utf-8")
    stop = f"{{min_rounds: 1, max_rounds: {rounds},"
    file.write_text(text.replace("{min_rounds: 2, max_rounds: 2,", stop), encoding="utf-8")
    return file
