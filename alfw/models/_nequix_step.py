"""The loss of Nequix members and the compiled steps that minimise it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from nequix.model import weight_decay_mask
from numpy.typing import NDArray

from alfw.models._jax import foreign_code
from alfw.models._nequix_data import Batch
from alfw.models._nequix_network import Params, Program, energy_and_gradient, virial
from alfw.models.nequix import NequixTraining

CHUNK = 100  # steps per call of the compiled loop
FINAL_LR = 0.01  # of the peak, at the end of the cosine
WARMUP_START = 0.1  # of the peak, in the first step
Array = jax.Array


class State(NamedTuple):
    """Weights, optimiser state, exponential moving average of the weights, steps done."""

    params: Params
    optimiser: Any
    average: Params
    step: Array


class Kept(NamedTuple):
    """The averaged weights to keep, and the step they are from."""

    params: Params
    step: int
    valid_loss: float


class Residuals(NamedTuple):
    """Prediction minus label: energy (B,) eV, forces (B, n, 3) eV/Å (0 where not free), virial (B, 3, 3) eV."""

    energy: Array
    forces: Array
    virial: Array


class ErrorSums(NamedTuple):
    """Sums over frames, from which losses and root mean squares follow."""

    frames: Any
    loss_sum: Any
    force_squares: Any
    force_components: Any
    energy_squares: Any

    @classmethod
    def zero(cls) -> Self:
        """Of no frames."""
        return cls(0.0, 0.0, 0.0, 0.0, 0.0)

    def __add__(self, other: tuple[Any, ...]) -> ErrorSums:  # type: ignore[override]
        return ErrorSums(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def loss(self) -> float:
        """Mean over frames."""
        return self.loss_sum / max(self.frames, 1)  # type: ignore[no-any-return]

    @property
    def force_rmse(self) -> float:
        """Per component of a free atom, eV/Å."""
        return float(np.sqrt(self.force_squares / max(self.force_components, 1)))

    @property
    def energy_rmse(self) -> float:
        """Of the energy per atom, eV."""
        return float(np.sqrt(self.energy_squares / max(self.frames, 1)))


def norm(x: Array, axis: int | tuple[int, ...]) -> Array:
    """Euclidean norm whose gradient at 0 is 0 instead of NaN."""
    squares = (x * x).sum(axis)
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def residuals(program: Program, params: Params, batch: Batch, stress: bool) -> Residuals:
    """Errors of a batch; the virial only when a stress counts (else zeros)."""
    graphs, targets = batch
    energy, forces, gradient = energy_and_gradient(program.atom_energies, params, graphs)
    dw = virial(graphs.vectors, gradient) - targets.virial if stress else jnp.zeros_like(targets.virial)
    return Residuals(
        energy - targets.energy,
        (forces - targets.forces) * targets.free[..., None],
        dw * targets.has_virial[:, None, None],
    )


def learning_rates(options: NequixTraining, first: int, count: int) -> NDArray[np.float32]:
    """(count,) float32: rates of the steps from `first` on: a linear warm-up, then a cosine.

    Source: doi:10.48550/arXiv.1608.03983, eq. 5, without restarts.
    """
    k = np.arange(first, first + count, dtype=np.float64)
    rise = int(options.warmup_fraction * options.steps)
    fall = max(options.steps, 2) - rise
    warm = WARMUP_START + (1.0 - WARMUP_START) * k / max(rise, 1)
    cosine = 0.5 * (1.0 + np.cos(np.pi * np.clip((k - rise) / fall, 0.0, 1.0)))
    share = np.where(k < rise, warm, FINAL_LR + (1.0 - FINAL_LR) * cosine)
    return (options.learning_rate * share).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Code:
    """The compiled functions for one network and one loss; they serve every member, every round and every schedule.

    Attributes
    ----------
    program : Program
    options : NequixTraining
        As `code` gives them: only what the functions contain.
    """

    program: Program
    options: NequixTraining

    @cached_property
    def optimiser(self) -> optax.GradientTransformation:
        """AdamW with clipping, but for the learning rate; Nequix's mask says which weights decay."""
        o = self.options
        decay = optax.add_decayed_weights(o.weight_decay, weight_decay_mask)
        return optax.chain(optax.clip_by_global_norm(o.clip_norm), optax.scale_by_adam(), decay)

    def loss(self, params: Params, batch: Batch) -> Array:
        """The loss of `NequixTraining`."""
        o, targets = self.options, batch.targets
        d = residuals(self.program, params, batch, o.stress_weight > 0)
        energy = (jnp.abs(d.energy) / targets.atoms).mean()
        force = norm(d.forces, -1).sum() / jnp.maximum(targets.free.sum(), 1.0)
        stress = (norm(d.virial, (1, 2)) / targets.atoms).sum() / jnp.maximum(targets.has_virial.sum(), 1.0)
        return o.energy_weight * energy + o.force_weight * force + o.stress_weight * stress

    def _step(self, state: State, batch: Batch, rate: Array) -> tuple[State, Array]:
        loss, gradient = jax.value_and_grad(self.loss)(state.params, batch)
        with foreign_code():
            updates, optimiser = self.optimiser.update(gradient, state.optimiser, state.params)
            params = optax.apply_updates(state.params, jax.tree.map(lambda u: -rate * u, updates))
        k = state.step.astype(jnp.float32)
        decay = jnp.minimum(self.options.ema_decay, (1.0 + k) / (10.0 + k))
        average = jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, state.average, params)
        return State(params, optimiser, average, state.step + 1), loss

    @cached_property
    def advance(self) -> Callable[..., tuple[State, Array]]:
        """``f(state, batches, rates (CHUNK,), count) -> (state, mean loss)``: the first `count` of CHUNK steps."""

        def advance(state: State, batches: Batch, rates: Array, count: Array) -> tuple[State, Array]:
            def body(i: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
                state, loss = self._step(carry[0], jax.tree.map(lambda x: x[i], batches), rates[i])
                return state, carry[1] + loss

            state, total = jax.lax.fori_loop(0, count, body, (state, jnp.zeros((), jnp.float32)))
            return state, total / count.astype(jnp.float32)

        return jax.jit(advance)

    @cached_property
    def errors(self) -> Callable[..., ErrorSums]:
        """``f(params, batch, weight) -> ErrorSums``, see `Trainer.errors`."""

        def errors(params: Params, batch: Batch, weight: Array) -> ErrorSums:
            o, targets = self.options, batch.targets
            d = residuals(self.program, params, batch, o.stress_weight > 0)
            free = targets.free.sum(1)
            energy = d.energy / targets.atoms
            loss = (
                o.energy_weight * jnp.abs(energy) + o.stress_weight * norm(d.virial, (1, 2)) / targets.atoms
            )
            loss += o.force_weight * norm(d.forces, -1).sum(1) / jnp.maximum(free, 1.0)
            sums = (jnp.ones_like(weight), loss, (d.forces**2).sum((1, 2)), 3.0 * free, energy**2)
            return ErrorSums(*((weight * x).sum() for x in sums))

        return jax.jit(errors)


# What a compiled step contains; all else is the host's business, or an argument.
IN_CODE = ("weight_decay", "clip_norm", "energy_weight", "force_weight", "stress_weight", "ema_decay")


def code(program: Program, options: NequixTraining) -> Code:
    """The one Code of this network and the loss of these options in this process."""
    return _code(program, NequixTraining(**{name: getattr(options, name) for name in IN_CODE}))


@lru_cache(maxsize=16)
def _code(program: Program, options: NequixTraining) -> Code:
    return Code(program, options)


@dataclass(frozen=True, eq=False)
class Trainer:
    """Steps of one training.

    Attributes
    ----------
    program : Program
    options : NequixTraining
    """

    program: Program
    options: NequixTraining

    @property
    def batch_size(self) -> int:
        """Frames per step."""
        return self.options.batch_size

    @cached_property
    def code(self) -> Code:
        """What is compiled."""
        return code(self.program, self.options)

    def begin(self, params: Params) -> State:
        """The state before the first step."""
        with foreign_code():
            return State(params, self.code.optimiser.init(params), params, jnp.zeros((), jnp.int32))

    def advance(self, state: State, batches: Batch, count: int) -> tuple[State, Array]:
        """State and mean loss after `count` steps on the first of CHUNK stacked batches."""
        rates = learning_rates(self.options, int(state.step), CHUNK)
        return self.code.advance(
            state, jax.tree.map(jnp.asarray, batches), jnp.asarray(rates), jnp.int32(count)
        )

    def errors(self, params: Params, batch: Batch, weight: NDArray[np.float32]) -> ErrorSums:
        """Sums over a batch; `weight` (B,) is 1 for frames that count and 0 for others."""
        return self.code.errors(params, jax.tree.map(jnp.asarray, batch), jnp.asarray(weight))


def trainer(program: Program, options: NequixTraining) -> Trainer:
    """The steps of a training with these options; what it compiles, it shares with all others in this process."""
    return Trainer(program, options)
