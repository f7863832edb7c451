"""Training of PhysNet and DCMNet together."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alfw.core.errors import TrainingError
from alfw.core.ids import derive_seed
from alfw.core.records import Resources, TrainingData
from alfw.core.units import HARTREE_eV
from alfw.models._jax import device, foreign_code, use_compilation_cache
from alfw.models._nequix_network import energy_and_gradient
from alfw.models._physnet_data import Data, Molecules, data
from alfw.models._physnet_files import load, save
from alfw.models._physnet_network import Networks, Sizes, dipoles, networks, potentials
from alfw.models.physnet import PhysNetModel, PhysNetTraining
from alfw.models.schedule import batch_indices
from alfw.models.statistics import check_finite

WEIGHTS, METRICS = "member.npz", "metrics.json"
CHUNK = 50  # steps per call of the compiled loop
Array = jax.Array


class Squares(NamedTuple):
    """Mean squares of a batch, in eV², (eV/Å)², (e·Å)², V², e²; see `PhysNetTraining`."""

    energy: Array
    forces: Array
    dipole_physnet: Array
    dipole_dcmnet: Array
    esp_physnet: Array
    esp_dcmnet: Array
    mono: Array


def sizes_of(model: PhysNetModel, statistics: dict[str, Any]) -> Sizes:
    """The networks that options and shared statistics describe."""
    return Sizes(
        atomic_numbers=tuple(sorted(statistics["species"])),
        physnet_features=model.physnet_features,
        physnet_iterations=model.physnet_iterations,
        physnet_basis=model.physnet_basis,
        physnet_cutoff=model.physnet_cutoff_A,
        physnet_n_res=model.physnet_n_res,
        dcmnet_features=model.dcmnet_features,
        dcmnet_iterations=model.dcmnet_iterations,
        dcmnet_basis=model.dcmnet_basis,
        dcmnet_cutoff=model.dcmnet_cutoff_A,
        n_dcm=model.n_dcm,
        max_degree=model.max_degree,
        scale_eV=float(statistics["scale_eV"]),
    )


def squares(nets: Networks, params: Any, batch: Molecules) -> Squares:
    """Mean squared errors of a batch, over what counts of it."""
    energy, forces, _ = energy_and_gradient(nets.atom_energies, params, batch.graphs)
    state = nets.electrostatics(params, batch.graphs, batch.charge)
    atomic, distributed = dipoles(state, batch.positions)
    v_atomic, v_distributed = potentials(state, batch.positions, batch.points)

    def mean(errors: Array, weight: Array) -> Array:
        return (errors**2 * weight).sum() / jnp.maximum((weight + jnp.zeros_like(errors)).sum(), 1.0)

    has = batch.has_dipole[:, None]
    return Squares(
        ((energy - batch.energy) ** 2).mean(),
        mean(forces - batch.forces, batch.free[..., None]),
        mean(atomic - batch.dipole, has),
        mean(distributed - batch.dipole, has),
        mean(v_atomic - batch.esp, batch.at),
        mean(v_distributed - batch.esp, batch.at),
        mean(state.monopoles.sum(-1) - state.charges, batch.graphs.mask.astype(jnp.float32)),
    )


def loss_of(options: PhysNetTraining, mean: Squares) -> Array:
    """The loss of `PhysNetTraining`."""
    return (
        options.energy_weight * mean.energy
        + options.forces_weight * mean.forces
        + options.dipole_weight * (mean.dipole_physnet + mean.dipole_dcmnet)
        + options.esp_weight / HARTREE_eV**2 * mean.esp_dcmnet
        + options.mono_weight * mean.mono
    )


class Machine(NamedTuple):
    """Compiled functions: ``advance(state, batches, count)`` and ``errors(params, batch)``."""

    start: Callable[[Any], Any]
    advance: Callable[..., Any]
    errors: Callable[[Any, Molecules], Squares]


@lru_cache(maxsize=8)
def machine(nets: Networks, options: PhysNetTraining, steps: int) -> Machine:
    """The functions for these networks and options; they serve every member."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.1 * options.learning_rate,
        options.learning_rate,
        int(0.05 * steps),
        max(steps, 2),
        0.01 * options.learning_rate,
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(options.grad_clip_norm),
        optax.adamw(schedule, weight_decay=options.weight_decay),
    )

    def start(params: Any) -> Any:
        with foreign_code():
            return params, optimiser.init(params), params, jnp.zeros((), jnp.int32)

    def step(state: Any, batch: Molecules) -> Any:
        params, inner, average, k = state
        value, gradient = jax.value_and_grad(lambda p: loss_of(options, squares(nets, p, batch)))(params)
        with foreign_code():
            updates, inner = optimiser.update(gradient, inner, params)
            params = optax.apply_updates(params, updates)
        x = k.astype(jnp.float32)
        decay = jnp.minimum(options.ema_decay, (1.0 + x) / (10.0 + x))
        average = jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, average, params)
        return (params, inner, average, k + 1), value

    @jax.jit
    def advance(state: Any, batches: Molecules, count: Array) -> Any:
        def body(i: Array, carry: Any) -> Any:
            state, value = step(carry[0], jax.tree.map(lambda x: x[i], batches))
            return state, carry[1] + value

        state, total = jax.lax.fori_loop(0, count, body, (state, jnp.zeros((), jnp.float32)))
        return state, total / count.astype(jnp.float32)

    errors = jax.jit(lambda params, batch: squares(nets, params, batch))
    return Machine(start, advance, errors)


