"""The ways to choose N frames of a labelled pool that the benchmarks of label efficiency compare.

Every arm of a seed starts from the same frames. Whatever has to be known of a pool (features, descriptors) is computed
once; no arm sees a label of a frame that it has not chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alfw.core.exploration import Pool
from alfw.core.frame import Float, Frame
from alfw.selectors._descriptors import descriptors
from alfw.selectors._farthest import Distances
from alfw.selectors.environments import EnvironmentsSelector

ARMS = ("random", "farthest", "environments")
NO_FILTERS = {
    "physical": {"min_distance_fraction": None, "max_force_quantile": None},
    "band_eV_per_A": (None, None),
    "dedup": {"min_distance_A": 0.0},
}


@dataclass(frozen=True, eq=False)
class Candidates:
    """A pool of B frames of one system.

    Attributes
    ----------
    frames : list of B Frames
    features : list of (n, D) float32
        Frozen features of a published checkpoint.
    in_order : bool
        One molecule, its atoms in one order: the farthest-point baseline then concatenates the descriptors of its
        atoms, the strongest form that it is known in; else it takes their mean by element.
    """

    frames: list[Frame]
    features: list[np.ndarray]
    in_order: bool = True

    @cached_property
    def vectors(self) -> np.ndarray:
        """(B, D) float32: what the frame-level baseline measures distances in."""
        species = sorted({int(z) for frame in self.frames for z in np.unique(frame.numbers)})
        found = descriptors(self.frames, species)
        if self.in_order:
            return np.stack([z.ravel() for z in found])
        elements = [
            np.concatenate([z[frame.numbers == e].mean(0) for e in species])
            for frame, z in zip(self.frames, found, strict=True)
        ]
        return np.stack(elements).astype(np.float32)

    def choose(self, arm: str, starts: Sequence[int], count: int, seed: int) -> list[int]:
        """`count` indices in all, `starts` first."""
        if arm == "random":
            rest = np.setdiff1d(np.arange(len(self.frames)), starts)
            more = np.random.default_rng([seed, 1]).permutation(rest)[: count - len(starts)]
            return [*starts, *map(int, more)]
        if arm == "farthest":
            return farthest(self.vectors, starts, count)
        return self._covered(starts, count, seed)

    def _covered(self, starts: Sequence[int], count: int, seed: int) -> list[int]:
        rest = [i for i in range(len(self.frames)) if i not in set(starts)]
        none = np.full(len(rest), np.nan)
        pool = Pool(
            frames=[self.frames[i] for i in rest],
            force_std=none,
            max_force=np.zeros(len(rest)),
            labelled=[self.frames[i] for i in starts],
            features=[self.features[i] for i in rest],
            labelled_features=[self.features[i] for i in starts],
        )
        selector = EnvironmentsSelector.model_validate(NO_FILTERS)
        picks = selector.select(pool, count - len(starts), seed).chosen
        return [*starts, *(rest[choice.index] for choice in picks)]


def farthest(vectors: Float, starts: Sequence[int], count: int) -> list[int]:
    """Farthest-point sampling from `starts`, doi:10.1016/0304-3975(85)90224-5."""
    distances, chosen = Distances(vectors), list(starts)
    for i in starts:
        pick = distances.add(vectors[i])
    while len(chosen) < count:
        chosen.append(int(pick))
        pick = distances.add(vectors[chosen[-1]])
    return chosen
