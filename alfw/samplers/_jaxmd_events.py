"""What stopped a walker and the last physical frame before, and frames with a high force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alfw.core.exploration import Event
from alfw.core.frame import Frame
from alfw.core.protocols import HasElectrostatics, JaxPotential
from alfw.core.units import FS
from alfw.samplers._jaxmd_state import REASONS, Carry
from alfw.samplers._physical import Kept, high_force_events, last_physical, with_dipoles
from alfw.samplers._walkers import Walkers, frame_at, ring_every
from alfw.samplers.jaxmd import JaxMDSampler


def events_of(
    options: JaxMDSampler, potential: JaxPotential, stops: Sequence[Event], kept: Kept
) -> list[Event]:
    """The events of walkers that stopped, then the highest forces of the frames kept; with dipoles."""
    events = [*stops, *high_force_events(options.high_force, kept)]
    return with_dipoles(potential, events) if events and isinstance(potential, HasElectrostatics) else events


def stops_of(
    options: JaxMDSampler, potential: JaxPotential, walkers: Walkers, carry: Carry, which: Sequence[int]
) -> list[Event]:
    """One event for each of the walkers in the places `which`, which stand still."""
    if not len(which):
        return []
    # The ring is by far the largest array; it comes to the host only when it is needed.
    names = ("ring", "ring_scale", "position", "momentum", "bad")
    host = carry._replace(**{name: np.asarray(getattr(carry, name)) for name in names})
    return [_event(options, potential, walkers, host, int(w)) for w in which]


def _event(options: JaxMDSampler, potential: JaxPotential, walkers: Walkers, carry: Carry, w: int) -> Event:
    """The event of the walker in place w."""
    start, part = walkers.starts[w], walkers.slices[w]
    reason, step = REASONS[int(carry.reason[w])], int(carry.event_step[w])
    value, bad = float(carry.value[w]), np.asarray(carry.bad)[part]
    done = step - int(carry.born[w])
    target = float(walkers.target_K(np.array(done / options.n_steps))[w])
    return Event(
        reason=reason,
        walker=walkers.number(w),
        step=done,
        time_fs=done * options.dt_fs,
        temperature_K=target if options.thermostatted else float("nan"),
        good=last_physical(
            options.limits,
            potential,
            start,
            recent_frames(start, carry, w, part, step, ring_every(options.dt_fs)),
        ),
        bad=frame_at(start, bad, carry.bad_scale[w]) if np.isfinite(bad).all() else None,
        value=1.0 / value if reason == "distance" else value,
        velocities=np.asarray(carry.momentum[part], np.float64) / start.masses[:, None] * FS,  # type: ignore[index]
    )


def recent_frames(start: Frame, carry: Carry, w: int, part: slice, step: int, every: int) -> list[Frame]:
    """The frames of a walker that stopped in a step of the program, newest first: where it stands, then its ring."""
    size = len(carry.ring)
    newest = (step - 1) // every
    slots = [k % size for k in range(newest, max(newest - size, -1), -1)] if step > 0 else []
    places = [(carry.position[part], carry.scale[w])]
    places += [(carry.ring[k][part], carry.ring_scale[k, w]) for k in slots]
    frames = [frame_at(start, x, scale) for x, scale in places]
    return list({frame.id: frame for frame in frames}.values())
