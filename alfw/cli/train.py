"""`alfw train`: the members of an ensemble from files, without a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from alfw.cli import output
from alfw.cli.campaign import Json
from alfw.core.errors import ConfigError

if TYPE_CHECKING:
    from alfw.io.datasets import Source

FRAMES = "Labelled frames: extxyz, npz, h5, db; files, folders, globs."
Train = Annotated[list[str] | None, typer.Option("--train", help=FRAMES, metavar="PATH")]
Valid = Annotated[list[str] | None, typer.Option(help="The same, to validate.", metavar="PATH")]
EFD = Annotated[Path | None, typer.Option(help="Energies, forces, dipoles.", metavar="NPZ")]
ESP = Annotated[Path | None, typer.Option(help="Potentials; they find their rows.", metavar="NPZ")]
OUTPUT = "Folder of the ensemble; default: its name."
Folder = Annotated[Path | None, typer.Option("-o", "--output", help=OUTPUT, metavar="DIR")]
START = "A checkpoint or published name, or an ensemble to go on from."
StartFrom = Annotated[str | None, typer.Option(help=START, metavar="PATH")]
SET = "Any option of the model, in YAML: training.learning_rate=1e-3."
Settings = Annotated[list[str] | None, typer.Option("--set", help=SET, metavar="KEY=VALUE")]
Charge = Annotated[int, typer.Option(help="Of frames whose file does not say.")]
Multiplicity = Annotated[int, typer.Option(min=1, help="2S + 1, of frames whose file does not say.")]
Device = Literal["cpu", "gpu"]
Origin = Literal["file", "centre", "auto"]


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""
    app.command(name="train")(train)


def train(
    model: Annotated[str, typer.Option(help="nequix, physnet, ase, external …", metavar="KIND")],
    train_: Train = None,
    valid: Valid = None,
    train_efd: EFD = None,
    train_esp: ESP = None,
    valid_efd: EFD = None,
    valid_esp: ESP = None,
    folder: Folder = None,
    name: Annotated[str | None, typer.Option(help="Name of the ensemble; default: the kind.")] = None,
    members: Annotated[int | None, typer.Option(min=1, help="Default: that of the kind.")] = None,
    start_from: StartFrom = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="training.epochs (physnet).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="training.steps (nequix).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="training.batch_size.")] = None,
    set_: Settings = None,
    seed: Annotated[int, typer.Option(help="Seeds of all members derive from it.")] = 0,
    units: Annotated[str | None, typer.Option(help="eV or hartree, of NPZ files that do not say.")] = None,
    esp_origin: Annotated[
        Origin, typer.Option(help="Points as in the file, or moved onto their molecule.")
    ] = "file",
    charge: Charge = 0,
    multiplicity: Multiplicity = 1,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Make slabs and wires fully periodic.")] = False,
    device: Annotated[Device, typer.Option(help="Where it is trained.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Processors.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there, train again.")] = False,
    as_json: Json = False,
) -> int:
    """Train an ensemble on labelled frames; the same command continues what was cut off."""
    from alfw.core.records import Resources
    from alfw.io.npz_rows import PRESETS
    from alfw.io.pair_files import Reading
    from alfw.steps.train_files import Job, train_files
    from alfw.steps.train_start import make_start
    from alfw.steps.train_table import spread_note
    from alfw.steps.training_sides import read_sides

    if units is not None and units not in PRESETS:
        raise ConfigError(f"--units {units}: has to be {' or '.join(PRESETS)}")
    given = {"epochs": epochs, "steps": steps, "batch_size": batch_size}
    start = make_start(plugin_options(model, set_ or [], members, given), start_from)
    reading = Reading(charge, multiplicity, units, origin=esp_origin)
    sides = read_sides(
        _sources("train", train_ or [], train_efd, train_esp, model),
        _sources("valid", valid or [], valid_efd, valid_esp, model),
        reading,
        seed,
        "vacuum" if vacuum else None,
    )
    for note in [*sides.notes, *spread_note(start.model)]:
        output.say(note)
    folder = folder or Path(name or model)
    resources, about = Resources(device=device, threads=threads), {"name": name or folder.name}
    try:
        with progress() as tell:
            report = train_files(Job(folder, start, sides, seed, resources, about), force, tell)
    except KeyboardInterrupt:
        output.say(f"{folder}: stopped; the same command continues")
        return 130
    _show(report, as_json)
    return output.OK


def plugin_options(
    kind: str, settings: Sequence[str], members: int | None = None, training: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Options of a plug-in from ``KEY=VALUE``, as in campaign.yaml; dotted keys reach into sections."""
    from alfw.cli.qmfiles import settings as parsed

    options: dict[str, Any] = {}
    for key, value in parsed(settings).items():
        section = options
        *path, last = key.split(".")
        for part in path:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {key}: {part} has a value of its own")
        section[last] = value
    if members is not None:
        options["members"] = members
    given = {key: value for key, value in (training or {}).items() if value is not None}
    if given:
        options["training"] = {**options.get("training", {}), **given}
    return {**options, "kind": kind}


def _sources(side: str, files: list[str], efd: Path | None, esp: Path | None, kind: str) -> list[Source]:
    """The data sets of one side.

    Raises
    ------
    ConfigError
        None for the train side, or flags that do not go together.
    """
    from alfw.io.datasets import Source
    from alfw.steps.training_sides import sources

    if files and efd is not None:
        raise ConfigError(f"--{side} and --{side}-efd: give one of them")
    if esp is not None and efd is None:
        raise ConfigError(f"--{side}-esp: potentials need their energies and forces: --{side}-efd")
    if esp is not None and kind in ("nequix", "ase", "external"):
        raise ConfigError(f"--{side}-esp: {kind} learns no potentials: leave it out, or --model physnet")
    if efd is not None:
        return [Source(efd, esp)]
    if side == "train" and not files:
        raise ConfigError("--train or --train-efd is needed: labelled frames to train on")
    return sources(files) if files else []


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Shows lines in a spinner on a terminal; elsewhere one now and then, and those that end a member."""
    from alfw.steps.train_table import now_and_then

    if output.err.is_terminal:
        with output.err.status("") as spinner:

            def turn(text: str) -> None:
                if text.endswith(": trained"):
                    output.say(text)
                spinner.update(text)

            yield turn
        return
    yield now_and_then(output.say)


def _show(report: Mapping[str, Any], as_json: bool) -> None:
    """The result, and what to do next."""
    from alfw.steps.train_table import table

    if report["already_trained"]:
        output.say(
            f"{report['folder']}: already trained on these data with these options; --force trains again"
        )
    if as_json:
        output.show_json(report)
        return
    for line in table(report):
        output.show(line)
    output.say(f"next: alfw validate {report['folder']} --testset FILES")
