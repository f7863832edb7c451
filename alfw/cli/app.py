"""`alfw`: the verbs, and how their errors reach the user."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer

from alfw import __version__
from alfw.cli import output
from alfw.cli.database import app as database
from alfw.cli.qm import app as qm
from alfw.core.errors import AlfwError

app = typer.Typer(
    name="alfw",
    help="Active-learning campaigns for machine-learned interatomic potentials, on FireWorks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(database, name="db", help="A managed MongoDB on this machine: start, stop, status.")
app.add_typer(qm, name="qm", help="Reference calculations: write inputs, run, read, try again.")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        output.show(f"alfw {__version__}")
        raise typer.Exit


for _module in (
    "campaign",
    "monitor",
    "report",
    "demo",
    "data",
    "frames",
    "train",
    "validate",
    "sample",
    "choose",
    "convert",
):
    import_module(f"alfw.cli.{_module}").register(app)


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `alfw` command; exits with 0, 1 (user error), 2 (a check failed) or 3 (infrastructure)."""
    sys.exit(_run(argv))


def _run(argv: list[str] | None) -> int:
    try:
        result: Any = app(args=argv, prog_name="alfw", standalone_mode=False)
    except AlfwError as error:
        output.fail(" ".join(str(error).split()))
        return output.USER_ERROR
    except typer.TyperException as error:  # a usage error: unknown option, missing argument
        output.fail(_usage(error))
        return output.USER_ERROR
    except (typer.Abort, KeyboardInterrupt):
        output.fail("interrupted")
        return 130
    except typer.Exit as done:
        return int(done.exit_code)
    return result if isinstance(result, int) else output.OK


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the command, and the help to ask for."""
    context = getattr(error, "ctx", None)
    help_of = f"; see {context.command_path} -h" if context else ""
    return " ".join(error.format_message().rstrip(".").split()) + help_of
