"""Labelled frames as the padded arrays a Nequix network is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alfw.core.neighbours import neighbours
from alfw.core.records import Labeled
from alfw.core.reference import reference_sums
from alfw.io.stacked import Stacked, joined
from alfw.models._nequix_stacked import molecules
from alfw.models.graphs import Graphs, Shape, atom_bucket, edge_room, species_index, stack

Array = NDArray[np.float32]


class Targets(NamedTuple):
    """What the network should say of B frames with n atoms.

    Attributes
    ----------
    energy : (B,) float32, eV
        Without E0.
    forces : (B, n, 3) float32, eV/Å
    free : (B, n) float32
        1 for atoms whose force counts, 0 for frozen atoms and padding.
    virial : (B, 3, 3) float32, eV
        Volume times stress; zero where there is none.
    has_virial : (B,) float32
        1 where the frame is periodic and its label has a stress, else 0.
    atoms : (B,) float32
        Number of atoms.
    """

    energy: Array
    forces: Array
    free: Array
    virial: Array
    has_virial: Array
    atoms: Array


class Batch(NamedTuple):
    """Graphs and targets of the same frames."""

    graphs: Graphs
    targets: Targets


@dataclass(frozen=True, eq=False)
class Dataset:
    """All frames of the train side, then those of the valid side, on the host.

    Only the frames of the next steps go to the device: what is compiled does not depend on the size of the dataset.
    """

    batch: Batch
    n_train: int
    n_valid: int

    def rows(self, index: NDArray[np.int64]) -> Batch:
        """The frames of this index array, of any shape; its axes lead."""
        graphs, targets = self.batch
        return Batch(Graphs(*(x[index] for x in graphs)), Targets(*(x[index] for x in targets)))


def dataset(
    train: Sequence[Labeled],
    valid: Sequence[Labeled],
    species: Sequence[int],
    reference: Mapping[int, float],
    cutoff_A: float,
) -> Dataset:
    """The labelled frames; E0 (`reference`, eV) is subtracted in float64.

    Raises
    ------
    TrainingError
        A frame contains an element that is not in `species`.
    """
    molecules_ = _stacked_molecules(train, valid)
    if molecules_ is not None:
        graphs, energy = molecules(molecules_, species, reference, cutoff_A)
        return Dataset(Batch(graphs, _stacked_targets(molecules_, energy, graphs)), len(train), len(valid))
    items = [*train, *valid]
    frames = [item.frame for item in items]
    kinds = species_index(frames, species)
    edges = [neighbours(frame, cutoff_A) for frame in frames]
    room = edge_room(frames, max(map(len, edges)))
    shape = Shape(len(items), atom_bucket(max(map(len, frames))), room)
    graphs = stack(frames, edges, kinds, shape, cutoff_A)
    energy = np.array([item.label.energy for item in items]) - reference_sums(frames, reference)
    return Dataset(Batch(graphs, _targets(items, energy, shape)), len(train), len(valid))


def _targets(items: Sequence[Labeled], energy: NDArray[np.float64], shape: Shape) -> Targets:
    forces = np.zeros((shape.frames, shape.atoms, 3), np.float32)
    free = np.zeros((shape.frames, shape.atoms), np.float32)
    virial = np.zeros((shape.frames, 3, 3), np.float32)
    has_virial = np.zeros(shape.frames, np.float32)
    for b, item in enumerate(items):
        n = len(item.frame)
        forces[b, :n], free[b, :n] = item.label.forces, item.frame.free
        if item.label.stress is not None and item.frame.periodic:
            virial[b] = item.label.stress * abs(np.linalg.det(item.frame.cell))
            has_virial[b] = 1.0
    atoms = np.array([len(item.frame) for item in items], np.float32)
    return Targets(energy.astype(np.float32), forces, free, virial, has_virial, atoms)


def _stacked_molecules(train: Sequence[Labeled], valid: Sequence[Labeled]) -> Stacked | None:
    """Both sides in one, where they are stacked and hold molecules alone."""
    sides = [side for side in (train, valid) if len(side)]
    stacked = [side for side in sides if isinstance(side, Stacked) and not side.arrays["frame_pbc"].any()]
    return joined(stacked) if sides and len(stacked) == len(sides) else None


def _stacked_targets(data: Stacked, energy: NDArray[np.float64], graphs: Graphs) -> Targets:
    padded, (frames, atoms) = data.padded(), graphs.mask.shape
    room = ((0, 0), (0, atoms - padded.mask.shape[1]))
    none = np.zeros((frames, 3, 3), np.float32)  # molecules have no stress
    return Targets(
        energy=energy.astype(np.float32),
        forces=np.pad(padded.forces, (*room, (0, 0))),
        free=np.pad(padded.free, room).astype(np.float32),
        virial=none,
        has_virial=none[:, 0, 0],
        atoms=data.sizes.astype(np.float32),
    )
