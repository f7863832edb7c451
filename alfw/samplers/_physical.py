"""What counts as a physical frame on the way to an explosion: the same for every molecular dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alfw.core.exploration import Event
from alfw.core.frame import Frame
from alfw.core.neighbours import closest_fraction
from alfw.core.protocols import HasElectrostatics, Potential
from alfw.core.uncertainty import frame_force_std
from alfw.samplers._limits import MDLimits

# A frame is physical when it keeps this far inside the limits on force and distance: shortly before an explosion the
# limits still hold, but the geometry is already of no use to anybody.
FORCE_MARGIN = 0.5
DISTANCE_MARGIN = 1.1
AT_ONCE = 10


def extent(frame: Frame) -> float:
    """Largest distance (Å) of a free atom from the centroid."""
    distance = np.linalg.norm(frame.positions - frame.positions.mean(0), axis=1)
    return float(distance[frame.free].max(initial=0.0))


def last_physical(limits: MDLimits, potential: Potential, start: Frame, frames: Sequence[Frame]) -> Frame:
    """The first of `frames` (newest first) that is physical, else the start of the walker.

    Physical: in `Potential.predict` the force of every member on every free atom is at most half of the limit and
    force_std is within its own; atoms are 1.1 times farther apart than the limit; a molecule has not outgrown its own.
    """
    for first in range(0, len(frames), AT_ONCE):  # mostly one of the newest is
        some = frames[first : first + AT_ONCE]
        for frame, forces in zip(some, potential.predict(some).forces, strict=True):
            if _is_physical(limits, start, frame, forces):
                return frame
    return start


def _is_physical(limits: MDLimits, start: Frame, frame: Frame, forces: NDArray[np.float64]) -> bool:
    """Whether a frame is physical, see `last_physical`; forces (K, n, 3) eV/Å."""
    largest = np.linalg.norm(forces[:, frame.free], axis=-1).max(initial=0.0)
    calm = largest <= FORCE_MARGIN * limits.max_force_eV_per_A  # False for NaN
    apart = closest_fraction(frame) >= DISTANCE_MARGIN * limits.min_distance_fraction
    compact = frame.periodic or extent(frame) - extent(start) <= limits.max_growth_A
    certain = (
        len(forces) == 1
        or limits.force_std_eV_per_A is None
        or frame_force_std(forces, frame.free) <= limits.force_std_eV_per_A
    )
    return bool(calm and apart and compact and certain)


def with_dipoles(potential: HasElectrostatics, events: list[Event]) -> list[Event]:
    """The events with the dipoles of their good frames, see `Event.dipoles`."""
    atomic, distributed = (dipole.mean(0) for dipole in potential.dipoles([event.good for event in events]))
    return [
        replace(event, dipoles={"dipole_physnet": a, "dipole_dcmnet": d})
        for event, a, d in zip(events, atomic, distributed, strict=True)
    ]
