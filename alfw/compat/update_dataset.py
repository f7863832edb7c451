"""`update_dataset`: results of DFT into the training set, without the ones that are there and the ones that failed."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from alfw.compat._shell import CHECK_FAILED, OK, Parser, leave, say, show, show_refused
from alfw.io.pair_files import Reading
from alfw.steps.data_update import update


def parser() -> Parser:
    """The flags."""
    parser = Parser(
        "update_dataset",
        "New labels into a data set: a folder gets one more file, a file its next version beside it.",
    )
    parser.add_argument(
        "--new",
        required=True,
        type=Path,
        metavar="DIR",
        help="results: NAME_OUTCAR, job folders, outputs of other programs, labelled structures (extxyz …)",
    )
    parser.add_argument(
        "--dataset", required=True, type=Path, metavar="DIR|FILE", help="folder of data files, or one of them"
    )
    parser.add_argument("--charge", type=int, default=0, help="of structures that do not say")
    parser.add_argument("--multiplicity", type=int, default=1, help="2S + 1, of structures that do not say")
    return parser


def work(arguments: Namespace) -> int:
    """Read, compare, write, list what is refused; the exit code."""
    reading = Reading(arguments.charge, arguments.multiplicity, units="eV", assumed=True)
    report = update(arguments.dataset, arguments.new, reading)
    for note in report["notes"]:
        say(f"note: {note}")
    known = f", {report['n_known']} were there already" if report["n_known"] else ""
    if report["file"]:
        total = f"{report['n_frames']} in all"
        show(f"{report['file']}: {report['n_new']} new labels{known}; {total}; in eV, eV/Å, Å")
    else:
        show(f"{arguments.dataset}: nothing new{known}; {report['n_frames']} labels as before")
    show_refused(report["refused"])
    return CHECK_FAILED if report["refused"] else OK


if __name__ == "__main__":
    leave(parser(), work)
