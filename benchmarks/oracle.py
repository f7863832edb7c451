"""Molecular dynamics on GFN2-xTB for the benchmarks of learning: labelled frames of ethanol and malonaldehyde.

Frames are made once and kept in ``~/.cache/alfw/benchmarks`` (or ``$ALFW_CACHE/benchmarks``). The pool of malonaldehyde
is imbalanced on purpose: 4,500 frames at 300 K, 400 at 700 K, 100 of the proton's way from one oxygen to the other.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.build import molecule
from tblite.interface import Calculator

from alfw.core.frame import Float, Frame
from alfw.core.records import Label, Labeled
from alfw.core.units import BOHR_A, FS, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A, KB_eV_PER_K
from alfw.io.imported import Imported
from alfw.io.training_npz import read_training_npz, write_training_npz

DT_FS, FRICTION_PER_FS, EQUILIBRATION = 0.5, 0.01, 1000
MALONALDEHYDE = np.array([8, 6, 6, 6, 8, 1, 1, 1, 1])
MALONALDEHYDE_A = np.array(
    [
        *([1.30, 1.30, 0], [1.22, 0.03, 0], [0, -0.72, 0], [-1.22, -0.03, 0], [-1.24, 1.22, 0]),
        *([0.35, 1.62, 0], [2.14, -0.55, 0], [0, -1.80, 0], [-2.16, -0.61, 0]),
    ]
)
BIAS_eV_PER_A2 = 8.0  # of the umbrella on the proton's asymmetry, which keeps it between the oxygens
Bias = Callable[[Float], Float]


class Oracle:
    """GFN2-xTB (or another), each point starting from the wave function of the one before."""

    def __init__(self, numbers: Float, positions: Float, method: str = "GFN2-xTB") -> None:
        self.numbers = numbers
        self._calculator = Calculator(method, numbers, positions / BOHR_A)
        self._calculator.set("verbosity", 0)
        self._last = None

    def __call__(self, positions: Float) -> tuple[float, Float]:
        """Energy (eV) and forces (n, 3) eV/Å."""
        self._calculator.update(positions / BOHR_A)
        self._last = self._calculator.singlepoint(self._last)
        gradient = np.asarray(self._last.get("gradient"))
        return float(self._last.get("energy")) * HARTREE_eV, -gradient * HARTREE_PER_BOHR_eV_PER_A


def asymmetry_bias(positions: Float) -> Float:
    """(9, 3) eV/Å: force of the umbrella on |H5 − O0| − |H5 − O4| of malonaldehyde, about 0."""
    a, b = positions[5] - positions[0], positions[5] - positions[4]
    ra, rb = np.linalg.norm(a), np.linalg.norm(b)
    pull = -BIAS_eV_PER_A2 * (ra - rb)
    force = np.zeros_like(positions)
    force[5], force[0], force[4] = pull * (a / ra - b / rb), -pull * a / ra, pull * b / rb
    return force


def relaxed(oracle: Oracle, positions: Float, steps: int = 60) -> Float:
    """A few steps of steepest descent."""
    for _ in range(steps):
        positions = positions + np.clip(0.01 * oracle(positions)[1], -0.05, 0.05)
    return positions


def dynamics(
    numbers: Float,
    positions: Float,
    kelvin: float,
    count: int,
    stride: int,
    seed: int,
    bias: Bias | None = None,
) -> list[Labeled]:
    """`count` labelled frames of Langevin dynamics (BAOAB), one every `stride` steps; labels are without the bias."""
    rng, oracle = np.random.default_rng(seed), Oracle(numbers, positions)
    mass = Frame(numbers, positions).masses[:, None]
    dt, kT = DT_FS * FS, kelvin * KB_eV_PER_K
    keep = np.exp(-FRICTION_PER_FS * DT_FS)
    x, v = relaxed(oracle, positions), np.sqrt(kT / mass) * rng.standard_normal(positions.shape)
    push = (lambda x: 0.0) if bias is None else bias
    energy, force = oracle(x)
    found = []
    for step in range(1, EQUILIBRATION + count * stride + 1):
        v += 0.5 * dt * (force + push(x)) / mass
        x = x + 0.5 * dt * v
        v = keep * v + np.sqrt((1 - keep**2) * kT / mass) * rng.standard_normal(x.shape)
        x = x + 0.5 * dt * v
        energy, force = oracle(x)
        v += 0.5 * dt * (force + push(x)) / mass
        if step > EQUILIBRATION and (step - EQUILIBRATION) % stride == 0:
            found.append(Labeled(Frame(numbers, x), Label(energy, force)))
    return found


def cached(name: str) -> Path:
    """A path of this name in the folder where benchmarks keep what they made."""
    root = Path(os.environ.get("ALFW_CACHE") or Path.home() / ".cache" / "alfw") / "benchmarks"
    root.mkdir(parents=True, exist_ok=True)
    return root / name


def kept(name: str, make: Callable[[], list[Labeled]]) -> list[Labeled]:
    """The frames of this name, made once and kept on disk."""
    path = cached(f"{name}.npz")
    if not path.is_file():
        partial = path.with_suffix(".partial.npz")
        write_training_npz(partial, [Imported(item.frame, item.label) for item in make()])
        partial.replace(path)
    return [Labeled(item.frame, item.label) for item in read_training_npz(path) if item.label is not None]


def ethanol(count: int, kelvin: float = 500.0, seed: int = 0) -> list[Labeled]:
    """Ethanol, one frame every 10 fs."""
    atoms = molecule("CH3CH2OH")
    numbers, positions = atoms.numbers, atoms.positions
    return kept(
        f"ethanol_{kelvin:g}K_{count}_{seed}", lambda: dynamics(numbers, positions, kelvin, count, 20, seed)
    )


def malonaldehyde(
    region: str, kelvin: float, count: int, stride: int, bias: Bias | None = None
) -> list[Labeled]:
    """Malonaldehyde at a temperature; the seed follows from the name of the region."""
    seed = zlib.crc32(region.encode())
    run = lambda: dynamics(MALONALDEHYDE, MALONALDEHYDE_A, kelvin, count, stride, seed, bias)  # noqa: E731
    return kept(f"malonaldehyde_{region}", run)


def pool() -> list[Labeled]:
    """The 5,000 frames that a selector chooses from."""
    return [
        *malonaldehyde("pool_300K_a", 300.0, 3600, 10),
        *malonaldehyde("pool_300K_b", 300.0, 900, 10),
        *malonaldehyde("pool_700K", 700.0, 400, 25),
        *malonaldehyde("pool_transfer", 400.0, 100, 25, asymmetry_bias),
    ]


def test_regions() -> dict[str, list[Labeled]]:
    """500 frames of each region, of two runs of their own: one run alone may happen to be an easy or a hard one."""
    regions = {"300 K": (300.0, None), "600 K": (600.0, None), "1000 K": (1000.0, None)}
    regions["transfer"] = (400.0, asymmetry_bias)
    return {
        name: [
            item
            for run in ("a", "b")
            for item in malonaldehyde(f"test_{name.replace(' ', '')}_{run}", kelvin, 250, 40, bias)
        ]
        for name, (kelvin, bias) in regions.items()
    }
