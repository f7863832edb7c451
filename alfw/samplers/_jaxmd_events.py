"""What stopped a walker and the last physical frame before, and frames with a high force."""

from __future__ import annotations

import numpy as np

from alfw.core.exploration import Event
from alfw.core.frame import Frame
from alfw.core.protocols import HasElectrostatics, JaxPotential
from alfw.core.units import FS
from alfw.samplers._jaxmd_state import REASONS, Carry
from alfw.samplers._jaxmd_system import Walkers, ring_every
from alfw.samplers._physical import Kept, high_force_events, last_physical, with_dipoles
from alfw.samplers.jaxmd import JaxMDSampler


def events_of(
    options: JaxMDSampler, potential: JaxPotential, walkers: Walkers, carry: Carry, kept: Kept
) -> list[Event]:
    """One event for each walker that stands still, in their order; then the frames kept with the highest forces."""
    events = [*_stops(options, potential, walkers, carry), *high_force_events(options.high_force, kept)]
    return with_dipoles(potential, events) if events and isinstance(potential, HasElectrostatics) else events


def _stops(options: JaxMDSampler, potential: JaxPotential, walkers: Walkers, carry: Carry) -> list[Event]:
    """One event for each walker that stands still."""
    stopped = np.flatnonzero(np.asarray(carry.reason)[:-1] >= 0)
    if not len(stopped):
        return []
    # The ring is by far the largest array; it comes to the host only when it is needed.
    names = ("ring", "position", "momentum", "bad")
    host = carry._replace(**{name: np.asarray(getattr(carry, name)) for name in names})
    return [_event(options, potential, walkers, host, int(w)) for w in stopped]


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
        velocities=np.asarray(carry.momentum[part], np.float64) / start.masses[:, None] * FS,  # type: ignore[index]
    )


def recent_frames(start: Frame, carry: Carry, part: slice, step: int, every: int) -> list[Frame]:
    """The frames of a stopped walker, newest first: where it stands, then its ring, down to the start."""
    size = len(carry.ring)
    newest = (step - 1) // every
    recorded = (
        [carry.ring[k % size][part] for k in range(newest, max(newest - size, -1), -1)] if step > 0 else []
    )
    frames = [start.moved(x) for x in (np.asarray(carry.position)[part], *recorded)]
    return list({frame.id: frame for frame in frames}.values())
