"""An MD run in progress, on the host's side: edges made anew, walkers that begin again, what there is to see."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from alfw.core.exploration import Event
from alfw.core.frame import Frame
from alfw.core.protocols import JaxPotential
from alfw.core.units import FS, EV_PER_A3_GPa
from alfw.samplers import _jaxmd_loop as loop
from alfw.samplers._jaxmd_bias import bias_numbers
from alfw.samplers._jaxmd_edges import join_edges, walker_edges
from alfw.samplers._jaxmd_ensembles import MAX_GROWTH, Coupling, Kind
from alfw.samplers._jaxmd_events import stops_of
from alfw.samplers._jaxmd_forces import surface_of
from alfw.samplers._jaxmd_state import Settings, begun_again, start
from alfw.samplers._jaxmd_system import atoms_of, is_listed
from alfw.samplers._walkers import Displacement, Walkers, frame_at, ring_every, ring_size
from alfw.samplers.jaxmd import JaxMDSampler

NEVER = np.iinfo(np.int32).max


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
    """A walker that has passed no limit.

    Attributes
    ----------
    walker, step : int
        Its number, and how many steps it has done.
    temperature_K : float
        The thermostat's target; NaN without one.
    frame : Frame
    max_force : float, eV/Å
        Without a bias.
    velocities : (n, 3) float32, Å/fs
    """

    walker: int
    step: int
    temperature_K: float
    frame: Frame
    max_force: float
    velocities: NDArray[np.float32]


class Simulation:
    """A run in progress: the carry of the MD program, the edges that belong to it, and who walks.

    A walker that began again k times has the number k · walkers + w: it is another walker in the same place.

    Attributes
    ----------
    stops : list of Event
        Of walkers that began again.
    """

    def __init__(
        self,
        options: JaxMDSampler,
        potential: JaxPotential,
        walkers: Walkers,
        seed: int,
        skin_A: float,
        starts: Sequence[Frame] = (),
    ) -> None:
        """`starts`: the frames from which stopped walkers may begin again."""
        self.options, self.potential, self.walkers = options, potential, walkers
        self.seed, self.skin_A, self.starts = seed, skin_A, starts
        self.surface, self.params = surface_of(potential)
        self.kind: Kind = kind_of(options)
        self.limits = limit_table(options, potential.members)
        radius = max(covalent_radii[frame.numbers].max() for frame in (*walkers.starts, *starts))
        self.cutoff_A = max(potential.cutoff_A, 2 * radius * options.limits.min_distance_fraction)
        self.settings = settings_of(options, potential.members, seed, bool(np.isfinite(self.limits[4])))
        self.displacement = Displacement(options.perturb_A, options.limits.min_distance_fraction)
        self._take(walkers)
        position = walkers.positions(self.displacement, seed)
        size = ring_size(options.dt_fs)
        self.carry = start(position, walkers.momenta(seed), len(walkers.starts), size)
        self.stops: list[Event] = []
        self.capacity = 1
        self.rebuild(skin_A)

    def _take(self, walkers: Walkers) -> None:
        """Let these be the walkers, in the places that they have."""
        self.walkers = walkers
        atoms = atoms_of(walkers, self.potential, self.limits, self.seed)
        self.atoms, self.mass = loop.to_device(atoms), atoms.mass
        options = self.options
        if options.bias is not None:
            energies = self.potential.predict(walkers.starts).energy
            bias = bias_numbers(options.bias, options.dt_fs, options.equilibration_steps, energies)
            self.settings = self.settings._replace(bias=bias)

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
            settings = self.settings._replace(reborn=jnp.asarray(self._may_begin_again()))
            self.carry = loop.advance(
                self.surface,
                self.kind,
                self.params,
                self.atoms,
                self.edges,
                self.reach,
                settings,
                target,
                self.carry,
            )
            if bool(self.carry.stale):
                # An atom that outruns the skin in one step, or a cell that uses it up, needs a wider one; beyond that
                # the speed limit stops the atom, and no cell shrinks faster.
                wide = fresh and int(self.carry.step) == before
                step_A = self.options.limits.max_speed_A_per_fs * self.options.dt_fs
                enough = 2.2 * step_A + (np.exp(MAX_GROWTH / 3) - 1) * self.cutoff_A * (self.kind == "npt")
                self.rebuild(max(self.skin_A, float(enough)) if wide else self.skin_A)
                fresh = True
            elif not self._begin_again() and (int(self.carry.step) >= stop or not self.n_alive):
                return

    def rebuild(self, skin_A: float) -> None:
        """Make the edges for where the atoms are now."""
        walkers, carry = self.walkers, self.carry
        positions, scale = np.asarray(carry.position), np.asarray(carry.scale)
        frames = [
            frame_at(frame, positions[part], scale[w]) if is_listed(frame) else frame
            for w, (frame, part) in enumerate(zip(walkers.starts, walkers.slices, strict=True))
        ]
        edges = [walker_edges(frame, self.cutoff_A + skin_A) for frame in frames]
        if not any(map(is_listed, frames)):
            self.capacity = max(1, self.capacity, sum(map(len, edges)))  # changes with the walkers alone
        joined = join_edges(walkers, edges, self.cutoff_A, self.capacity)
        self.capacity = len(joined.senders)
        self.edges = loop.to_device(joined)
        self.reach = jnp.asarray([self.cutoff_A, skin_A], jnp.float32)
        self.carry = carry._replace(built=carry.position, built_scale=carry.scale, stale=jnp.asarray(False))

    def living(self) -> list[Living]:
        """The walkers that are alive; one that is about to begin again has done -1 steps."""
        carry, walkers = self.carry, self.walkers
        positions, scale, alive = (np.asarray(a) for a in (carry.position, carry.scale, carry.alive))
        force = np.linalg.norm(np.asarray(carry.force), axis=1)  # 0 on fixed atoms
        velocities = np.asarray(carry.momentum) / self.mass * np.float32(FS)
        done = self._done()
        target = walkers.target_K(done / self.options.n_steps)
        return [
            Living(
                walker=walkers.number(w),
                step=int(done[w]),
                temperature_K=float(target[w]) if self.options.thermostatted else float("nan"),
                frame=frame_at(frame, positions[part], scale[w]),
                max_force=float(force[part].max()),
                velocities=velocities[part],
            )
            for w, (frame, part) in enumerate(zip(walkers.starts, walkers.slices, strict=True))
            if alive[w]
        ]

    def lasted(self) -> dict[int, int]:
        """Steps of each walker by its number; that in which it stopped was done, and counts."""
        earlier = {event.walker: event.step for event in self.stops}
        ends = np.where(np.asarray(self.carry.reason) >= 0, self.carry.event_step, self.carry.step)
        done = np.maximum(ends - np.asarray(self.carry.born), 0)
        return earlier | {self.walkers.number(w): int(done[w]) for w in range(self.options.walkers)}

    def all_stops(self) -> list[Event]:
        """Events of all walkers that stopped, first of those that began again."""
        stopped = np.flatnonzero(np.asarray(self.carry.reason)[:-1] >= 0)
        return [*self.stops, *stops_of(self.options, self.potential, self.walkers, self.carry, stopped)]

    def _done(self) -> NDArray[np.int64]:
        """(R,): steps that each walker has done."""
        return int(self.carry.step) - np.asarray(self.carry.born, np.int64)[:-1]

    def _may_begin_again(self) -> NDArray[np.bool_]:
        """(R+1,): walkers that begin again when they stop: as long as there is time for a step."""
        in_time = bool(self.starts) and int(self.carry.step) + 2 <= self.options.n_steps
        return np.array([*((self.walkers.lives < self.options.restarts) & in_time), False])

    def _begin_again(self) -> bool:
        """Whether stopped walkers have begun again."""
        which = np.flatnonzero(self._may_begin_again() & ~np.asarray(self.carry.alive)).tolist()
        if not which:
            return False
        self.stops += stops_of(self.options, self.potential, self.walkers, self.carry, which)
        self._take(self.walkers.again(which, self.starts, self.seed))
        position = self.walkers.positions(self.displacement, self.seed)
        momentum = self.walkers.momenta(self.seed)
        self.carry = begun_again(self.carry, which, self.walkers.slices, position, momentum)
        self.rebuild(self.skin_A)
        return True


def kind_of(options: JaxMDSampler) -> Kind:
    """What the program is compiled for."""
    if options.ensemble == "npt":
        return "npt"
    return "nose-hoover" if options.ensemble == "nvt" and options.thermostat == "nose-hoover" else "langevin"


def settings_of(options: JaxMDSampler, members: int, seed: int, uncertain: bool) -> Settings:
    """The numbers of a run; force_std is never computed when nobody asks for it."""
    number = partial(jnp.asarray, dtype=jnp.float32)
    gamma = 0.0 if options.ensemble == "nve" else options.friction_per_ps / 1000 / FS
    per_pressure = options.compressibility_per_GPa * EV_PER_A3_GPa
    return Settings(
        dt=number(options.dt_fs * FS),
        coupling=Coupling(
            gamma=number(gamma),
            tau=number(options.tau_fs * FS),
            pressure=number((options.pressure_GPa or 0.0) / EV_PER_A3_GPa),
            mobility=number(per_pressure / (options.tau_pressure_fs * FS)),
        ),
        n_steps=number(options.n_steps),
        force_std_every=jnp.asarray(options.force_std_every if uncertain else NEVER, jnp.int32),
        ring_every=jnp.asarray(ring_every(options.dt_fs), jnp.int32),
        driver=jnp.asarray(seed % members, jnp.int32),
        reborn=jnp.zeros(options.walkers + 1, bool),
    )
