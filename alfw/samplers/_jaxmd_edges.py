"""The edges of many walkers as one padded list, made anew on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from alfw.core.frame import Frame
from alfw.core.neighbours import Edges, neighbours
from alfw.samplers._jaxmd_system import EdgeArrays, is_listed
from alfw.samplers._walkers import Walkers

EDGE_GROWTH = 1.25
SMALLEST_BUCKET = 64


def walker_edges(frame: Frame, reach_A: float) -> Edges:
    """All pairs of a small molecule, else all pairs and images closer than `reach_A` (cutoff and skin)."""
    if is_listed(frame):
        return neighbours(frame, reach_A)
    receivers, senders = np.nonzero(~np.eye(len(frame), dtype=bool))
    return Edges(senders.astype(np.int32), receivers.astype(np.int32), np.zeros((len(senders), 3), np.int32))


def join_edges(walkers: Walkers, edges: Sequence[Edges], cutoff_A: float, capacity: int) -> EdgeArrays:
    """The edges of all walkers as one padded list; the capacity grows by 1.25 until they fit, never is one left out."""
    n_atoms = walkers.slices[-1].stop
    n_edges = sum(map(len, edges))
    capacity = grown(capacity, n_edges)
    pad = capacity - n_edges
    firsts = np.repeat([s.start for s in walkers.slices], list(map(len, edges)))
    dummy = np.full(pad, n_atoms, np.int32)
    beyond = np.tile([2.0 * cutoff_A, 0.0, 0.0], (pad, 1))
    pairs = list(zip(walkers.starts, edges, strict=True))
    return EdgeArrays(
        senders=np.concatenate([firsts + np.concatenate([e.senders for e in edges]), dummy]).astype(np.int32),
        receivers=np.concatenate([firsts + np.concatenate([e.receivers for e in edges]), dummy]).astype(
            np.int32
        ),
        offsets=np.concatenate([*(e.shifts @ frame.cell for frame, e in pairs), beyond]).astype(np.float32),
        radii=np.concatenate([*(_radii(frame, e) for frame, e in pairs), np.zeros(pad)]).astype(np.float32),
    )


def grown(capacity: int, needed: int) -> int:
    """`capacity` if it is enough, else the first of 64 · 1.25^k with 5 % to spare; few sizes mean few compilations."""
    if needed <= capacity:
        return capacity
    steps = np.log(max(1.05 * needed / SMALLEST_BUCKET, 1.0)) / np.log(EDGE_GROWTH)
    return int(np.ceil(SMALLEST_BUCKET * EDGE_GROWTH ** np.ceil(steps)))


def _radii(frame: Frame, edges: Edges) -> NDArray[np.float64]:
    """(E,) Å: sums of covalent radii; 0 between two fixed atoms."""
    radii = covalent_radii[frame.numbers]
    seen = frame.free[edges.senders] | frame.free[edges.receivers]
    return (radii[edges.senders] + radii[edges.receivers]) * seen  # type: ignore[no-any-return]
