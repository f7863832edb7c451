"""Labelled molecules as the padded arrays that PhysNet and DCMNet are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
from alfw.core.records import Labeled
from alfw.core.reference import reference_sums
from alfw.models.graphs import Graphs, Shape, atom_bucket, bucket, species_index, stack

Array = NDArray[np.float32]


class Molecules(NamedTuple):
    """What networks and losses need of B molecules with n atoms and G points.

    Attributes
    ----------
    graphs : Graphs
        Edges reach the larger of the two cutoffs.
    positions : (B, n, 3) float32, Å
        About the centre of mass: a dipole there is the label's, also of an ion.
    charge : (B,) float32, e
    energy : (B,) float32, eV
        Without E0.
    forces : (B, n, 3) float32, eV/Å
    free : (B, n) float32
        1 for atoms whose force counts.
    dipole : (B, 3) float32, e·Å
    has_dipole : (B,) float32
        1 where the label has one.
    points : (B, G, 3) float32, Å
        From the centre of mass, too; padding is far away.
    esp : (B, G) float32, V
    at : (B, G) float32
        1 for points that count.
    """

    graphs: Graphs
    positions: Array
    charge: Array
    energy: Array
    forces: Array
    free: Array
    dipole: Array
    has_dipole: Array
    points: Array
    esp: Array
    at: Array


@dataclass(frozen=True, eq=False)
class Data:
    """Molecules of the train side, then of the valid side."""

    molecules: Molecules
    n_train: int
    n_valid: int

    def rows(self, index: NDArray[np.int64]) -> Molecules:
        """The molecules of this index array, of any shape; its axes lead."""
        graphs = Graphs(*(x[index] for x in self.molecules.graphs))
        return Molecules(graphs, *(x[index] for x in self.molecules[1:]))


def data(
    train: Sequence[Labeled],
    valid: Sequence[Labeled],
    species: Sequence[int],
    reference: Mapping[int, float],
    cutoff_A: float,
) -> Data:
    """The labelled molecules; E0 (`reference`, eV) is subtracted in float64.

    Raises
    ------
    TrainingError
        A frame is periodic, or has an element that is not in `species`.
    """
    items = [*train, *valid]
    frames = [item.frame for item in items]
    graphs, centred = as_graphs(frames, species, cutoff_A)
    energy = np.array([item.label.energy for item in items]) - reference_sums(frames, reference)
    n = graphs.mask.shape[1]
    forces, free = np.zeros((len(items), n, 3), np.float32), np.zeros((len(items), n), np.float32)
    dipole, has_dipole = np.zeros((len(items), 3), np.float32), np.zeros(len(items), np.float32)
    for b, item in enumerate(items):
        forces[b, : len(item.frame)], free[b, : len(item.frame)] = item.label.forces, item.frame.free
        if item.label.dipole is not None:
            dipole[b], has_dipole[b] = item.label.dipole, 1.0
    molecules = Molecules(
        graphs,
        centred,
        np.array([frame.charge for frame in frames], np.float32),
        energy.astype(np.float32),
        forces,
        free,
        dipole,
        has_dipole,
        *_grids(items),
    )
    return Data(molecules, len(train), len(valid))


def as_graphs(frames: Sequence[Frame], species: Sequence[int], cutoff_A: float) -> tuple[Graphs, Array]:
    """Graphs of molecules, and their positions (B, n, 3) Å about the centres of mass.

    Raises
    ------
    TrainingError
        A frame is periodic, or has an element that is not in `species`.
    """
    for frame in frames:
        if frame.periodic:
            raise TrainingError(f"frame {frame.id[:12]} is periodic: model 'physnet' is for molecules")
    edges = [neighbours(frame, cutoff_A) for frame in frames]
    shape = Shape(len(frames), atom_bucket(max(map(len, frames))), bucket(max(map(len, edges))))
    graphs = stack(frames, edges, species_index(frames, species), shape, cutoff_A)
    positions = np.zeros((len(frames), shape.atoms, 3), np.float32)
    for b, frame in enumerate(frames):
        positions[b, : len(frame)] = frame.positions - centre(frame)
    return graphs, positions


def centre(frame: Frame) -> NDArray[np.float64]:
    """(3,) Å: centre of mass."""
    return np.asarray(np.average(frame.positions, axis=0, weights=frame.masses))


def _grids(items: Sequence[Labeled]) -> tuple[Array, Array, Array]:
    """Points, potentials, and which of them count; one point that does not where no label has any."""
    size = max(1, *(0 if item.label.esp is None else len(item.label.esp) for item in items))
    points = np.full((len(items), size, 3), 1e3, np.float32)
    esp, at = np.zeros((len(items), size), np.float32), np.zeros((len(items), size), np.float32)
    for b, item in enumerate(items):
        if item.label.esp is not None and item.label.esp_points is not None:
            g = len(item.label.esp)
            points[b, :g] = item.label.esp_points - centre(item.frame)
            esp[b, :g], at[b, :g] = item.label.esp, 1.0
    return points, esp, at
