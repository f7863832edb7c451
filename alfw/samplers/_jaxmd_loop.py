"""The MD program: steps, limits and the ring of recent frames, in one compiled loop.

Units inside are eV, Å, amu and therefore sqrt(amu Å^2/eV) = 10.18 fs for time. All arrays are float32. The steps of the
program are those of all walkers; one that began again counts its own from there, as do its thermostat and its noise.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from alfw.core.units import FS
from alfw.samplers._jaxmd_ensembles import Clock, Kind, Motion, drift, kick, per_walker
from alfw.samplers._jaxmd_forces import Forces, Surface, forces_on
from alfw.samplers._jaxmd_state import REASONS, Carry, Settings
from alfw.samplers._jaxmd_system import Atoms, EdgeArrays


class Judgement(NamedTuple):
    """Per walker (R+1,): still within all limits, index of the reason if not, what was measured, and three maxima."""

    ok: Array
    reason: Array
    value: Array
    force: Array
    force_std: Array
    energy_std: Array


@partial(jax.jit, static_argnums=(0, 1))
def advance(
    surface: Surface,
    kind: Kind,
    params: Any,
    atoms: Atoms,
    edges: EdgeArrays,
    reach: Array,
    settings: Settings,
    stop: Array,
    carry: Carry,
) -> Carry:
    """The carry at step `stop`, or earlier when edges got stale, a walker is to begin again or none is alive.

    Parameters
    ----------
    surface, params
        Of the potential; a `surface` must be equal and hash equal to be compiled once.
    reach : (2,) float32, Å
        The cutoff, and the skin of the edges.
    stop : () int32
    """

    def going(carry: Carry) -> Array:
        waits = jnp.any(settings.reborn & ~carry.alive)
        return (carry.step < stop) & ~carry.stale & ~waits & jnp.any(carry.alive)

    return lax.while_loop(
        going, lambda c: _step(surface, kind, params, atoms, edges, reach, settings, c), carry
    )


def _step(
    surface: Surface,
    kind: Kind,
    params: Any,
    atoms: Atoms,
    edges: EdgeArrays,
    reach: Array,
    settings: Settings,
    carry: Carry,
) -> Carry:
    """One step, or nothing but `stale` when an atom has moved too far for the edges.

    From jax-md's own pieces, because the edges are looked at between drift and force.
    """
    own = carry.step - carry.born
    clock = Clock(own, jnp.where(own < 0, jnp.float32(0), settings.dt), _target(atoms, settings, own + 1))
    now = Motion(carry.position, carry.momentum, carry.chain, carry.scale)
    now = drift(kind, atoms, settings.coupling, clock, now, carry.force + carry.bias, carry.virial)

    dilated = carry.position * (now.scale / carry.scale)[atoms.walker][:, None]
    moved = jnp.linalg.norm(now.position - dilated, axis=1) / settings.dt * FS  # Å/fs
    stale = _stale(atoms, reach, carry, now, moved)
    due = (carry.step + 1) % settings.force_std_every == 0
    edges = edges._replace(offsets=edges.offsets * now.scale[atoms.walker[edges.receivers]][:, None])
    driver, bias = settings.driver, settings.bias
    said = forces_on(surface, params, atoms, edges, now.position, driver, due, ~stale, bias, carry.memory)
    now = kick(kind, atoms, settings.coupling, clock, now, said.force + said.bias)
    verdict = _judge(atoms, edges, now, said, moved)
    return _next(atoms, settings, carry, now, said, verdict, stale)


def _target(atoms: Atoms, settings: Settings, own: Array) -> Array:
    """(R+1,) eV: kT of the thermostats when walkers have done `own` steps."""
    first, last = atoms.kT
    return first + (last - first) * jnp.clip(own.astype(jnp.float32) / settings.n_steps, 0, 1)


def _stale(atoms: Atoms, reach: Array, carry: Carry, now: Motion, moved: Array) -> Array:
    """() bool: whether two atoms may have come within the cutoff that were not neighbours when the edges were made.

    Cells that shrink use up the skin as well. An atom that moves faster than the limit stops its walker anyway and does
    not count.
    """
    cutoff, skin = reach
    growth = now.scale / carry.built_scale
    left = growth * (cutoff + skin) - cutoff
    away = jnp.linalg.norm(now.position - carry.built * growth[atoms.walker][:, None], axis=1)
    speed_limit = atoms.limits[REASONS.index("speed") - 1]
    counts = atoms.listed & carry.alive[atoms.walker] & (moved <= speed_limit)
    return jnp.any(counts & (away > 0.499 * left[atoms.walker]))


def _judge(atoms: Atoms, edges: EdgeArrays, now: Motion, said: Forces, moved: Array) -> Judgement:
    """What each walker's new state is worth; comparisons are written so that NaN is never within a limit."""
    n = atoms.count.shape[0]
    largest = partial(jax.ops.segment_max, segment_ids=atoms.walker, num_segments=n, indices_are_sorted=True)
    x, free = now.position, atoms.free[:, 0].astype(jnp.float32)
    centroid = per_walker(atoms, x) / atoms.count
    speed = jnp.maximum(jnp.linalg.norm(now.momentum / atoms.mass, axis=1) * FS, moved)
    far = jnp.linalg.norm(x - centroid[atoms.walker], axis=1)
    broken = ~jnp.isfinite(x.sum(1) + (said.force + said.bias + now.momentum).sum(1) + said.force_std)
    columns = [speed, jnp.linalg.norm(said.force, axis=1), far, said.force_std, broken.astype(jnp.float32)]
    columns = [*(column * free for column in columns[:-1]), columns[-1]]
    speed, force, far, spread, broken = largest(jnp.stack(columns, 1)).T
    distance = jnp.linalg.norm(x[edges.senders] - x[edges.receivers] + edges.offsets, axis=1)
    closeness = jnp.where(edges.radii > 0, edges.radii / distance, jnp.float32(0))
    closest = jax.ops.segment_max(closeness, atoms.walker[edges.receivers], n)
    growth = jnp.where(atoms.length > 0, (now.scale - 1) * atoms.length, far - atoms.extent)
    values = jnp.stack([speed, closest, force, growth, spread, said.energy_std])
    within = values <= atoms.limits[:, None]
    finite = (broken == 0) & jnp.isfinite(said.energy_std)
    first = jnp.argmax(~within, axis=0)
    value = jnp.where(finite, jnp.take_along_axis(values, first[None], 0)[0], jnp.float32(jnp.nan))
    reason = jnp.where(finite, first.astype(jnp.int32) + 1, jnp.int32(0))
    return Judgement(finite & jnp.all(within, 0), reason, value, force, spread, said.energy_std)


