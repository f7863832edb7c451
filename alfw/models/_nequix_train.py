"""Training of Nequix members."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.ids import derive_seed
from alfw.core.records import Resources, TrainingData
from alfw.models import _resume as resume
from alfw.models._jax import use_compilation_cache, use_device
from alfw.models._nequix_data import Dataset, dataset
from alfw.models._nequix_heads import heads
from alfw.models._nequix_network import Params, Spec, program, save
from alfw.models._nequix_replay import replayed, rows
from alfw.models._nequix_start import bootstrapped, first_weights, spec_of, steps_of, with_rate
from alfw.models._nequix_step import CHUNK, ErrorSums, Kept, State, Trainer, trainer
from alfw.models.nequix import NequixModel, NequixTraining
from alfw.models.statistics import check_finite

WEIGHTS, METRICS, STATE, LAST_GOOD = "member.nqx", "metrics.json", "state.npz", "last_good.nqx"
Progress = Callable[[str], None] | None


@dataclass(frozen=True, eq=False)
class Job:
    """One member to train.

    Attributes
    ----------
    machine : Trainer
    data : Dataset
    order : (M,) int64
        Rows of the training side, some more than once if it is a bootstrap sample.
    n_replay : int
        How many frames are replayed; their rows come last.
    steps, seed : int
    state_file : Path
        Where the state is kept now and then, and found again.
    """

    machine: Trainer
    data: Dataset
    order: NDArray[np.int64]
    steps: int
    seed: int
    state_file: Path
    n_replay: int = 0
    progress: Progress = None
    keep: Callable[[Path, int], None] | None = None

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Rows of one batch after another, without end."""
        o, replay = self.options, self.data.n_train + self.data.n_valid
        return rows(self.order, o.batch_size, self.seed, replay, self.n_replay, o.replay_fraction)

    @property
    def marks(self) -> list[float]:
        """By what the state of another training is known."""
        return [float(self.steps), float(self.data.n_train), float(self.n_replay), float(self.seed)]

    @property
    def options(self) -> NequixTraining:
        """How it is trained."""
        return self.machine.options

    @property
    def choose(self) -> bool:
        """Whether the valid side says which average is kept."""
        return self.data.n_valid > 0 and self.data.n_train >= self.options.keep_best_from


def reference_of(statistics: dict[str, Any]) -> dict[int, float]:
    """E0 (eV) by atomic number."""
    return {int(z): float(energy) for z, energy in statistics["E0_eV"].items()}


def initialise(model: NequixModel, statistics: dict[str, Any], seed: int, workdir: Path) -> Path:
    """Write one untrained member; see `NequixModel.initialise`."""
    use_compilation_cache()
    workdir.mkdir(parents=True, exist_ok=True)
    spec = spec_of(model, statistics, None)
    save(workdir / WEIGHTS, spec, spec.build(seed), reference_of(statistics))
    return workdir / WEIGHTS


def train(
    model: NequixModel,
    data: TrainingData,
    seed: int,
    start: Path | None,
    workdir: Path,
    resources: Resources,
    progress: Progress,
    keep: Callable[[Path, int], None] | None = None,
) -> Path:
    """Train and write one member; see `NequixModel.train`."""
    began = time.perf_counter()
    use_compilation_cache()
    if not data.train:
        raise TrainingError("no training labels: add labelled frames to the train side")
    for side in (data.train, data.valid):
        check_finite(side)
    statistics = dict(data.statistics) if data.statistics is not None else model.statistics(data, start)
    model = with_rate(model, statistics)
    workdir.mkdir(parents=True, exist_ok=True)
    spec, reference = spec_of(model, statistics, start), reference_of(statistics)
    with use_device(resources.device):
        job = _job(model, data, spec, reference, seed, start, workdir / STATE, progress, keep)
        try:
            kept = fit(job, first_weights(model, spec, start, seed))
        except DivergedTraining as error:
            raise _with_last_good(error, job, data, spec, reference, workdir / LAST_GOOD) from None
        metrics = _metrics(job, kept)
        readouts = heads(program(spec), kept.params, job.data, model.heads, seed) if model.heads else None
    save(workdir / WEIGHTS, spec, program(spec).network(kept.params), reference, readouts)
    metrics |= {"seed": seed, "wall_s": time.perf_counter() - began}
    (workdir / METRICS).write_text(json.dumps(metrics, indent=1))
    return workdir / WEIGHTS


def _job(
    model: NequixModel,
    data: TrainingData,
    spec: Spec,
    reference: dict[int, float],
    seed: int,
    start: Path | None,
    state_file: Path,
    progress: Progress = None,
    keep: Callable[[Path, int], None] | None = None,
) -> Job:
    """All that `fit` needs."""
    again = replayed(data.replay, start, reference) if data.replay and start is not None else []
    arrays = dataset(data.train, [*data.valid, *again], spec.atomic_numbers, reference, spec.cutoff)
    arrays = replace(arrays, n_valid=len(data.valid))
    order = np.arange(arrays.n_train)
    if bootstrapped(model, start):
        order = np.random.default_rng(derive_seed(seed, "bootstrap")).choice(order, len(order))
    steps = steps_of(model, start)
    options = model.training.model_copy(update={"steps": steps})
    machine = trainer(program(spec), options)
    return Job(machine, arrays, order, steps, seed, state_file, len(again), progress, keep)


