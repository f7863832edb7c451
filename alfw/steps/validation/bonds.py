"""Bonds by covalent radii, and the pieces that they hold together."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii

from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours

# Atoms are bonded up to this many times the sum of their covalent radii, and in one piece up to that many times:
# a stretched bond still holds, and an atom that goes from one neighbour to another belongs to both on its way.
BONDED = 1.25
HOLDING = 1.5

Bond = tuple[int, int, int, int, int]


def bonds(frame: Frame, factor: float = BONDED) -> set[Bond]:
    """Pairs of atoms (i, j, and in which cell x_i − x_j + shift · cell is their vector) closer than radii · factor.

    Raises
    ------
    DataError
        The frame is periodic in some directions only.
    """
    radii = covalent_radii[frame.numbers] * factor
    edges = neighbours(frame, 2 * float(radii.max()))
    length = np.linalg.norm(edges.vectors(frame.positions, frame.cell), axis=1)
    near = length <= radii[edges.senders] + radii[edges.receivers]
    columns = np.column_stack([edges.senders, edges.receivers, edges.shifts])[near].tolist()
    # every pair is there in both directions
    return {(i, j, *s) for i, j, *s in columns if (i, j, *s) <= (j, i, *(-x for x in s))}


def pieces(frame: Frame, factor: float = HOLDING) -> int:
    """How many pieces the bonds of a frame make of it; a crystal with all its images is one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.array([bond[:2] for bond in bonds(frame, factor)], int).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(frame), len(frame)))
    return int(connected_components(graph, directed=False, return_labels=False))
