"""Error bars: does a 90 % conformal bound on the largest force error of a frame hold for 90 % of new frames?

Malonaldehyde, three members from scratch on 100 labels chosen by environments (as tier T1 of label_efficiency.py, with
the smaller network). The factor on force_std is that of random frames of the pool, as audit labels are; it is checked
on other random frames of the pool, which follow the same law, and on the test regions, most of which do not: the pool
has 4,500 of 5,000 frames at 300 K. One score a frame: the largest |ΔF| over its atoms, by its force_std.

    python benchmarks/conformal.py [-o FILE] [--seeds 5]

prints one JSON object and writes it to FILE. What is done is kept in ~/.cache/alfw/benchmarks/runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from finetuning import checkpoint_is_there
from label_efficiency import SMALL, data, kept_run, train
from machine import describe_machine, options, publish

from alfw.core.calibration import clopper_pearson, conformal_factor, coverage_of, spearman
from alfw.core.frame import Float
from alfw.core.protocols import Potential
from alfw.core.records import Labeled
from alfw.core.uncertainty import frame_force_std

PROMISED = 0.9
CALIBRATION, CHECKED = 300, 100
LABELS, STARTS, MEMBERS = 100, 20, 3
SAME_LAW = "pool"  # the only one that the promise is made for


def scores(potential: Potential, items: Sequence[Labeled]) -> dict[str, Float]:
    """(B,) float64 each: largest error and force_std (eV/Å) of every frame."""
    said = potential.predict([item.frame for item in items]).forces
    error = [
        np.linalg.norm(f.mean(0) - item.label.forces, axis=1).max()
        for f, item in zip(said, items, strict=True)
    ]
    std = [frame_force_std(f, item.frame.free) for f, item in zip(said, items, strict=True)]
    return {"error": np.array(error), "std": np.array(std)}


def checked(found: dict[str, Float], factor: float) -> dict[str, Any]:
    """Coverage with its interval, sharpness, and the raw spread's own."""
    coverage = coverage_of(found["error"] / found["std"], factor)
    low, high = clopper_pearson(coverage.n_inside, coverage.n)
    return {
        "coverage": round(coverage.fraction, 3),
        "interval_95": [round(low, 3), round(high, 3)],
        "holds": low <= PROMISED <= high,
        "width_over_error": round(float(factor * found["std"].mean() / found["error"].mean()), 2),
        "within_one_force_std": round(float(np.mean(found["error"] <= found["std"])), 3),
        "spearman": round(spearman(found["std"], found["error"]), 2),
    }


def of(seed: int) -> dict[str, Any]:
    """One seed; kept on disk."""

    def make() -> dict[str, Any]:
        pool = data("malonaldehyde")
        random = np.random.default_rng([seed, 0])
        starts = [int(i) for i in random.choice(pool.usual, STARTS, replace=False)]
        chosen = pool.candidates.choose("environments", starts, LABELS, seed)
        potential = train({**SMALL, "members": MEMBERS}, [pool.items[i] for i in chosen], seed)
        rest = random.permutation(np.setdiff1d(np.arange(len(pool.items)), chosen))
        calibration = scores(potential, [pool.items[int(i)] for i in rest[:CALIBRATION]])
        factor = conformal_factor(calibration["error"] / calibration["std"], PROMISED)
        new = [pool.items[int(i)] for i in rest[CALIBRATION : CALIBRATION + CHECKED]]
        regions = {SAME_LAW: checked(scores(potential, new), factor)}
        regions |= {name: checked(scores(potential, items), factor) for name, items in pool.tests.items()}
        print(f"seed {seed}: factor {factor:.2f}, {regions[SAME_LAW]}", flush=True)
        return {"seed": seed, "factor": round(factor, 3), "regions": regions}

    return kept_run(f"conformal_{LABELS}_{MEMBERS}_{CALIBRATION}_{CHECKED}_{seed}", make)


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    if not checkpoint_is_there():
        return
    before = describe_machine()
    runs = [of(seed) for seed in range(arguments.seeds)]
    holds = sum(run["regions"][SAME_LAW]["holds"] for run in runs)
    result = {
        "benchmark": "conformal",
        "promised": PROMISED,
        "calibration_frames": CALIBRATION,
        "checked_frames": CHECKED,
        "members": MEMBERS,
        "labels": LABELS,
        "holds_in_seeds": holds,
        "seeds": len(runs),
        "reached": holds >= 0.8 * len(runs),
        "same_law": SAME_LAW,
        "runs": runs,
        "machine": before,
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()
