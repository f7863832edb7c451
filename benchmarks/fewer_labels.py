"""Do labels of a cheap method save labels of the costly one? 15 of malonaldehyde, tier T1 of label_efficiency.py.

A published checkpoint is fine-tuned on GFN1-xTB labels of 400 pool frames first (chosen by coverage of environments; no
GFN2-xTB label is looked at), and then on the same 15 GFN2-xTB labels as in label_efficiency.py. It stands for xTB
before DFT, and is kinder than that, since the two methods are relatives: their forces' difference on the tests is
given, and the error of the network that has seen cheap labels only.

Nothing was tuned: the settings are the defaults of fine-tuning, with three times the steps on the cheap labels.

    python benchmarks/fewer_labels.py [-o FILE] [--seeds 3]

prints one JSON object and writes it to FILE. Errors are of force components, meV/Å.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from closed_loop import oracle
from finetuning import CHECKPOINT, checkpoint_is_there
from label_efficiency import (
    FINE_TUNED,
    TIERS,
    by_region,
    chosen_frames,
    data,
    kept_run,
    model_of,
    of,
    summary,
    train,
    trained,
)
from machine import describe_machine, options, publish
from oracle import cached

from alfw.core.metrics import rmse
from alfw.core.records import Label, Labeled
from alfw.models.nequix import NequixModel

TIER, CHEAP_LABELS, CHEAP_STEPS = "T1 fine-tuned 15", 400, 1800
LABELS = TIERS[TIER].labels
GOAL_MEAN, GOAL_WORST = 46.0, 82.0


def cheaply(items: Sequence[Labeled]) -> list[Labeled]:
    """The same frames with GFN1-xTB labels."""
    found = []
    for item in items:
        energy, forces = oracle("GFN1-xTB")(item.frame.positions)
        found.append(Labeled(item.frame, Label(energy, forces)))
    return found


def cheap_checkpoint() -> Path:
    """The published checkpoint tuned on cheap labels; made once and kept."""
    path = cached(f"nequix_mp1_GFN1_{CHEAP_LABELS}_{CHEAP_STEPS}.nqx")
    if not path.is_file():
        pool = data("malonaldehyde")
        chosen = pool.candidates.choose("environments", [0], CHEAP_LABELS, 0)
        model = model_of({**FINE_TUNED, "training": {"steps": CHEAP_STEPS}}, CHECKPOINT)
        with tempfile.TemporaryDirectory() as folder:
            items = cheaply([pool.items[i] for i in chosen])
            [weights] = trained(model, items, 0, Path(folder), CHECKPOINT)
            path.write_bytes(weights.read_bytes())
    return path


def after_both(seed: int) -> dict[str, Any]:
    """Errors after cheap labels and the costly ones."""

    def make() -> dict[str, Any]:
        pool, chosen = data("malonaldehyde"), chosen_frames(TIER, "environments", seed)
        potential = train(FINE_TUNED, [pool.items[i] for i in chosen], seed, cheap_checkpoint())
        regions = by_region(potential, pool.tests)
        print(f"seed {seed}: {regions}", flush=True)
        return {"seed": seed, "regions": regions, "rare_frames": sum(i >= pool.usual for i in chosen)}

    return kept_run(f"cheap_labels_first_{LABELS}_{CHEAP_LABELS}_{CHEAP_STEPS}_{seed}", make)


def cheap_method_alone() -> dict[str, float]:
    """RMS difference of the two methods' forces on the tests, meV/Å."""
    found = {}
    for name, tests in data("malonaldehyde").tests.items():
        pairs = zip(cheaply(tests), tests, strict=True)
        found[name] = round(
            1000 * rmse(np.concatenate([a.label.forces - b.label.forces for a, b in pairs])), 1
        )
    return found


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if not checkpoint_is_there():
        return
    before, seeds = describe_machine(), range(arguments.seeds)
    ways = {
        "costly labels only": summary([of(TIER, "environments", seed) for seed in seeds]),
        "cheap labels first": summary([after_both(seed) for seed in seeds]),
    }
    for row in ways.values():
        row["reached"] = row["mean"] <= GOAL_MEAN and row["worst"] <= GOAL_WORST
    cheap = NequixModel(members=1).load([cheap_checkpoint()])
    result = {
        "benchmark": "fewer_labels",
        "labels": LABELS,
        "cheap_labels": CHEAP_LABELS,
        "goal_meV_per_A": {"mean": GOAL_MEAN, "worst": GOAL_WORST},
        "ways_meV_per_A": ways,
        "cheap_labels_only_meV_per_A": by_region(cheap, data("malonaldehyde").tests),
        "GFN1_against_GFN2_meV_per_A": cheap_method_alone(),
        "machine": before,
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()
