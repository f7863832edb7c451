"""Fine-tuning of a foundation checkpoint (nequix-mp-1): errors and times on ethanol and on malonaldehyde.

Ethanol: 50 random frames at 500 K; the time is that of statistics and training of one member in a process that has
compiled nothing yet. Malonaldehyde: 30 frames of a pool in which the rare regions are rare (see oracle.py), chosen by
coverage of atomic environments in the checkpoint's own features, once with the checkpoint's readout and once with a
new one (as the members of an ensemble have it). GFN2-xTB throughout; errors are of force components.

    python benchmarks/finetuning.py --checkpoint nequix-mp-1.nqx [-o FILE] [--seeds 0 1 2]

prints one JSON object and writes it to FILE.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine, options, publish
from oracle import ethanol, pool, test_regions

from alfw.core.exploration import Pool
from alfw.core.metrics import rmse
from alfw.core.protocols import Potential
from alfw.core.records import Labeled, Resources, TrainingData
from alfw.models.nequix import NequixModel
from alfw.selectors.environments import EnvironmentsSelector

SHARED = Path(__file__).resolve().parents[2] / "shared" / "models" / "nequix-mp-1.nqx"
CHECKPOINT = Path(os.environ.get("ALFW_TEST_CHECKPOINT", SHARED))
ETHANOL_FRAMES, ETHANOL_GOAL_eV_PER_A, ETHANOL_GOAL_S = 50, 0.08, 60.0
ETHANOL_STEPS = (120, 600)  # 600 are the default
LABELS, PER_REGION = 30, 60
GOAL_MEAN, GOAL_WORST = 0.049, 0.070  # eV/Å


def checkpoint_is_there() -> bool:
    """Whether the published checkpoint is there; if not, it is said."""
    if not CHECKPOINT.is_file():
        print(f"nothing measured: {CHECKPOINT} is not there, set ALFW_TEST_CHECKPOINT")
    return CHECKPOINT.is_file()


def errors(potential: Potential, items: Sequence[Labeled]) -> float:
    """Force RMSE (eV/Å) of the mean of the members."""
    said = potential.predict([item.frame for item in items]).forces
    return rmse(np.concatenate([f.mean(0) - item.label.forces for f, item in zip(said, items, strict=True)]))


def trained(
    model: NequixModel, items: Sequence[Labeled], seed: int, checkpoint: Path
) -> tuple[Potential, float]:
    """One fine-tuned member, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        data = TrainingData(items)
        data = TrainingData(items, (), model.statistics(data, checkpoint))
        weights = model.train(data, seed, checkpoint, Path(folder), Resources())
        seconds = time.perf_counter() - began
        return model.load([weights]), seconds


def of_ethanol(checkpoint: Path) -> list[dict[str, Any]]:
    """Errors after trainings of so many steps; each compiles its own program."""
    frames = ethanol(400)
    chosen = [frames[i] for i in np.random.default_rng(0).permutation(400)[:ETHANOL_FRAMES]]
    test, hot = ethanol(100, 500.0, 1), ethanol(100, 1000.0, 2)
    rows = []
    for count in ETHANOL_STEPS:
        model = NequixModel(members=1, start_from=str(checkpoint), training={"steps": count})
        potential, seconds = trained(model, chosen, 0, checkpoint)
        error = errors(potential, test)
        rows.append(
            {
                "steps": count,
                "force_rmse_eV_per_A": round(error, 4),
                "force_rmse_1000K_eV_per_A": round(errors(potential, hot), 4),
                "seconds": round(seconds, 1),
                "reached": error <= ETHANOL_GOAL_eV_PER_A and seconds <= ETHANOL_GOAL_S,
            }
        )
    return rows


def covered(items: Sequence[Labeled], features: list[np.ndarray], seed: int) -> list[Labeled]:
    """30 frames: one of the first 3,600 (300 K) at random, the others by coverage of environments."""
    first = int(np.random.default_rng(seed).integers(3600))
    rest = [i for i in range(len(items)) if i != first]
    none = np.full(len(rest), np.nan)
    selector = EnvironmentsSelector.model_validate(
        {
            "physical": {"min_distance_fraction": None, "max_force_quantile": None},
            "dedup": {"min_distance_A": 0.0},
        }
    )
    offered = Pool(
        frames=[items[i].frame for i in rest],
        force_std=none,
        max_force=np.zeros(len(rest)),
        labelled=[items[first].frame],
        features=[features[i] for i in rest],
        labelled_features=[features[first]],
    )
    picks = selector.select(offered, LABELS - 1, seed).chosen
    return [items[first], *(items[rest[choice.index]] for choice in picks)]


def of_malonaldehyde(checkpoint: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Errors by region, with the checkpoint's readout and with a new one."""
    items, regions = (
        pool(),
        {name: frames[:: len(frames) // PER_REGION][:PER_REGION] for name, frames in test_regions().items()},
    )
    began = time.perf_counter()
    features = NequixModel(members=1).load([checkpoint]).features([item.frame for item in items])  # type: ignore[attr-defined]
    result: dict[str, Any] = {"labels": LABELS, "features_s": round(time.perf_counter() - began, 1)}
    for name, new_readout in (("checkpoint's readout", False), ("new readout", True)):
        runs = []
        for seed in seeds:
            chosen = covered(items, features, seed)
            model = NequixModel(members=1, start_from=str(checkpoint), new_readout=new_readout)
            potential, seconds = trained(model, chosen, seed, checkpoint)
            by_region = {region: round(errors(potential, frames), 4) for region, frames in regions.items()}
            runs.append({"seed": seed, "regions_eV_per_A": by_region, "seconds": round(seconds, 1)})
        table = np.array([list(run["regions_eV_per_A"].values()) for run in runs])
        mean, worst = float(table.mean()), float(table.max(1).mean())
        result[name] = {
            "mean_eV_per_A": round(mean, 4),
            "mean_by_seed": [round(float(x), 4) for x in table.mean(1)],
            "worst_region_eV_per_A": round(worst, 4),
            "worst_by_seed": [round(float(x), 4) for x in table.max(1)],
            "reached": mean <= GOAL_MEAN and worst <= GOAL_WORST,
            "runs": runs,
        }
    return result


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=("ethanol", "malonaldehyde"))
    arguments = parser.parse_args()
    if not arguments.checkpoint.is_file():
        print(f"nothing measured: {arguments.checkpoint} is not there, give --checkpoint nequix-mp-1.nqx")
        return
    before = describe_machine()
    result: dict[str, Any] = {"benchmark": "finetuning", "checkpoint": arguments.checkpoint.name}
    with tempfile.TemporaryDirectory() as cold:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cold  # JAX is not loaded yet; nothing compiled before helps
        if arguments.only != "malonaldehyde":
            result["ethanol"] = {"frames": ETHANOL_FRAMES, "runs": of_ethanol(arguments.checkpoint)}
        if arguments.only != "ethanol":
            result["malonaldehyde"] = of_malonaldehyde(arguments.checkpoint, arguments.seeds)
    publish(result | {"machine": before}, arguments.output)


if __name__ == "__main__":
    main()