def _next(
    atoms: Atoms,
    settings: Settings,
    carry: Carry,
    now: Motion,
    said: Forces,
    verdict: Judgement,
    stale: Array,
) -> Carry:
    """The carry after the step: walkers within the limits have moved, others stand where they were."""
    hit = carry.alive & ~verdict.ok & ~stale
    alive = carry.alive & ~hit
    goes = alive & ~stale
    moves = goes[atoms.walker][:, None]
    step = jnp.where(stale, carry.step, carry.step + 1)
    pick = lambda new, old: jnp.where(moves, new, old)  # noqa: E731
    position, scale = pick(now.position, carry.position), jnp.where(goes, now.scale, carry.scale)
    slot = (step // settings.ring_every) % carry.ring.shape[0]
    recorded = pick(position, carry.ring[slot]), jnp.where(goes, scale, carry.ring_scale[slot])
    writes = (step % settings.ring_every == 0) & (step >= 0)
    largest = lambda new, old: jnp.where(carry.alive & ~stale & jnp.isfinite(new), jnp.maximum(new, old), old)  # noqa: E731
    return carry._replace(
        step=step,
        stale=stale,
        position=position,
        momentum=pick(now.momentum, carry.momentum),
        chain=jnp.where(goes[:, None, None], now.chain, carry.chain),
        scale=scale,
        force=pick(said.force, carry.force),
        bias=pick(said.bias, carry.bias),
        virial=jnp.where(goes, said.virial, carry.virial),
        memory=jnp.where(goes[:, None], said.memory, carry.memory),
        alive=alive,
        reason=jnp.where(hit, verdict.reason, carry.reason),
        event_step=jnp.where(hit, step, carry.event_step),
        value=jnp.where(hit, verdict.value, carry.value),
        bad=jnp.where(hit[atoms.walker][:, None], now.position, carry.bad),
        bad_scale=jnp.where(hit, now.scale, carry.bad_scale),
        ring=carry.ring.at[slot].set(jnp.where(writes, recorded[0], carry.ring[slot])),
        ring_scale=carry.ring_scale.at[slot].set(jnp.where(writes, recorded[1], carry.ring_scale[slot])),
        max_force=largest(verdict.force, carry.max_force),
        max_force_std=largest(verdict.force_std, carry.max_force_std),
        max_energy_std=largest(verdict.energy_std, carry.max_energy_std),
    )


def to_device(record: Any) -> Any:
    """The same record with jax arrays."""
    return jax.tree.map(jnp.asarray, record)
