"""Stacked molecules as the arrays a Nequix network is trained on, without a Frame or a neighbour list of each.

What comes out is what `_nequix_data` makes of them one by one, but for the order of the senders of an atom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from alfw.io.stacked import Stacked
from alfw.models.graphs import Graphs, atom_bucket, molecule_room, species_index

AT_ONCE_ATOMS2 = 2_000_000  # pairs of atoms looked at in one go: some 50 MB


def molecules(
    data: Stacked, species: Sequence[int], reference: Mapping[int, float], cutoff_A: float
) -> tuple[Graphs, NDArray[np.float64]]:
    """Graphs of all frames, none of which is periodic, and their energies (M,) eV without E0.

    Raises
    ------
    TrainingError
        A frame contains an element that is not in `species`.
    """
    kinds = _kinds(data, species)
    mask = np.arange(atom_bucket(int(data.sizes.max()))) < data.sizes[:, None]
    positions = np.zeros((*mask.shape, 3))
    positions[mask] = data.arrays["frame_positions"]
    edges = list(_edges(positions, mask, cutoff_A))
    needed = max(int(np.bincount(frame, minlength=1).max()) for frame, _, _ in edges)
    shape = (len(data), molecule_room(int(data.sizes.max()), needed))
    vectors = np.zeros((*shape, 3), np.float32)
    vectors[:, :, 0] = 2.0 * cutoff_A
    senders, receivers = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for frame, to, of in edges:
        slot = np.arange(len(frame)) - np.searchsorted(frame, frame)
        vectors[frame, slot] = positions[frame, of] - positions[frame, to]
        senders[frame, slot], receivers[frame, slot] = of, to
    species_of_atoms = np.zeros(mask.shape, np.int32)
    species_of_atoms[mask] = kinds
    return Graphs(vectors, senders, receivers, species_of_atoms, mask), _energies(data, reference)


def _kinds(data: Stacked, species: Sequence[int]) -> NDArray[np.int32]:
    """(Σn,) int32: the index of each atom's element in `species`."""
    table = np.full(len(chemical_symbols), -1, np.int32)
    table[list(species)] = np.arange(len(species), dtype=np.int32)
    kinds = table[data.arrays["frame_numbers"]]
    if (kinds < 0).any():
        atom = int(np.flatnonzero(kinds < 0)[0])
        row = int(np.searchsorted(data.offsets, atom, side="right")) - 1
        species_index([data[row].frame], species)  # says which element of which frame
    return kinds


def _edges(
    positions: NDArray[np.float64], mask: NDArray[np.bool_], cutoff_A: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Frame, receiver and sender of all pairs closer than the cutoff, sorted so, for some frames at a time."""
    atoms = mask.shape[1]
    step = max(AT_ONCE_ATOMS2 // atoms**2, 1)
    for first in range(0, len(mask), step):
        x, real = positions[first : first + step], mask[first : first + step]
        squared = ((x[:, :, None] - x[:, None]) ** 2).sum(-1)
        near = (squared < cutoff_A**2) & real[:, :, None] & real[:, None]
        near[:, np.arange(atoms), np.arange(atoms)] = False
        frame, to, of = np.nonzero(near)
        yield frame + first, to, of


def _energies(data: Stacked, reference: Mapping[int, float]) -> NDArray[np.float64]:
    """(M,) float64, eV: energies less the sums of E0."""
    known = sorted(reference)
    place = np.full(len(chemical_symbols), 0)
    place[known] = np.arange(len(known))
    owner = np.repeat(np.arange(len(data)), data.sizes)
    flat = owner * len(known) + place[data.arrays["frame_numbers"]]
    counts = np.bincount(flat, minlength=len(data) * len(known)).reshape(len(data), len(known))
    e0 = np.array([reference[z] for z in known], np.float64)
    return np.asarray(data.arrays["energy"], np.float64) - counts.astype(np.float64) @ e0
