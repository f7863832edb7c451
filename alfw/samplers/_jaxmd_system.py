"""Many walkers as one system of atoms with block-diagonal edges: what the MD program is given.

The last atom is a dummy: padded edges run from it to itself with a vector longer than the cutoff, so that neither their
values nor a NaN of any walker can travel along them. It belongs to a dummy walker, which is the last and never alive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Frame
from alfw.core.protocols import JaxPotential
from alfw.core.units import KB_eV_PER_K
from alfw.samplers._physical import extent
from alfw.samplers._structures import check_elements
from alfw.samplers._walkers import Walkers, drifts_not

ALL_PAIRS_MAX_ATOMS = 30
Array = NDArray[np.generic]


class Atoms(NamedTuple):
    """Constants of N atoms (walkers one after the other, then the dummy) of R walkers and the dummy one.

    Attributes
    ----------
    species : (N,) int32
        Index in `Potential.species`.
    walker : (N,) int32
    mass : (N, 1) float32, amu
    free : (N, 1) bool
    listed : (N,) bool
        Atoms whose edges come from a neighbour list with a skin.
    key : (N, 2) uint32
        Of the random numbers of each atom.
    kT : (2, R+1) float32, eV
        The thermostat's target in the start and when `Settings.n_steps` are done.
    freedom : (R+1,) float32
        Degrees of freedom; without those of the centre of mass where its momentum is zero and stays so.
    volume : (R+1,) float32, Å^3
        Of the cell in the start; 1 without a cell.
    length : (R+1,) float32, Å
        Of the longest cell vector in the start; 0 without a cell.
    count : (R+1, 1) float32
        Atoms of each walker.
    extent : (R+1,) float32, Å
        Largest distance of a free atom from the centroid in the start.
    limits : (6,) float32
        Of speed Å/fs, closeness, force eV/Å, growth Å, force_std eV/Å, energy_std eV per atom; inf = none.
    """

    species: Array
    walker: Array
    mass: Array
    free: Array
    listed: Array
    key: Array
    kT: Array
    freedom: Array
    volume: Array
    length: Array
    count: Array
    extent: Array
    limits: Array


class EdgeArrays(NamedTuple):
    """E directed edges, padded to the capacity.

    Attributes
    ----------
    senders, receivers : (E,) int32
    offsets : (E, 3) float32, Å
        shift · cell of the start.
    radii : (E,) float32, Å
        Sum of covalent radii; 0 for padding and between two fixed atoms, which are not looked at.
    """

    senders: Array
    receivers: Array
    offsets: Array
    radii: Array


def is_listed(frame: Frame) -> bool:
    """Whether a frame needs a neighbour list; a small molecule has all its pairs all the time."""
    return frame.periodic or len(frame) > ALL_PAIRS_MAX_ATOMS


def atoms_of(walkers: Walkers, potential: JaxPotential, limits: NDArray[np.float64], seed: int) -> Atoms:
    """The constants of all atoms; `limits` (6,) as in `Atoms`.

    Raises
    ------
    SamplingError
        The potential does not know an element.
    """
    starts, sizes = walkers.starts, [len(frame) for frame in walkers.starts]
    cells = [frame.cell if frame.periodic else np.zeros((3, 3)) for frame in starts]
    kT = KB_eV_PER_K * np.stack([walkers.target_K(np.full(len(starts), share)) for share in (0.0, 1.0)])
    freedom = [max(3.0 * frame.free.sum() - 3.0 * drifts_not(frame), 1.0) for frame in starts]
    return Atoms(
        species=walkers.concatenated([species_index(frame, potential.species) for frame in starts], 0),
        walker=np.repeat(np.arange(len(starts) + 1), [*sizes, 1]).astype(np.int32),
        mass=walkers.concatenated([frame.masses for frame in starts], 1.0)[:, None].astype(np.float32),
        free=walkers.concatenated([frame.free for frame in starts], False)[:, None],
        listed=walkers.concatenated([np.full(len(frame), is_listed(frame)) for frame in starts], False),
        key=walkers.keys(seed),
        kT=np.pad(kT, ((0, 0), (0, 1)), mode="edge").astype(np.float32),
        freedom=np.array([*freedom, 1.0], np.float32),
        volume=np.array([*(abs(np.linalg.det(cell)) or 1.0 for cell in cells), 1.0], np.float32),
        length=np.array([*(np.linalg.norm(cell, axis=1).max() for cell in cells), 0.0], np.float32),
        count=np.array([*sizes, 1], np.float32)[:, None],
        extent=np.array([*map(extent, starts), 0.0], np.float32),
        limits=limits.astype(np.float32),
    )


def species_index(frame: Frame, species: tuple[int, ...]) -> NDArray[np.int32]:
    """(n,) int32: the index of each atom's element in the potential's list; each has to be there."""
    check_elements(species, frame)
    lookup = {z: i for i, z in enumerate(species)}
    return np.array([lookup[z] for z in frame.numbers.tolist()], np.int32)
