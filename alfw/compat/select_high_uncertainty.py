"""`select_high_uncertainty`: the structures about which an ensemble disagrees more than a threshold.

The score is `force_std_max` in eV/Å: the largest over the atoms of sqrt(mean over members of |F − mean F|²).
``--score seed`` is the older one, E_var + F_var, a sum of eV² and (eV/Å)². Each structure above ``--threshold`` is
``frame_INDEX.extxyz`` in the output folder, and ``frame_INDEX.vasp`` beside it where it has a cell.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from alfw.compat._shell import CHECK_FAILED, OK, Parser, leave, say, show
from alfw.core.errors import ConfigError, DataError
from alfw.core.frame import Float, Frame
from alfw.io.files import write_file
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.labelers._exchange import structure_file
from alfw.steps.screen_files import read_structures
from alfw.steps.screened import frames_of, read_rows

LIST = "selected.json"
UNITS = {"force_std": "eV/Å", "seed": "eV² + (eV/Å)²"}


def parser() -> Parser:
    """The flags."""
    parser = Parser("select_high_uncertainty", "The structures an ensemble disagrees about.")
    parser.add_argument("--ensemble", type=Path, required=True, metavar="FILE.json", help="of run_ensemble")
    parser.add_argument("--threshold", type=float, metavar="X", help="lowest score, in eV/Å of force_std")
    parser.add_argument(
        "--topk", type=int, metavar="N", help="the N highest, of those above --threshold if given"
    )
    parser.add_argument(
        "--output", "--out", dest="output", type=Path, default=Path("selected_structures"), metavar="DIR"
    )
    what = "where the structures are, for files of the older system that do not say"
    parser.add_argument("--structures", nargs="+", metavar="DIR", help=what)
    parser.add_argument("--score", choices=tuple(UNITS), default="force_std", help="seed: E_var + F_var")
    return parser


def work(arguments: Namespace) -> int:
    """Choose, write, tell; the exit code."""
    if arguments.threshold is None and arguments.topk is None:
        raise ConfigError("give --threshold (eV/Å of force_std) or --topk")
    rows = read_rows(arguments.ensemble)
    if not rows:
        raise DataError(f"{arguments.ensemble}: no structures in it")
    scores = _scores(rows, arguments.score, arguments.ensemble)
    lost = int(np.isnan(scores).sum())
    if lost:
        say(f"{lost} of {len(rows)} structures have no finite prediction: left out")
    chosen = _chosen(scores, arguments.threshold, arguments.topk)
    picked = [rows[i] for i in chosen]
    frames = _frames(rows, picked, arguments)
    _write(arguments.output, picked, frames, scores[chosen])
    unit = UNITS[arguments.score]
    limit = "" if arguments.threshold is None else f", threshold {arguments.threshold:g} {unit}"
    show(f"{arguments.output}: {len(chosen)} of {len(rows)} structures{limit}")
    finite = scores[np.isfinite(scores)]
    if finite.size:
        show(f"{arguments.score} {unit}: median {np.median(finite):.4f}, largest {finite.max():.4f}")
    return OK if len(chosen) else CHECK_FAILED


def _scores(rows: list[dict[str, Any]], score: str, path: Path) -> Float:
    """(B,) float64; NaN where a prediction is not finite.

    Raises
    ------
    DataError
        The file has no such score, or is that of one member.
    """
    if score == "seed":
        say(
            "E_var + F_var adds eV² and (eV/Å)², grows with size and hides a single bad atom: prefer force_std"
        )
        pairs = [(row["E_var"], row["F_var"]) for row in rows]
        return np.array(
            [np.nan if None in pair else float(np.sum(np.array(pair[1]).mean() + pair[0])) for pair in pairs]
        )
    if any("force_std_max" not in row for row in rows):
        raise DataError(f"{path}: has no force_std_max: make it with run_ensemble here, or take --score seed")
    if all(row.get("members") == 1 for row in rows):
        raise DataError(f"{path}: of one model, which cannot disagree: run_ensemble with two or more")
    values = [row["force_std_max"] for row in rows]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _chosen(scores: Float, threshold: float | None, topk: int | None) -> list[int]:
    """Indices, highest first."""
    order = [int(i) for i in np.argsort(-scores, kind="stable") if np.isfinite(scores[i])]
    if threshold is not None:
        order = [i for i in order if scores[i] > threshold]
    return order if topk is None else order[:topk]


def _frames(rows: list[dict[str, Any]], picked: list[dict[str, Any]], arguments: Namespace) -> list[Frame]:
    """The frames of the picked rows.

    Raises
    ------
    DataError
        They cannot be found, or have changed.
    """
    if arguments.structures is None:
        return frames_of(picked, arguments.ensemble.parent)
    frames, _ = read_structures(arguments.structures, partial_pbc="vacuum")
    by_id = {frame.id: frame for frame in frames}
    if all(row.get("id") in by_id for row in picked):
        return [by_id[row["id"]] for row in picked]
    if any("id" in row for row in picked) or len(frames) != len(rows):
        raise DataError(
            f"--structures: {len(frames)} frames, which are not the {len(rows)} of {arguments.ensemble}"
        )
    return [frames[row["index"]] for row in picked]


def _write(folder: Path, rows: list[dict[str, Any]], frames: list[Frame], scores: Float) -> None:
    """One extxyz a frame, a POSCAR where there is a cell, and a list with the scores; an older selection goes."""
    folder.mkdir(parents=True, exist_ok=True)
    _forget(folder)
    listed = []
    for row, frame, score in zip(rows, frames, scores.tolist(), strict=True):
        name = f"frame_{row['index']}"
        write_extxyz(folder / f"{name}.extxyz", [Imported(frame)])
        if frame.pbc.all():
            write_file(folder / f"{name}.vasp", structure_file(frame, "POSCAR"))
        more = {key: row[key] for key in ("source", "frame", "id") if key in row}
        listed.append({"index": row["index"], "score": score, "file": f"{name}.extxyz", **more})
    write_file(folder / LIST, (json.dumps(listed, indent=1) + "\n").encode())


def _forget(folder: Path) -> None:
    """Remove the frames of an older selection, so that nobody computes them again."""
    if not (folder / LIST).is_file():
        return
    for row in json.loads((folder / LIST).read_text(encoding="utf-8")):
        for suffix in (".extxyz", ".vasp"):
            (folder / row["file"]).with_suffix(suffix).unlink(missing_ok=True)


if __name__ == "__main__":
    leave(parser(), work)
