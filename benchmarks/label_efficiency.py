"""Which frames are worth a label: errors after equal trainings on equally many labels, chosen in three ways.

Tiers, each with its own pool (see oracle.py, systems.py), tests of runs of their own, and paired seeds (the same first
frames for every arm):

T1      malonaldehyde, 5,000 frames, imbalanced and reactive: from scratch with 100 labels, one member and the mean of
        three, and fine-tuned from nequix-mp-1 with 30 and with 15
T2      malonaldehyde at 300 K only, from scratch with 100 labels
copper  31 atoms, periodic, with rare melt and compression; alanine dipeptide, 22 atoms, with a rare turn: from
        scratch with 60 labels

    python benchmarks/label_efficiency.py [-o FILE] [--seeds 5] [--tiers T1 ...] [--short]

prints one JSON object and writes it to FILE. Each training is kept in ~/.cache/alfw/benchmarks/runs, so that a
benchmark that was stopped goes on, and several processes share the work. Errors are of force components, meV/Å.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from arms import ARMS, Candidates
from finetuning import CHECKPOINT, checkpoint_is_there, errors
from machine import describe_machine, options, publish
from oracle import cached, pool, test_regions
from scipy.stats import t as student
from systems import COPPER, COPPER_POOL, PEPTIDE_POOL, copper, peptide, pool_of, tests_of

from alfw.core.frame import Float
from alfw.core.ids import content_id
from alfw.core.protocols import Potential
from alfw.core.records import Labeled, Resources, TrainingData
from alfw.models.nequix import NequixModel

# The recipe from scratch was chosen on other frames of the pool, with the frames of the farthest-point arm of seed 0:
# 3,200 steps of 8 frames at 1e-2 gave 49.9 meV/Å there, at 2e-2 47.0, 6,400 steps of 4 at 1e-2 44.1, at 2e-2 41.5.
SCRATCH: Mapping[str, Any] = {
    "members": 1,
    "training": {"steps": 6400, "batch_size": 4, "learning_rate": 2e-2},
}
# The same with features of degree 2 and a smoother start: 36.5 there (degree 2 alone 38.8, the start alone 40.9).
DEGREE_2: Mapping[str, Any] = {
    **SCRATCH,
    "hidden_irreps": "32x0e + 16x1o + 8x2e",
    "lmax": 2,
    "mlp_init_scale": 2.0,
}
# For larger systems a smaller network, so that it takes no longer.
SMALL: Mapping[str, Any] = {**SCRATCH, "hidden_irreps": "16x0e + 8x1o", "n_layers": 2}
FINE_TUNED: Mapping[str, Any] = {"members": 1}
PER_REGION = 125
SHORT_SEEDS = 3


@dataclass(frozen=True)
class Tier:
    """One comparison: which pool, how many labels, how they are trained on.

    Attributes
    ----------
    system : str
        See `data`.
    labels, starts : int
        How many in all, and how many of them are drawn at random from the usual region before any arm chooses.
    model : mapping
        Options of `NequixModel`; the rest is its default.
    tuned : bool
        Whether it starts from the published checkpoint.
    """

    system: str
    labels: int
    starts: int
    model: Mapping[str, Any]
    tuned: bool = False


TIERS = {
    "T1": Tier("malonaldehyde", 100, 20, SCRATCH),
    "T1, 3 members": Tier("malonaldehyde", 100, 20, {**SCRATCH, "members": 3}),
    "T1, l = 2": Tier("malonaldehyde", 100, 20, DEGREE_2),
    "T1 fine-tuned 30": Tier("malonaldehyde", 30, 1, FINE_TUNED, tuned=True),
    "T1 fine-tuned 15": Tier("malonaldehyde", 15, 1, FINE_TUNED, tuned=True),
    "T2": Tier("malonaldehyde 300 K", 100, 20, SCRATCH),
    "copper": Tier("copper", 60, 10, {**SMALL, "training": {**SCRATCH["training"], "steps": 1600}}),
    "alanine dipeptide": Tier("peptide", 60, 10, SMALL),
}
# Tiers that are not measured with all arms and seeds: three members cost three times as much, random is far behind.
ONLY = {"T1, 3 members": ("farthest", "environments")}
FEWER_SEEDS = ("T1 fine-tuned 30", "T1 fine-tuned 15", "copper", "alanine dipeptide")


@dataclass(frozen=True, eq=False)
class Data:
    """A pool with its labels, the number of its frames of the usual region (they come first), and the tests."""

    items: list[Labeled]
    usual: int
    tests: dict[str, list[Labeled]]
    candidates: Candidates


@cache
def data(system: str) -> Data:
    """The frames of a system, made once and kept on disk."""
    if system.startswith("malonaldehyde"):
        items = pool() if system == "malonaldehyde" else pool()[:4500]
        tests = {
            name: frames[:: len(frames) // PER_REGION][:PER_REGION] for name, frames in test_regions().items()
        }
        usual = 4500
    elif system == "copper":
        items, tests = pool_of(copper, COPPER_POOL), tests_of(copper, list(COPPER))
        usual = COPPER_POOL["crystal 300 K"]
    else:
        items, tests = pool_of(peptide, PEPTIDE_POOL), tests_of(peptide, list(PEPTIDE_POOL))
        usual = PEPTIDE_POOL["300 K"]
    frames = [item.frame for item in items]
    name = "malonaldehyde" if system.startswith("malonaldehyde") else system
    features = _features(name, frames)
    return Data(items, usual, tests, Candidates(frames, features, in_order=system != "copper"))


def _features(system: str, frames: list[Any]) -> list[np.ndarray]:
    """Frozen features of the published checkpoint."""
    path = cached(f"features_{system}_{len(frames)}.npy")
    if not path.is_file():
        potential: Any = NequixModel(members=1).load([CHECKPOINT])
        found = np.concatenate(potential.features(frames))
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npy", delete=False) as file:
            np.save(file, found)
        os.replace(file.name, path)
    return np.split(np.load(path), np.cumsum([len(frame) for frame in frames])[:-1])


def model_of(options: Mapping[str, Any], start: Path | None = None) -> NequixModel:
    """The model with these options, from scratch or from `start`."""
    return NequixModel.model_validate({**options, **({"start_from": str(start)} if start else {})})


def trained(
    model: NequixModel, items: list[Labeled], seed: int, folder: Path, start: Path | None = None
) -> list[Path]:
    """Weights of its members on these labels, none of them held out."""
    given = TrainingData(items, (), model.statistics(TrainingData(items), start))
    return [
        model.train(given, 1000 * seed + k, start, folder / str(k), Resources()) for k in range(model.members)
    ]


def train(
    options: Mapping[str, Any], items: list[Labeled], seed: int, start: Path | None = None
) -> Potential:
    """The members of this model on these labels."""
    model = model_of(options, start)
    with tempfile.TemporaryDirectory() as folder:
        return model.load(trained(model, items, seed, Path(folder), start))


def chosen_frames(name: str, arm: str, seed: int) -> list[int]:
    """Indices into the pool of a tier: the first frames of the seed, and what the arm chooses beside them."""
    tier, found = TIERS[name], data(TIERS[name].system)
    starts = np.random.default_rng([seed, 0]).choice(found.usual, tier.starts, replace=False)
    return found.candidates.choose(arm, [int(i) for i in starts], tier.labels, seed)


def by_region(potential: Potential, tests: Mapping[str, list[Labeled]]) -> dict[str, float]:
    """Force RMSE (meV/Å) of each region."""
    return {region: round(1000 * errors(potential, items), 2) for region, items in tests.items()}


def of(name: str, arm: str, seed: int) -> dict[str, Any]:
    """Errors by region (meV/Å) of one arm; kept on disk."""
    tier = TIERS[name]
    key = content_id("run", {"tier": vars(tier) | {"model": dict(tier.model)}, "arm": arm, "seed": seed})[:16]

    def make() -> dict[str, Any]:
        found, chosen = data(tier.system), chosen_frames(name, arm, seed)
        start = CHECKPOINT if tier.tuned else None
        regions = by_region(train(tier.model, [found.items[i] for i in chosen], seed, start), found.tests)
        rare = int(np.sum(np.array(chosen) >= found.usual))
        return {"seed": seed, "regions": regions, "rare_frames": rare}

    return kept_run(f"{name}_{arm}_{seed}_{key}".replace(" ", "_"), make)


def kept_run(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, made once by whichever process comes first."""
    path = cached("runs") / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    if not path.is_file():
        result = make()
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(result), encoding="utf-8")
        partial.replace(path)
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds of the mean over regions and of the worst region, with their spread."""
    table = np.array([list(run["regions"].values()) for run in runs])
    mean, worst = table.mean(1), table.max(1)
    regions = dict(zip(runs[0]["regions"], table.mean(0).round(1).tolist(), strict=True))
    return {
        "mean": round(float(mean.mean()), 1),
        "mean_95": margin_95(mean),
        "mean_by_seed": mean.round(1).tolist(),
        "worst": round(float(worst.mean()), 1),
        "worst_95": margin_95(worst),
        "worst_by_seed": worst.round(1).tolist(),
        "regions": regions,
        "rare_frames": [run["rare_frames"] for run in runs],
    }


def margin_95(values: Float) -> float | None:
    """Half of the 95 % interval of the mean over seeds, Student's t; None with one seed."""
    if len(values) < 2:
        return None
    return round(float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5), 1)


