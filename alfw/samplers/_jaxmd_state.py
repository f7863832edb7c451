"""What the MD program is given beside the atoms, and what it carries from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from alfw.samplers._jaxmd_bias import BIAS_MEMORY
from alfw.samplers._jaxmd_ensembles import CHAIN, Coupling

# What a limit is on, in the order in which a step is judged; reason 0 is "nan", -1 none.
# Two limits are on how uncertain the ensemble is: force_std, and the spread of the energies.
REASONS = ("nan", "speed", "distance", "force", "growth", "uncertain", "uncertain")
OF_ATOMS = frozenset({"position", "momentum", "force", "bias", "built", "bad", "ring"})
RINGS = frozenset({"ring", "ring_scale"})
FIRST_STEP = -1  # done with dt = 0: it only evaluates and judges the start


class Settings(NamedTuple):
    """Numbers of a run; arguments of the program, so that other values do not compile it again.

    Attributes
    ----------
    dt : () float32
    coupling : Coupling
        In internal units; friction 0 is velocity Verlet.
    n_steps : () float32
        How many the thermostat's target takes from its first to its last value.
    force_std_every, ring_every, driver : () int32
    reborn : (R+1,) bool
        Walkers for which the program stops when they do, so that they can begin again.
    bias : pytree
        Numbers of the bias; () = none.
    """

    dt: Array
    coupling: Coupling
    n_steps: Array
    force_std_every: Array
    ring_every: Array
    driver: Array
    reborn: Array
    bias: Any = ()


class Carry(NamedTuple):
    """Everything that changes, for N atoms and R walkers and the dummy.

    Attributes
    ----------
    step : () int32
        Steps done.
    stale : () bool
        The next step needs new edges; it has not been done.
    position, momentum, chain, scale
        See `Motion`.
    force, bias : (N, 3) float32
        Atoms move by `force` + `bias`; limits and records know `force` alone.
    virial, memory : (R+1,) and (R+1, BIAS_MEMORY) float32
        See `Forces`.
    built, built_scale : (N, 3) and (R+1,) float32
        Positions and cells for which the edges were made.
    alive : (R+1,) bool
    born : (R+1,) int32
        Step at which each walker began.
    reason, event_step : (R+1,) int32
    value : (R+1,) float32
        What was measured when the limit was passed.
    bad, bad_scale : (N, 3) and (R+1,) float32
        Of the first frame beyond a limit.
    ring, ring_scale : (S, N, 3) and (S, R+1) float32
        Frames every `ring_every` steps; step s is at (s // ring_every) % S. A walker that stands still
        leaves its own.
    max_force, max_force_std : (R+1,) float32, eV/Å
    max_energy_std : (R+1,) float32, eV per atom
        Largest finite values met.
    """

    step: Array
    stale: Array
    position: Array
    momentum: Array
    chain: Array
    scale: Array
    force: Array
    bias: Array
    virial: Array
    memory: Array
    built: Array
    built_scale: Array
    alive: Array
    born: Array
    reason: Array
    event_step: Array
    value: Array
    bad: Array
    bad_scale: Array
    ring: Array
    ring_scale: Array
    max_force: Array
    max_force_std: Array
    max_energy_std: Array


def start(position: Any, momentum: Any, n_walkers: int, ring_size: int) -> Carry:
    """The carry before the first step, all walkers but the dummy alive."""
    x, n = jnp.asarray(position), n_walkers + 1
    none, zero, one = jnp.full(n, -1, jnp.int32), jnp.zeros(n, jnp.float32), jnp.ones(n, jnp.float32)
    return Carry(
        step=jnp.asarray(FIRST_STEP, jnp.int32),
        stale=jnp.asarray(False),
        position=x,
        momentum=jnp.asarray(momentum),
        chain=jnp.zeros((n, 2, CHAIN), jnp.float32),
        scale=one,
        force=jnp.zeros_like(x),
        bias=jnp.zeros_like(x),
        virial=zero,
        memory=jnp.zeros((n, BIAS_MEMORY), jnp.float32),
        built=x,
        built_scale=one,
        alive=jnp.arange(n) < n_walkers,
        born=jnp.zeros(n, jnp.int32),
        reason=none,
        event_step=none,
        value=zero,
        bad=x,
        bad_scale=one,
        ring=jnp.zeros((ring_size, *x.shape), jnp.float32),
        ring_scale=jnp.ones((ring_size, n), jnp.float32),
        max_force=zero,
        max_force_std=zero,
        max_energy_std=zero,
    )


def begun_again(
    carry: Carry,
    which: Sequence[int],
    slices: Sequence[slice],
    position: NDArray[np.float32],
    momentum: NDArray[np.float32],
) -> Carry:
    """The carry with new walkers in the places `which`: at these positions and momenta (N, 3), nothing done yet.

    The maxima stay: they are of the whole run.
    """
    fresh = start(position, momentum, len(slices), carry.ring.shape[0])
    fresh = fresh._replace(
        born=jnp.full_like(carry.born, carry.step + 1),
        ring=jnp.broadcast_to(fresh.position, carry.ring.shape),
    )
    kept = ("step", "stale", "max_force", "max_force_std", "max_energy_std")
    changed = {}
    for name in (name for name in Carry._fields if name not in kept):
        array, new = np.array(getattr(carry, name)), np.asarray(getattr(fresh, name))
        of_atoms = name in OF_ATOMS
        for w in which:
            at = slices[w] if of_atoms else w
            index = (slice(None), at) if name in RINGS else at
            array[index] = new[index]
        changed[name] = jnp.asarray(array)
    return carry._replace(**changed)
