"""`merge_datasets`: new training data to the old, in a new file; energies with potentials where both are there."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from alfw.compat._shell import OK, Parser, leave, say, show
from alfw.core.errors import ConfigError
from alfw.io.datasets import Source
from alfw.io.pair_files import Reading
from alfw.steps.data_files import merge_files, next_name

UNITS = {
    "eV": "R Å, E eV, F eV/Å, D and Dxyz e·Å, esp Hartree/e",
    "hartree": "R Å, E Hartree, F Hartree/Bohr, D and Dxyz Debye, esp Hartree/e",
}


def parser() -> Parser:
    """The flags."""
    parser = Parser("merge_datasets", "Two training sets (NPZ) into a third one, each structure once.")
    for name, what in (("original", "what is there"), ("new", "what comes in")):
        parser.add_argument(f"--{name}", required=True, type=Path, metavar="EFD.npz", help=what)
        parser.add_argument(
            f"--{name}-esp", type=Path, metavar="ESP.npz", help="potentials that belong to it"
        )
    parser.add_argument("--output", required=True, type=Path, metavar="EFD.npz", help="a name that is free")
    parser.add_argument("--output-esp", type=Path, metavar="ESP.npz", help="for the potentials; free, too")
    parser.add_argument(
        "--keep", choices=["first", "last"], help="which of two different labels of one structure"
    )
    parser.add_argument(
        "--units",
        choices=["eV", "hartree"],
        default="eV",
        help="of files that do not say; %(default)s if not given",
    )
    parser.add_argument(
        "--esp-origin",
        choices=["auto", "file", "centre"],
        default="auto",
        help="points of potentials as the file has them, or with their mean at that of the atoms",
    )
    parser.add_argument("--charge", type=int, default=0, help="of structures that do not say")
    parser.add_argument("--multiplicity", type=int, default=1, help="2S + 1, of structures that do not say")
    return parser


def work(arguments: Namespace) -> int:
    """Merge, and say what became of it; the exit code."""
    _check(arguments)
    report = merge_files(
        [Source(arguments.original, arguments.original_esp), Source(arguments.new, arguments.new_esp)],
        arguments.output,
        Reading(arguments.charge, arguments.multiplicity, arguments.units, True, arguments.esp_origin),
        keep=arguments.keep,
        esp_output=arguments.output_esp,
        esp_unit="Hartree/e",
    )
    for note in report["notes"]:
        say(f"note: {note}")
    taken = UNITS[arguments.units]
    say(f"units taken for files that do not say: {taken}; written: {UNITS['eV']}")
    counts = ", ".join(
        f"{each['n_kept']} of {each['n_frames']} of {each['file']}" for each in report["inputs"]
    )
    dropped = f"; {report['n_duplicates']} duplicates dropped" if report["n_duplicates"] else ""
    show(f"{report['file']}: {report['n_frames']} structures ({counts}){dropped}")
    potentials = report["properties"].get("esp", 0)
    if report["esp_file"]:
        show(f"{report['esp_file']}: {potentials} potentials, paired with the structures by id")
    if 0 < potentials < report["n_frames"]:
        say(
            f"note: {report['n_frames'] - potentials} structures have no potential and are trained without one"
        )
    return OK


def _check(arguments: Namespace) -> None:
    """Refuse what would overwrite a file, and potentials that have nowhere to go."""
    for flag in ("output", "output_esp"):
        path = getattr(arguments, flag)
        name = flag.replace("_", "-")
        if path is not None and path.suffix != ".npz":
            raise ConfigError(f"--{name} {path}: the name has to end in .npz")
        if path is not None and os.path.lexists(path):
            raise ConfigError(
                f"--{name} {path} is there already: nothing is overwritten; {next_name(path)} is free"
            )
    if arguments.output_esp is None and (arguments.original_esp or arguments.new_esp):
        raise ConfigError(
            "--output-esp is needed where potentials are given: they are written in the same order"
        )


if __name__ == "__main__":
    leave(parser(), work)
