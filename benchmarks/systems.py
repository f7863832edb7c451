"""Two more systems for the benchmarks of label efficiency, on which nothing was ever tuned.

Copper with a vacancy, 31 atoms in a periodic cell: EMT as in ASE; crystal at 300 K, hot crystal, melt, and compressed.
Alanine dipeptide, 22 atoms: GFN2-xTB; 300 K, 700 K, and the rare turn of its backbone (an umbrella about φ = +60°).
Each pool holds few frames of the rare regions; tests are runs of their own.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from oracle import dynamics, kept

from alfw.core.frame import Float, Frame
from alfw.core.records import Label, Labeled

# region: (temperature K, lattice constant Å, steps of equilibration)
COPPER = {
    "crystal 300 K": (300.0, 3.62, 500),
    "crystal 1000 K": (1000.0, 3.68, 500),
    "melt 2500 K": (2500.0, 3.85, 3000),
    "compressed 600 K": (600.0, 3.42, 500),
}
COPPER_POOL = {"crystal 300 K": 1700, "crystal 1000 K": 200, "melt 2500 K": 60, "compressed 600 K": 40}
# Atoms of alanine dipeptide, ACE-ALA-NME, as from its SMILES CC(=O)N[C@@H](C)C(=O)NC.
PEPTIDE = np.array([6, 6, 8, 7, 6, 6, 6, 8, 7, 6] + [1] * 12)
PEPTIDE_A = np.array(
    [
        *([-3.78, 0.66, 0.40], [-2.41, 0.12, 0.07], [-2.24, -1.06, -0.24], [-1.38, 1.02, 0.13]),
        *([0.00, 0.65, -0.16], [0.57, 1.41, -1.36], [0.83, 0.86, 1.11], [0.41, 1.55, 2.04]),
        *([2.03, 0.24, 1.11], [2.97, 0.33, 2.22], [-4.39, -0.09, 0.92], [-4.30, 0.94, -0.52]),
        *([-3.69, 1.55, 1.03], [-1.55, 1.99, 0.38], [0.00, -0.42, -0.38], [1.61, 1.11, -1.55]),
        *([-0.03, 1.18, -2.25], [0.54, 2.49, -1.20], [2.29, -0.31, 0.30], [3.83, -0.31, 2.02]),
        *([3.34, 1.35, 2.32], [2.49, 0.02, 3.15]),
    ]
)
PHI = (1, 3, 4, 6)  # C–N–Cα–C
TURN_RAD, TURN_eV = np.deg2rad(60.0), 2.0
PEPTIDE_POOL = {"300 K": 1600, "700 K": 160, "turn 400 K": 40}
TEST_FRAMES = 60


def _seed(name: str) -> int:
    return zlib.crc32(name.encode())


def copper(region: str, count: int, run: str) -> list[Labeled]:
    """Frames of a region of copper, one every 20 fs (crystals) of Langevin dynamics with steps of 2 fs."""
    kelvin, a, equilibration = COPPER[region]

    def make() -> list[Labeled]:
        rng = np.random.default_rng(_seed(f"{region} {run}"))
        atoms: Atoms = bulk("Cu", "fcc", a, cubic=True) * (2, 2, 2)
        del atoms[int(rng.integers(len(atoms)))]
        atoms.rattle(0.05, rng=rng)
        atoms.calc = EMT()
        MaxwellBoltzmannDistribution(atoms, temperature_K=kelvin, rng=rng)
        md = Langevin(
            atoms, 2 * units.fs, temperature_K=kelvin, friction=0.01 / units.fs, fixcm=False, rng=rng
        )
        md.run(equilibration)
        found = []
        for _ in range(count):
            md.run(10)
            frame = Frame.from_atoms(atoms)
            energy = float(atoms.get_potential_energy(force_consistent=True))
            found.append(Labeled(frame, Label(energy, atoms.get_forces())))
        return found

    return kept(f"copper_{region.replace(' ', '_')}_{run}_{count}", make)


def dihedral(x: Float) -> tuple[float, Float]:
    """φ (rad) of the peptide and its derivative (n, 3), doi:10.1002/jcc.540100808 (the form without singularity)."""
    i, j, k, m = PHI
    f, g, h = x[i] - x[j], x[j] - x[k], x[m] - x[k]
    a, b = np.cross(f, g), np.cross(h, g)
    aa, bb, gg = a @ a, b @ b, np.linalg.norm(g)
    phi = np.arctan2(np.cross(b, a) @ g / gg, a @ b)
    slope = np.zeros_like(x)
    slope[i] = -gg / aa * a
    slope[m] = gg / bb * b
    slope[j] = gg / aa * a + (f @ g) / (aa * gg) * a - (h @ g) / (bb * gg) * b
    slope[k] = -gg / bb * b - (f @ g) / (aa * gg) * a + (h @ g) / (bb * gg) * b
    return float(phi), slope


def turn(x: Float) -> Float:
    """(22, 3) eV/Å: force of the umbrella 2·(1 − cos(φ − 60°)) eV."""
    phi, slope = dihedral(x)
    return -TURN_eV * np.sin(phi - TURN_RAD) * slope


def peptide(region: str, count: int, run: str) -> list[Labeled]:
    """Frames of a region of alanine dipeptide, one every 10 fs."""
    kelvin, bias = (400.0, turn) if region.startswith("turn") else (float(region.split()[0]), None)
    name = f"{region} {run}"
    make = lambda: dynamics(PEPTIDE, PEPTIDE_A, kelvin, count, 20, _seed(name), bias)  # noqa: E731
    return kept(f"peptide_{region.replace(' ', '_')}_{run}_{count}", make)


Maker = Callable[[str, int, str], list[Labeled]]


def pool_of(make: Maker, sizes: dict[str, int]) -> list[Labeled]:
    """The frames to choose from, of two runs a region; those of the first, the usual region, come first."""
    return [
        item for name, n in sizes.items() for run in ("a", "b") for item in make(name, n // 2, f"pool_{run}")
    ]


def tests_of(make: Maker, regions: list[str]) -> dict[str, list[Labeled]]:
    """Test frames by region, of two runs of their own."""
    return {
        name: [item for run in ("a", "b") for item in make(name, TEST_FRAMES // 2, f"test_{run}")]
        for name in regions
    }
