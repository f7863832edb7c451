"""The same atoms at another place, turned, in another order: what is left when that is taken out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial, prod

import numpy as np

from alfw.core.frame import Float, Frame, Int

# Up to so many orders of like atoms all are tried, and the result is exact.
ALL_ORDERS = 720
# A start this many times above a limit after its first turn will not get below it.
HOPELESS = 2.0
SAME_CELL_A = 1e-3


def rotation(source: Float, target: Float) -> Float:
    """(3, 3) proper rotation that turns `source` (n, 3), about its centre, onto `target`: r → R r.

    Source
    ------
    W. Kabsch, Acta Cryst. A 32, 922 (1976), doi:10.1107/S0567739476001873.
    """
    covariance = (target - target.mean(0)).T @ (source - source.mean(0))
    left, _, right = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(left @ right))
    return np.asarray(left @ np.diag([1.0, 1.0, sign]) @ right, np.float64)


def rmsd(a: Frame, b: Frame, permute: bool = True) -> float:
    """Root mean square (Å) over the atoms of what is left of their distances after optimal superposition.

    sqrt(mean over atoms of |d|²), smallest over translations, proper rotations (a molecule is not its mirror image)
    and, with `permute`, orders of like atoms. Infinite between frames of different atoms, and without `permute` between
    frames of different order. Symmetric. Exact for up to `ALL_ORDERS` orders of like atoms; beyond that a search from
    many starts, see `alfw.core._matching`, never above the value in the order given.

    Periodic frames are translated and their atoms exchanged, not turned; the distances are those of nearest images.
    It is infinite between frames of different cells.
    """
    return Shape(a).rmsd(Shape(b), permute)


@dataclass(frozen=True, eq=False)
class Shape:
    """A frame, prepared for being laid upon many others."""

    frame: Frame

    @cached_property
    def order(self) -> Int:
        """(n,) int64: the atoms sorted by element, else as they are."""
        return np.argsort(self.frame.numbers, kind="stable")

    @cached_property
    def groups(self) -> list[slice]:
        """Where in `order` the atoms of each element are."""
        _, first, counts = np.unique(self.frame.numbers[self.order], return_index=True, return_counts=True)
        return [slice(int(i), int(i + c)) for i, c in zip(first, counts, strict=True)]

    @cached_property
    def centred(self) -> Float:
        """(n, 3) float64, Å: sorted positions about their centroid."""
        positions = self.frame.positions[self.order]
        return np.asarray(positions - positions.mean(0), np.float64)

    @cached_property
    def distances(self) -> Float:
        """(n, n) float64, Å: between the sorted atoms, or their nearest images."""
        return np.asarray(
            np.linalg.norm(self.nearest(self.centred[:, None] - self.centred[None]), axis=-1), np.float64
        )

    @cached_property
    def fingerprint(self) -> Float:
        """(n(n-1)/2,) float64, Å: the distance between two fingerprints is a lower bound of the RMSD.

        Sorted distances of each pair of elements over n. With displacements d_i after superposition, a distance changes
        by at most |d_i − d_j|; Σ_{i<j} |d_i − d_j|² ≤ n Σ |d_i|² = n² RMSD²; and sorting brings two sets of numbers as
        near to each other as they can be.
        """
        parts = []
        for k, one in enumerate(self.groups):
            same = self.distances[one, one]
            parts.append(np.sort(same[np.triu_indices(len(same), 1)]))
            parts += [np.sort(self.distances[one, other].ravel()) for other in self.groups[k + 1 :]]
        return np.concatenate(parts) / len(self.frame)

    @cached_property
    def environments(self) -> Float:
        """(n, n) float64, Å: of each sorted atom, the sorted distances to the atoms of each element."""
        return np.concatenate([np.sort(self.distances[:, group], axis=1) for group in self.groups], axis=1)

    def nearest(self, vectors: Float) -> Float:
        """The vectors (…, 3) between nearest images."""
        if not self.frame.periodic:
            return vectors
        from ase.geometry import find_mic

        short, _ = find_mic(vectors.reshape(-1, 3), self.frame.cell, self.frame.pbc)
        return np.asarray(short, np.float64).reshape(vectors.shape)

    def comparable(self, other: Shape) -> bool:
        """Whether the two have the same atoms, and the same cell."""
        one, two = self.frame, other.frame
        return (
            np.array_equal(one.numbers[self.order], two.numbers[other.order])
            and np.array_equal(one.pbc, two.pbc)
            and float(np.abs(one.cell - two.cell).max()) < SAME_CELL_A
        )

    def rmsd(self, other: Shape, permute: bool = True) -> float:
        """See `rmsd`."""
        if not self.comparable(other):
            return float("inf")
        if not permute and not np.array_equal(self.frame.numbers, other.frame.numbers):
            return float("inf")
        one, two = (self, other) if self.frame.id <= other.frame.id else (other, self)  # symmetric
        return min(_found(one, two, permute))

    def within(self, other: Shape, limit: float) -> bool:
        """Whether the RMSD is below `limit` (Å); mostly cheaper than the RMSD."""
        if not self.comparable(other) or np.linalg.norm(self.fingerprint - other.fingerprint) >= limit:
            return False
        if self._unlike(other) >= limit:
            return False
        one, two = (self, other) if self.frame.id <= other.frame.id else (other, self)
        return any(value < limit for value in _found(one, two, True, HOPELESS * limit))

    def _unlike(self, other: Shape) -> float:
        """A higher lower bound of the RMSD (Å), of the environments: Σ_i Σ_j (D_ij − D'_ij)² ≤ 2 n² RMSD²."""
        from alfw.core._matching import alike

        order = alike(self.environments, other.environments, self.groups)[0]
        apart = np.linalg.norm(self.environments - other.environments[order])
        return float(apart / (np.sqrt(2.0) * len(self.frame)))


def _found(one: Shape, two: Shape, permute: bool, hopeless: float = np.inf) -> Iterator[float]:
    """RMSDs, each from another search, the quick ones first; the smallest counts."""
    groups = one.groups if permute else []
    if one.frame.periodic:
        yield from _found_periodic(one, two, groups)
        return
    from alfw.core import _matching as search  # scipy.optimize: a tenth of a second

    x, y, here = one.centred, two.centred, np.arange(len(one.frame))[None]
    yield search.refined(x, y, here, groups, hopeless if groups else 0.0)
    if not groups:
        return
    if prod(factorial(group.stop - group.start) for group in groups) <= ALL_ORDERS:
        yield float(search.superposed(x, y, search.every_order(groups))[1].min())
        return
    yield search.refined(x, y, search.alike(one.environments, two.environments, groups), groups, hopeless)
    for rotations in (search.anchored(x, y, groups), search.by_axes(x, y)):
        if len(rotations):
            yield search.refined(x, y, search.matched(x, y, rotations, groups), groups, hopeless)


def _found_periodic(one: Shape, two: Shape, groups: Sequence[slice]) -> Iterator[float]:
    """The same of periodic frames."""
    from alfw.core import _periodic_matching as search

    x, y = one.centred, two.centred
    centroids = two.frame.positions.mean(0) - one.frame.positions.mean(0)
    for shift in (centroids, np.zeros(3), x[0] - y[0]):  # as they are, drifted, and wrapped on the way
        yield search.shifted(x, y, shift, groups, one.nearest)
    if groups:
        for shift in search.shifts(x, y, (one.environments, two.environments), groups):
            yield search.shifted(x, y, shift, groups, one.nearest)