def paired(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How the default does against the two others, seed by seed: differences of the means, and wins by 5 %."""
    ours = np.array(arms["environments"]["mean_by_seed"])
    found = {}
    for arm in (arm for arm in arms if arm != "environments"):
        theirs = np.array(arms[arm]["mean_by_seed"])
        found[f"environments - {arm}"] = {
            "by_seed": (ours - theirs).round(1).tolist(),
            "mean": round(float((ours - theirs).mean()), 1),
            "mean_95": margin_95(ours - theirs),
            "better": int((ours < theirs).sum()),
            "better_by_5_percent": int((ours <= 0.95 * theirs).sum()),
            "of": len(ours),
        }
    return found


def tier_table(name: str, seeds: range) -> dict[str, Any]:
    """All arms of a tier, with what they were trained with."""
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ONLY.get(name, ARMS)}
    for seed in seeds:
        for arm in runs:
            runs[arm].append(of(name, arm, seed))
            print(f"{name} {arm} seed {seed}: {runs[arm][-1]['regions']}", flush=True)
    arms = {arm: summary(found) for arm, found in runs.items()}
    tier = TIERS[name]
    start = {"start_from": CHECKPOINT.name} if tier.tuned else {}
    model = model_of(tier.model, CHECKPOINT if tier.tuned else None)
    training = model.training.model_dump(include={"steps", "batch_size", "learning_rate"})
    return {
        "labels": tier.labels,
        "starts": tier.starts,
        "seeds": len(seeds),
        "model": {**tier.model, **start, "training": training},
        "arms_meV_per_A": arms,
        "paired": paired(arms),
    }


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--tiers", nargs="+", choices=list(TIERS), default=list(TIERS))
    parser.add_argument(
        "--seeds", type=int, default=5, help=f"of the tiers that have more than {SHORT_SEEDS}"
    )
    parser.add_argument("--short", action="store_true", help=f"{SHORT_SEEDS} seeds of every tier")
    arguments = parser.parse_args()
    if not checkpoint_is_there():
        return
    before = describe_machine()
    tables = {}
    for name in arguments.tiers:
        few = arguments.short or name in FEWER_SEEDS
        tables[name] = tier_table(name, range(SHORT_SEEDS if few else arguments.seeds))
    result = {"benchmark": "label_efficiency", "tiers": tables, "machine": before}
    publish(result, arguments.output)


if __name__ == "__main__":
    main()
