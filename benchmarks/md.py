"""Walker-steps per second of JaxMDSampler against ASE's Langevin with Nequix's own calculator, ethanol.

Both drive the same weights: four members trained briefly on ethanol at GFN2-xTB. The sampler looks at its limits
after every step; "deviation" asks all four members every 10 steps. ASE has no limits to look at. Compilation is not
counted.

    python benchmarks/md.py [-o FILE]

prints one JSON object (median of the repetitions, which take turns) and writes it to FILE.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from machine import describe_machine, publish

from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.models.nequix import NequixModel
from alfw.samplers.jaxmd import JaxMDSampler

# "small" is the network of the screening benchmark; "default" is NequixModel as it comes, four times the parameters.
NETWORKS = {"small": {"hidden_irreps": "16x0e + 8x1o", "n_layers": 2}, "default": {}}
GOAL = 10.0  # times faster than ASE, with deviation, small network
MEMBERS, DT_FS, T_K, FRICTION_PER_FS, DEVIATION_EVERY = 4, 0.5, 300.0, 0.005, 10


def langevin(atoms: Atoms, calculator: Any, seed: int) -> Langevin:
    """ASE's Langevin, ready to run."""
    rng = np.random.default_rng(seed)
    atoms.calc = calculator
    thermalize_momenta(atoms, temperature_K=T_K, rng=rng)
    friction = FRICTION_PER_FS / units.fs
    return Langevin(atoms, DT_FS * units.fs, temperature_K=T_K, friction=friction, rng=rng, fixcm=False)


def training_data(n: int) -> TrainingData:
    """Frames of GFN2-xTB MD at 500 K, every 10 fs."""
    from tblite.ase import TBLite

    atoms = molecule("CH3CH2OH")
    dynamics = langevin(atoms, TBLite(method="GFN2-xTB", verbosity=0), 0)
    dynamics.set_temperature(temperature_K=500.0)
    labels = []
    for _ in range(n):
        dynamics.run(20)
        label = Label(energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        labels.append(Labeled(Frame.from_atoms(atoms), label))
    return TrainingData(labels)


def train_members(network: dict[str, Any], data: TrainingData, folder: Path) -> list[Path]:
    """The weights of the members."""
    model = NequixModel(**network, members=MEMBERS, training={"steps": 800})
    data = TrainingData(data.train, statistics=model.statistics(data))
    return [model.train(data, k, None, folder / str(k), Resources()) for k in range(MEMBERS)]


def sampler_run(
    weights: list[Path], start: Frame, walkers: int, deviation: bool, n_steps: int
) -> Callable[[], float]:
    """A function that runs the sampler and returns walker-steps/s; called once here, to compile."""
    potential = NequixModel(members=MEMBERS).load(weights)
    sampler = JaxMDSampler(
        temperatures_K=(T_K,),
        friction_per_ps=1000 * FRICTION_PER_FS,
        walkers=walkers,
        dt_fs=DT_FS,
        n_steps=n_steps,
        keep_every=100,
        force_std_every=DEVIATION_EVERY,
        limits={"force_std_eV_per_A": 3.0 if deviation else None},
    )

    def run() -> float:
        began = time.perf_counter()
        pool = sampler.run(potential, [start], 1, Path(), Resources())
        if pool.events:
            print(f"warning: {len(pool.events)} of {walkers} walkers stopped", file=sys.stderr)
        return pool.counters["n_steps"] / (time.perf_counter() - began)

    run()
    return run


def ase_run(weights: list[Path], start: Frame, deviation: bool, n_steps: int) -> Callable[[], float]:
    """The same for ASE: one walker, one calculator a member."""
    from nequix.calculator import NequixCalculator

    calculators = [NequixCalculator(model_path=str(path), use_kernel=False) for path in weights]
    atoms = start.to_atoms()
    dynamics = langevin(atoms, calculators[1], 1)

    def measure() -> None:
        forces = []
        for calculator in calculators:
            calculator.calculate(atoms, ["forces"], [])
            forces.append(calculator.results["forces"])
        np.std(forces, axis=0).max()

    def run() -> float:
        began = time.perf_counter()
        for _ in range(n_steps // DEVIATION_EVERY):
            dynamics.run(DEVIATION_EVERY)
            if deviation:
                measure()
        return n_steps / (time.perf_counter() - began)

    measure()
    run()
    return run


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="also write the JSON here")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=12000, help="walker-steps of each sampler run; ASE does a twentieth"
    )
    args = parser.parse_args()
    data = training_data(100)
    with tempfile.TemporaryDirectory() as folder:
        networks = {
            name: measured(
                train_members(network, data, Path(folder) / name), args.steps, max(3, args.repeats)
            )
            for name, network in NETWORKS.items()
        }
    goal = [networks["small"]["times_faster_than_ase"][f"jaxmd R={r} deviation"] for r in (1, 16)]
    result = {
        "benchmark": "md",
        "machine": describe_machine(),
        "system": f"ethanol, 9 atoms, {MEMBERS} Nequix members, dt {DT_FS} fs, deviation every {DEVIATION_EVERY} steps",
        "goal": f"small network, with deviation: {GOAL:g} times faster than ASE",
        "reached": min(goal) >= GOAL,
        "networks": networks,
    }
    publish(result, args.output)


def measured(weights: list[Path], steps: int, repeats: int) -> dict[str, Any]:
    """All runs with these weights, taking turns."""
    start = Frame.from_atoms(molecule("CH3CH2OH"))
    cases = ((False, ""), (True, " deviation"))
    runs = {
        f"jaxmd R={walkers}{label}": sampler_run(
            weights, start, walkers, deviation, steps // walkers // 100 * 100
        )
        for walkers in (1, 16)
        for deviation, label in cases
    }
    runs |= {f"ase{label}": ase_run(weights, start, deviation, steps // 20) for deviation, label in cases}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            samples[name].append(run())
    return summary(samples)


def summary(samples: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and how many times faster than ASE with and without deviation."""
    median = {name: statistics.median(values) for name, values in samples.items()}
    ratios = {
        name: median[name] / median["ase deviation" if name.endswith("deviation") else "ase"]
        for name in median
        if name.startswith("jaxmd")
    }
    return {
        "walker_steps_per_s": {name: round(value, 1) for name, value in median.items()},
        "times_faster_than_ase": {name: round(value, 2) for name, value in ratios.items()},
        "repeats": {name: [round(v, 1) for v in values] for name, values in samples.items()},
    }


if __name__ == "__main__":
    main()
