"""An MD run: which frames are kept, and the counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.exploration import Event, Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import JaxPotential
from alfw.samplers._jaxmd_events import events_of
from alfw.samplers._jaxmd_simulation import Living, Simulation
from alfw.samplers._physical import Kept
from alfw.samplers._walkers import walkers_of
from alfw.samplers.jaxmd import JaxMDSampler, MDLimits

SKIN_A = 0.5
PROGRESS_TIMES = 20


def explore(
    options: JaxMDSampler,
    potential: JaxPotential,
    starts: Sequence[Frame],
    seed: int,
    progress: Callable[[str], None],
    skin_A: float = SKIN_A,
) -> Exploration:
    """What `JaxMDSampler.run` returns; any `skin_A` gives the same trajectories but for rounding."""
    simulation = Simulation(options, potential, walkers_of(options, starts), seed, skin_A, starts)
    living: list[Living] = []
    keep = set(
        range(options.equilibration_steps + options.keep_every, options.n_steps + 1, options.keep_every)
    )
    report = {options.n_steps * i // PROGRESS_TIMES for i in range(1, PROGRESS_TIMES + 1)}
    for step in sorted(keep | report):
        simulation.advance(step)
        if step in keep:
            living += [one for one in simulation.living() if one.step > options.equilibration_steps]
        if step in report:
            progress(f"MD step {step}/{options.n_steps}, {simulation.n_alive}/{options.walkers} walkers")
        if not simulation.n_alive:
            break
    kept = _kept(options, living)
    events = events_of(options, potential, simulation.all_stops(), kept)
    lasted = simulation.lasted()
    return Exploration(
        frames=kept.frames,
        walker=kept.walker,
        step=kept.step,
        time_fs=kept.time_fs,
        temperature_K=kept.temperature_K,
        events=events,
        counters=_counters(options, simulation, events, lasted),
        unbiased=options.bias is None,
        velocities=kept.velocities,
        life_fs={number: steps * options.dt_fs for number, steps in lasted.items()},
    )


def _kept(options: JaxMDSampler, living: Sequence[Living]) -> Kept:
    """The frames kept and what is known of them, from the walkers alive after some steps."""
    step = np.array([one.step for one in living], np.int64)
    return Kept(
        frames=[one.frame for one in living],
        walker=np.array([one.walker for one in living], np.int64),
        step=step,
        time_fs=step * options.dt_fs,
        temperature_K=np.array([one.temperature_K for one in living], np.float64),
        max_force=np.array([one.max_force for one in living], np.float64),
        velocities=[one.velocities for one in living],
    )


def loop_forces(
    potential: JaxPotential, frames: Sequence[Frame], driver: int = 0
) -> list[NDArray[np.float32]]:
    """The forces (n, 3) eV/Å on each frame as the MD program sees them; zero on fixed atoms."""
    no_limits = MDLimits(
        max_force_eV_per_A=1e30, max_speed_A_per_fs=1e30, force_std_eV_per_A=None, min_distance_fraction=0.0
    )
    options = JaxMDSampler(
        temperatures_K=(1.0,), walkers=len(frames), n_steps=1, keep_every=1, limits=no_limits
    )
    simulation = Simulation(options, potential, walkers_of(options, frames), driver, SKIN_A)
    simulation.advance(0)
    force = np.asarray(simulation.carry.force)
    return [force[part] for part in simulation.walkers.slices]


def _counters(
    options: JaxMDSampler, simulation: Simulation, events: list[Event], lasted: Mapping[int, int]
) -> dict[str, float]:
    """Plain numbers of a run; walkers that began again count as others."""
    reasons = Counter(event.reason for event in events)
    maxima: dict[str, Any] = {
        "max_force_eV_per_A": simulation.carry.max_force,
        "max_force_std_eV_per_A": simulation.carry.max_force_std,
    }
    if simulation.surface.cheap_spread or options.bias is not None:
        maxima["max_energy_std_eV_per_atom"] = simulation.carry.max_energy_std
    driver = {} if simulation.surface.cheap_spread else {"driver": int(simulation.settings.driver)}
    n_steps = sum(lasted.values())
    return {
        "n_steps": n_steps,
        "n_walkers": len(lasted),
        "time_ps": n_steps * options.dt_fs / 1000,
        "n_explosions": sum(event.explosion for event in events),
        "n_high_force": reasons["high_force"],
        "n_uncertain": reasons["uncertain"],
        **driver,
        **{name: float(np.asarray(values)[:-1].max()) for name, values in maxima.items()},
    }
