"""Structures per second with all four members of an ensemble: one batched call against Python loops over calculators.

Both are timed in turn in one process, after compilation, and their numbers are compared. Prints one JSON object.

    python benchmarks/screening.py [-o FILE]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from machine import describe_machine, options, publish
from nequix.calculator import NequixCalculator

from alfw.core.frame import Frame
from alfw.models.nequix import NequixModel

MEMBERS = 4
REPEATS = 5
NOISE_A = 0.05
SMALL = {"hidden_irreps": "16x0e + 8x1o", "n_layers": 2}
ENERGIES = {"1": -13.0, "6": -50.0, "8": -110.0, "14": -8.0}
TOLERANCE_eV_PER_A = 1e-5


def cases() -> dict[str, tuple[Atoms, int, int, float]]:
    """Structure, frames per batched call, frames per loop, speed-up aimed at."""
    return {
        "ethanol": (molecule("CH3CH2OH"), 512, 64, 10.0),
        "si64": (bulk("Si", cubic=True) * (2, 2, 2), 64, 16, 2.5),
    }


def displaced(atoms: Atoms, count: int) -> list[Frame]:
    """The structure with Gaussian noise on every coordinate."""
    rng = np.random.default_rng(0)
    noise = NOISE_A * rng.standard_normal((count, len(atoms), 3))
    return [Frame(atoms.numbers, atoms.positions + d, np.array(atoms.cell), atoms.pbc) for d in noise]


def ensemble(model: NequixModel, atoms: Atoms, directory: Path) -> list[Path]:
    """Weights of untrained members; training changes numbers, not speed."""
    species = sorted({int(z) for z in atoms.numbers})
    shared = {
        "species": species,
        "E0_eV": {str(z): ENERGIES[str(z)] for z in species},
        "scale_eV": 1.0,
        "avg_n_neighbors": 10.0,
    }
    return [model.initialise(shared, k, directory / str(k)) for k in range(MEMBERS)]


def looped(calculators: list[NequixCalculator], atoms: list[Atoms]) -> np.ndarray:
    """(B, K, n, 3) eV/Å: forces of each structure by each calculator, one after the other."""
    forces = []
    for structure in atoms:
        for calculator in calculators:
            calculator.calculate(structure)
            forces.append(calculator.results["forces"])
    return np.array(forces).reshape(len(atoms), len(calculators), -1, 3)


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(atoms: Atoms, n_batched: int, n_looped: int, goal: float) -> dict[str, Any]:
    """Both rates (medians of alternating repeats), their ratio, and the largest difference of the forces."""
    model = NequixModel(members=MEMBERS, **SMALL)
    frames = displaced(atoms, n_batched)
    structures = [frame.to_atoms() for frame in frames[:n_looped]]
    with tempfile.TemporaryDirectory() as folder:
        weights = ensemble(model, atoms, Path(folder))
        potential = model.load(weights)
        calculators = [NequixCalculator(model_path=str(path), use_kernel=False) for path in weights]
    ours = np.array(potential.predict(frames).forces[:n_looped])  # compiles
    difference = float(np.abs(ours - looped(calculators, structures)).max())
    if not difference < TOLERANCE_eV_PER_A:
        raise SystemExit(f"forces differ by {difference} eV/Å: the comparison would be meaningless")
    batched, loop = [], []
    for _ in range(REPEATS):
        batched.append(n_batched / seconds(lambda: potential.predict(frames)))
        loop.append(n_looped / seconds(lambda: looped(calculators, structures)))
    ratio = statistics.median(batched) / statistics.median(loop)
    return {
        "atoms": len(atoms),
        "predict_structures_per_s": round(statistics.median(batched), 1),
        "loop_structures_per_s": round(statistics.median(loop), 1),
        "speedup": round(ratio, 2),
        "goal": goal,
        "reached": ratio >= goal,
        "all_predict": [round(x, 1) for x in batched],
        "all_loop": [round(x, 1) for x in loop],
        "max_force_difference_eV_per_A": difference,
    }


def main() -> None:
    """Measure every case and print or write the JSON object."""
    parser = options(__doc__)
    arguments = parser.parse_args()
    before = describe_machine()
    result = {
        "benchmark": "screening",
        "members": MEMBERS,
        "network": SMALL,
        "repeats": REPEATS,
        "cases": {name: measure(*case) for name, case in cases().items()},
        "machine": before,
    }
    publish(result, arguments.output)


if __name__ == "__main__":
    main()
