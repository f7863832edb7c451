"""What moves walkers besides forces: thermostats, and a barostat, of each walker alone.

Units inside are eV, Å, amu and therefore sqrt(amu Å^2/eV) = 10.18 fs for time.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax_md import simulate

from alfw.samplers._jaxmd_system import Atoms

# What a program is compiled for; NVE is "langevin" without friction.
Kind = Literal["langevin", "nose-hoover", "npt"]
CHAIN = 3  # thermostats in the chain of a walker
MAX_GROWTH = np.float32(0.2)  # of ln V in one step; only what explodes anyway, or implodes, would go further


class Coupling(NamedTuple):
    """Numbers of thermostat and barostat; those that an ensemble does not have are not looked at.

    Attributes
    ----------
    gamma : () float32
        Friction.
    tau : () float32
        Time constant of the chains.
    pressure : () float32, eV/Å^3
    mobility : () float32
        Compressibility over the barostat's time constant.
    """

    gamma: Array
    tau: Array
    pressure: Array
    mobility: Array


class Motion(NamedTuple):
    """What an ensemble moves, of N atoms and of R walkers and the dummy one.

    Attributes
    ----------
    position, momentum : (N, 3) float32
    chain : (R+1, 2, CHAIN) float32
        Positions (no unit) and momenta of the thermostats of each walker; 0 without any.
    scale : (R+1,) float32
        Edge lengths of the cell over those in the start.
    """

    position: Array
    momentum: Array
    chain: Array
    scale: Array


class Clock(NamedTuple):
    """What time it is for each walker (R+1,): steps done, the length of this one (0: it only looks), and the target."""

    step: Array
    dt: Array
    kT: Array


def drift(
    kind: Kind, atoms: Atoms, coupling: Coupling, clock: Clock, now: Motion, force: Array, virial: Array
) -> Motion:
    """The first part of a step, up to where new forces are needed.

    "langevin": BAOAB, the order of jax-md's nvt_langevin (doi:10.1063/1.4921684). "npt": BAO, the cell, A.
    "nose-hoover": half a step of the chains, then velocity Verlet (doi:10.1080/00268979600100761).
    """
    dt = clock.dt[atoms.walker][:, None]
    if kind == "nose-hoover":
        now = _chains(atoms, coupling, clock, now)
    state = simulate.NVEState(now.position, now.momentum, force, atoms.mass)
    state = simulate.momentum_step(state, dt / 2)
    state = simulate.position_step(state, jnp.add, dt / 2)
    now = now._replace(position=state.position, momentum=state.momentum)
    if kind != "nose-hoover":
        now = _friction(atoms, coupling, clock, now)
    if kind == "npt":
        now = _dilated(atoms, coupling, clock, now, virial)
    state = simulate.position_step(state.set(position=now.position, momentum=now.momentum), jnp.add, dt / 2)
    return now._replace(position=state.position)


def kick(kind: Kind, atoms: Atoms, coupling: Coupling, clock: Clock, now: Motion, force: Array) -> Motion:
    """The rest of a step, with the new forces."""
    dt = clock.dt[atoms.walker][:, None]
    state = simulate.NVEState(now.position, now.momentum, force, atoms.mass)
    now = now._replace(momentum=simulate.momentum_step(state, dt / 2).momentum)
    return _chains(atoms, coupling, clock, now) if kind == "nose-hoover" else now


def twice_kinetic(atoms: Atoms, momentum: Array) -> Array:
    """(R+1,) eV: twice the kinetic energy of each walker."""
    return per_walker(atoms, (momentum**2 / atoms.mass).sum(1))


def per_walker(atoms: Atoms, values: Array) -> Array:
    """(R+1, …): sums over the atoms of each walker."""
    return jax.ops.segment_sum(values, atoms.walker, atoms.count.shape[0], indices_are_sorted=True)


def _friction(atoms: Atoms, coupling: Coupling, clock: Clock, now: Motion) -> Motion:
    """Friction and noise of one step, exactly: the O of BAOAB."""
    decay = coupling.gamma * clock.dt
    variance = -clock.kT * jnp.expm1(-2 * decay)
    keep, variance = (values[atoms.walker][:, None] for values in (jnp.exp(-decay), variance))
    noise = jax.vmap(_normal)(atoms.key, clock.step[atoms.walker])
    shaken = keep * now.momentum + jnp.sqrt(variance * atoms.mass) * noise
    return now._replace(momentum=jnp.where(atoms.free, shaken, jnp.float32(0)))


def _normal(key: Array, step: Array) -> Array:
    """(3,): normal noise that hangs on nothing but the key and the step."""
    return jax.random.normal(jax.random.fold_in(key, step.astype(jnp.uint32)), (3,), jnp.float32)


def _chains(atoms: Atoms, coupling: Coupling, clock: Clock, now: Motion) -> Motion:
    """Half a step of jax-md's Nosé–Hoover chain, for each walker its own."""

    def one(chain: Array, twice: Array, freedom: Array, kT: Array, dt: Array) -> tuple[Array, Array]:
        chains = simulate.nose_hoover_chain(dt, CHAIN, 1, 1, coupling.tau)
        state: Any = simulate.NoseHooverChain(*chain, None, coupling.tau, twice / 2, freedom)
        factor, state = chains.half_step(jnp.ones_like(kT), chains.update_mass(state, kT), kT)
        return factor, jnp.stack([state.position, state.momentum])

    twice = twice_kinetic(atoms, now.momentum)
    factor, chain = jax.vmap(one)(now.chain, twice, atoms.freedom, clock.kT, clock.dt)
    return now._replace(momentum=now.momentum * factor[atoms.walker][:, None], chain=chain)


def _dilated(atoms: Atoms, coupling: Coupling, clock: Clock, now: Motion, virial: Array) -> Motion:
    """Cells, positions and momenta after one step of stochastic cell rescaling, isotropic.

    d ln V = β/τ (P − P₀) dt + sqrt(2 kT β/(V τ)) dW with P = (2 K − virial)/(3 V): positions grow as lengths do, and
    momenta shrink by as much. With this noise the volume is distributed as at constant pressure, whatever β/τ.

    Source
    ------
    Bernetti and Bussi, doi:10.1063/5.0020514, eq. 7 and 9.
    """
    volume = atoms.volume * now.scale**3
    pressure = (twice_kinetic(atoms, now.momentum) - virial) / (3 * volume)
    # The barostat's noise is that of no atom: it is drawn by the key of a walker's first atom, turned round.
    first = jnp.searchsorted(atoms.walker, jnp.arange(atoms.count.shape[0]))
    noise = jax.vmap(_normal)(atoms.key[first][:, ::-1], clock.step)[:, 0]
    step = coupling.mobility * clock.dt
    growth = step * (pressure - coupling.pressure) + jnp.sqrt(2 * clock.kT * step / volume) * noise
    factor = jnp.exp(jnp.clip(growth, -MAX_GROWTH, MAX_GROWTH) / 3)
    of_atom = factor[atoms.walker][:, None]
    return now._replace(
        position=now.position * of_atom, momentum=now.momentum / of_atom, scale=now.scale * factor
    )
