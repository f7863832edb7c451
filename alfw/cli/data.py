"""`alfw data merge, info, convert`: data sets through files, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from alfw.cli import output
from alfw.cli.campaign import Json
from alfw.core.errors import ConfigError

data = typer.Typer(no_args_is_help=True)
MANY = 8  # so many of one kind are shown; --json has all


class Units(StrEnum):
    """Of energies, forces and dipoles."""

    eV = "eV"
    hartree = "hartree"
    ani = "ani"


class EspUnits(StrEnum):
    """Of potentials that are written."""

    V = "V"
    hartree = "Hartree/e"


class Keep(StrEnum):
    """Which of two labels."""

    first = "first"
    last = "last"


class Origin(StrEnum):
    """Where the points of potentials are."""

    file = "file"
    centre = "centre"


UnitsOption = Annotated[
    Units | None,
    typer.Option(
        help="Of files that do not say: eV, eV/Å, e·Å; hartree = Hartree, Hartree/Bohr, Debye; "
        "ani = Hartree, Hartree/Å (HDF5)."
    ),
]
Charge = Annotated[int, typer.Option(help="Of frames whose file does not say.")]
Multiplicity = Annotated[int, typer.Option(min=1, help="2S + 1, of frames whose file does not say.")]
Vacuum = Annotated[bool, typer.Option("--vacuum", help="Make slabs and wires fully periodic with vacuum.")]
EspOutput = Annotated[
    Path | None, typer.Option(help="NPZ file for the potentials, apart from the rest.", metavar="FILE")
]
EspUnit = Annotated[EspUnits, typer.Option(help="Of potentials in the NPZ files written.")]
EspOrigin = Annotated[
    Origin, typer.Option(help="Points as the file has them, or moved with their mean to that of the atoms.")
]
Target = Annotated[
    Path, typer.Option("-o", "--output", help="File to write: .npz, .extxyz, .h5 or .db.", metavar="FILE")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to `alfw`."""
    for verb in (info, merge, convert):
        data.command(name=verb.__name__)(verb)
    app.add_typer(data, name="data", help="Data sets in files: info, merge, convert.")


def info(
    files: Annotated[
        list[Path],
        typer.Argument(help="NPZ, extended XYZ, HDF5, ASE database …; folders, globs.", metavar="FILE"),
    ],
    units: UnitsOption = None,
    charge: Charge = 0,
    multiplicity: Multiplicity = 1,
    as_json: Json = False,
) -> None:
    """What is in data sets: frames, elements, labels, sides, theories, units, and rows that look wrong."""
    from alfw.io.datasets import data_files
    from alfw.steps.data_info import describe

    reports = [describe(path, units and units.value, charge, multiplicity) for path in data_files(files)]
    if as_json:
        output.show_json({"files": reports})
        return
    for report in reports:
        _show_info(report)


def _show_info(report: Mapping[str, Any]) -> None:
    """One file, for people."""
    output.show(str(report["file"]))
    for key, value in {**report, "units": report["units"] or "not stated"}.items():
        if key in ("duplicates", "suspicious"):
            for row in value[:MANY]:
                same = isinstance(row, list)
                output.show(
                    f"  the same frame: {', '.join(map(str, row))}"
                    if same
                    else f"  frame {row['frame']}: {row['why']}"
                )
            if len(value) > MANY:
                output.show(f"  … {len(value)} {key} in all")
        elif value is not None and key != "file":
            output.show(f"  {key}: {_few(value) if isinstance(value, Mapping) else _number(value)}")


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _few(values: Mapping[str, Any]) -> str:
    """A mapping in one line, cut where it is long; counts in brackets."""
    plain = values.keys() & {"min", "E"}
    shown = [
        f"{key} {_number(value)}" if plain else f"{key} ({value})"
        for key, value in list(values.items())[:MANY]
    ]
    return ", ".join(shown) + (f" … {len(values)} in all" if len(values) > MANY else "")


