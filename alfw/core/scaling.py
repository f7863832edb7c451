"""The scale of per-atom features: one for each element, fixed once, so that distances mean the same in every round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Float, Int

Features = NDArray[np.float32]
Given = NDArray[np.floating[Any]]  # features as they come

# A column that hardly varies carries rounding noise: it is not blown up to unit variance.
MIN_SPREAD = 1e-3
NOISE = 1e-8  # of float32, relative to the mean square: what is constant stays constant
CHUNK = 65536  # atoms looked at together: features of large pools are never copied as a whole


@dataclass(frozen=True, eq=False)
class ElementScale:
    """Centre and width of the features of each element: scaled features have mean 0 and mean |z|² = 1 over its atoms.

    Attributes
    ----------
    mean, width : {atomic number: (D,) float32}
        A scaled feature is (z − mean) / width. The width is infinite where the features of an element never change.
    """

    mean: Mapping[int, Features] = field(default_factory=dict)
    width: Mapping[int, Features] = field(default_factory=dict)

    @classmethod
    def fit(cls, z: Features, numbers: Int, by_column: bool = False) -> ElementScale:
        """The scale of these atoms: z (A, D) float32, numbers (A,); only finite features count.

        Parameters
        ----------
        by_column : bool
            Every column gets unit variance first: for geometric descriptors, whose columns have nothing in common.
            Learnt features keep the proportions that the network gave them.
        """
        return cls().extended(z, numbers, by_column)

    @classmethod
    def fit_frames(
        cls, features: Sequence[Given], numbers: Sequence[Int], by_column: bool = False
    ) -> ElementScale:
        """As `fit`, of the atoms of many frames, without a copy of them all: features B × (n, D), numbers B × (n,)."""
        return cls().extended_frames(features, numbers, by_column)

    def extended(self, z: Features, numbers: Int, by_column: bool = False) -> ElementScale:
        """This scale, with those of elements that it does not have yet fitted on these atoms."""
        return self.extended_frames([z], [numbers], by_column)

    def extended_frames(
        self, features: Sequence[Given], numbers: Sequence[Int], by_column: bool = False
    ) -> ElementScale:
        """As `extended`, on the atoms of many frames."""
        everything = np.concatenate([np.zeros(0, np.int64), *numbers])
        missing = set(np.unique(everything).tolist()) - set(self.mean)
        if not missing:
            return self
        moments: dict[int, _Moments] = {}
        for second_pass in (False, True):
            for z, elements in _chunks(features, numbers):
                for element in missing & set(elements.tolist()):
                    rows = z[elements == element]
                    rows = rows[np.isfinite(rows).all(1)]
                    (moments.setdefault(element, _Moments())).add(rows, second_pass)
        mean, width = dict(self.mean), dict(self.width)
        for element, of_element in moments.items():
            mean[element], width[element] = of_element.centre_and_width(by_column)
        return ElementScale(mean, width)

    def apply(self, z: Features, numbers: Int) -> Features:
        """(A, D) float32: z (A, D) scaled; every element has to be known."""
        scaled = np.empty(z.shape, np.float32)
        for element in np.unique(numbers).tolist():
            rows = numbers == element
            scaled[rows] = (z[rows] - self.mean[element]) / self.width[element]
        return scaled


class _Moments:
    """Number, mean and squared deviations of the features of one element, in two passes over them."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Float = np.zeros(1)
        self.deviation: Float = np.zeros(1)

    def add(self, rows: Features, second_pass: bool) -> None:
        if second_pass:
            centred = rows - (self.total / max(self.count, 1)).astype(np.float32)
            self.deviation = self.deviation + (centred**2).sum(0, dtype=np.float64)
        else:
            self.count += len(rows)
            self.total = self.total + rows.sum(0, dtype=np.float64)

    def centre_and_width(self, by_column: bool) -> tuple[Features, Features]:
        mean, variance = self.total / max(self.count, 1), self.deviation / max(self.count, 1)
        if by_column:
            columns = np.maximum(np.sqrt(variance), MIN_SPREAD)
            noise = 0.0
        else:
            columns = np.ones(len(mean))
            noise = NOISE * float((variance + mean**2).sum())
        spread = float((variance / columns**2).sum())
        factor = np.sqrt(spread) if spread > noise else np.inf
        return mean.astype(np.float32), (columns * factor).astype(np.float32)


def _chunks(features: Sequence[Given], numbers: Sequence[Int]) -> Iterator[tuple[Features, Int]]:
    """The same atoms in pieces of about `CHUNK`."""
    first = atoms = 0
    for index, elements in enumerate(numbers):
        atoms += len(elements)
        if atoms >= CHUNK or index == len(numbers) - 1:
            yield joined(features[first : index + 1]), np.concatenate(list(numbers[first : index + 1]))
            first, atoms = index + 1, 0


def joined(features: Sequence[Given]) -> Features:
    """(A, D) float32: the features of frames, one after the other."""
    return np.concatenate([np.asarray(z, np.float32) for z in features])
