"""The host's side of an MD run: edges made anew, frames kept, counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from alfw.core.errors import SamplingError
from alfw.core.exploration import Event, Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import JaxPotential
from alfw.core.units import FS
from alfw.samplers import _jaxmd_loop as loop
from alfw.samplers._jaxmd_bias import bias_numbers
from alfw.samplers._jaxmd_events import events_of
from alfw.samplers._jaxmd_forces import surface_of
from alfw.samplers._jaxmd_system import (
    Walkers,
    atoms_of,
    is_listed,
    join_edges,
    ring_every,
    ring_size,
    walker_edges,
)
from alfw.samplers._physical import Kept
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
    walkers = _walkers(options, starts)
    simulation = Simulation(options, potential, walkers, seed, skin_A)
    rows: list[tuple[int, Living]] = []
    keep = set(
        range(options.equilibration_steps + options.keep_every, options.n_steps + 1, options.keep_every)
    )
    report = {options.n_steps * i // PROGRESS_TIMES for i in range(1, PROGRESS_TIMES + 1)}
    for step in sorted(keep | report):
        simulation.advance(step)
        if step in keep:
            rows += [(step, living) for living in simulation.living()]
        if step in report:
            progress(f"MD step {step}/{options.n_steps}, {simulation.n_alive}/{options.walkers} walkers")
        if not simulation.n_alive:
            break
    kept = _kept(options, walkers, rows)
    events = events_of(options, potential, walkers, simulation.carry, kept)
    return Exploration(
        frames=kept.frames,
        walker=kept.walker,
        step=kept.step,
        time_fs=kept.time_fs,
        temperature_K=kept.temperature_K,
        events=events,
        counters=_counters(options, simulation, events),
        unbiased=options.bias is None,
        velocities=kept.velocities,
    )


def _kept(options: JaxMDSampler, walkers: Walkers, rows: Sequence[tuple[int, Living]]) -> Kept:
    """The frames kept and what is known of them, from the walkers alive after some steps."""
    walker, step = (
        np.array(column, np.int64) for column in ([r.walker for _, r in rows], [s for s, _ in rows])
    )
    target = walkers.temperature_K if options.ensemble == "nvt" else np.full(options.walkers, np.nan)
    return Kept(
        frames=[living.frame for _, living in rows],
        walker=walker,
        step=step,
        time_fs=step * options.dt_fs,
        temperature_K=target[walker],
        max_force=np.array([living.max_force for _, living in rows], np.float64),
        velocities=[living.velocities for _, living in rows],
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
    simulation = Simulation(options, potential, _walkers(options, frames), driver, SKIN_A)
    simulation.advance(0)
    force = np.asarray(simulation.carry.force)
    return [force[part] for part in simulation.walkers.slices]


def _walkers(options: JaxMDSampler, starts: Sequence[Frame]) -> Walkers:
    """The walkers of a run: temperatures in blocks, starts in turn."""
    if not starts:
        raise SamplingError("sampler 'jaxmd' has no frame to start from")
    n = options.walkers
    temperatures = np.array(options.temperatures_K)[np.arange(n) * len(options.temperatures_K) // n]
    return Walkers([starts[w % len(starts)] for w in range(n)], temperatures)


def limit_table(options: JaxMDSampler, members: int) -> NDArray[np.float64]:
    """(6,): the limits in the order of `Atoms.limits`; closeness is the inverse of the distance fraction."""
    limits = options.limits
    force_std = limits.force_std_eV_per_A if members > 1 else None
    energy_std = limits.energy_std_eV_per_atom
    return np.array(
        [
            limits.max_speed_A_per_fs,
            1.0 / limits.min_distance_fraction if limits.min_distance_fraction > 0 else np.inf,
            limits.max_force_eV_per_A,
            limits.max_growth_A,
            np.inf if force_std is None else force_std,
            np.inf if energy_std is None else energy_std,
        ]
    )


class Living(NamedTuple):
    """A walker that has passed no limit: its frame, largest force (eV/Å, without a bias), velocities (n, 3) Å/fs."""

    walker: int
    frame: Frame
    max_force: float
    velocities: NDArray[np.float32]


class Simulation:
    """A run in progress: the carry of the MD program and the edges that belong to it."""

    def __init__(
        self, options: JaxMDSampler, potential: JaxPotential, walkers: Walkers, seed: int, skin_A: float
    ) -> None:
        self.options, self.walkers, self.skin_A = options, walkers, skin_A
        self.surface, self.params = surface_of(potential)
        limits = limit_table(options, potential.members)
        atoms = atoms_of(walkers, potential, limits)
        self.atoms, self.mass = loop.to_device(atoms), atoms.mass
        radius = max(covalent_radii[frame.numbers].max() for frame in walkers.starts)
        self.cutoff_A = max(potential.cutoff_A, 2 * radius * options.limits.min_distance_fraction)
        self.settings = _settings(options, potential.members, seed, bool(np.isfinite(limits[4])))
        momenta, size = walkers.momenta(seed), ring_size(options.dt_fs)
        self.carry = loop.start(walkers.positions(), momenta, seed, len(walkers.starts), size)
        self.capacity = 1
        self.rebuild(skin_A)

    @property
    def n_alive(self) -> int:
        """Walkers that have passed no limit."""
        return int(np.asarray(self.carry.alive).sum())

    def advance(self, stop: int) -> None:
        """Go on until `stop` steps are done or no walker is alive, with new edges as often as they are needed."""
        target = jnp.asarray(stop, jnp.int32)
        fresh = False
        while True:
            before = int(self.carry.step)
            self.carry = loop.advance(
                self.surface,
                self.params,
                self.atoms,
                self.edges,
                self.skin,
                self.settings,
                target,
                self.carry,
            )
            if not bool(self.carry.stale):
                return
            # An atom that outruns the skin in one step needs a wider one; beyond that width the speed limit stops it.
            wide = fresh and int(self.carry.step) == before
            step_A = self.options.limits.max_speed_A_per_fs * self.options.dt_fs
            self.rebuild(max(self.skin_A, 2.04 * step_A) if wide else self.skin_A)
            fresh = True

    def rebuild(self, skin_A: float) -> None:
        """Make the edges for where the atoms are now."""
        positions = np.asarray(self.carry.position)
        frames = [
            frame.moved(positions[part]) if is_listed(frame) else frame
            for frame, part in zip(self.walkers.starts, self.walkers.slices, strict=True)
        ]
        edges = [walker_edges(frame, self.cutoff_A + skin_A) for frame in frames]
        if not any(map(is_listed, frames)):
            self.capacity = max(1, sum(map(len, edges)))  # never changes: no room to grow
        joined = join_edges(self.walkers, edges, self.cutoff_A, self.capacity)
        self.capacity = len(joined.senders)
        self.edges = loop.to_device(joined)
        self.skin = jnp.asarray(skin_A, jnp.float32)
        self.carry = self.carry._replace(built=self.carry.position, stale=jnp.asarray(False))

    def living(self) -> list[Living]:
        """The walkers that are alive."""
        carry = self.carry
        positions, alive = np.asarray(carry.position), np.asarray(carry.alive)
        force = np.linalg.norm(np.asarray(carry.force), axis=1)  # 0 on fixed atoms
        velocities = np.asarray(carry.momentum) / self.mass * np.float32(FS)
        pairs = zip(self.walkers.starts, self.walkers.slices, strict=True)
        return [
            Living(w, frame.moved(positions[part]), float(force[part].max()), velocities[part])
            for w, (frame, part) in enumerate(pairs)
            if alive[w]
        ]


def _settings(options: JaxMDSampler, members: int, seed: int, uncertain: bool) -> loop.Settings:
    """The numbers of a run; force_std is never computed when nobody asks for it."""
    gamma = options.friction_per_ps / 1000 / FS if options.ensemble == "nvt" else 0.0
    never = np.iinfo(np.int32).max
    return loop.Settings(
        dt=jnp.asarray(options.dt_fs * FS, jnp.float32),
        gamma=jnp.asarray(gamma, jnp.float32),
        force_std_every=jnp.asarray(options.force_std_every if uncertain else never, jnp.int32),
        ring_every=jnp.asarray(ring_every(options.dt_fs), jnp.int32),
        driver=jnp.asarray(seed % members, jnp.int32),
        bias=bias_numbers(options.bias, options.dt_fs, options.equilibration_steps),
    )


def _counters(options: JaxMDSampler, simulation: Simulation, events: list[Event]) -> dict[str, float]:
    """Plain numbers of a run; an event's last step was done, and counts."""
    reasons = Counter(event.reason for event in events)
    stopped = {event.walker: event.step for event in events if event.reason != "high_force"}
    n_steps = sum(stopped.get(w, options.n_steps) for w in range(options.walkers))
    maxima: dict[str, Any] = {
        "max_force_eV_per_A": simulation.carry.max_force,
        "max_force_std_eV_per_A": simulation.carry.max_force_std,
    }
    if simulation.surface.cheap_spread or options.bias is not None:
        maxima["max_energy_std_eV_per_atom"] = simulation.carry.max_energy_std
    driver = {} if simulation.surface.cheap_spread else {"driver": int(simulation.settings.driver)}
    return {
        "n_steps": n_steps,
        "n_walkers": options.walkers,
        "time_ps": n_steps * options.dt_fs / 1000,
        "n_explosions": sum(event.explosion for event in events),
        "n_high_force": reasons["high_force"],
        "n_uncertain": reasons["uncertain"],
        **driver,
        **{name: float(np.asarray(values)[:-1].max()) for name, values in maxima.items()},
    }
