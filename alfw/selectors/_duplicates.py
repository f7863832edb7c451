"""Duplicates: frames that differ by less than a given distance, up to rotation, translation and order of the atoms.

The profile of an atom holds its sorted distances to its `NEAREST` neighbours of each element, none counted beyond
`CUTOFF_A`; images in periodic cells count as neighbours. Two frames of the same atoms are duplicates when each atom
of one has, in the other, an atom of its element whose profile differs by less than `min_distance_A` in every entry, and
the other way round. When no atom moves by more than d, no entry changes by more than 2 d; nothing is averaged, so one
moved atom is seen in a cell of any size. A frame and its mirror image are duplicates, as their energies are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Bool, Frame, Int
from alfw.selectors._near import owners
from alfw.selectors._neighbourhood import Neighbourhoods, neighbourhoods

CUTOFF_A = 5.0
NEAREST = 12

Profiles = NDArray[np.float32]


Key = tuple[bytes, int, int]


class Known:
    """Frames that are labelled, on their way or chosen; says which frames would repeat one of them.

    Only frames of the same atoms, charge and multiplicity are compared: first what can be said of them as a whole
    (their fingerprints), then atom by atom.
    """

    def __init__(self, frames: Sequence[Frame], min_distance_A: float) -> None:
        self._limit = min_distance_A
        self._groups: dict[Key, _Group] = {}
        self.add(frames)

    def add(self, frames: Sequence[Frame]) -> None:
        """Frames that are known from now on."""
        if self._limit > 0:
            for key, rows in _by_atoms(frames).items():
                group = _group([frames[i] for i in rows])
                self._groups[key] = _joined(self._groups[key], group) if key in self._groups else group

    def repeated(self, frames: Sequence[Frame]) -> Bool:
        """(B,) bool: which frames repeat a known one, or an earlier one of these."""
        repeated = np.zeros(len(frames), bool)
        if self._limit > 0:
            for key, rows in _by_atoms(frames).items():
                group = _group([frames[i] for i in rows])
                known = self._groups.get(key)
                fixed = len(known.profiles) if known else 0
                both = _joined(known, group) if known else group
                owner = owners(both.fingerprints, self._limit, fixed, both.same(self._limit))
                repeated[rows] = owner[fixed:] >= 0
        return repeated


@dataclass(frozen=True, eq=False)
class _Group:
    """Frames of the same atoms."""

    numbers: list[Int]
    profiles: list[Profiles]
    fingerprints: Profiles

    def same(self, limit: float) -> Callable[[int, int], bool]:
        """Whether two of them, given by index, are duplicates."""

        def same(one: int, other: int) -> bool:
            return all(
                _matched(
                    self.profiles[one][self.numbers[one] == element],
                    self.profiles[other][self.numbers[other] == element],
                    limit,
                )
                for element in np.unique(self.numbers[one])
            )

        return same


def _by_atoms(frames: Sequence[Frame]) -> dict[Key, list[int]]:
    """Indices of the frames of the same atoms, charge and multiplicity."""
    groups: dict[Key, list[int]] = {}
    for index, frame in enumerate(frames):
        key = (np.sort(frame.numbers).tobytes(), frame.charge, frame.multiplicity)
        groups.setdefault(key, []).append(index)
    return groups


def _group(frames: Sequence[Frame]) -> _Group:
    numbers, found = [frame.numbers for frame in frames], profiles(frames)
    return _Group(numbers, found, fingerprints(numbers, found))


def _joined(one: _Group, other: _Group) -> _Group:
    return _Group(
        one.numbers + other.numbers,
        one.profiles + other.profiles,
        np.concatenate([one.fingerprints, other.fingerprints]),
    )


def fingerprints(numbers: Sequence[Int], found: Sequence[Profiles]) -> Profiles:
    """(B, F) float32, Å, of frames of the same atoms and their profiles: what duplicates have alike as a whole.

    For each element, the smallest and the largest of each entry of its atoms' profiles: those of duplicates differ by
    less than the limit, as the entries do.
    """
    return np.array([_extremes(n, profile) for n, profile in zip(numbers, found, strict=True)])


def _matched(a: Profiles, b: Profiles, limit: float) -> bool:
    """Whether each of the profiles a (m, C) is near one of b (m, C) and the other way round."""
    if (np.abs(a - b).max(1) < limit).all():  # the usual case: the same order of atoms
        return True
    apart = np.array([np.abs(b - row).max(1) for row in a])
    return bool((apart.min(0) < limit).all() and (apart.min(1) < limit).all())


def _extremes(numbers: Int, profile: Profiles) -> Profiles:
    """(S · 2C,) float32: smallest and largest of each entry of the profiles over the atoms of each element."""
    blocks = [profile[numbers == element] for element in np.unique(numbers)]
    return np.concatenate([part for block in blocks for part in (block.min(0), block.max(0))])


def profiles(frames: Sequence[Frame]) -> list[Profiles]:
    """B × (n, S · NEAREST) float32, Å: sorted distances of each atom, by the S elements of all frames."""
    species = np.unique(np.concatenate([frame.numbers for frame in frames]))
    found: list[Profiles] = []
    for batch in neighbourhoods(frames, CUTOFF_A):
        sizes = [len(frame) for frame in frames[batch.first_frame : batch.last_frame]]
        found += np.split(_profile(batch, species), np.cumsum(sizes)[:-1])
    return found


def _profile(batch: Neighbourhoods, species: Int) -> Profiles:
    table = np.full((len(batch.numbers) * len(species), NEAREST), CUTOFF_A, np.float32)
    rows = batch.receivers * len(species) + np.searchsorted(species, batch.numbers[batch.senders])
    order = np.lexsort((batch.lengths, rows))
    rows, lengths = rows[order], batch.lengths[order]
    _, starts, counts = np.unique(rows, return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(starts, counts)
    near = rank < NEAREST
    table[rows[near], rank[near]] = lengths[near]
    return table.reshape(len(batch.numbers), -1)
