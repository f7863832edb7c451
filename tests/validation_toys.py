"""For tests of validation: frames with labels, and potentials whose errors are known exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk, molecule

from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Prediction
from alfw.steps.validation.testset import Reference, TestSet

STATISTICS = {
    "species": [1, 6, 8],
    "E0_eV": {"1": -13.5, "6": -1028.0, "8": -2041.0},
    "scale_eV": 1.5,
    "avg_n_neighbors": 6.0,
}
TINY = {"hidden_irreps": "4x0e + 2x1o", "n_layers": 2, "radial_mlp_size": 8, "members": 2}


def shaken(name: str, seed: int, fixed: Sequence[int] = (), noise: float = 0.05, **label: Any) -> Labeled:
    """A molecule out of shape, with random forces as its label, energy −10 eV per atom."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    mask = np.isin(np.arange(len(atoms)), fixed)
    positions = atoms.positions + noise * rng.standard_normal(atoms.positions.shape)
    frame = Frame(atoms.numbers, positions, fixed=mask)
    forces = rng.standard_normal((len(frame), 3))
    return Labeled(frame, Label(-10.0 * len(frame) + rng.normal(), forces, **label))


def crystal(seed: int) -> Labeled:
    """Two atoms of a copper crystal with a stress."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True)
    frame = Frame(
        atoms.numbers, atoms.positions + 0.05 * rng.standard_normal((4, 3)), np.array(atoms.cell), atoms.pbc
    )
    stress = rng.standard_normal((3, 3))
    return Labeled(frame, Label(-3.0, rng.standard_normal((4, 3)), stress=stress + stress.T))


def in_regions(**regions: Sequence[Labeled]) -> TestSet:
    """A test set of these regions, each from a file of its name."""
    references = [
        Reference(region, Path(f"{region}.extxyz"), index, item)
        for region, items in regions.items()
        for index, item in enumerate(items)
    ]
    found = TestSet(references)
    found.taken["energy", "forces"] = len(references)
    return found


Change = Callable[[Labeled], np.ndarray]


@dataclass
class Wrong:
    """A potential that knows the labels and is wrong about them by what it is told.

    `energy`: (K,) eV, and `forces`: (K, n, 3) eV/Å, as functions of the labelled frame.
    """

    items: Sequence[Labeled]
    energy: Change = lambda item: np.zeros(2)
    forces: Change = lambda item: np.zeros((2, len(item.frame), 3))
    stress_error: float = 0.0
    dipole_error: float = 0.0
    species: tuple[int, ...] = (1, 6, 8, 29)
    cutoff_A: float = 5.0
    asked: list[int] = field(default_factory=list)

    @property
    def members(self) -> int:
        """K, by what the energies are."""
        return len(self.energy(self.items[0]))

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """Labels and errors."""
        self.asked.append(len(frames))
        known = {item.frame.id: item for item in self.items}
        items = [known[frame.id] for frame in frames]
        ones = np.ones(self.members)
        stress = [
            None if i.label.stress is None else np.multiply.outer(ones, i.label.stress + self.stress_error)
            for i in items
        ]
        dipoles = [np.zeros(3) if i.label.dipole is None else i.label.dipole for i in items]
        dipole = np.multiply.outer(ones, np.array(dipoles) + self.dipole_error)
        return Prediction(
            energy=np.array([item.label.energy + self.energy(item) for item in items]).T,
            forces=[item.label.forces + self.forces(item) for item in items],
            stress=stress,
            dipole=dipole,
        )


class Charged(Wrong):
    """The same with charges: atomic ones are wrong by 0.2 e·Å and 0.1 V, distributed ones by half of it."""

    def dipoles(self, frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray]:
        """Both (K, B, 3)."""
        known = {item.frame.id: item for item in self.items}
        right = np.array([known[frame.id].label.dipole for frame in frames])
        both = np.broadcast_to(right, (self.members, *right.shape))
        return both + 0.2, both + 0.1

    def charges(self, frames: Sequence[Frame]) -> list[np.ndarray]:
        """Nothing that anybody asks for."""
        return [np.zeros((self.members, len(frame))) for frame in frames]

    def esp(self, frame: Frame, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both (K, G), of a potential that is the x coordinate."""
        self.asked.append(len(points))
        both = np.broadcast_to(points[:, 0], (self.members, len(points)))
        return both + 0.1, both + 0.05


def spread_of(width: float, sigma: Callable[[Labeled], float], seed: int = 0) -> Change:
    """Errors of four members: of their mean, `width` · sigma a component; their force_std / √3 is sigma."""

    def forces(item: Labeled) -> np.ndarray:
        rng = np.random.default_rng([seed, int(item.frame.id[:8], 16)])
        n = len(item.frame)
        signs = np.array([1.0, 1.0, -1.0, -1.0])[:, None, None]
        wrong = width * sigma(item) * rng.standard_normal((n, 3))
        return wrong + signs * sigma(item) * np.ones((4, n, 3))

    return forces


def untrained(folder: Path, members: int = 2) -> list[Path]:
    """Weights of small networks that have learnt nothing: ``model_1.nqx`` …"""
    from alfw.models.nequix import NequixModel

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(members):
        weights = NequixModel(**TINY).initialise(STATISTICS, k, folder / f"part_{k}")
        paths.append(weights.rename(folder / f"model_{k + 1}.nqx"))
        (folder / f"part_{k}").rmdir()
    return paths
