"""Labelled molecules as the padded arrays that PhysNet and DCMNet are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
from alfw.core.records import Labeled
from alfw.core.reference import reference_sums
from alfw.core.units import HARTREE_eV
from alfw.models._physnet_network import Sizes
from alfw.models.graphs import Graphs, Shape, atom_bucket, bucket, species_index, stack
from alfw.models.physnet import PhysNetTraining

Array = Any  # of numpy on the host, of jax on the device
INSIDE = 2.0  # covalent radii: points closer to an atom are in its density, where point charges mean nothing


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
        1 for points that count, see `points_that_count`.
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
    sizes: Sizes,
    reference: Mapping[int, float],
    options: PhysNetTraining,
) -> Data:
    """The labelled molecules; E0 (`reference`, eV) is subtracted in float64.

    Raises
    ------
    TrainingError
        As in `as_graphs`.
    """
    items = [*train, *valid]
    frames = [item.frame for item in items]
    graphs, centred = as_graphs(frames, sizes)
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
        *_grids(items, options),
    )
    return Data(molecules, len(train), len(valid))


def as_graphs(frames: Sequence[Frame], sizes: Sizes, rows: int | None = None) -> tuple[Graphs, Array]:
    """Graphs of molecules, and their positions (B, n, 3) Å about the centres of mass; padding up to `rows` of them.

    Raises
    ------
    TrainingError
        A frame is periodic, has an element that the networks do not know, or is none for a Coulomb energy.
    """
    for frame in frames:
        if frame.periodic:
            raise TrainingError(f"frame {frame.id[:12]} is periodic: model 'physnet' is for molecules")
    edges = [neighbours(frame, sizes.reach_A) for frame in frames]
    if sizes.mix_coulomb_energy:
        _check_coulomb(frames, list(map(len, edges)), sizes.reach_A)
    largest, most = max(map(len, frames)), max(map(len, edges))
    pairs = largest * (largest - 1)
    # Half of all pairs today may be all of them in the next round: room for all, so that nothing is compiled anew.
    room = bucket(pairs if 2 * most >= pairs else most)
    shape = Shape(rows or len(frames), atom_bucket(largest), room)
    graphs = stack(frames, edges, species_index(frames, sizes.atomic_numbers), shape, sizes.reach_A)
    positions = np.zeros((shape.frames, shape.atoms, 3), np.float32)
    for b, frame in enumerate(frames):
        positions[b, : len(frame)] = frame.positions - centre(frame)
    return graphs, positions


def _check_coulomb(frames: Sequence[Frame], n_edges: Sequence[int], reach_A: float) -> None:
    """Raise TrainingError for a frame whose Coulomb energy jax-md could not have."""
    for frame, edges in zip(frames, n_edges, strict=True):
        if frame.charge:
            raise TrainingError(
                f"frame {frame.id[:12]} has charge {frame.charge}: mix_coulomb_energy is for neutral molecules"
            )
        if edges < len(frame) * (len(frame) - 1):
            raise TrainingError(
                f"frame {frame.id[:12]}: atoms are {reach_A:g} Å apart or more, too far for mix_coulomb_energy"
            )


def centre(frame: Frame) -> NDArray[np.float64]:
    """(3,) Å: centre of mass."""
    return np.asarray(np.average(frame.positions, axis=0, weights=frame.masses))


def _grids(items: Sequence[Labeled], options: PhysNetTraining) -> tuple[Array, Array, Array]:
    """Points, potentials, and which of them count; one point that does not where no label has any.

    There is room for as many points as the next power of 2: the number differs a little from frame to frame.
    """
    most = max(1, *(0 if item.label.esp is None else len(item.label.esp) for item in items))
    size = 1 << (most - 1).bit_length()
    points = np.full((len(items), size, 3), 1e3, np.float32)
    esp, at = np.zeros((len(items), size), np.float32), np.zeros((len(items), size), np.float32)
    for b, item in enumerate(items):
        if item.label.esp is not None and item.label.esp_points is not None:
            g = len(item.label.esp)
            points[b, :g] = item.label.esp_points - centre(item.frame)
            esp[b, :g], at[b, :g] = item.label.esp, points_that_count(item, options)
    return points, esp, at


def points_that_count(item: Labeled, options: PhysNetTraining) -> NDArray[np.bool_]:
    """(G,): points outside all atoms, and within the limits of the options."""
    esp, points = item.label.esp, item.label.esp_points
    if esp is None or points is None:
        return np.zeros(0, bool)
    distance = np.linalg.norm(points[:, None] - item.frame.positions, axis=2)
    counts = (distance >= INSIDE * covalent_radii[item.frame.numbers]).all(1)
    counts &= distance.min(1) >= options.esp_min_distance_A
    if options.esp_max_value is not None:
        counts &= np.abs(esp) <= options.esp_max_value * HARTREE_eV
    return np.asarray(counts)
