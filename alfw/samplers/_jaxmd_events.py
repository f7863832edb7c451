"""What stopped a walker, and the last physical frame before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Frame
from alfw.core.neighbours import closest_fraction
from alfw.core.protocols import HasElectrostatics, JaxPotential
from alfw.core.records import Event
from alfw.core.uncertainty import frame_force_std
from alfw.samplers._jaxmd_loop import REASONS, Carry
from alfw.samplers._jaxmd_system import Walkers, extent, ring_every
from alfw.samplers.jaxmd import JaxMDSampler, MDLimits

# A frame is physical when it keeps this far inside the limits on force and distance: shortly before an explosion the
# limits still hold, but the geometry is already of no use to anybody.
FORCE_MARGIN = 0.5
DISTANCE_MARGIN = 1.1
AT_ONCE = 10


def events_of(options: JaxMDSampler, potential: JaxPotential, walkers: Walkers, carry: Carry) -> list[Event]:
    """One event for each walker that stands still, in the order of the walkers."""
    stopped = np.flatnonzero(np.asarray(carry.reason)[:-1] >= 0)
    if not len(stopped):
        return []
    # The ring is by far the largest array; it comes to the host only when it is needed.
    host = carry._replace(**{name: np.asarray(getattr(carry, name)) for name in ("ring", "position", "bad")})
    events = [_event(options, potential, walkers, host, int(w)) for w in stopped]
    return with_dipoles(potential, events) if isinstance(potential, HasElectrostatics) else events


def _event(options: JaxMDSampler, potential: JaxPotential, walkers: Walkers, carry: Carry, w: int) -> Event:
    """The event of walker w."""
    start, part = walkers.starts[w], walkers.slices[w]
    reason, step = REASONS[int(carry.reason[w])], int(carry.event_step[w])
    value, bad = float(carry.value[w]), np.asarray(carry.bad)[part]
    return Event(
        reason=reason,
        walker=w,
        step=step,
        time_fs=step * options.dt_fs,
        temperature_K=float(walkers.temperature_K[w]) if options.ensemble == "nvt" else float("nan"),
        good=last_physical(
            options.limits,
            potential,
            start,
            recent_frames(start, carry, part, step, ring_every(options.dt_fs)),
        ),
        bad=start.moved(bad) if np.isfinite(bad).all() else None,
        value=1.0 / value if reason == "distance" else value,
    )


def with_dipoles(potential: HasElectrostatics, events: list[Event]) -> list[Event]:
    """The events with the dipoles of their good frames, see `Event.dipoles`."""
    atomic, distributed = (dipole.mean(0) for dipole in potential.dipoles([event.good for event in events]))
    return [
        replace(event, dipoles={"dipole_physnet": a, "dipole_dcmnet": d})
        for event, a, d in zip(events, atomic, distributed, strict=True)
    ]


def recent_frames(start: Frame, carry: Carry, part: slice, step: int, every: int) -> list[Frame]:
    """The frames of a stopped walker, newest first: where it stands, then its ring, down to the start."""
    size = len(carry.ring)
    newest = (step - 1) // every
    recorded = (
        [carry.ring[k % size][part] for k in range(newest, max(newest - size, -1), -1)] if step > 0 else []
    )
    frames = [start.moved(x) for x in (np.asarray(carry.position)[part], *recorded)]
    return list({frame.id: frame for frame in frames}.values())


def last_physical(limits: MDLimits, potential: JaxPotential, start: Frame, frames: list[Frame]) -> Frame:
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