def final_loss(
    model: NequixModel, data: TrainingData, statistics: dict[str, Any], start: Path | None
) -> float:
    """Loss on the valid side after a short training (`data.valid` must not be empty); NaN where it diverged."""
    spec, reference = spec_of(model, statistics, start), reference_of(statistics)
    job = _job(model, data, spec, reference, 0, start, Path(os.devnull))
    try:
        kept = fit(job, first_weights(model, spec, start, 0))
    except DivergedTraining:
        return float("nan")
    return _errors(job.machine, kept.params, job.data, valid=True).loss


def fit(job: Job, params: Params) -> Kept:
    """The averaged weights after the last step, or the best ones on the valid side when that is worth trusting.

    Raises
    ------
    DivergedTraining
        The loss is not finite.
    """
    machine, options = job.machine, job.options
    state, kept, first, idle = _where_it_was(job, machine.begin(params))
    batches = job.batches()
    for _ in range(first):
        next(batches)
    clock = resume.Clock()
    for step in range(first, job.steps, CHUNK):
        count = min(CHUNK, job.steps - step)
        index = np.stack(
            [next(batches) if i < count else np.zeros(options.batch_size, int) for i in range(CHUNK)]
        )
        before = state
        state, loss = machine.advance(state, job.data.rows(index), count)
        if not np.isfinite(float(loss)):
            raise DivergedTraining(step + _first_bad(job, before, index[:count]), index, kept, step)
        valid = _errors(machine, state.average, job.data, valid=True).loss if job.choose else np.nan
        better = kept is None or not job.choose or valid < kept.valid_loss
        kept, idle = (Kept(state.average, step + count, valid), 0) if better else (kept, idle + 1)
        _tell(job, step + count, float(loss), valid)
        if options.patience is not None and idle >= options.patience:
            break
        if job.keep is not None and kept is not None and clock.due():
            where = (step + count, idle, kept.step, kept.valid_loss, *job.marks)
            resume.write(job.state_file, (state, kept.params), where)
            job.keep(job.state_file, step + count)
    return kept  # type: ignore[return-value]  # steps >= 1


def _where_it_was(job: Job, begin: State) -> tuple[State, Kept | None, int, int]:
    """State, what is kept, steps done and idle evaluations of this training if it was cut off, else of a new one."""
    saved = resume.read(job.state_file, (begin, begin.params))
    if saved is None or saved[1][4:] != job.marks:
        return begin, None, 0, 0
    (state, params), (step, idle, kept_step, valid_loss, *_) = saved
    return state, Kept(params, int(kept_step), valid_loss), int(step), int(idle)


def _tell(job: Job, step: int, loss: float, valid: float) -> None:
    """One line of progress."""
    if job.progress is not None:
        more = f", valid {valid:.4g}" if job.choose else ""
        job.progress(f"step {step}/{job.steps}, loss {loss:.4g}{more}")


def _first_bad(job: Job, state: State, index: NDArray[np.int64]) -> int:
    """Which of these steps is the first with a loss that is not finite."""
    for i in range(len(index)):
        stacked = np.repeat(index[i : i + 1], CHUNK, axis=0)
        state, loss = job.machine.advance(state, job.data.rows(stacked), 1)
        if not np.isfinite(float(loss)):
            return i
    return 0


class DivergedTraining(Exception):
    """The loss became NaN or infinite in a step: its number, rows of its chunk, and what was good before."""

    def __init__(self, step: int, rows: NDArray[np.int64], kept: Kept | None, chunk: int) -> None:
        super().__init__(step)
        self.step, self.rows, self.kept = step, rows[step - chunk], kept


def _with_last_good(
    error: DivergedTraining, job: Job, data: TrainingData, spec: Spec, reference: dict[int, float], path: Path
) -> TrainingError:
    """What the user is told; the weights of before are saved first."""
    own = [int(row) for row in error.rows if row < job.data.n_train]
    frames = ", ".join(dict.fromkeys(data.train[row].frame.id[:12] for row in own))
    what = f"training diverged in step {error.step + 1} of {job.steps}, batch of frames {frames}"
    if error.kept is not None:
        save(path, spec, program(spec).network(error.kept.params), reference)
        what += f"; the weights of step {error.kept.step} are in {path}"
    return TrainingError(f"{what}: lower training.learning_rate, or look for absurd labels among them")


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


def _metrics(job: Job, kept: Kept) -> dict[str, Any]:
    """What ``metrics.json`` says of a member; without a valid side its entries are None."""
    data = job.data
    metrics: dict[str, Any] = {"n_train": data.n_train, "n_valid": data.n_valid}
    metrics |= {"steps": job.steps, "kept_step": kept.step, "learning_rate": job.options.learning_rate}
    for side, there in (("train", True), ("valid", data.n_valid > 0)):
        sums = _errors(job.machine, kept.params, data, valid=side == "valid") if there else None
        metrics[f"{side}_force_rmse_eV_per_A"] = None if sums is None else sums.force_rmse
        metrics[f"{side}_energy_rmse_eV_per_atom"] = None if sums is None else sums.energy_rmse
    return metrics
