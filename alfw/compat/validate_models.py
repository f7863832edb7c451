"""`validate_models`: an ensemble against labelled structures.

The file of ``--output`` is a list as before, a row a frame: `index`, `energy_error` (|ΔE| of the whole frame, eV),
`forces_error` (mean over atoms of |ΔF|, eV/Å); further keys are ours. ``NAME.full.json`` beside it is the whole report
of ``alfw validate``: RMSE and MAE, by region and element, calibration of the spread.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from alfw.compat._models import add_models, add_state, find_models
from alfw.compat._shell import OK, Parser, leave, say, show
from alfw.io.files import write_file
from alfw.steps.validate import Validation, save_html, save_report, validate
from alfw.steps.validation.testset import Reading


def parser() -> Parser:
    """The flags."""
    parser = Parser("validate_models", "Errors of an ensemble on labelled structures.")
    add_models(parser)
    what = "folder, files or globs of labelled structures"
    parser.add_argument("--testset", nargs="+", required=True, metavar="DIR", help=what)
    parser.add_argument(
        "--output",
        "--out",
        dest="output",
        type=Path,
        default=Path("validation_report.json"),
        metavar="FILE.json",
    )
    parser.add_argument("--html", type=Path, metavar="FILE.html", help="a page with pictures as well")
    add_state(parser)
    return parser


def work(arguments: Namespace) -> int:
    """Compare, write, tell; the exit code."""
    models, notes = find_models(arguments.models)
    for note in notes:
        say(note)
    reading = Reading("eV", arguments.charge, arguments.multiplicity)
    found = validate(models, arguments.testset, reading)
    rows = json.dumps([_row(i, frame) for i, frame in enumerate(found.report["frames"])], indent=1)
    full = arguments.output.with_suffix(".full.json")
    save_report(full, found)
    write_file(arguments.output, (rows + "\n").encode())
    if arguments.html is not None:
        save_html(arguments.html, found)
    if any(reference.source.suffix == ".npz" for reference in found.predicted.references):
        say("units: NPZ files that do not say are in Å, eV, eV/Å, e·Å, Hartree/e")
    say(f"labels of {found.report['labels']}")
    for line in _summary(found):
        show(line)
    show(f"{arguments.output}: a row a frame; {full}: the whole report")
    return OK


def _row(index: int, frame: dict[str, Any]) -> dict[str, Any]:
    """One frame in the shape of the seed, ours beside."""
    error = frame["energy_error_eV"]
    old = {"index": index, "energy_error": None if error is None else abs(error)}
    more = {key: value for key, value in frame.items() if key not in ("index", "region")}
    return {
        **old,
        "forces_error": frame["force_error_mean_eV_per_A"],
        "frame": frame["index"],
        **more,
    }


def _summary(found: Validation) -> list[str]:
    """The errors in a few lines; infinite or unknown ones as –."""
    whole = found.report["all"]

    def of(key: str, factor: float = 1.0) -> str:
        return "–" if whole[key] is None else f"{whole[key] * factor:.4g}"

    elements = (
        f"{name} {each['force_rmse_eV_per_A']:.4g}"
        for name, each in whole["elements"].items()
        if each["force_rmse_eV_per_A"] is not None
    )
    lines = [
        f"{whole['n_frames']} frames, {found.report['members']} members",
        f"energy: RMSE {of('energy_rmse_eV_per_atom', 1000)}, MAE {of('energy_mae_eV_per_atom', 1000)} meV/atom",
        f"forces: RMSE {of('force_rmse_eV_per_A')}, MAE {of('force_mae_eV_per_A')} eV/Å per component",
        f"forces, RMSE by element: {', '.join(elements)} eV/Å",
    ]
    if found.report["note"]:
        lines.append(found.report["note"])
    if whole["spread"] is not None:
        spread = whole["spread"]["forces"]
        rank = "–" if spread["spearman"] is None else f"{spread['spearman']:.2f}"
        lines.append(f"force_std: rank correlation with the errors {rank}")
    return lines


if __name__ == "__main__":
    leave(parser(), work)
