"""Many walkers as one system of atoms with block-diagonal edges: what the MD program is given.

The last atom is a dummy: padded edges run from it to itself with a vector longer than the cutoff, so that neither their
values nor a NaN of any walker can travel along them. It belongs to a dummy walker, which is the last and never alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from alfw.core.errors import SamplingError
from alfw.core.frame import Frame
from alfw.core.ids import derive_seed
from alfw.core.neighbours import Edges, neighbours
from alfw.core.protocols import JaxPotential
from alfw.core.units import KB_eV_PER_K
from alfw.samplers._physical import extent

ALL_PAIRS_MAX_ATOMS = 30
EDGE_GROWTH = 1.25
SMALLEST_BUCKET = 64
RING_fs = 100.0  # how far back the last physical frame can be looked for
RING_EVERY_fs = 2.0
Array = NDArray[np.generic]


class Atoms(NamedTuple):
    """Constants of N atoms (walkers one after the other, then the dummy) of R walkers and the dummy one.

    Attributes
    ----------
    species : (N,) int32
        Index in `Potential.species`.
    walker : (N,) int32
    mass : (N, 1) float32, amu
    kT : (N, 1) float32, eV
        0 for atoms that do not move, which keeps the thermostat off them.
    free : (N, 1) bool
    listed : (N,) bool
        Atoms whose edges come from a neighbour list with a skin.
    count : (R+1, 1) float32
        Atoms of each walker.
    extent : (R+1,) float32, Å
        Largest distance of a free atom from the centroid in the start.
    limits : (6, R+1) float32
        Of speed Å/fs, closeness, force eV/Å, growth Å, force_std eV/Å, energy_std eV per atom; inf = none.
    """

    species: Array
    walker: Array
    mass: Array
    kT: Array
    free: Array
    listed: Array
    count: Array
    extent: Array
    limits: Array


class EdgeArrays(NamedTuple):
    """E directed edges, padded to the capacity.

    Attributes
    ----------
    senders, receivers : (E,) int32
    offsets : (E, 3) float32, Å
        shift · cell.
    radii : (E,) float32, Å
        Sum of covalent radii; 0 for padding and between two fixed atoms, which are not looked at.
    """

    senders: Array
    receivers: Array
    offsets: Array
    radii: Array


@dataclass(frozen=True, eq=False)
class Walkers:
    """The start frames of R walkers and their temperatures, concatenated.

    Attributes
    ----------
    starts : list of R Frames
    temperature_K : (R,) float64
        Of the velocities at the start, and of the thermostat where there is one.
    """

    starts: list[Frame]
    temperature_K: NDArray[np.float64]

    @property
    def slices(self) -> list[slice]:
        """Where the atoms of each walker are."""
        ends = np.cumsum([len(frame) for frame in self.starts])
        return [slice(int(end) - len(frame), int(end)) for end, frame in zip(ends, self.starts, strict=True)]

    def concatenated(self, arrays: Sequence[NDArray[np.generic]], dummy: float) -> Array:
        """Per-atom arrays of all walkers one after the other, and the dummy's value."""
        first = np.asarray(arrays[0])
        return np.concatenate([*arrays, np.full((1, *first.shape[1:]), dummy, first.dtype)])

    def positions(self) -> NDArray[np.float32]:
        """(N, 3) float32, Å: of the starts."""
        return self.concatenated([frame.positions for frame in self.starts], 0.0).astype(np.float32)  # type: ignore[return-value]

    def momenta(self, seed: int) -> NDArray[np.float32]:
        """(N, 3) float32, sqrt(amu eV): Maxwell–Boltzmann; without drift of a walker that has no fixed atoms.

        Every walker has random numbers of its own, so that it does not matter which others are there.
        """
        parts = []
        for w, (frame, T) in enumerate(zip(self.starts, self.temperature_K, strict=True)):
            noise = np.random.default_rng(derive_seed(seed, "velocities", w)).standard_normal((len(frame), 3))
            p = noise * np.sqrt(frame.masses[:, None] * KB_eV_PER_K * T) * frame.free[:, None]  # type: ignore[index]
            if frame.fixed is None and len(frame) > 1:
                p -= frame.masses[:, None] * (p.sum(0) / frame.masses.sum())  # type: ignore[index,union-attr]
            parts.append(p)
        return self.concatenated(parts, 0.0).astype(np.float32)  # type: ignore[return-value]


def ring_every(dt_fs: float) -> int:
    """Steps between two frames of the ring."""
    return max(1, round(RING_EVERY_fs / dt_fs))


def ring_size(dt_fs: float) -> int:
    """Frames in the ring."""
    return max(1, round(RING_fs / (ring_every(dt_fs) * dt_fs)))


def is_listed(frame: Frame) -> bool:
    """Whether a frame needs a neighbour list; a small molecule has all its pairs all the time."""
    return frame.periodic or len(frame) > ALL_PAIRS_MAX_ATOMS


def atoms_of(walkers: Walkers, potential: JaxPotential, limits: NDArray[np.float64]) -> Atoms:
    """The constants of all atoms; `limits` (6,) as in `Atoms`, growth is lifted for periodic walkers.

    Raises
    ------
    SamplingError
        The potential does not know an element.
    """
    starts, sizes = walkers.starts, [len(frame) for frame in walkers.starts]
    free = walkers.concatenated([frame.free for frame in starts], False)
    kT = np.repeat([*(walkers.temperature_K * KB_eV_PER_K), 0.0], [*sizes, 1]) * free
    table = np.repeat(limits[:, None], len(starts) + 1, axis=1)
    table[3, :-1][[frame.periodic for frame in starts]] = np.inf
    return Atoms(
        species=walkers.concatenated([species_index(frame, potential.species) for frame in starts], 0),
        walker=np.repeat(np.arange(len(starts) + 1), [*sizes, 1]).astype(np.int32),
        mass=walkers.concatenated([frame.masses for frame in starts], 1.0)[:, None].astype(np.float32),
        kT=kT[:, None].astype(np.float32),
        free=free[:, None],
        listed=walkers.concatenated([np.full(len(frame), is_listed(frame)) for frame in starts], False),
        count=np.array([*sizes, 1], np.float32)[:, None],
        extent=np.array([*map(extent, starts), 0.0], np.float32),
        limits=table.astype(np.float32),
    )


def species_index(frame: Frame, species: tuple[int, ...]) -> NDArray[np.int32]:
    """(n,) int32: the index of each atom's element in the potential's list."""
    unknown = set(frame.numbers.tolist()) - set(species)
    if unknown:
        raise SamplingError(
            f"frame {frame.id[:12]}: the potential does not know the elements Z = {sorted(unknown)}"
        )
    lookup = {z: i for i, z in enumerate(species)}
    return np.array([lookup[z] for z in frame.numbers.tolist()], np.int32)


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
