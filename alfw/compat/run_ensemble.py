"""`run_ensemble`: what each member of an ensemble says of structures.

``--output`` is a JSON list, a row a frame, with the keys of the older system: `E_mean` (eV), `E_var` (eV²), `F_mean`
(n, 3) (eV/Å), `F_var` ((eV/Å)², mean over atoms and components of the population variance), `index`. Ours stand beside
them: where the frame is from, `force_std_max` (eV/Å), `energy_std_per_atom` (eV), `units` …
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np

from alfw.compat._models import add_models, add_state, find_models
from alfw.compat._shell import CHECK_FAILED, OK, Parser, leave, say, show
from alfw.models.ensemble import load_models
from alfw.steps.screen_files import read_structures, screen
from alfw.steps.screened import save
from alfw.steps.train_table import now_and_then


def parser() -> Parser:
    """The flags."""
    parser = Parser("run_ensemble", "Energies and forces of an ensemble on structures.")
    add_models(parser)
    what = "folder, files or globs; any format that ASE reads"
    parser.add_argument("--structures", nargs="+", required=True, metavar="DIR", help=what)
    parser.add_argument(
        "--output",
        "--out",
        dest="output",
        type=Path,
        default=Path("ensemble_results.json"),
        metavar="FILE.json",
    )
    add_state(parser)
    return parser


def work(arguments: Namespace) -> int:
    """Predict, write, tell; the exit code."""
    models, notes = find_models(arguments.models)
    for note in notes:
        say(note)
    frames, origins = read_structures(
        arguments.structures, arguments.charge, arguments.multiplicity, "vacuum"
    )
    tell = now_and_then(say)
    found = screen(
        load_models(models), frames, origins, progress=lambda done, n: tell(f"{done}/{n} structures")
    )
    save(arguments.output, found)
    lost = int((~found.finite).sum())
    show(f"{arguments.output}: {len(frames)} structures, {found.members} members")
    if found.members > 1 and lost < len(frames):
        std = found.force_std[found.finite]
        show(f"force_std eV/Å: median {np.median(std):.4f}, largest {std.max():.4f}")
    else:
        say("force_std needs two members or more")
    if lost:
        say(f"{lost} structures with a prediction that is not finite: null in the file")
    return CHECK_FAILED if lost else OK


if __name__ == "__main__":
    leave(parser(), work)
