"""Frames as padded arrays of edges: what an edge-based network is given, in training and in prediction.

Everything a message-passing potential needs of a geometry is its edge vectors. They are formed once, in float64, and
rounded to float32 only then; forces and stress follow from dE/dvector, so no positions go to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.neighbours import Edges

Array = Any  # of numpy on the host, of jax on the device
EDGE_STEP = 8
TOO_WIDE = 1.3  # room for so many times the edges needed is still worth it, where it saves a compilation


class Graphs(NamedTuple):
    """B frames, padded to n atoms and e edges each.

    Padded atoms are of species 0 and masked; a padded edge runs from atom 0 to itself with a vector of twice the
    cutoff, where the network's cutoff function is exactly zero.

    Attributes
    ----------
    vectors : (B, e, 3) float32, Å
        x[sender] − x[receiver] + shift · cell.
    senders, receivers : (B, e) int32
        Index of the atom within its frame.
    species : (B, n) int32
        Index in the model's list of species.
    mask : (B, n) bool
        True for real atoms.
    """

    vectors: Array
    senders: Array
    receivers: Array
    species: Array
    mask: Array


class Shape(NamedTuple):
    """Room for `atoms` and `edges` in each of `frames` frames; one compilation per shape."""

    frames: int
    atoms: int
    edges: int

    def holds(self, other: Shape) -> bool:
        """Whether graphs of the other shape fit."""
        return all(mine >= theirs for mine, theirs in zip(self, other, strict=True))


def bucket(count: int, step: int = EDGE_STEP) -> int:
    """`count` rounded up to five significant binary digits, and to a multiple of `step`: few sizes, little padding."""
    quantum = max(step, 1 << max(count.bit_length() - 5, 0))
    return max(-(-count // quantum), 1) * quantum


def atom_bucket(count: int) -> int:
    """Room for `count` atoms: a multiple of 2 for small molecules, else as `bucket`."""
    return count + count % 2 if count <= 16 else bucket(count, 4)


def edge_room(frames: Sequence[Frame], needed: int) -> int:
    """Edges to make room for in each of these frames, the fullest of which has `needed`.

    All pairs of the largest molecule where that is not much more: no later geometry of it can need a wider program.
    """
    largest = max(map(len, frames))
    return bucket(needed) if any(frame.periodic for frame in frames) else molecule_room(largest, needed)


def molecule_room(atoms: int, needed: int) -> int:
    """`edge_room` of molecules, the largest of which has so many atoms."""
    pairs = atoms * (atoms - 1)
    return bucket(pairs if pairs <= TOO_WIDE * max(needed, EDGE_STEP) else needed)


def species_index(frames: Sequence[Frame], species: Sequence[int]) -> list[NDArray[np.int32]]:
    """The index of each atom's element in `species`, (n,) int32 a frame.

    Raises
    ------
    TrainingError
        A frame contains an element that is not in `species`.
    """
    table = np.full(len(chemical_symbols), -1, np.int32)
    table[list(species)] = np.arange(len(species), dtype=np.int32)
    indices = [table[frame.numbers] for frame in frames]
    for frame, index in zip(frames, indices, strict=True):
        if (index < 0).any():
            unknown = sorted({chemical_symbols[z] for z in frame.numbers[index < 0]})
            known = ", ".join(chemical_symbols[z] for z in species)
            raise TrainingError(
                f"frame {frame.id[:12]}: the model does not know {', '.join(unknown)} (it knows {known}):"
                " label frames with it and retrain"
            )
    return indices


def stack(
    frames: Sequence[Frame],
    edges: Sequence[Edges],
    species: Sequence[NDArray[np.int32]],
    shape: Shape,
    cutoff_A: float,
) -> Graphs:
    """The frames as `Graphs` of this shape; frames beyond the last are padding alone.

    Parameters
    ----------
    frames : sequence of B Frames, B <= shape.frames
    edges : sequence of B Edges
    species : B × (n,) int32, from `species_index`
    """
    vectors = np.zeros((shape.frames, shape.edges, 3), np.float32)
    vectors[:, :, 0] = 2.0 * cutoff_A
    senders = np.zeros((shape.frames, shape.edges), np.int32)
    receivers = np.zeros((shape.frames, shape.edges), np.int32)
    kinds = np.zeros((shape.frames, shape.atoms), np.int32)
    mask = np.zeros((shape.frames, shape.atoms), bool)
    for b, (frame, edge, kind) in enumerate(zip(frames, edges, species, strict=True)):
        n, e = len(frame), len(edge)
        vectors[b, :e] = edge.vectors(frame.positions, frame.cell)
        senders[b, :e], receivers[b, :e] = edge.senders, edge.receivers
        kinds[b, :n], mask[b, :n] = kind, True
    return Graphs(vectors, senders, receivers, kinds, mask)
