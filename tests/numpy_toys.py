"""What tests of samplers share: potentials in numpy, how samplers are run, distances by ASE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from alfw.core.errors import TrainingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.records import Prediction, Resources
from alfw.core.registry import plugin_class
from alfw.core.units import EV_PER_A3_GPa


class NeverAsked:
    """A potential for some elements that nobody may ask."""

    cutoff_A, members = 5.0, 1

    def __init__(self, *species: int) -> None:
        self.species = species

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        raise AssertionError("the potential was asked")


class Springs:
    """Members with springs between all atoms, whose lengths are those of one molecule."""

    cutoff_A = 0.0

    def __init__(self, frame: Frame, *k: float, broken: float = np.inf) -> None:
        self.species, self.members = tuple(set(frame.numbers.tolist())), len(k)
        self.k, self.broken, self.length = k, broken, self.distances(frame.positions)[1]

    @staticmethod
    def distances(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = x[:, None] - x
        return away, np.linalg.norm(away, axis=2) + np.eye(len(x))

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        energy, forces = np.zeros((self.members, len(frames))), []
        for b, frame in enumerate(frames):
            away, distance = self.distances(frame.positions)
            stretch = distance - self.length
            pull = -(stretch / distance)[..., None] * away
            nan = np.nan if distance.max() > self.broken else 0.0
            energy[:, b] = [k / 4 * (stretch**2).sum() for k in self.k]
            forces.append(np.array([k * pull.sum(1) + nan for k in self.k]))
        return Prediction(energy, forces)


class Free(Springs):
    """Atoms that feel nothing."""

    def __init__(self, *species: int) -> None:
        self.species, self.members = species, 1

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        return Prediction(np.zeros((1, len(frames))), [np.zeros((1, len(frame), 3)) for frame in frames])


class Gas:
    """Atoms that do not feel one another in cells with a bulk modulus (GPa) about the volume of a start."""

    cutoff_A, members, species = 0.0, 1, (18,)

    def __init__(self, start: Frame, modulus_GPa: float) -> None:
        self.modulus, self.volume = modulus_GPa / EV_PER_A3_GPa, abs(np.linalg.det(start.cell))

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        x = np.array([abs(np.linalg.det(frame.cell)) / self.volume - 1 for frame in frames])
        stress: list[Any] = [np.eye(3)[None] * self.modulus * a for a in x]
        forces = [np.zeros((1, len(frame), 3)) for frame in frames]
        return Prediction(self.modulus * self.volume / 2 * x[None] ** 2, forces, stress)


class Moody(Springs):
    """Springs that cannot be computed beyond a distance."""

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        if any(self.distances(frame.positions)[1].max() > self.broken for frame in frames):
            raise TrainingError("no convergence")
        return super().predict(frames)


def explore(kind: str, potential: Any, starts: Sequence[Frame], seed: int = 3, **options: Any) -> Exploration:
    sampler = plugin_class("alfw.samplers", kind).model_validate(options)
    return sampler.run(potential, starts, seed, Path(), Resources())


def closest(atoms: Atoms) -> float:
    """Smallest distance over the sum of covalent radii, by ASE's neighbour list."""
    from ase.neighborlist import neighbor_list

    radii = covalent_radii[atoms.numbers]
    i, j, d = neighbor_list("ijd", atoms, 6.0)
    return float((d / (radii[i] + radii[j])).min(initial=np.inf))


def closest_of(frame: Frame) -> float:
    return closest(frame.to_atoms())
