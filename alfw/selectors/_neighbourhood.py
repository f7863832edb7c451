"""Neighbours of every atom of many frames at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Float, Frame, Int
from alfw.core.neighbours import neighbours

BATCH_EDGES = 50_000  # keeps what is computed per edge at some tens of MB


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Edges of consecutive frames, one after the other.

    Attributes
    ----------
    first_frame, last_frame : int
        The batch is frames[first_frame:last_frame].
    numbers : (A,) int64
        Atomic numbers of the atoms of the batch.
    receivers, senders : (E,) int64
        Index of each edge's atoms among these.
    vectors : (E, 3) float64, Å
        From receiver to sender.
    lengths : (E,) float64, Å
    """

    first_frame: int
    last_frame: int
    numbers: Int
    receivers: Int
    senders: Int
    vectors: Float
    lengths: Float


def neighbourhoods(frames: Sequence[Frame], cutoff_A: float) -> Iterator[Neighbourhoods]:
    """The edges of all frames in their order, in batches of about `BATCH_EDGES`."""
    receivers: list[NDArray[np.int64]] = []
    senders: list[NDArray[np.int64]] = []
    vectors: list[Float] = []
    first = atoms = edges_so_far = 0
    for index, frame in enumerate(frames):
        edges = neighbours(frame, cutoff_A)
        receivers.append(edges.receivers.astype(np.int64) + atoms)
        senders.append(edges.senders.astype(np.int64) + atoms)
        vectors.append(edges.vectors(frame.positions, frame.cell))
        atoms += len(frame)
        edges_so_far += len(edges)
        if edges_so_far >= BATCH_EDGES or index == len(frames) - 1:
            joined = np.concatenate(vectors)
            yield Neighbourhoods(
                first_frame=first,
                last_frame=index + 1,
                numbers=np.concatenate([f.numbers for f in frames[first : index + 1]]),
                receivers=np.concatenate(receivers),
                senders=np.concatenate(senders),
                vectors=joined,
                lengths=np.linalg.norm(joined, axis=1),
            )
            receivers, senders, vectors = [], [], []
            first, atoms, edges_so_far = index + 1, 0, 0
