"""What the tests of samplers without dynamics share: a potential that is never asked, and how they are run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.records import Prediction, Resources
from alfw.core.registry import plugin_class


class NeverAsked:
    """A potential for some elements that nobody may ask."""

    cutoff_A, members = 5.0, 1

    def __init__(self, *species: int) -> None:
        self.species = species

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        raise AssertionError("the potential was asked")


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
