"""Greedy coverage of atomic environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Bool, Float, Int

# Distance of an environment whose element is not covered at all, in units of an element's spread: far.
UNSEEN = 10.0
GEMM_ROWS = 64  # so many environments are covered by one matrix product

Features = NDArray[np.float32]


def element_scale(z: Features, numbers: Int) -> Features:
    """Features (A, D) float32 scaled and centred per element: mean 0 and mean |z|² = 1 over its atoms."""
    scaled = np.empty(z.shape, np.float32)
    for element in np.unique(numbers):
        rows = numbers == element
        block = z[rows] - z[rows].mean(0)
        spread = float((block**2).sum(1).mean())
        noise = 1e-8 * float((z[rows] ** 2).sum(1).mean())  # of float32: what is constant stays constant
        scaled[rows] = block / np.sqrt(spread) if spread > noise else 0.0
    return scaled


@dataclass(frozen=True, eq=False)
class _Block:
    """All environments of one element, in the order of their frames."""

    z: Features  # (A, D)
    squares: Features  # (A,): |z|²
    frame: Int  # (A,): index of their frame
    nearest: Features  # (A,): squared distance to the nearest covered environment


class Coverage:
    """How far the atomic environments of B frames are from those covered so far.

    Parameters
    ----------
    numbers : B × (n,) int64
    features : B × (n, D) float32
        Of the same atoms.
    """

    def __init__(self, numbers: Sequence[Int], features: Sequence[Features]) -> None:
        self._sizes = np.array([len(n) for n in numbers])
        elements = np.concatenate(list(numbers))
        z = element_scale(np.concatenate(list(features)), elements)
        frame = np.repeat(np.arange(len(numbers)), self._sizes)
        self._blocks = [_block(z[elements == e], frame[elements == e]) for e in np.unique(elements)]

    def cover(self, frames: Sequence[int]) -> None:
        """Count the environments of these frames as covered: one matrix product per element."""
        for block in self._blocks:
            rows = np.flatnonzero(np.isin(block.frame, frames))
            for start in range(0, len(rows), GEMM_ROWS):
                some = rows[start : start + GEMM_ROWS]
                squared = (-2.0 * block.z[some]) @ block.z.T
                squared += block.squares[some, None]
                np.minimum(block.nearest, squared.min(0) + block.squares, out=block.nearest)

    def gain(self) -> Float:
        """(B,) float64: distance of each frame's environments to the covered ones, mean over its atoms.

        The mean orders frames of one size as the sum does, and does not favour large frames, which cost more to label.
        """
        total = np.zeros(len(self._sizes))
        for block in self._blocks:
            distance = np.sqrt(np.maximum(block.nearest, 0.0))
            total += np.bincount(block.frame, distance, len(total))
        return total / self._sizes

    def most_usual(self, eligible: Bool) -> int:
        """The eligible frame whose mean environment of each element is nearest to that of all frames."""
        distance = np.zeros(len(self._sizes))
        for block in self._blocks:
            present, first, count = np.unique(block.frame, return_index=True, return_counts=True)
            means = np.add.reduceat(block.z, first) / count[:, None]
            distance[present] += count * ((means - means.mean(0)) ** 2).sum(1)
        return int(np.where(eligible, distance / self._sizes, np.inf).argmin())


def _block(z: Features, frame: Int) -> _Block:
    return _Block(
        z=np.ascontiguousarray(z),
        squares=(z**2).sum(1),
        frame=frame,
        nearest=np.full(len(z), UNSEEN**2, np.float32),
    )