def train(
    model: PhysNetModel,
    training: TrainingData,
    seed: int,
    start: Path | None,
    workdir: Path,
    resources: Resources,
    progress: Callable[[str], None] | None,
) -> Path:
    """Train and write one member; see `PhysNetModel.train`."""
    began = time.perf_counter()
    use_compilation_cache()
    if not training.train:
        raise TrainingError("no training labels: add labelled frames to the train side")
    check_finite([*training.train, *training.valid])
    statistics = dict(training.statistics) if training.statistics is not None else model.statistics(training)
    sizes = sizes_of(model, statistics)
    reference = {int(z): float(e) for z, e in statistics["E0_eV"].items()}
    cutoff = max(sizes.physnet_cutoff, sizes.dcmnet_cutoff)
    with jax.default_device(device(resources.device)):
        nets = networks(sizes)
        arrays = data(training.train, training.valid, sizes.atomic_numbers, reference, cutoff)
        params = nets.build(seed) if start is None else load(start).params
        params = _fit(nets, model.training, params, arrays, seed, progress)
        metrics = _metrics(machine(nets, model.training, 1), params, arrays)
    workdir.mkdir(parents=True, exist_ok=True)
    save(workdir / WEIGHTS, sizes, params, reference)
    metrics |= {"seed": seed, "wall_s": time.perf_counter() - began}
    (workdir / METRICS).write_text(json.dumps(metrics, indent=1))
    return workdir / WEIGHTS


def _fit(
    nets: Networks,
    options: PhysNetTraining,
    params: Any,
    arrays: Data,
    seed: int,
    progress: Callable[[str], None] | None,
) -> Any:
    """The averaged weights after the last step."""
    size = min(options.batch_size, arrays.n_train)
    steps = options.epochs * -(-arrays.n_train // size)
    run = machine(nets, options, steps)
    state, batches = run.start(params), batch_indices(arrays.n_train, size, derive_seed(seed, "order"))
    for first in range(0, steps, CHUNK):
        count = min(CHUNK, steps - first)
        index = np.stack([next(batches) if i < count else np.zeros(size, int) for i in range(CHUNK)])
        state, loss = run.advance(state, jax.tree.map(jnp.asarray, arrays.rows(index)), jnp.int32(count))
        if not np.isfinite(float(loss)):
            raise TrainingError(
                f"training diverged before step {first + count}: lower training.learning_rate, or look for odd labels"
            )
        if progress is not None:
            progress(f"step {first + count}/{steps}, loss {float(loss):.4g}")
    return state[2]


def _metrics(run: Machine, params: Any, arrays: Data) -> dict[str, Any]:
    """Root mean squares of both sides; energies per molecule."""
    metrics: dict[str, Any] = {"n_train": arrays.n_train, "n_valid": arrays.n_valid}
    for side, rows in (
        ("train", np.arange(arrays.n_train)),
        ("valid", arrays.n_train + np.arange(arrays.n_valid)),
    ):
        if len(rows):
            means = run.errors(params, jax.tree.map(jnp.asarray, arrays.rows(rows)))
            metrics |= {
                f"{side}_{name}_rmse": float(np.sqrt(value)) for name, value in means._asdict().items()
            }
    return metrics
