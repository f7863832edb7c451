"""The atomic environments of candidates and labelled frames, as features with a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from alfw.core.exploration import Pool
from alfw.core.frame import Frame, Int
from alfw.core.scaling import ElementScale, Features, Given, joined
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
    features: Sequence[Given]
    labelled_numbers: Sequence[Int]
    labelled_features: Sequence[Given]
    scale: ElementScale

    def frame_vectors(self) -> tuple[Features, Features]:
        """(B, D) and (M, D) float32: the mean of the scaled features of each frame's atoms.

        The mean orders frames of one composition as the sum does, and does not put large frames far from all others.
        """
        return (
            self._means(self.numbers, self.features),
            self._means(self.labelled_numbers, self.labelled_features),
        )

    def _means(self, numbers: Sequence[Int], features: Sequence[Given]) -> Features:
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
    frames, labelled = [pool.frames[i] for i in rows.tolist()], list(pool.labelled)
    numbers, labelled_numbers = [f.numbers for f in frames], [f.numbers for f in labelled]
    if pool.features is not None and (pool.labelled_features is not None or not labelled):
        features = Rows(pool.features, rows)
        of_labelled: list[Given] = [] if pool.labelled_features is None else list(pool.labelled_features)
        scale, by_column = pool.scale or ElementScale(), False
    else:
        geometric = _geometric(frames + labelled)
        features = Rows(geometric, np.arange(len(frames)))
        of_labelled = list(geometric[len(frames) :])
        scale, by_column = ElementScale(), True
    everything = Rows(features, np.arange(len(rows)), of_labelled)
    scale = scale.extended_frames(everything, numbers + labelled_numbers, by_column)
    return Environments(numbers, features, labelled_numbers, of_labelled, scale)


class Rows(Sequence[Given]):
    """Some rows of a sequence, and more after them; nothing is read before it is wanted."""

    def __init__(self, source: Sequence[Given], rows: Int, more: Sequence[Given] = ()) -> None:
        self._source, self._rows, self._more = source, rows, more

    def __len__(self) -> int:
        return len(self._rows) + len(self._more)

    @overload
    def __getitem__(self, index: int) -> Given: ...

    @overload
    def __getitem__(self, index: slice) -> list[Given]: ...

    def __getitem__(self, index: int | slice) -> Given | list[Given]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        n = len(self._rows)
        return self._source[self._rows[index]] if index < n else self._more[index - n]


def _geometric(frames: Sequence[Frame]) -> list[Features]:
    species = np.unique(np.concatenate([frame.numbers for frame in frames]))
    return descriptors(frames, species.tolist())
