"""`convert_qm_to_npz`: outputs of QM programs to training data in eV, eV/Å, e·Å and Hartree/e."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from alfw.compat._shell import CHECK_FAILED, OK, Parser, leave, say, show, show_refused
from alfw.core.errors import ConfigError
from alfw.steps.qm_read import collect, find_sources, save

CODES = {"orca": "ORCA", "gaussian": "Gaussian", "qchem": "Q-Chem", "psi4": "Psi4"}
UNITS = "units: R Å, E eV, F eV/Å, D and Dxyz e·Å, esp Hartree/e (alfw qm read writes V)"


def parser() -> Parser:
    """The flags."""
    parser = Parser(
        "convert_qm_to_npz", "Training data (NPZ) from outputs of QM programs; bad ones are listed."
    )
    for code, name in CODES.items():
        what = f"{name} outputs: files, folders, globs"
        parser.add_argument(f"--{code}-outputs", nargs="+", metavar="OUTPUT", help=what)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.npz")
    parser.add_argument("--charge", type=int, default=0, help="of outputs that do not say")
    parser.add_argument("--multiplicity", type=int, help="of outputs that do not say")
    return parser


def work(arguments: Namespace) -> int:
    """Read, write, list what is refused; the exit code."""
    given = {code: getattr(arguments, f"{code}_outputs") for code in CODES}
    given = {code: paths for code, paths in given.items() if paths}
    if len(given) != 1:
        flags = ", ".join(f"--{code}-outputs" for code in CODES)
        raise ConfigError(f"one of {flags} is needed: a data set is of one theory")
    if arguments.output.suffix != ".npz":
        raise ConfigError(f"--output {arguments.output}: the name has to end in .npz")
    [(code, paths)] = given.items()
    sources = find_sources(paths, code)
    collected = collect(sources, code, arguments.charge, arguments.multiplicity)
    report = save(arguments.output, collected, "Hartree/e")
    if collected.items:
        show(
            f"{arguments.output}: {report['n_labels']} structures from {report['n_outputs']} outputs; {UNITS}"
        )
    else:
        show(f"no good output among {report['n_outputs']}: {arguments.output} is not written")
    show_refused(collected.refused)
    if collected.items and "dipole" not in report["properties"]:
        say("note: no output has a dipole, so there is no key D")
    return CHECK_FAILED if collected.refused else OK


if __name__ == "__main__":
    leave(parser(), work)
