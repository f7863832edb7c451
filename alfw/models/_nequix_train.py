"""Training of Nequix members."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.ids import derive_seed
from alfw.core.records import Resources, TrainingData
from alfw.models._jax import device, use_compilation_cache
from alfw.models._nequix_data import Dataset, dataset
from alfw.models._nequix_network import Params, Spec, program, save
from alfw.models._nequix_step import CHUNK, ErrorSums, Trainer, trainer
from alfw.models.nequix import NequixModel, NequixTraining
from alfw.models.statistics import check_finite

WEIGHTS, METRICS = "member.nqx", "metrics.json"
MLP_INIT_SCALE = 4.0  # Nequix's own default
Progress = Callable[[str], None] | None


class Kept(NamedTuple):
    """The averaged weights to keep, and the step they are from."""

    params: Params
    step: int
    valid_loss: float


def spec_of(model: NequixModel, statistics: dict[str, Any]) -> Spec:
    """The network that the options and the shared statistics describe."""
    return Spec(
        atomic_numbers=tuple(sorted(statistics["species"])),
        hidden_irreps=model.hidden_irreps,
        lmax=model.lmax,
        cutoff=model.cutoff_A,
        n_layers=model.n_layers,
        radial_basis_size=model.radial_basis_size,
        radial_mlp_size=model.radial_mlp_size,
        radial_mlp_layers=model.radial_mlp_layers,
        radial_polynomial_p=model.radial_polynomial_p,
        mlp_init_scale=MLP_INIT_SCALE,
        index_weights=model.index_weights,
        layer_norm=model.layer_norm,
        shift=0.0,
        scale=float(statistics["scale_eV"]),
        avg_n_neighbors=float(statistics["avg_n_neighbors"]),
    )


def reference_of(statistics: dict[str, Any]) -> dict[int, float]:
    """E0 (eV) by atomic number."""
    return {int(z): float(energy) for z, energy in statistics["E0_eV"].items()}


def initialise(model: NequixModel, statistics: dict[str, Any], seed: int, workdir: Path) -> Path:
    """Write one untrained member; see `NequixModel.initialise`."""
    use_compilation_cache()
    workdir.mkdir(parents=True, exist_ok=True)
    spec = spec_of(model, statistics)
    save(workdir / WEIGHTS, spec, spec.build(seed), reference_of(statistics))
    return workdir / WEIGHTS


def train(
    model: NequixModel, data: TrainingData, seed: int, workdir: Path, resources: Resources, progress: Progress
) -> Path:
    """Train and write one member; see `NequixModel.train`."""
    began = time.perf_counter()
    use_compilation_cache()
    if not data.train:
        raise TrainingError("no training labels: add labelled frames to the train side")
    check_finite([*data.train, *data.valid])
    statistics = dict(data.statistics) if data.statistics is not None else model.statistics(data)
    spec, reference = spec_of(model, statistics), reference_of(statistics)
    arrays = dataset(data.train, data.valid, spec.atomic_numbers, reference, spec.cutoff)
    with jax.default_device(device(resources.device)):
        machine = trainer(program(spec), model.training)
        kept = _fit(machine, arrays, seed, model.training, progress)
        metrics = _metrics(machine, kept, arrays, model.training)
    workdir.mkdir(parents=True, exist_ok=True)
    save(workdir / WEIGHTS, spec, program(spec).network(kept.params), reference)
    metrics |= {"seed": seed, "wall_s": time.perf_counter() - began}
    (workdir / METRICS).write_text(json.dumps(metrics, indent=1))
    return workdir / WEIGHTS


def _fit(machine: Trainer, data: Dataset, seed: int, options: NequixTraining, progress: Progress) -> Kept:
    """The averaged weights after the last step, or the best ones on the valid side when that is worth trusting."""
    choose = data.n_valid > 0 and data.n_train >= options.keep_best_from
    state = machine.start(seed)
    kept: Kept | None = None
    batches = batch_indices(data.n_train, options.batch_size, derive_seed(seed, "order"))
    for first in range(0, options.steps, CHUNK):
        count = min(CHUNK, options.steps - first)
        index = np.stack(
            [next(batches) if i < count else np.zeros(options.batch_size, int) for i in range(CHUNK)]
        )
        state, loss = machine.advance(state, data.rows(index), count)
        step, mean = first + count, float(loss)
        if not np.isfinite(mean):
            raise TrainingError(
                f"training diverged before step {step}: lower training.learning_rate, or look for absurd labels"
            )
        valid = _errors(machine, state.average, data, valid=True).loss if choose else np.nan
        if kept is None or not choose or valid < kept.valid_loss:
            kept = Kept(state.average, step, valid)
        if progress is not None:
            progress(
                f"step {step}/{options.steps}, loss {mean:.4g}" + (f", valid {valid:.4g}" if choose else "")
            )
    return kept  # type: ignore[return-value]  # steps >= 1


def batch_indices(n: int, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Endless (size,) batches cut from one permutation of n frames after another: every batch is full."""
    rng = np.random.default_rng(seed)
    left = np.empty(0, np.int64)
    while True:
        while len(left) < size:
            left = np.concatenate([left, rng.permutation(n)])
        yield left[:size]
        left = left[size:]


def _errors(machine: Trainer, params: Params, data: Dataset, valid: bool) -> ErrorSums:
    """Sums over the train or the valid side."""
    first, n = (data.n_train, data.n_valid) if valid else (0, data.n_train)
    total = ErrorSums.zero()
    for start in range(0, n, machine.batch_size):
        index = np.arange(start, start + machine.batch_size)
        weight = (index < n).astype(np.float32)
        sums = machine.errors(params, data.rows(first + np.minimum(index, n - 1)), weight)
        total = total + ErrorSums(*(float(x) for x in sums))
    return total


def _metrics(machine: Trainer, kept: Kept, data: Dataset, options: NequixTraining) -> dict[str, Any]:
    """What ``metrics.json`` says of a member; without a valid side its entries are None."""
    metrics: dict[str, Any] = {"n_train": data.n_train, "n_valid": data.n_valid}
    metrics |= {"steps": options.steps, "kept_step": kept.step}
    for side, there in (("train", True), ("valid", data.n_valid > 0)):
        sums = _errors(machine, kept.params, data, valid=side == "valid") if there else None
        metrics[f"{side}_force_rmse_eV_per_A"] = None if sums is None else sums.force_rmse
        metrics[f"{side}_energy_rmse_eV_per_atom"] = None if sums is None else sums.energy_rmse
    return metrics
