"""What else gets more out of 15 labels than fine-tuning a published checkpoint on them (malonaldehyde, tier T1)?

The same 15 frames for every way, chosen as in label_efficiency.py: environments, one random frame at 300 K first.

one member          the default
mean of three       three members with the checkpoint's readout, each of its own order of the data
cheap labels first  the checkpoint is first tuned on GFN1-xTB labels of 400 pool frames (chosen by the same coverage, no
                    GFN2-xTB label is looked at), then on the 15; a stand-in for xTB before DFT, and kinder than that,
                    since the two methods are relatives
both                three members, cheap labels first

Nothing was tuned: the settings are the defaults of fine-tuning, and three times its steps on the cheap labels. What the
cheap method leaves without any network, the difference of GFN1-xTB and GFN2-xTB forces on the tests, is given as well.

    python benchmarks/fewer_labels.py [-o FILE] [--seeds 3]

prints one JSON object and writes it to FILE. Errors are of force components, meV/Å.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from closed_loop import oracle
from finetuning import CHECKPOINT, errors
from label_efficiency import data, kept_run, of, summary
from machine import describe_machine, publish
from oracle import cached

from alfw.core.metrics import rmse
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.models.nequix import NequixModel

TIER, LABELS, CHEAP_LABELS, CHEAP_STEPS = "T1 fine-tuned 15", 15, 400, 1800
GOAL_MEAN, GOAL_WORST = 46.0, 82.0
WAYS = {"mean of three": (3, False), "cheap labels first": (1, True), "both": (3, True)}


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
        items = cheaply([pool.items[i] for i in chosen])
        path.write_bytes(tuned(items, CHECKPOINT, 1, 0, {"steps": CHEAP_STEPS})[0].read_bytes())
    return path


def tuned(items: list[Labeled], start: Path, members: int, seed: int, training: dict[str, Any]) -> list[Path]:
    """Weights of so many members, fine-tuned from `start`."""
    model = NequixModel.model_validate(
        {"members": members, "start_from": str(start), "new_readout": False, "training": training}
    )
    given = TrainingData(items, (), model.statistics(TrainingData(items), start))
    folder = Path(tempfile.mkdtemp(prefix="alfw-fewer-"))
    return [model.train(given, 1000 * seed + k, start, folder / str(k), Resources()) for k in range(members)]


def run(way: str, seed: int) -> dict[str, Any]:
    """Errors by region of one way."""
    members, cheap = WAYS[way]

    def make() -> dict[str, Any]:
        pool = data("malonaldehyde")
        starts = [int(i) for i in np.random.default_rng([seed, 0]).choice(pool.usual, 1, replace=False)]
        chosen = pool.candidates.choose("environments", starts, LABELS, seed)
        start = cheap_checkpoint() if cheap else CHECKPOINT
        weights = tuned([pool.items[i] for i in chosen], start, members, seed, {"bootstrap": False})
        potential = NequixModel(members=members).load(weights)
        regions = {name: round(1000 * errors(potential, tests), 2) for name, tests in pool.tests.items()}
        print(f"{way} seed {seed}: {regions}", flush=True)
        return {"seed": seed, "regions": regions, "rare_frames": sum(i >= pool.usual for i in chosen)}

    return kept_run(f"fewer_{way}_{seed}".replace(" ", "_"), make)


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, help="write the JSON there as well")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if not CHECKPOINT.is_file():
        print(f"nothing measured: {CHECKPOINT} is not there, set ALFW_TEST_CHECKPOINT")
        return
    before, seeds = describe_machine(), range(arguments.seeds)
    ways = {"one member": summary([of(TIER, "environments", seed) for seed in seeds])}
    ways |= {way: summary([run(way, seed) for seed in seeds]) for way in WAYS}
    for row in ways.values():
        row["reached"] = row["mean"] <= GOAL_MEAN and row["worst"] <= GOAL_WORST
    result = {
        "benchmark": "fewer_labels",
        "labels": LABELS,
        "cheap_labels": CHEAP_LABELS,
        "goal_meV_per_A": {"mean": GOAL_MEAN, "worst": GOAL_WORST},
        "ways_meV_per_A": ways,
        "GFN1_against_GFN2_meV_per_A": cheap_method_alone(),
        "machine": before,
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()
