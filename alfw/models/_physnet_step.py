"""The loss of PhysNet and DCMNet and the compiled steps that minimise it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from alfw.core.units import HARTREE_eV
from alfw.models._jax import foreign_code
from alfw.models._nequix_network import energy_and_gradient
from alfw.models._physnet_data import Molecules
from alfw.models._physnet_network import Networks, dipoles, mixed, potentials
from alfw.models.physnet import PhysNetTraining

CHUNK = 50  # steps per call of the compiled loop
FINAL_RATE, FIRST_RATE, WARMUP = 0.01, 0.1, 0.05  # of the learning rate; of the steps
TINY = 1e-12  # keeps the gradient of a root finite
Array = jax.Array


class State(NamedTuple):
    """Weights, optimiser state, exponential moving average of the weights, steps done."""

    params: Any
    optimiser: Any
    average: Any
    step: Array


class Deviation(NamedTuple):
    """Prediction minus label, and 1 where it counts (broadcast against it) and 0 where it does not."""

    error: Array
    weight: Array


def deviations(nets: Networks, params: Any, batch: Molecules) -> dict[str, Deviation]:
    """Errors of a batch in eV, eV/Å, e·Å, V, e; by the names of ``metrics.json``."""
    energy, forces, _ = energy_and_gradient(nets.atom_energies, params, batch.graphs)
    state, mixing = nets.electrostatics(params, batch.graphs, batch.charge), params["mixing"]
    dipole = dipoles(state, batch.positions)
    esp = potentials(state, batch.positions, batch.points)
    has = batch.has_dipole[:, None]
    mono = state.monopoles.sum(-1) - state.charges
    found = {
        "energy": Deviation(energy - batch.energy, jnp.ones_like(energy)),
        "forces": Deviation(forces - batch.forces, batch.free[..., None]),
        "mono": Deviation(mono, batch.graphs.mask.astype(jnp.float32)),
    }
    for i, source in enumerate(("physnet", "dcmnet")):
        found[f"dipole_{source}"] = Deviation(dipole[i] - batch.dipole, has)
        found[f"esp_{source}"] = Deviation(esp[i] - batch.esp, batch.at)
    found["dipole_mixed"] = Deviation(mixed(mixing["dipole"], *dipole) - batch.dipole, has)
    found["esp_mixed"] = Deviation(mixed(mixing["esp"], *esp) - batch.esp, batch.at)
    return found


def measure(metric: str, deviation: Deviation) -> Array:
    """Mean square (l2), mean absolute error (mae) or root mean square (rmse) over what counts."""
    error, weight = deviation
    count = jnp.maximum((weight + jnp.zeros_like(error)).sum(), 1.0)
    if metric == "mae":
        return (jnp.abs(error) * weight).sum() / count
    square = (error**2 * weight).sum() / count
    return jnp.sqrt(square + TINY) if metric == "rmse" else square


def loss_of(options: PhysNetTraining, found: dict[str, Deviation]) -> Array:
    """The loss of `PhysNetTraining`."""
    half = 0.5 if options.dipole_metric == "l2" else 1.0
    esp = [found[f"esp_{source}"] for source in options.esp_loss_sources]
    in_hartree = [Deviation(error / HARTREE_eV, weight) for error, weight in esp]
    dipole = [found[f"dipole_{source}"] for source in options.dipole_loss_sources]
    return (
        options.energy_weight * 0.5 * measure("l2", found["energy"])
        + options.forces_weight * 0.5 * measure("l2", found["forces"])
        + options.mono_weight * 0.5 * measure("l2", found["mono"])
        + options.dipole_weight * half * sum(measure(options.dipole_metric, x) for x in dipole)
        + options.esp_weight * sum(measure(options.esp_metric, x) for x in in_hartree)
    )


def rate(options: PhysNetTraining, step: Array, steps: Array) -> Array:
    """Learning rate of a step: linear warm-up, then a cosine."""
    warm = jnp.floor(WARMUP * steps)
    rising = FIRST_RATE + (1.0 - FIRST_RATE) * step / jnp.maximum(warm, 1.0)
    done = jnp.clip((step - warm) / jnp.maximum(steps - warm, 1.0), 0.0, 1.0)
    falling = FINAL_RATE + (1.0 - FINAL_RATE) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
    return options.learning_rate * jnp.where(step < warm, rising, falling)


class Machine(NamedTuple):
    """Compiled functions for one network and one set of options; they serve every member and every round.

    Attributes
    ----------
    start : callable
        ``f(params) -> State``.
    advance : callable
        ``f(state, batches, count, steps) -> (state, mean loss)``: `count` steps, of `steps` in all, on the first of
        CHUNK stacked batches.
    errors : callable
        ``f(params, batch, counts) -> {name: (sum of squares, how many)}``; `counts` (B,) is 0 for padding.
    """

    start: Callable[[Any], State]
    advance: Callable[..., tuple[State, Array]]
    errors: Callable[..., dict[str, tuple[Array, Array]]]


@lru_cache(maxsize=8)
def machine(nets: Networks, options: PhysNetTraining) -> Machine:
    """The functions for these networks and options; the number of steps is known to them only when they run."""
    optimiser = optax.chain(
        optax.clip_by_global_norm(options.grad_clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(options.weight_decay),
    )

    @jax.jit
    def start(params: Any) -> State:
        with foreign_code():
            return State(params, optimiser.init(params), params, jnp.zeros((), jnp.int32))

    def step(state: State, batch: Molecules, steps: Array) -> tuple[State, Array]:
        value, gradient = jax.value_and_grad(lambda p: loss_of(options, deviations(nets, p, batch)))(
            state.params
        )
        k = state.step.astype(jnp.float32)
        with foreign_code():
            direction, inner = optimiser.update(gradient, state.optimiser, state.params)
        speed = rate(options, k, steps)
        params = jax.tree.map(lambda p, d: p - speed * d, state.params, direction)
        decay = jnp.minimum(options.ema_decay, (1.0 + k) / (10.0 + k))
        average = jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, state.average, params)
        return State(params, inner, average, state.step + 1), value

    @jax.jit
    def advance(state: State, batches: Molecules, count: Array, steps: Array) -> tuple[State, Array]:
        def body(i: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
            state, value = step(carry[0], jax.tree.map(lambda x: x[i], batches), steps)
            return state, carry[1] + value

        state, total = jax.lax.fori_loop(0, count, body, (state, jnp.zeros((), jnp.float32)))
        return state, total / count.astype(jnp.float32)

    return Machine(start, advance, jax.jit(lambda *given: _sums(nets, *given)))


def _sums(nets: Networks, params: Any, batch: Molecules, counts: Array) -> dict[str, tuple[Array, Array]]:
    """See `Machine.errors`."""
    sums = {}
    for name, (error, weight) in deviations(nets, params, batch).items():
        all_ = (weight + jnp.zeros_like(error)) * counts.reshape(-1, *[1] * (error.ndim - 1))
        sums[name] = (error**2 * all_).sum(), all_.sum()
    return sums
