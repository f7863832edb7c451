"""The scale of per-atom features: one for each element, fixed once, so that distances mean the same in every round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Int

Features = NDArray[np.float32]

# A column that hardly varies carries rounding noise: it is not blown up to unit variance.
MIN_SPREAD = 1e-3
NOISE = 1e-8  # of float32, relative to the mean square: what is constant stays constant


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
        """The scale of these atoms: z (A, D) float32, numbers (A,).

        Parameters
        ----------
        by_column : bool
            Every column gets unit variance first: for geometric descriptors, whose columns have nothing in common.
            Learnt features keep the proportions that the network gave them.
        """
        return cls().extended(z, numbers, by_column)

    def extended(self, z: Features, numbers: Int, by_column: bool = False) -> ElementScale:
        """This scale, with those of elements that it does not have yet fitted on these atoms."""
        mean, width = dict(self.mean), dict(self.width)
        for element in np.unique(numbers).tolist():
            if element not in mean:
                mean[element], width[element] = _centre_and_width(z[numbers == element], by_column)
        return ElementScale(mean, width)

    def apply(self, z: Features, numbers: Int) -> Features:
        """(A, D) float32: z (A, D) scaled; every element has to be known."""
        scaled = np.empty(z.shape, np.float32)
        for element in np.unique(numbers).tolist():
            rows = numbers == element
            scaled[rows] = (z[rows] - self.mean[element]) / self.width[element]
        return scaled


def _centre_and_width(block: Features, by_column: bool) -> tuple[Features, Features]:
    mean = block.mean(0)
    centred = block - mean
    if by_column:
        columns = np.maximum(centred.std(0), MIN_SPREAD)
        spread = float(((centred / columns) ** 2).sum(1).mean())
        noise = 0.0
    else:
        columns = np.ones(block.shape[1], np.float32)
        spread = float((centred**2).sum(1).mean())
        noise = NOISE * float((block**2).sum(1).mean())
    factor = np.sqrt(spread) if spread > noise else np.inf
    return mean.astype(np.float32), (columns * factor).astype(np.float32)


def joined(features: Sequence[Features]) -> Features:
    """(A, D) float32: the features of frames, one after the other."""
    return np.concatenate([np.asarray(z, np.float32) for z in features])
