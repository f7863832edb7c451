"""Which frames of a run are physical, and which have a high force: the same for every molecular dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alfw.core.exploration import Event
from alfw.core.frame import Float, Frame, Int
from alfw.core.neighbours import closest_fraction
from alfw.core.protocols import HasElectrostatics, Potential
from alfw.core.uncertainty import frame_force_std
from alfw.samplers._limits import HighForce, MDLimits

# A frame is physical when it keeps this far inside the limits on force and distance: shortly before an explosion the
# limits still hold, but the geometry is already of no use to anybody.
FORCE_MARGIN = 0.5
DISTANCE_MARGIN = 1.1
AT_ONCE = 10
SAME_TEMPERATURE = 0.1  # targets that differ by less than about this share have one distribution of forces


@dataclass(frozen=True, eq=False)
class Kept:
    """The B frames that a run has kept, and what is known of them.

    Attributes
    ----------
    frames : list of B Frames
    walker, step : (B,) int64
    time_fs, temperature_K : (B,) float64
        As in `Exploration`.
    max_force : (B,) float64, eV/Å
        Largest norm of the force on a free atom, of what drives the run; without a bias.
    velocities : sequence of B × (n, 3) float, Å/fs, or None
    """

    frames: list[Frame]
    walker: Int
    step: Int
    time_fs: Float
    temperature_K: Float
    max_force: Float
    velocities: Sequence[Float] | None = None


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


def high_force_events(option: HighForce, kept: Kept) -> list[Event]:
    """Events "high_force" of the frames kept, the highest force first; at most `option.max_events`.

    Of B frames at one temperature the share 1 − quantile is reported, rounded down: a run too short to know the tail of
    its own distribution reports none. Temperatures within about 10 % count as one, and so do all frames without any.
    """
    force = np.where(np.isfinite(kept.max_force), kept.max_force, -np.inf)
    high = np.zeros(len(force), bool)
    if option.max_force_eV_per_A is not None:
        high |= force > option.max_force_eV_per_A
    if option.quantile is not None:
        same = np.round(np.log(kept.temperature_K) / SAME_TEMPERATURE)
        for group in np.unique(same):  # all NaN are one
            rows = np.flatnonzero((same == group) | np.isnan(same) & np.isnan(group))
            n_high = int(len(rows) * (1 - option.quantile) + 1e-9)
            high[rows[np.argsort(-force[rows], kind="stable")[:n_high]]] = True
    highest = np.argsort(-force, kind="stable")
    chosen = highest[high[highest] & np.isfinite(force[highest])][: option.max_events]
    return [_high_force(kept, int(i)) for i in chosen]


def _high_force(kept: Kept, i: int) -> Event:
    """The event of frame i."""
    return Event(
        reason="high_force",
        walker=int(kept.walker[i]),
        step=int(kept.step[i]),
        time_fs=float(kept.time_fs[i]),
        temperature_K=float(kept.temperature_K[i]),
        good=kept.frames[i],
        bad=None,
        value=float(kept.max_force[i]),
        velocities=None if kept.velocities is None else np.asarray(kept.velocities[i], np.float64),
    )
