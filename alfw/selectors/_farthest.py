"""Greedy choices among points of one vector each: farthest point, largest cluster, largest determinant.

All go through the points once a choice, in pieces that stay in the processor's cache, as a matrix-vector product does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alfw.core.frame import Bool, Float, Int
from alfw.core.scaling import Features

ROWS = 16384  # points looked at together: their products stay in the processor's cache


class Distances:
    """Squared distance of N points (N, D) float32 to the nearest centre, and which that is.

    Attributes
    ----------
    nearest : (N,) float32
    centre : (N,) int64 or None
        Index of the nearest centre, in the order they were added; None = not asked for.
    """

    def __init__(self, points: Features, which: bool = False) -> None:
        self._points = points
        self._squares = np.einsum("ij,ij->i", points, points)
        self._n = 0
        self.nearest = np.full(len(points), np.inf, np.float32)
        self.centre: Int | None = np.zeros(len(points), np.int64) if which else None

    def add(self, centre: Features) -> int:
        """Add a centre (D,); the index of the point that is now farthest from all centres."""
        twice, square = -2.0 * centre, float(centre @ centre)
        best, farthest = -np.inf, 0
        for start in range(0, len(self._points), ROWS):
            some = slice(start, start + ROWS)
            squared = self._points[some] @ twice
            squared += self._squares[some]
            squared += square
            nearest = self.nearest[some]
            if self.centre is not None:
                self.centre[some][squared < nearest] = self._n
            np.minimum(nearest, squared, out=nearest)
            place = int(nearest.argmax())
            if nearest[place] > best:
                best, farthest = float(nearest[place]), start + place
        self._n += 1
        return farthest


def farthest_points(points: Features, k: int, start: int) -> Int:
    """(k,) int64: indices of k points (N, D) float32, each the farthest from all before; the first is `start`.

    Source
    ------
    doi:10.1016/0304-3975(85)90224-5.
    """
    distances = Distances(points)
    found = [start]
    while len(found) < min(k, len(points)):
        found.append(distances.add(points[found[-1]]))
    return np.array(found[:k], np.int64)


def most_usual(points: Features, eligible: Bool) -> int:
    """Index of the eligible point that is nearest to the mean of all."""
    squared = ((points - points.mean(0)) ** 2).sum(1)
    return int(np.where(eligible, squared, np.inf).argmin())


def largest_cluster_farthest(distances: Distances, eligible: Bool) -> int:
    """The eligible point farthest from its centre in the largest cluster that has an eligible point.

    A cluster is made of the points nearest to one centre; its size is the sum of their squared distances to it.

    Source
    ------
    LCMD, algorithm 5 of https://jmlr.org/papers/v24/22-0937.html (JMLR 24:164, 2023).
    """
    centre = distances.centre
    if centre is None:
        raise ValueError("distances without centres")
    nearest = np.maximum(distances.nearest, 0.0)
    sizes = np.bincount(centre, nearest)
    sizes[np.bincount(centre, eligible, len(sizes)) == 0] = -1.0
    inside = eligible & (centre == sizes.argmax())
    return int(np.where(inside, nearest, -1.0).argmax())


class ConditionalVariance:
    """Variance of a linear model at N points (N, D), given those observed so far, in units of its noise.

    The prior has the covariance 1 between the coefficients; each observation has the variance `noise`. One observation
    is a step of a Cholesky factorisation of the kernel matrix, done in the space of the features, whose size does not
    grow with the number of observations.

    Attributes
    ----------
    variance : (N,) float64
    """

    def __init__(self, points: Features, noise: float) -> None:
        self._points, self._noise = points, noise
        self._covariance = np.eye(points.shape[1])
        self.variance: Float = np.einsum("ij,ij->i", points, points, dtype=np.float64)

    def observe(self, points: Sequence[Features] | Features) -> None:
        """Lower the variances by what observations at these points (M, D) say."""
        for point in np.asarray(points, np.float64):
            direction = self._covariance @ point
            direction /= np.sqrt(self._noise + point @ direction)
            self._covariance -= np.outer(direction, direction)
            self.variance -= (self._points @ direction.astype(np.float32)).astype(np.float64) ** 2
        np.maximum(self.variance, 0.0, out=self.variance)
