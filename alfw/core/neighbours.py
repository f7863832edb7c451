"""Neighbour lists with every periodic image, for cells of any shape, also smaller than the cutoff."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame

Int32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed pairs within a cutoff; every pair is there in both directions.

    Attributes
    ----------
    senders, receivers : (E,) int32
    shifts : (E, 3) int32
        The vector of an edge is x[sender] − x[receiver] + shift · cell (matscipy's and Nequix's convention).
    """

    senders: Int32
    receivers: Int32
    shifts: Int32

    def __len__(self) -> int:
        return len(self.senders)

    def vectors(self, positions: Float, cell: Float) -> Float:
        """(E, 3) float64 Å: the edge vectors at these positions, in this cell."""
        return positions[self.senders] - positions[self.receivers] + self.shifts @ cell


def neighbours(frame: Frame, cutoff_A: float) -> Edges:
    """All directed pairs of atoms (and images) closer than the cutoff, sorted by receiver.

    Raises
    ------
    DataError
        Only one or two directions are periodic: what an interaction across vacuum means is the user's choice.
    """
    if frame.periodic and not frame.pbc.all():
        raise DataError(
            f"frame {frame.id[:12]} is periodic in some directions only: set `partial_pbc: vacuum`"
        )
    from vesin import (
        NeighborList,
    )  # it imports torch where torch is installed: seconds that most commands need not wait

    calculator = NeighborList(cutoff=cutoff_A, full_list=True, sorted=True)
    i, j, shifts = calculator.compute(
        points=frame.positions, box=frame.cell, periodic=bool(frame.pbc.all()), quantities="ijS", copy=True
    )
    return Edges(j.astype(np.int32), i.astype(np.int32), shifts.astype(np.int32))


def closest_fraction(frame: Frame) -> float:
    """Smallest distance over the sum of covalent radii, of pairs (and images) that are not both fixed; at most 1."""
    radii = covalent_radii[frame.numbers]
    edges = neighbours(frame, 2.0 * float(radii.max()))
    seen = frame.free[edges.senders] | frame.free[edges.receivers]
    distance = np.linalg.norm(edges.vectors(frame.positions, frame.cell), axis=1)
    return float((distance / (radii[edges.senders] + radii[edges.receivers]))[seen].min(initial=1.0))
