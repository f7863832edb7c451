"""The atomic environments of candidates and labelled frames, as features with a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alfw.core.exploration import Pool
from alfw.core.frame import Frame, Int
from alfw.core.scaling import ElementScale, Features, joined
from alfw.selectors._descriptors import descriptors

FRAMES_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Environments:
    """Features of the atoms of B candidates and M labelled frames, all from one source.

    Attributes
    ----------
    numbers, labelled_numbers : sequences of B or M × (n,) int64
    features, labelled_features : sequences of B or M × (n, D) float32
        As they were computed.
    scale : ElementScale
        Knows all their elements.
    """

    numbers: Sequence[Int]
    features: Sequence[Features]
    labelled_numbers: Sequence[Int]
    labelled_features: Sequence[Features]
    scale: ElementScale

    def frame_vectors(self) -> tuple[Features, Features]:
        """(B, D) and (M, D) float32: the mean of the scaled features of each frame's atoms.

        The mean orders frames of one composition as the sum does, and does not put large frames far from all others.
        """
        return (
            self._means(self.numbers, self.features),
            self._means(self.labelled_numbers, self.labelled_features),
        )

    def _means(self, numbers: Sequence[Int], features: Sequence[Features]) -> Features:
        width = len(next(iter(self.scale.mean.values())))
        means = np.empty((len(numbers), width), np.float32)
        for start in range(0, len(numbers), FRAMES_AT_ONCE):
            some = slice(start, start + FRAMES_AT_ONCE)
            sizes = np.array([len(n) for n in numbers[some]])
            scaled = self.scale.apply(joined(features[some]), np.concatenate(list(numbers[some])))
            means[some] = np.add.reduceat(scaled, np.cumsum(sizes) - sizes) / sizes[:, None]
        return means


def environments(pool: Pool, rows: Int) -> Environments:
    """Of these candidates and of all labelled frames of the pool: the model's features, or geometric descriptors.

    The pool's features are used where those of the labelled frames are known as well. Their scale is the pool's; for
    elements that it does not know, and where there is none, it is fitted on these frames.
    """
    frames, labelled = [pool.frames[i] for i in rows], list(pool.labelled)
    numbers, labelled_numbers = [f.numbers for f in frames], [f.numbers for f in labelled]
    if pool.features is not None and (pool.labelled_features is not None or not labelled):
        features: list[Features] = [np.asarray(pool.features[i], np.float32) for i in rows]
        of_labelled = [np.asarray(z, np.float32) for z in pool.labelled_features or []]
        scale, by_column = pool.scale or ElementScale(), False
    else:
        everything = _geometric(frames + labelled)
        features, of_labelled = everything[: len(frames)], everything[len(frames) :]
        scale, by_column = ElementScale(), True
    scale = scale.extended_frames(features + of_labelled, numbers + labelled_numbers, by_column)
    return Environments(numbers, features, labelled_numbers, of_labelled, scale)


def _geometric(frames: Sequence[Frame]) -> list[Features]:
    species = np.unique(np.concatenate([frame.numbers for frame in frames]))
    return descriptors(frames, species.tolist())