def merge(
    files: Annotated[
        list[Path], typer.Argument(help="Data sets, folders of them, globs; in order.", metavar="FILE…")
    ],
    path: Target,
    esp: Annotated[
        list[str] | None,
        typer.Option(
            help="Potentials of a FILE; once for each, in the same order, - where it has none.", metavar="ESP"
        ),
    ] = None,
    esp_output: EspOutput = None,
    units: UnitsOption = None,
    keep: Annotated[
        Keep | None, typer.Option(help="Which of two different labels of one frame; else they are refused.")
    ] = None,
    allow_theories: Annotated[
        bool, typer.Option("--allow-theories", help="Labels of several theories in one data set.")
    ] = False,
    esp_unit: EspUnit = EspUnits.V,
    esp_origin: EspOrigin = Origin.file,
    charge: Charge = 0,
    multiplicity: Multiplicity = 1,
    vacuum: Vacuum = False,
    as_json: Json = False,
) -> None:
    """Merge data sets into a new file: each frame once, each trajectory on one side, nothing overwritten."""
    from alfw.steps.data_files import merge_files

    report = merge_files(
        _sources(files, esp or []),
        path,
        _reading(units, charge, multiplicity, esp_origin),
        keep=keep and keep.value,
        allow_theories=allow_theories,
        esp_output=esp_output,
        esp_unit=esp_unit.value,
        partial_pbc="vacuum" if vacuum else None,
    )
    _show_written(report, as_json)


def _sources(files: Sequence[Path], esp: Sequence[str]) -> list[Any]:
    """The data sets, each with its potentials if they are in a file of their own.

    Raises
    ------
    ConfigError
        It is not clear what belongs together.
    """
    from alfw.io.datasets import Source, data_files

    if not esp:
        return [Source(path) for path in data_files(files)]
    if len(esp) != len(files):
        raise ConfigError(
            f"--esp is given {len(esp)} times for {len(files)} data sets: --esp FILE once for each, in the same order "
            "(--esp - where there is none)"
        )
    return [Source(one, None if other == "-" else Path(other)) for one, other in zip(files, esp, strict=True)]


def convert(
    file: Annotated[Path, typer.Argument(help="The data set.", metavar="FILE")],
    path: Target,
    esp: Annotated[Path | None, typer.Option(help="Potentials that belong to it.", metavar="ESP")] = None,
    esp_output: EspOutput = None,
    units: UnitsOption = None,
    esp_unit: EspUnit = EspUnits.V,
    esp_origin: EspOrigin = Origin.file,
    charge: Charge = 0,
    multiplicity: Multiplicity = 1,
    vacuum: Vacuum = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a data set in another format; what that cannot hold is said."""
    from alfw.io.datasets import Source
    from alfw.steps.data_files import convert_file

    report = convert_file(
        Source(file, esp),
        path,
        _reading(units, charge, multiplicity, esp_origin),
        force=force,
        esp_output=esp_output,
        esp_unit=esp_unit.value,
        partial_pbc="vacuum" if vacuum else None,
    )
    _show_written(report, as_json)


def _reading(units: Units | None, charge: int, multiplicity: int, origin: Origin) -> Any:
    """How files are read that do not say everything; one that states its units is read by them."""
    from alfw.io.pair_files import Reading

    return Reading(charge, multiplicity, units and units.value, assumed=True, origin=origin.value)


def _show_written(report: Mapping[str, Any], as_json: bool) -> None:
    """Notes to the person, the result to stdout."""
    for note in report["notes"]:
        output.say(f"note: {note}")
    if as_json:
        output.show_json(report)
        return
    carried = ", ".join(f"{name} {count}" for name, count in report["properties"].items())
    output.show(f"{report['file']}: {report['n_frames']} frames; {carried}; in eV, Å, e·Å")
    if report["esp_file"]:
        count = report["properties"]["esp"]
        output.show(f"{report['esp_file']}: {count} potentials, in {report['units']['esp']}")
    for entry in report.get("inputs", []):
        output.show(f"  {entry['file']}: {entry['n_kept']} of {entry['n_frames']} frames")
    if report.get("n_duplicates"):
        output.show(f"  {report['n_duplicates']} duplicates dropped")
    if report.get("sides", {}).keys() - {"unstated"}:
        output.show(f"  sides: {_few(report['sides'])}")
