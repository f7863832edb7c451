"""`alfw db`: a MongoDB for this machine, started, stopped and looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alfw.core.errors import StoreError

if TYPE_CHECKING:
    from alfw.store import server

USER_ERROR, INFRASTRUCTURE = 1, 3
app = typer.Typer(help="A managed local MongoDB: loopback only, authentication on.", no_args_is_help=True)
Dir = Annotated[Path, typer.Option("--dir", help="Working folder; the data lie in its alfw_db/.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@app.command()
def start(
    folder: Dir = Path(),
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="Default: the first free from 27117.")
    ] = None,
    mongod: Annotated[
        str | None, typer.Option(help="The program; default: $ALFW_MONGOD, PATH, wheel.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start mongod for this folder and write my_launchpad.yaml; does nothing when it runs already."""
    from alfw.store import mongod as programs
    from alfw.store import server

    if not folder.is_dir():
        raise _fail(StoreError(f"{folder} is no folder: make it, or choose another with --dir"), USER_ERROR)
    try:
        server.check_port(server.status(folder), port)
        program = programs.find_mongod(mongod)
    except StoreError as error:
        raise _fail(error, USER_ERROR) from error
    try:
        status = server.start(folder, program, port)
        _prepare(status)
    except StoreError as error:
        raise _fail(error, INFRASTRUCTURE) from error
    _tell(status, as_json)


@app.command()
def stop(folder: Dir = Path(), as_json: Json = False) -> None:
    """Stop the mongod of this folder; the data stay."""
    from alfw.store import server

    try:
        _tell(server.stop(folder), as_json)
    except StoreError as error:
        raise _fail(error, INFRASTRUCTURE) from error


@app.command()
def status(folder: Dir = Path(), as_json: Json = False) -> None:
    """Say whether the mongod of this folder runs, and where."""
    from alfw.store import server

    _tell(server.status(folder), as_json)


def _prepare(status: server.Status) -> None:
    """Let FireWorks make its counters in a new database, as `lpad reset` would."""
    from alfw.cli.common import find_launchpad

    find_launchpad(status.launchpad)


def _fail(error: Exception, code: int) -> typer.Exit:
    typer.echo(f"alfw: {error}", err=True)
    return typer.Exit(code)


def _tell(status: server.Status, as_json: bool) -> None:
    """One line for people, or the same as JSON."""
    from alfw.store.mongod import HOST

    if status.note:
        typer.echo(status.note, err=True)
    if as_json:
        fields = {
            "state": status.state,
            "changed": status.changed,
            "pid": status.pid,
            "host": HOST,
            "port": status.port,
            "launchpad": None if status.launchpad is None else str(status.launchpad),
            "folder": str(status.folder),
            "note": status.note,
        }
        typer.echo(json.dumps(fields))
        return
    adverb = "" if status.changed else " already" if status.state == "running" else ""
    where = f" on {HOST}:{status.port}, pid {status.pid}; {status.launchpad}"
    words = {
        "running": f"mongod runs{adverb}{where}",
        "stopped": f"mongod is stopped; its data stay in {status.folder}",
        "absent": f"no database in {status.folder} yet: alfw db start",
    }
    typer.echo(words[status.state])
