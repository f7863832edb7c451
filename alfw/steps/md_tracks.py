"""What walkers did, frame by frame: energies, forces and dipole moments of the frames that dynamics kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from alfw.core.exploration import Exploration
from alfw.core.frame import Float, Frame
from alfw.core.protocols import HasElectrostatics, Potential
from alfw.io.trajectory_npz import Track

AT_ONCE = 2048  # frames whose forces are held at the same time


@runtime_checkable
class Dynamics(Protocol):
    """A sampler that follows walkers in time."""

    dt_fs: float
    n_steps: int


def tracks(
    seen: Exploration, potential: Potential, dt_fs: float, progress: Callable[[str], None] | None = None
) -> list[Track]:
    """The trajectories of all walkers that kept a frame, by walker.

    Energies and forces are those of the member that drove the run (counter ``driver``), without a bias; where all
    members did, of their mean. Dipole moments are the mean of the members.
    """
    driver = seen.counters.get("driver")
    energy, force = _energies(seen.frames, potential, None if driver is None else int(driver), progress)
    dipoles = _dipoles(seen.frames, potential, progress)
    found = []
    for walker in np.unique(seen.walker).tolist():
        rows = np.flatnonzero(seen.walker == walker)
        rows = rows[np.argsort(np.asarray(seen.step)[rows], kind="stable")]
        frames = [seen.frames[i] for i in rows]
        velocities = None
        if seen.velocities is not None:
            velocities = np.array([seen.velocities[int(i)] for i in rows], np.float32)
        found.append(
            Track(
                frames[0],
                walker,
                dt_fs,
                np.asarray(seen.step, np.int64)[rows],
                np.asarray(seen.time_fs, np.float64)[rows],
                np.array([frame.positions for frame in frames]),
                np.array([frame.cell for frame in frames]) if frames[0].periodic else None,
                energy[rows],
                force[rows],
                velocities,
                {name: values[rows] for name, values in dipoles.items()},
            )
        )
    return found


def knows_dipoles(potential: Potential, start: Frame) -> bool:
    """Whether this potential has a dipole moment for such a frame."""
    if start.periodic:
        return False
    return isinstance(potential, HasElectrostatics) or potential.predict([start]).dipole is not None


def _energies(
    frames: Sequence[Frame], potential: Potential, driver: int | None, tell: Callable[[str], None] | None
) -> tuple[Float, Float]:
    """(B,) eV and the largest force on a free atom (B,) eV/Å, of one member or of the mean of all."""
    energy, largest = np.zeros(len(frames)), np.zeros(len(frames))
    for part in _parts(frames, "energies", tell):
        said = potential.predict(frames[part])
        energy[part] = said.energy.mean(0) if driver is None else said.energy[driver]
        for b, forces in enumerate(said.forces, part.start):
            own = forces.mean(0) if driver is None else forces[driver]
            largest[b] = np.linalg.norm(own[frames[b].free], axis=1).max(initial=0.0)
    return energy, largest


def _dipoles(
    frames: Sequence[Frame], potential: Potential, tell: Callable[[str], None] | None
) -> dict[str, Float]:
    """(B, 3) e·Å by what they are of; nothing where the potential has none."""
    if not frames or not knows_dipoles(potential, frames[0]):
        return {}
    if not isinstance(potential, HasElectrostatics):
        parts = [potential.predict(frames[part]).dipole for part in _parts(frames, "dipole moments", tell)]
        return {"dipoles": np.concatenate([np.asarray(part).mean(0) for part in parts])}
    found = [
        [d.mean(0) for d in potential.dipoles(frames[p])] for p in _parts(frames, "dipole moments", tell)
    ]
    names = ("dipoles_physnet", "dipoles_dcmnet")
    return {name: np.concatenate([pair[i] for pair in found]) for i, name in enumerate(names)}


def _parts(frames: Sequence[Frame], what: str, tell: Callable[[str], None] | None) -> Iterator[slice]:
    """Slices of at most `AT_ONCE` frames."""
    for first in range(0, len(frames), AT_ONCE):
        if tell is not None:
            tell(f"{what}: frame {first}/{len(frames)}")
        yield slice(first, min(first + AT_ONCE, len(frames)))
