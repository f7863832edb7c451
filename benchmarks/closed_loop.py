"""The closed loop (T3): malonaldehyde, where the campaign has to find the rare regions by its own dynamics.

Every arm starts from the same 20 frames at 300 K of a seed and labels 20 more a round, of what its own model's dynamics
found; nobody gives it a frame at 700 K or of the proton's transfer. Labels: GFN2-xTB. Arms differ in exploration:
plain MD at 300 K, a ladder of temperatures that is climbed round by round, uncertainty-biased MD at 300 K. All of them
choose by coverage of atomic environments in frozen features of nequix-mp-1 inside a trust region (of 5; the ladder also
with 3), and look at their picks with GFN1-xTB first. The last is how the older system worked: what passed 5 or 10 eV/Å
in MD at 300 and 500 K is labelled, nothing else. Errors are those of the same training as in tier T1 of
label_efficiency.py (from scratch, one member), on the same tests; so is what has to be reached: the error of
environments with 100 labels of the human-made pool, in every region.

    python benchmarks/closed_loop.py [-o FILE] [--seeds 3] [--arms ...]

prints one JSON object and writes it to FILE. What is done is kept in ~/.cache/alfw/benchmarks/runs.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from finetuning import CHECKPOINT, checkpoint_is_there, errors
from label_efficiency import SCRATCH, TIERS, by_region, data, kept_run, of, summary, train
from machine import describe_machine, options, publish
from oracle import MALONALDEHYDE, Oracle

from alfw.core.exploration import Exploration, Pool
from alfw.core.frame import Frame
from alfw.core.ids import content_id, derive_seed
from alfw.core.protocols import Potential
from alfw.core.records import Label, Labeled, Resources
from alfw.core.uncertainty import frame_force_std, frame_max_force
from alfw.models.nequix import NequixModel
from alfw.samplers.jaxmd import JaxMDSampler
from alfw.selectors.environments import EnvironmentsSelector
from alfw.selectors.failures import FailuresSelector

STARTS, PER_ROUND, ROUNDS = 20, 20, 5
REPORTED = (100, 120)
MD: Mapping[str, Any] = {
    "walkers": 16,
    "dt_fs": 0.5,
    "n_steps": 4000,
    "keep_every": 40,
    "friction_per_ps": 10.0,
}
OLDER_LIMITS = {
    "max_force_eV_per_A": 10.0,
    "max_speed_A_per_fs": 1.0,
    "max_growth_A": 100.0,
    "min_distance_fraction": 0.0,
    "force_std_eV_per_A": None,
}
ARMS: Mapping[str, Mapping[str, Any]] = {
    "plain MD, 300 K": {"temperatures_K": (300.0,)},
    "ladder, 300 to 1000 K": {},
    "ladder, trust 3": {},
    "uncertainty-biased MD, 300 K": {"temperatures_K": (300.0,), "bias": {"strength": 0.5}},
    "failures only, 300 and 500 K": {
        "temperatures_K": (300.0, 500.0),
        "limits": OLDER_LIMITS,
        "high_force": {"quantile": None, "max_force_eV_per_A": 5.0},
    },
}
TRUST = {arm: 3.0 if arm == "ladder, trust 3" else 5.0 for arm in ARMS}
# A step up the ladder in each round: a model of 20 frames at 300 K is not fit for more.
LADDER = ((300.0,), (300.0, 500.0), (300.0, 500.0, 700.0), *[(300.0, 500.0, 700.0, 1000.0)] * 2)
# In the loop trainings are shorter; the reported errors are of the full one.
IN_LOOP: Mapping[str, Any] = {
    **SCRATCH,
    "heads": 8,
    "training": {**SCRATCH["training"], "steps": 2000},
}
NO_LABEL_eV_PER_A = 300.0  # what the older system dropped
# All but the older system's arm look at their picks with GFN1-xTB first, as select.prescreen does with its defaults.
OVERSAMPLE, MAX_FORCE_eV_PER_A, WINDOW_eV_PER_ATOM = 1.5, 30.0, 1.0


@cache
def frozen() -> Any:
    """The published checkpoint, for its features."""
    return NequixModel(members=1).load([CHECKPOINT])


@cache
def oracle(method: str = "GFN2-xTB") -> Oracle:
    """What labels malonaldehyde, or looks at it before."""
    return Oracle(MALONALDEHYDE, data("malonaldehyde").items[0].frame.positions, method)


def labelled(frames: list[Frame]) -> list[Labeled]:
    """The frames with their labels; those without a usable one are lost."""
    found = []
    for frame in frames:
        try:
            energy, forces = oracle()(frame.positions)
        except RuntimeError:  # the SCF does not converge
            continue
        if np.linalg.norm(forces, axis=1).max() <= NO_LABEL_eV_PER_A:
            found.append(Labeled(frame, Label(energy, forces)))
    return found


def physical(frames: list[Frame], items: list[Labeled]) -> list[Frame]:
    """The frames that GFN1-xTB finds no fault with, see `alfw.steps.prescreen`."""
    cheap = oracle("GFN1-xTB")
    usual = float(np.median([cheap(item.frame.positions)[0] for item in items[:30]]))
    found = []
    for frame in frames:
        try:
            energy, forces = cheap(frame.positions)
        except RuntimeError:  # the SCF does not converge
            continue
        near = abs(energy - usual) <= WINDOW_eV_PER_ATOM * len(frame)
        if near and np.linalg.norm(forces, axis=1).max() <= MAX_FORCE_eV_PER_A:
            found.append(frame)
    return found


def explored(arm: str, number: int, potential: Potential, items: list[Labeled], seed: int) -> Exploration:
    """Dynamics from the calmer 90 % of the labelled frames, as campaigns do it."""
    largest = np.array([np.linalg.norm(item.label.forces, axis=1).max() for item in items])
    calm = np.flatnonzero(largest <= np.quantile(largest, 0.9))
    starts = [items[i].frame for i in np.random.default_rng(seed).permutation(calm)]
    options = {"temperatures_K": LADDER[number - 1], **ARMS[arm]}
    sampler = JaxMDSampler.model_validate({**MD, **options})
    with tempfile.TemporaryDirectory() as folder:
        return sampler.run(potential, starts, seed, Path(folder), Resources())


def pool_of(exploration: Exploration, potential: Potential, items: list[Labeled]) -> Pool:
    """What was found, with reasons, spreads and frozen features."""
    events = {event.good.id: event for event in exploration.events}
    frames = list(
        {frame.id: frame for frame in [*exploration.frames, *(e.good for e in events.values())]}.values()
    )
    known = {item.frame.id for item in items}
    frames = [frame for frame in frames if frame.id not in known]
    said = potential.predict(frames).forces
    reasons = [""] * len(frames)
    for i, frame in enumerate(frames):
        if (event := events.get(frame.id)) is not None:
            reasons[i] = f"explosion: {event.reason}" if event.explosion else event.reason
    return Pool(
        frames=frames,
        force_std=np.array([frame_force_std(f, frame.free) for f, frame in zip(said, frames, strict=True)]),
        max_force=np.array([frame_max_force(f, frame.free) for f, frame in zip(said, frames, strict=True)]),
        labelled=[item.frame for item in items],
        features=frozen().features(frames),
        labelled_features=frozen().features([item.frame for item in items]),
        reasons=reasons,
        driven=[True] * len(frames),
    )


def one_round(arm: str, number: int, items: list[Labeled], seed: int) -> tuple[list[Labeled], dict[str, Any]]:
    """The new labels of a round, and what happened in it: the error of the model that explored, and what it met."""
    potential = train(IN_LOOP, items, seed)
    found: list[Labeled] = []
    tests = data("malonaldehyde").tests
    on_the_way = {name: round(1000 * errors(potential, part[::4]), 1) for name, part in tests.items()}
    notes: dict[str, Any] = {"labels": len(items), "regions": on_the_way, "explosions": 0, "pool": 0}
    for batch in range(2):  # failures may be too few at first
        exploration = explored(arm, number, potential, items + found, derive_seed(seed, batch) % 2**31)
        pool = pool_of(exploration, potential, items + found)
        if arm.startswith("failures"):
            selection = FailuresSelector().select(pool, PER_ROUND - len(found), seed)
            picked = [pool.frames[choice.index] for choice in selection.chosen]
        else:
            selector = EnvironmentsSelector(trust=TRUST[arm])
            selection = selector.select(pool, int(OVERSAMPLE * PER_ROUND), seed)
            picked = physical([pool.frames[choice.index] for choice in selection.chosen], items)
            notes["unphysical_picks"] = len(selection.chosen) - len(picked)
            picked = picked[:PER_ROUND]
        found += labelled(picked)
        notes["explosions"] += sum(event.explosion for event in exploration.events)
        notes["pool"] += len(pool.frames)
        notes["too_far"] = selection.rejected.get("too_far", 0)
        notes["max_force_eV_per_A"] = round(float(exploration.counters["max_force_eV_per_A"]), 1)
        if len(found) >= PER_ROUND or not arm.startswith("failures"):
            break
    return found, notes


def campaign(arm: str, seed: int) -> dict[str, Any]:
    """Errors by region (meV/Å) after 100 and 120 labels; kept on disk."""
    plan = {
        "md": dict(MD),
        "arm": dict(ARMS[arm]),
        "name": arm,
        "version": 3,
        "loop": dict(IN_LOOP),
        "full": dict(SCRATCH),
    }
    key = content_id("loop", {"plan": json.dumps(plan), "seed": seed, "rounds": ROUNDS})[:16]

    def make() -> dict[str, Any]:
        oracle.cache_clear()  # its wave function of the campaign before would change the last digits of labels
        pool = data("malonaldehyde")
        first = np.random.default_rng([seed, 0]).choice(pool.usual, STARTS, replace=False)
        items = [pool.items[int(i)] for i in first]
        rounds, reported = [], {}
        for number in range(1, ROUNDS + 1):
            new, notes = one_round(arm, number, items, derive_seed("loop", seed, number) % 2**31)
            items += new
            rounds.append(notes)
            print(f"{arm} seed {seed} round {number}: {rounds[-1]}", flush=True)
            if STARTS + number * PER_ROUND in REPORTED:
                potential = train(SCRATCH, items, seed)
                regions = by_region(potential, pool.tests)
                reported[str(STARTS + number * PER_ROUND)] = {"labels": len(items), "regions": regions}
                print(f"{arm} seed {seed}: {reported}", flush=True)
        return {"seed": seed, "rounds": rounds, "after": reported}

    return kept_run(f"T3_{arm}_{seed}_{key}".replace(" ", "_").replace(",", ""), make)


def table(arm: str, seeds: range, goal: Mapping[str, float]) -> dict[str, Any]:
    """An arm's errors after 100 and 120 labels, and whether every region is as good as the goal."""
    runs = [campaign(arm, seed) for seed in seeds]
    found: dict[str, Any] = {"rounds": [run["rounds"] for run in runs]}
    for count in map(str, REPORTED):
        rows = [{"regions": run["after"][count]["regions"], "rare_frames": 0} for run in runs]
        means = summary(rows)
        del means["rare_frames"]
        means["labels"] = [run["after"][count]["labels"] for run in runs]
        means["reached_by_seed"] = [
            all(row["regions"][region] <= limit for region, limit in goal.items()) for row in rows
        ]
        means["reached"] = all(means["regions"][region] <= limit for region, limit in goal.items())
        found[f"after {count} labels"] = means
    return found


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if not checkpoint_is_there():
        return
    before, seeds = describe_machine(), range(arguments.seeds)
    goal = summary([of("T1", "environments", seed) for seed in seeds])["regions"]
    arms = {arm: table(arm, seeds, goal) for arm in arguments.arms}
    result = {
        "benchmark": "closed_loop",
        "seeds": len(seeds),
        "goal_meV_per_A": goal,
        "goal_is": f"environments from the human-made pool, {TIERS['T1'].labels} labels, the same seeds",
        "md": dict(MD),
        "arms": {
            arm: {"exploration": dict(ARMS[arm]), "trust": TRUST[arm], **found} for arm, found in arms.items()
        },
        "machine": before,
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()
