"""Uncertainty-biased MD: what a step costs, and what the bias buys in equal steps.

Cost: ethanol with a small Nequix network, alone; with 8 readouts and their energy σ in every step, plain and biased;
four networks, plain with force_std every 10 steps, and biased. Compilation is not counted.

Gain: malonaldehyde on GFN2-xTB. A shallow ensemble is trained on 100 frames at 300 K and explores from them at 300 K,
without a bias and with two strengths, and without at 500 K. Of the frames kept: how uncertain the ensemble is about
them (the share beyond the 99 % quantile of plain MD at 300 K), how wrong it is about their forces, how far the proton
gets to the other oxygen, and how many are unphysical (more than 5 eV above the minimum, by GFN2-xTB).

    python benchmarks/biased.py [-o FILE]

prints tables and writes JSON to FILE: medians of repeats that take turns; means over three seeds of training and MD.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import molecule
from machine import describe_machine
from oracle import MALONALDEHYDE, MALONALDEHYDE_A, Oracle, malonaldehyde, relaxed
from spread import SMALL, STATISTICS, Cost, checked, measured, timed, with_heads
from spread import table as cost_table

from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.records import Resources, TrainingData
from alfw.models.nequix import NequixModel
from alfw.samplers.jaxmd import JaxMDSampler

HEADS, MEMBERS, SEEDS = 8, 4, 3
TRAINING = {"steps": 3000, "batch_size": 5}
ARMS: dict[str, dict[str, Any]] = {
    "plain 300 K": {},
    "bias 0.25": {"bias": {"strength": 0.25}},
    "bias 0.5": {"bias": {"strength": 0.5}},
    "plain 500 K": {"temperatures_K": (500.0,)},
}
FRAMES, WALKERS, STEPS, KEEP = 100, 8, 2400, 20
UNPHYSICAL_eV = 5.0


def md(potential: Potential, walkers: int, n_steps: int, **options: Any) -> Callable[[], Cost]:
    """A function that runs MD of ethanol and says what it cost; called once here, to compile."""
    limits = {"max_force_eV_per_A": 1e6, "min_distance_fraction": 0.0, "max_speed_A_per_fs": 1e3}
    limits |= {"max_growth_A": 1e6, "force_std_eV_per_A": options.pop("force_std", None)}
    sampler = JaxMDSampler.model_validate(
        {"temperatures_K": (100.0,), "walkers": walkers, "dt_fs": 0.1, "n_steps": n_steps, "keep_every": n_steps,
         "limits": limits, "high_force": {"quantile": None}, **options}
    )  # fmt: skip
    start = Frame.from_atoms(molecule("CH3CH2OH"))

    def run() -> Cost:
        return timed(lambda: checked(sampler.run(potential, [start], 0, Path(), Resources()).events))

    run()
    return run


def costs(folder: Path, repeats: int) -> dict[str, Any]:
    """Of the same steps, by what is known and done in each."""
    model = NequixModel(**SMALL)
    weights = [model.initialise(STATISTICS, k, folder / str(k)) for k in range(MEMBERS)]
    one, deep = NequixModel(members=1).load(weights[:1]), NequixModel().load(weights)
    shallow = NequixModel(members=1).load([with_heads(weights[0], HEADS, folder)])
    kinds: dict[str, dict[str, Callable[[], Cost]]] = {}
    for walkers, n in ((1, 2000), (16, 250)):
        kinds[f"{walkers} walkers"] = {
            "one model": md(one, walkers, n),
            f"energy σ of {HEADS} heads": md(shallow, walkers, n),
            f"{HEADS} heads, biased": md(shallow, walkers, n, bias={}),
            f"{MEMBERS} members, force_std every 10 steps": md(deep, walkers, n, force_std=1e6),
            f"{MEMBERS} members, biased": md(deep, walkers, n, bias={}),
        }
    return measured(kinds, repeats)


def trained(seed: int, folder: Path) -> tuple[Potential, list[Frame]]:
    """A shallow ensemble of frames at 300 K, and the frames."""
    items = malonaldehyde("pool_300K_a", 300.0, 3600, 10)[20 * seed :: 3600 // FRAMES][:FRAMES]
    model = NequixModel.model_validate({"members": 1, "heads": HEADS, **SMALL, "training": TRAINING})
    data = TrainingData(items, (), model.statistics(TrainingData(items)))
    path = model.train(data, seed, None, folder / f"seed_{seed}", Resources())
    return model.load([path]), [item.frame for item in items]


def explored(potential: Potential, starts: list[Frame], seed: int, options: dict[str, Any]) -> Exploration:
    """A run of one arm."""
    sampler = JaxMDSampler.model_validate(
        {"temperatures_K": (300.0,), "walkers": WALKERS, "n_steps": STEPS, "keep_every": KEEP, "dt_fs": 0.5,
         "equilibration_steps": 400, "high_force": {"quantile": None}, **options}
    )  # fmt: skip
    return sampler.run(potential, starts, seed, Path(), Resources())


def labelled(oracle: Oracle, frame: Frame) -> tuple[float, Any]:
    """Energy and forces; infinite where the SCF does not converge."""
    try:
        return oracle(frame.positions)
    except RuntimeError:
        return np.inf, np.inf


def judged(
    potential: Potential, starts: list[Frame], pool: Exploration, oracle: Oracle, minimum: float
) -> dict[str, Any]:
    """Arrays over the frames kept: energy σ, force error, excess energy, asymmetry of the proton; and counters.

    σ is of energies less their mean over the starts, of each member by itself: a constant is no uncertainty.
    """
    said = potential.predict(pool.frames)
    truth = [labelled(oracle, frame) for frame in pool.frames]
    to = np.array([[np.linalg.norm(f.positions[5] - f.positions[o]) for o in (0, 4)] for f in pool.frames])
    squares = [((f.mean(0) - true) ** 2).mean() for f, (_, true) in zip(said.forces, truth, strict=True)]
    return {
        "sigma": (said.energy - potential.predict(starts).energy.mean(1, keepdims=True)).std(0),
        "square": np.array(squares),
        "excess": np.array([energy for energy, _ in truth]) - minimum,
        "asymmetry": to[:, 0] - to[:, 1],
        "explosions": int(pool.counters["n_explosions"]),
        "uncertain": int(pool.counters["n_uncertain"]),
        "time_ps": float(pool.counters["time_ps"]),
    }


def summary(found: dict[str, Any], beyond: float) -> dict[str, float]:
    """One arm of one seed in numbers; unphysical frames are counted, and left out of all else."""
    sane = found["excess"] < UNPHYSICAL_eV
    sigma, asymmetry = found["sigma"][sane], found["asymmetry"][sane]
    return {
        "frames": len(sane),
        "unphysical": int((~sane).sum()),
        "explosions": found["explosions"],
        "uncertain": found["uncertain"],
        "time_ps": round(found["time_ps"], 2),
        "sigma_median_meV": round(1000 * float(np.median(sigma)), 2),
        "sigma_largest_meV": round(1000 * float(sigma.max()), 2),
        "share_beyond": round(float((sigma > beyond).mean()), 4),
        "force_rmse_meV_per_A": round(1000 * float(np.sqrt(found["square"][sane].mean())), 1),
        "excess_energy_mean_eV": round(float(found["excess"][sane].mean()), 3),
        "excess_energy_largest_eV": round(float(found["excess"][sane].max()), 2),
        "least_asymmetry_A": round(float(np.abs(asymmetry).min()), 3),
    }


def gains(folder: Path) -> dict[str, Any]:
    """Arms by seed, and their means over the seeds."""
    oracle = Oracle(MALONALDEHYDE, MALONALDEHYDE_A)
    minimum = oracle(relaxed(oracle, MALONALDEHYDE_A, 400))[0]
    seeds = []
    for seed in range(SEEDS):
        potential, starts = trained(seed, folder)
        found = {}
        for arm, options in ARMS.items():
            found[arm] = judged(
                potential, starts, explored(potential, starts, seed, options), oracle, minimum
            )
        usual = found["plain 300 K"]
        beyond = float(np.quantile(usual["sigma"][usual["excess"] < UNPHYSICAL_eV], 0.99))
        seeds.append({arm: summary(one, beyond) for arm, one in found.items()})
    means = {
        arm: {key: round(float(np.mean([seed[arm][key] for seed in seeds])), 4) for key in seeds[0][arm]}
        for arm in ARMS
    }
    return {"means": means, "seeds": seeds}


def gain_table(means: dict[str, dict[str, float]]) -> str:
    """For reading."""
    keys = list(next(iter(means.values())))
    lines = [f"{'':28}" + "".join(f"{arm:>14}" for arm in means)]
    return "\n".join(lines + [f"{key:28}" + "".join(f"{m[key]:14g}" for m in means.values()) for key in keys])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="write JSON here")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        gain = gains(Path(name))
        print(gain_table(gain["means"]), flush=True)
        cost = costs(Path(name), args.repeats)
    result = {
        "benchmark": "biased",
        "machine": describe_machine(),
        "system": f"cost: ethanol; gain: malonaldehyde, {FRAMES} frames, {WALKERS} walkers × {STEPS} steps of 0.5 fs;"
        f" 16x0e + 8x1o, 2 layers, cutoff 4 Å, {HEADS} heads, {TRAINING['steps']} training steps",
        "cost": cost,
        "gain": gain,
    }
    print(cost_table({"small": cost}))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
