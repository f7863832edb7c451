"""Duplicates: frames that differ by less than a given distance, up to rotation, translation and order of the atoms.

The profile of an atom holds its sorted distances to its `NEAREST` neighbours of each element, none counted beyond
`CUTOFF_A`; images in periodic cells count as neighbours. Two frames of the same atoms are duplicates when each atom
of one has, in the other, an atom of its element whose profile differs by less than `min_distance_A` in every entry, and
the other way round. When no atom moves by more than d, no entry changes by more than 2 d; nothing is averaged, so one
moved atom is seen in a cell of any size. A frame and its mirror image are duplicates, as their energies are equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Bool, Frame, Int
from alfw.selectors._neighbourhood import Neighbourhoods, neighbourhoods

CUTOFF_A = 5.0
NEAREST = 12

Profiles = NDArray[np.float32]


class Duplicates:
    """Finds the duplicates of a frame among B frames."""

    def __init__(self, frames: Sequence[Frame], min_distance_A: float) -> None:
        self._limit = min_distance_A
        self._numbers = [frame.numbers for frame in frames]
        self._profiles: list[Profiles] = []
        self._group = np.zeros(len(frames), int)
        self._row = np.zeros(len(frames), int)
        self._members: list[NDArray[np.int64]] = []
        self._extremes: list[Profiles] = []
        if min_distance_A > 0 and frames:
            self._profiles = profiles(frames)
            self._sort_into_groups(frames)

    def _sort_into_groups(self, frames: Sequence[Frame]) -> None:
        """Only frames of the same atoms, charge and multiplicity are compared, each group with one matrix."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for index, frame in enumerate(frames):
            key = (np.sort(frame.numbers).tobytes(), frame.charge, frame.multiplicity)
            groups.setdefault(key, []).append(index)
        for number, indices in enumerate(groups.values()):
            members = np.array(indices)
            self._members.append(members)
            self._group[members] = number
            self._row[members] = np.arange(len(members))
            self._extremes.append(np.array([_extremes(self._numbers[i], self._profiles[i]) for i in indices]))

    def of(self, index: int) -> Bool:
        """(B,) bool: which frames duplicate this one, itself included."""
        same = np.zeros(len(self._numbers), bool)
        same[index] = True
        if not self._profiles:
            return same
        extremes = self._extremes[self._group[index]]
        # What can be said cheaply of whole frames: the extremes of each entry differ by less, too.
        near = (np.abs(extremes - extremes[self._row[index]]) < self._limit).all(1)
        for other in self._members[self._group[index]][near]:
            same[other] = other == index or self._same(index, other)
        return same

    def _same(self, one: int, other: int) -> bool:
        for element in np.unique(self._numbers[one]):
            a = self._profiles[one][self._numbers[one] == element]
            b = self._profiles[other][self._numbers[other] == element]
            if not _matched(a, b, self._limit):
                return False
        return True


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
