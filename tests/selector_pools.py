"""Pools for the tests of selectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.build import molecule
from scipy.spatial.transform import Rotation

from alfw.core.exploration import Pool, Selection
from alfw.core.frame import Frame
from alfw.core.registry import plugin_class

KINDS = ("combined", "environments", "failures", "farthest", "force-std", "lcmd", "maxdet", "random")
OPEN: dict[str, Any] = {
    "physical": {"min_distance_fraction": None, "max_force_quantile": None},
    "band_eV_per_A": (None, None),
    "dedup": {"min_distance_A": 0.0},
}


def selector(kind: str, **options: Any) -> Any:
    return plugin_class("alfw.selectors", kind)(kind=kind, **options)


def rattled(name: str, n: int, width_A: float, seed: int) -> list[Frame]:
    """Randomly displaced and turned copies of a molecule."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    return [
        Frame(
            atoms.numbers,
            (atoms.positions + rng.normal(scale=width_A, size=(len(atoms), 3)))
            @ Rotation.random(rng=rng).as_matrix(),
        )
        for _ in range(n)
    ]


def pool_of(frames: list[Frame], seed: int = 0, labelled: list[Frame] | None = None, **more: Any) -> Pool:
    """All frames come from events, so that every kind of selector has something to choose from."""
    rng = np.random.default_rng(seed)
    std, force = rng.uniform(0, 2, len(frames)), rng.uniform(0, 9, len(frames))
    return Pool(frames, std, force, labelled or [], **{"reasons": ["high_force"] * len(frames), **more})


def indices(selection: Selection) -> list[int]:
    return [choice.index for choice in selection.chosen]
