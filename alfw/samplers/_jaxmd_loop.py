"""The MD program: steps, limits and the ring of recent frames, in one compiled loop.

Units inside are eV, Å, amu and therefore sqrt(amu Å^2/eV) = 10.18 fs for time. All arrays are float32.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax_md import simulate

from alfw.core.units import FS
from alfw.samplers._jaxmd_bias import BIAS_MEMORY
from alfw.samplers._jaxmd_forces import Forces, Surface, forces_on
from alfw.samplers._jaxmd_system import Atoms, EdgeArrays

# What a limit is on, in the order in which a step is judged; reason 0 is "nan", -1 none.
# Two limits are on how uncertain the ensemble is: force_std, and the spread of the energies.
REASONS = ("nan", "speed", "distance", "force", "growth", "uncertain", "uncertain")
FIRST_STEP = -1  # done with dt = 0: it only evaluates and judges the start


class Settings(NamedTuple):
    """Numbers of a run; arguments of the program, so that other values do not compile it again.

    Attributes
    ----------
    dt, gamma : () float32
        Time step and friction in internal units; friction 0 is velocity Verlet.
    force_std_every, ring_every, driver : () int32
    bias : pytree
        Numbers of the bias; () = none.
    """

    dt: Array
    gamma: Array
    force_std_every: Array
    ring_every: Array
    driver: Array
    bias: Any = ()


class Carry(NamedTuple):
    """Everything that changes, for N atoms and R walkers and the dummy.

    Attributes
    ----------
    step : () int32
        Steps done.
    stale : () bool
        The next step needs new edges; it has not been done.
    position, momentum, force, bias : (N, 3) float32
        Atoms move by `force` + `bias`; limits and records know `force` alone.
    memory : (R+1, BIAS_MEMORY) float32
        See `Forces`.
    built : (N, 3) float32
        Positions at which the edges were made.
    rng : (2,) uint32
    alive : (R+1,) bool
    reason, event_step : (R+1,) int32
    value : (R+1,) float32
        What was measured when the limit was passed.
    bad : (N, 3) float32
        Positions of the first frame beyond a limit.
    ring : (S, N, 3) float32
        Positions every `ring_every` steps; step s is at (s // ring_every) % S. A walker that stands still
        leaves its own.
    max_force, max_force_std : (R+1,) float32, eV/Å
    max_energy_std : (R+1,) float32, eV per atom
        Largest finite values met.
    """

    step: Array
    stale: Array
    position: Array
    momentum: Array
    force: Array
    bias: Array
    memory: Array
    built: Array
    rng: Array
    alive: Array
    reason: Array
    event_step: Array
    value: Array
    bad: Array
    ring: Array
    max_force: Array
    max_force_std: Array
    max_energy_std: Array


class Judgement(NamedTuple):
    """Per walker (R+1,): still within all limits, index of the reason if not, what was measured, and three maxima."""

    ok: Array
    reason: Array
    value: Array
    force: Array
    force_std: Array
    energy_std: Array


def start(position: Any, momentum: Any, seed: int, n_walkers: int, ring_size: int) -> Carry:
    """The carry before the first step, all walkers but the dummy alive."""
    x, none = jnp.asarray(position), jnp.full(n_walkers + 1, -1, jnp.int32)
    zero = jnp.zeros(n_walkers + 1, jnp.float32)
    return Carry(
        step=jnp.asarray(FIRST_STEP, jnp.int32),
        stale=jnp.asarray(False),
        position=x,
        momentum=jnp.asarray(momentum),
        force=jnp.zeros_like(x),
        bias=jnp.zeros_like(x),
        memory=jnp.zeros((n_walkers + 1, BIAS_MEMORY), jnp.float32),
        built=x,
        rng=jax.random.PRNGKey(seed),
        alive=jnp.arange(n_walkers + 1) < n_walkers,
        reason=none,
        event_step=none,
        value=zero,
        bad=x,
        ring=jnp.zeros((ring_size, *x.shape), jnp.float32),
        max_force=zero,
        max_force_std=zero,
        max_energy_std=zero,
    )


@partial(jax.jit, static_argnums=0)
def advance(
    surface: Surface,
    params: Any,
    atoms: Atoms,
    edges: EdgeArrays,
    skin: Array,
    settings: Settings,
    stop: Array,
    carry: Carry,
) -> Carry:
    """The carry at step `stop`, or earlier when the edges got stale or no walker is alive.

    Parameters
    ----------
    surface, params
        Of the potential; a `surface` must be equal and hash equal to be compiled once.
    skin : () float32, Å
    stop : () int32
    """

    def going(carry: Carry) -> Array:
        return (carry.step < stop) & ~carry.stale & jnp.any(carry.alive)

    return lax.while_loop(going, lambda c: _step(surface, params, atoms, edges, skin, settings, c), carry)


def _step(
    surface: Surface,
    params: Any,
    atoms: Atoms,
    edges: EdgeArrays,
    skin: Array,
    settings: Settings,
    carry: Carry,
) -> Carry:
    """One step, or nothing but `stale` when an atom has moved too far for the edges.

    BAOAB, the order of jax-md's nvt_langevin (doi:10.1063/1.4921684), from jax-md's own pieces because the edges are
    looked at between drift and force.
    """
    dt = jnp.where(carry.step < 0, jnp.float32(0), settings.dt)
    pushed = carry.force + carry.bias
    state = simulate.NVTLangevinState(carry.position, carry.momentum, pushed, atoms.mass, carry.rng)
    state = simulate.momentum_step(state, dt / 2)
    state = simulate.position_step(state, jnp.add, dt / 2)
    state = simulate.stochastic_step(state, dt, atoms.kT, settings.gamma)
    state = simulate.position_step(state, jnp.add, dt / 2)

    moved = jnp.linalg.norm(state.position - carry.position, axis=1) / settings.dt * FS  # Å/fs
    stale = _stale(atoms, skin, carry, state.position, moved)
    due = (carry.step + 1) % settings.force_std_every == 0
    said = forces_on(
        surface,
        params,
        atoms,
        edges,
        state.position,
        settings.driver,
        due,
        ~stale,
        settings.bias,
        carry.memory,
    )
    state = simulate.momentum_step(state.set(force=said.force + said.bias), dt / 2)
    verdict = _judge(atoms, edges, state, said, moved)
    return _next(atoms, settings, carry, state, said, verdict, stale)


def _stale(atoms: Atoms, skin: Array, carry: Carry, position: Array, moved: Array) -> Array:
    """() bool: whether two atoms may have come within the cutoff that were not neighbours when the edges were made.

    An atom that moves faster than the limit stops its walker anyway and does not count.
    """
    drift = jnp.linalg.norm(position - carry.built, axis=1)
    speed_limit = atoms.limits[REASONS.index("speed") - 1][atoms.walker]
    counts = atoms.listed & carry.alive[atoms.walker] & (moved <= speed_limit)
    return jnp.any(counts & (drift > 0.499 * skin))


def _judge(atoms: Atoms, edges: EdgeArrays, state: Any, said: Forces, moved: Array) -> Judgement:
    """What each walker's new state is worth; comparisons are written so that NaN is never within a limit."""
    n = atoms.count.shape[0]
    per_walker = partial(
        jax.ops.segment_max, segment_ids=atoms.walker, num_segments=n, indices_are_sorted=True
    )
    x, free = state.position, atoms.free[:, 0].astype(jnp.float32)
    centroid = jax.ops.segment_sum(x, atoms.walker, n, indices_are_sorted=True) / atoms.count
    speed = jnp.maximum(jnp.linalg.norm(state.momentum / atoms.mass, axis=1) * FS, moved)
    far = jnp.linalg.norm(x - centroid[atoms.walker], axis=1)
    broken = ~jnp.isfinite(x.sum(1) + state.force.sum(1) + state.momentum.sum(1) + said.force_std)
    columns = [speed, jnp.linalg.norm(said.force, axis=1), far, said.force_std, broken.astype(jnp.float32)]
    largest = per_walker(jnp.stack(columns, 1) * jnp.stack([*[free] * 4, jnp.ones_like(free)], 1))
    distance = jnp.linalg.norm(x[edges.senders] - x[edges.receivers] + edges.offsets, axis=1)
    closeness = jnp.where(edges.radii > 0, edges.radii / distance, jnp.float32(0))
    closest = jax.ops.segment_max(closeness, atoms.walker[edges.receivers], n)
    speed, force, far, spread, broken = largest.T
    values = jnp.stack([speed, closest, force, far - atoms.extent, spread, said.energy_std])
    within = values <= atoms.limits
    finite = (broken == 0) & jnp.isfinite(said.energy_std)
    first = jnp.argmax(~within, axis=0)
    value = jnp.where(finite, jnp.take_along_axis(values, first[None], 0)[0], jnp.float32(jnp.nan))
    reason = jnp.where(finite, first.astype(jnp.int32) + 1, jnp.int32(0))
    return Judgement(finite & jnp.all(within, 0), reason, value, force, spread, said.energy_std)


def _next(
    atoms: Atoms,
    settings: Settings,
    carry: Carry,
    state: Any,
    said: Forces,
    verdict: Judgement,
    stale: Array,
) -> Carry:
    """The carry after the step: walkers within the limits have moved, others stand where they were."""
    hit = carry.alive & ~verdict.ok & ~stale
    alive = carry.alive & ~hit
    moves = (alive & ~stale)[atoms.walker][:, None]
    step = jnp.where(stale, carry.step, carry.step + 1)
    pick = lambda new, old: jnp.where(moves, new, old)  # noqa: E731
    position = pick(state.position, carry.position)
    slot = (step // settings.ring_every) % carry.ring.shape[0]
    recorded = pick(position, carry.ring[slot])
    writes = (step % settings.ring_every == 0) & (step >= 0)
    largest = lambda new, old: jnp.where(carry.alive & ~stale & jnp.isfinite(new), jnp.maximum(new, old), old)  # noqa: E731
    return carry._replace(
        step=step,
        stale=stale,
        position=position,
        momentum=pick(state.momentum, carry.momentum),
        force=pick(said.force, carry.force),
        bias=pick(said.bias, carry.bias),
        memory=jnp.where((alive & ~stale)[:, None], said.memory, carry.memory),
        rng=jnp.where(stale, carry.rng, state.rng),
        alive=alive,
        reason=jnp.where(hit, verdict.reason, carry.reason),
        event_step=jnp.where(hit, step, carry.event_step),
        value=jnp.where(hit, verdict.value, carry.value),
        bad=jnp.where(hit[atoms.walker][:, None], state.position, carry.bad),
        ring=carry.ring.at[slot].set(jnp.where(writes, recorded, carry.ring[slot])),
        max_force=largest(verdict.force, carry.max_force),
        max_force_std=largest(verdict.force_std, carry.max_force_std),
        max_energy_std=largest(verdict.energy_std, carry.max_energy_std),
    )


def to_device(record: Any) -> Any:
    """The same record with jax arrays."""
    return jax.tree.map(jnp.asarray, record)
