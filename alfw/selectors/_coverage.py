"""Greedy coverage of atomic environments, for pools of any size.

All environments of one element lie in one contiguous block. A frame that is covered costs one matrix product per
element, and only with the frames where it can matter: what a frame adds can only fall as more is covered, so its last
known value is an upper bound, and a frame whose bound is below the best value is not looked at (lazy greedy).

Source
------
Greedy k-centre: doi:10.1016/0304-3975(85)90224-5; lazy evaluation: doi:10.1007/BFb0006528.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alfw.core.frame import Bool, Float, Int
from alfw.core.scaling import ElementScale, Features, Given, joined

# Distance of an environment whose element is not covered at all, in units of an element's spread: far.
UNSEEN = 10.0
MOST_APART = 300  # frames, to know how far frames are apart
GEMM_ROWS = 4096  # so many environments at a time against ...
GEMM_COLUMNS = 64  # ... so many covered ones: what one matrix product needs stays in the processor's cache
FIRST_RIVALS = 32  # so many frames of the largest bounds are brought up to date first
PASS_FRACTION = 0.2  # of the frames: to bring more of them up to date, a pass over all is faster
FRAMES_AT_ONCE = 4096  # so many frames are copied into the blocks together


@dataclass(eq=False)
class _Block:
    """All environments of one element, in the order of their frames, and the covered ones."""

    z: Features  # (A, D)
    squares: Features  # (A,): |z|²
    nearest: Features  # (A,): squared distance to the nearest covered environment looked at so far
    first: Int  # (B + 1,): the rows of frame f are first[f] : first[f + 1]
    covered: Features  # (C, D)
    steps: list[int]  # rows of `covered` before each step of covering, and after the last one

    def rows(self, frames: Int) -> tuple[Int, Int]:
        """Rows of these frames, one after the other, and how many each frame has."""
        counts = self.first[frames + 1] - self.first[frames]
        return np.repeat(self.first[frames] - np.cumsum(counts) + counts, counts) + np.arange(
            counts.sum()
        ), counts


class Coverage:
    """How far the atomic environments of B frames are from those covered so far.

    The distance of an environment is that of its scaled features to the nearest covered one of its element, at most
    `UNSEEN`. Frames may be added and environments covered in any order; no distance is computed twice.

    Attributes
    ----------
    sizes : (B,) int64
        Atoms of each frame.
    finite : (B,) bool
        Frames whose features are finite; the others never add anything.
    """

    def __init__(self, scale: ElementScale) -> None:
        self._scale = scale
        self._blocks: dict[int, _Block] = {}
        self._steps = 0
        self.sizes: Int = np.zeros(0, np.int64)
        self.finite: Bool = np.zeros(0, bool)
        self._seen: Int = np.zeros(0, np.int64)  # how many steps of covering each frame has taken note of
        self._bound: Float = np.zeros(0)  # sum of the distances of each frame's environments, as of then

    def add(self, numbers: Sequence[Int], features: Sequence[Given]) -> None:
        """Add frames: numbers B × (n,), features B × (n, D) of the same atoms."""
        if len(numbers) == 0:
            return
        sizes = np.array([len(n) for n in numbers])
        elements = np.concatenate(list(numbers))
        frame = np.repeat(np.arange(len(sizes)), sizes)
        for element in {*np.unique(elements).tolist(), *self._blocks}:
            counts = np.bincount(frame[elements == element], minlength=len(sizes))
            self._make_room(self._block(element, np.shape(features[0])[1]), counts)
        n_old = len(self.sizes)
        self.sizes = np.concatenate([self.sizes, sizes])
        self.finite = np.concatenate([self.finite, np.ones(len(sizes), bool)])
        self._seen = np.concatenate([self._seen, np.zeros(len(sizes), np.int64)])
        for start in range(0, len(sizes), FRAMES_AT_ONCE):
            some = slice(start, start + FRAMES_AT_ONCE)
            self._fill(np.arange(n_old, len(self.sizes))[some], numbers[some], joined(features[some]))
        self._bound = np.concatenate([self._bound, UNSEEN * sizes * self.finite[n_old:]])

    def _block(self, element: int, width: int) -> _Block:
        if element not in self._blocks:
            nothing, no_number = np.zeros((0, width), np.float32), np.zeros(0, np.float32)
            first = np.zeros(len(self.sizes) + 1, np.int64)
            steps = [0] * (self._steps + 1)
            self._blocks[element] = _Block(nothing, no_number, no_number, first, nothing, steps)
        return self._blocks[element]

    def _make_room(self, block: _Block, counts: Int) -> None:
        """Room for so many environments of each new frame."""
        more = int(counts.sum())
        block.first = np.concatenate([block.first, block.first[-1] + np.cumsum(counts)])
        if more:
            block.z = _longer(block.z, more)
            block.squares = _longer(block.squares, more)
            block.nearest = _longer(block.nearest, more)

    def _fill(self, frames: Int, numbers: Sequence[Int], z: Features) -> None:
        """Copy the scaled features of these frames into the blocks."""
        elements = np.concatenate(list(numbers))
        for element, block in self._blocks.items():
            part = z[elements == element]
            if not len(part):
                continue
            part -= self._scale.mean[element]
            part /= self._scale.width[element]
            rows = slice(int(block.first[frames[0]]), int(block.first[frames[-1] + 1]))
            squares = np.einsum("ij,ij->i", part, part)
            bad = ~np.isfinite(squares)
            part[bad], squares[bad] = 0.0, 0.0
            block.z[rows], block.squares[rows] = part, squares
            block.nearest[rows] = np.where(bad, 0.0, UNSEEN**2)
            if bad.any():
                owner = np.repeat(frames, np.diff(block.first[frames[0] : frames[-1] + 2]))
                self.finite[owner[bad]] = False

    def cover(self, frames: Sequence[int]) -> None:
        """Count the environments of these frames as covered."""
        indices = np.asarray(frames, np.int64)
        self._cover({element: block.z[block.rows(indices)[0]] for element, block in self._blocks.items()})

    def cover_others(self, numbers: Sequence[Int], features: Sequence[Given]) -> None:
        """Count the environments of frames as covered that were not added: M × (n,) and M × (n, D)."""
        if len(numbers):
            elements, z = np.concatenate(list(numbers)), joined(features)
            usable = np.isfinite(z).all(1)
            elements, z = elements[usable], z[usable]
            scaled = self._scale.apply(z, elements)
            self._cover({e: scaled[elements == e] for e in np.unique(elements).tolist()})

    def _cover(self, environments: dict[int, Features]) -> None:
        for element, z in environments.items():
            block = self._block(element, z.shape[1])
            block.covered = np.concatenate([block.covered, z])
        self._steps += 1
        for block in self._blocks.values():
            block.steps.append(len(block.covered))

    def gain(self) -> Float:
        """(B,) float64: distance of each frame's environments to the covered ones, mean over its atoms.

        The mean orders frames of one size as the sum does, and does not favour large frames, which cost more to label.
        """
        self._look_at_all()
        return self._bound / self.sizes

    def best(self, eligible: Bool, factor: Float) -> tuple[int, float]:
        """The eligible frame whose sum of distances times `factor` (B,) is largest, and that value."""
        value = np.where(eligible, self._bound * factor, -np.inf)
        at_once = FIRST_RIVALS
        while True:
            stale = self._seen < self._steps
            rivals = np.flatnonzero(stale & (value >= value[~stale].max(initial=-np.inf)) & eligible)
            if len(rivals) == 0:
                pick = int(value.argmax())
                return pick, float(value[pick])
            if len(rivals) > at_once:
                rivals = rivals[np.argpartition(value[rivals], -at_once)[-at_once:]]
            if len(rivals) > PASS_FRACTION * len(value):
                rivals = np.arange(len(value))
                self._look_at_all()
            else:
                self._look_at(rivals)
            value[rivals] = np.where(eligible[rivals], self._bound[rivals] * factor[rivals], -np.inf)
            at_once *= 4

    def upper_bound(self) -> Float:
        """(B,) float64: at least `gain`, without computing anything."""
        return self._bound / self.sizes

    def _look_at(self, frames: Int) -> None:
        """Take note, for these frames, of everything covered since they were last looked at."""
        for seen in np.unique(self._seen[frames]):
            some = frames[self._seen[frames] == seen]
            total = np.zeros(len(some))
            for block in self._blocks.values():
                rows, counts = block.rows(some)
                nearest = block.nearest[rows]
                _lower(nearest, block.z[rows], block.squares[rows], block.covered[block.steps[seen] :])
                block.nearest[rows] = nearest
                there = counts > 0
                if there.any():
                    starts = (np.cumsum(counts) - counts)[there]
                    total[there] += np.add.reduceat(np.sqrt(nearest), starts, dtype=np.float64)
            self._bound[some] = total
        self._seen[frames] = self._steps

    def _look_at_all(self) -> None:
        """The same for all frames, block by block, without copies."""
        if not (self._seen < self._steps).any():
            return
        since = int(self._seen.min())
        total = np.zeros(len(self.sizes))
        for block in self._blocks.values():
            covered = block.covered[block.steps[since] :]
            for start in range(0, len(block.z), GEMM_ROWS):
                some = slice(start, start + GEMM_ROWS)
                _lower(block.nearest[some], block.z[some], block.squares[some], covered)
            there = np.diff(block.first) > 0
            if there.any():
                total[there] += np.add.reduceat(
                    np.sqrt(block.nearest), block.first[:-1][there], dtype=np.float64
                )
        self._bound[:] = total
        self._seen[:] = self._steps

    def most_usual(self, eligible: Bool) -> int:
        """The eligible frame whose mean environment of each element is nearest to that of all frames."""
        distance = np.zeros(len(self.sizes))
        for block in self._blocks.values():
            count = np.diff(block.first)
            present = np.flatnonzero(count)
            if len(present):
                means = np.add.reduceat(block.z, block.first[present]) / count[present, None]
                distance[present] += count[present] * ((means - means.mean(0)) ** 2).sum(1)
        return int(np.where(eligible, distance / self.sizes, np.inf).argmin())


def apart_from_others(scale: ElementScale, numbers: Sequence[Int], features: Sequence[Given]) -> Float:
    """(M,) float64: distance of each frame's environments to those of all other frames, mean over its atoms.

    Parameters
    ----------
    numbers, features : sequences of M × (n,) int64 and (n, D) float32
        Of more than `MOST_APART` frames, as many are looked at, evenly spread.
    """
    chosen = np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), MOST_APART)).astype(int)).tolist()
    numbers, features = [numbers[i] for i in chosen], [features[i] for i in chosen]
    sizes = np.array([len(n) for n in numbers])
    elements, frame = np.concatenate(numbers), np.repeat(np.arange(len(sizes)), sizes)
    z = scale.apply(joined(features), elements)
    nearest = np.full(len(z), UNSEEN**2)
    for element in np.unique(elements).tolist():
        rows = np.flatnonzero(elements == element)
        block, owner = z[rows], frame[rows]
        squares = np.einsum("ij,ij->i", block, block)
        for start in range(0, len(rows), GEMM_ROWS):
            some = slice(start, start + GEMM_ROWS)
            squared = squares[some, None] - 2.0 * block[some] @ block.T + squares
            squared[owner[some, None] == owner] = UNSEEN**2
            nearest[rows[some]] = np.clip(np.fmin.reduce(squared, axis=1), 0.0, UNSEEN**2)
    found: Float = np.bincount(frame, np.sqrt(nearest), len(sizes)) / sizes
    return found


def _longer(array: Features, more: int) -> Features:
    """The array with so many more rows, not yet filled."""
    longer = np.empty((len(array) + more, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def _lower(nearest: Features, z: Features, squares: Features, covered: Features) -> None:
    """Lower the squared distances `nearest` (A,) of z (A, D) in place to the nearest of `covered` (C, D)."""
    for part in _parts(covered):
        squared = (-2.0 * part) @ z.T
        squared += np.einsum("ij,ij->i", part, part)[:, None]
        closest = squared.min(0)
        closest += squares
        np.maximum(closest, 0.0, out=closest)
        np.minimum(nearest, closest, out=nearest)


def _parts(covered: Features) -> Iterator[Features]:
    for start in range(0, len(covered), GEMM_COLUMNS):
        yield covered[start : start + GEMM_COLUMNS]
