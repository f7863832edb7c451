"""`alfw convert checkpoint`: weights from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alfw.cli import output
from alfw.cli.campaign import Json


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""
    group = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
    group.callback()(_group)
    group.command()(checkpoint)
    app.add_typer(group, name="convert", help="Weights from one format to another: checkpoint.")


def _group() -> None:
    """Weights from one format to another."""


def checkpoint(
    source: Annotated[
        Path,
        typer.Argument(
            help="model.nqx or model.pt of Nequix, a folder with ensemble.json, or a pickled checkpoint:"
            " best_params.pkl or its folder.",
            metavar="SOURCE",
        ),
    ],
    target: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="model.pt or model.nqx; a folder; model.npz of a pickle.", metavar="OUT"
        ),
    ],
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Read a pickle: arrays and plain types of it; all else is refused, nothing is executed.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: Json = False,
) -> int:
    """Convert Nequix weights between JAX (.nqx) and torch (.pt), or a PhysNet + DCMNet pickle to NPZ and a recipe."""
    from alfw.steps.convert import convert_checkpoint

    done = convert_checkpoint(source, target, trust, force)
    if as_json:
        output.show_json(done)
        return output.OK
    several = f", {done['n_members']} members" if done["n_members"] > 1 else ""
    output.show(f"{target}: {done['format']}{several}, from {source}")
    if len(done["files"]) > 1 and target.suffix == ".npz":
        recipe = done["files"][1]
        output.say(f"next: {recipe} runs these weights by mmml's own code; it says what that needs")
    return output.OK
