"""Trajectories for ASE and whatever reads its formats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from alfw.core.units import FS
from alfw.io.files import replacing
from alfw.io.trajectory_npz import Track


def write_ase(path: Path, track: Track) -> None:
    """Write one walker's frames, in the format of the suffix (``.traj``, ``.extxyz``), with energies and momenta.

    Raises
    ------
    DataError
        It cannot be written there.
    """
    from ase.io import write
    from ase.io.trajectory import Trajectory

    with replacing(path) as temporary:
        if path.suffix == ".traj":
            with Trajectory(str(temporary), "w") as file:
                for atoms in images(track):
                    file.write(atoms)
        else:
            write(temporary, list(images(track)), format="extxyz")


def images(track: Track) -> Iterator[Atoms]:
    """Its frames as ASE's Atoms; `info` has time_fs and step."""
    for i in range(len(track)):
        atoms = track.frame(i).to_atoms()
        if track.velocities is not None:
            atoms.set_velocities(track.velocities[i] / FS)
        atoms.info |= {"time_fs": float(track.time_fs[i]), "step": int(track.step[i]), "walker": track.walker}
        atoms.calc = SinglePointCalculator(atoms, energy=float(track.potential_eV[i]))
        yield atoms
