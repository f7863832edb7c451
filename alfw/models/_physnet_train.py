"""Training of PhysNet and DCMNet together."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.ids import derive_seed
from alfw.core.records import Resources, TrainingData
from alfw.core.reference import fit_reference_energies, reference_sums
from alfw.models import _resume as resume
from alfw.models._jax import device, use_compilation_cache
from alfw.models._physnet_data import Data, data
from alfw.models._physnet_files import Weights, different, load, save
from alfw.models._physnet_network import Networks, Sizes, networks
from alfw.models._physnet_step import CHUNK, Machine, State, machine
from alfw.models.physnet import PhysNetModel
from alfw.models.schedule import batch_indices
from alfw.models.statistics import check_finite

WEIGHTS, METRICS, STATE, LAST_GOOD = "member.npz", "metrics.json", "state.npz", "last_good.npz"
Progress = Callable[[str], None] | None


@dataclass(frozen=True, eq=False)
class Job:
    """One member to train.

    Attributes
    ----------
    machine : Machine
    data : Data
    steps, batch_size, seed : int
    state_file : Path
        Where the state is kept now and then, and found again.
    """

    machine: Machine
    data: Data
    steps: int
    batch_size: int
    seed: int
    state_file: Path
    progress: Progress = None
    keep: Callable[[Path, int], None] | None = None

    @property
    def marks(self) -> list[float]:
        """By what the state of another training is known."""
        return [float(self.steps), float(self.data.n_train), float(self.seed)]


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
        dipole_source=model.dipole_source,
        mix_coulomb_energy=model.mix_coulomb_energy,
    )


def train(
    model: PhysNetModel,
    training: TrainingData,
    seed: int,
    start: Path | None,
    workdir: Path,
    resources: Resources,
    progress: Progress = None,
    keep: Callable[[Path, int], None] | None = None,
) -> Path:
    """Train and write one member; see `PhysNetModel.train`."""
    began = time.perf_counter()
    use_compilation_cache()
    if not training.train:
        raise TrainingError("no training labels: add labelled frames to the train side")
    for side in (training.train, training.valid):
        check_finite(side)
    statistics = (
        dict(training.statistics) if training.statistics is not None else model.statistics(training, start)
    )
    sizes = sizes_of(model, statistics)
    reference = {int(z): float(e) for z, e in statistics["E0_eV"].items()}
    workdir.mkdir(parents=True, exist_ok=True)
    with jax.default_device(device(resources.device)):
        nets = networks(sizes)
        arrays = data(training.train, training.valid, sizes, reference, model.training)
        params = first_weights(nets, training, reference, seed, start)
        size = model.training.batch_size
        steps = model.training.epochs * -(-arrays.n_train // size)
        run = machine(nets, model.training.model_copy(update={"epochs": 1}))  # one for any number of them
        job = Job(run, arrays, steps, size, seed, workdir / STATE, progress, keep)
        try:
            params = fit(job, params)
        except DivergedTraining as error:
            raise _with_last_good(error, job, training, sizes, reference, workdir / LAST_GOOD) from None
        metrics = _metrics(job, params, _unused(model))
    save(workdir / WEIGHTS, sizes, params, reference)
    metrics |= {"seed": seed, "steps": steps, "wall_s": time.perf_counter() - began}
    (workdir / METRICS).write_text(json.dumps(metrics, indent=1))
    (workdir / STATE).unlink(missing_ok=True)  # nothing to go on with
    return workdir / WEIGHTS


def first_weights(
    nets: Networks, training: TrainingData, reference: dict[int, float], seed: int, start: Path | None
) -> Any:
    """Those in `start`, else random ones, with the energy of each element where E0 leave it.

    Raises
    ------
    TrainingError
        The weights in `start` are of another network or stand on other reference energies.
    """
    if start is not None:
        found = load(start)
        unlike = different(found, Weights(nets.sizes, None, reference))
        if unlike:
            raise TrainingError(f"{start}: these weights cannot be started from: {unlike} differ")
        return found.params
    params = nets.build(seed)
    frames = [item.frame for item in training.train]
    energy = np.array([item.label.energy for item in training.train])
    left = fit_reference_energies(frames, energy - reference_sums(frames, reference))
    shift = np.array([left.get(z, 0.0) for z in nets.sizes.atomic_numbers]) / nets.sizes.scale_eV
    params["physnet"]["params"]["energy_of_element"] = jnp.asarray(shift, jnp.float32)
    return params


def fit(job: Job, params: Any) -> Any:
    """The averaged weights after the last step.

    Raises
    ------
    DivergedTraining
        The loss is not finite.
    """
    begin = job.machine.start(params)
    saved = resume.read(job.state_file, begin)
    state, first = begin, 0
    if saved is not None and saved[1][1:] == job.marks:
        state, first = saved[0], int(saved[1][0])
    batches = batch_indices(job.data.n_train, job.batch_size, derive_seed(job.seed, "order"))
    for _ in range(first):
        next(batches)
    clock = resume.Clock()
    for step in range(first, job.steps, CHUNK):
        count = min(CHUNK, job.steps - step)
        index = np.zeros((CHUNK, job.batch_size), np.int64)
        index[:count] = [next(batches) for _ in range(count)]
        before = state
        state, loss = _advance(job, before, index, count)
        if not np.isfinite(loss):
            raise _diverged(job, before, index, step)
        if job.progress is not None:
            job.progress(f"step {step + count}/{job.steps}, loss {loss:.4g}")
        if job.keep is not None and clock.due():
            resume.write(job.state_file, state, [step + count, *job.marks])
            job.keep(job.state_file, step + count)
    return state.average


def _advance(job: Job, state: State, index: NDArray[np.int64], count: int) -> tuple[State, float]:
    """The state after `count` steps on these rows (CHUNK, b), and the mean loss."""
    batches = jax.tree.map(jnp.asarray, job.data.rows(index))
    state, loss = job.machine.advance(state, batches, jnp.int32(count), jnp.float32(job.steps))
    return state, float(loss)


class DivergedTraining(Exception):
    """The loss became NaN or infinite in a step: its number, the rows of its batch, and the averaged weights before."""

    def __init__(self, step: int, rows: NDArray[np.int64], average: Any) -> None:
        super().__init__(step)
        self.step, self.rows, self.average = step, rows, average


def _diverged(job: Job, state: State, index: NDArray[np.int64], first: int) -> DivergedTraining:
    """Which step of a chunk, which began with `state`, was the first with a loss that is not finite."""
    for i, rows in enumerate(index):
        after, loss = _advance(job, state, np.repeat(rows[None], CHUNK, axis=0), 1)
        if not np.isfinite(loss):
            return DivergedTraining(first + i, rows, state.average)
        state = after
    return DivergedTraining(first, index[0], state.average)


def _with_last_good(
    error: DivergedTraining,
    job: Job,
    training: TrainingData,
    sizes: Sizes,
    reference: dict[int, float],
    path: Path,
) -> TrainingError:
    """What the user is told; the weights of before are saved first."""
    frames = ", ".join(dict.fromkeys(training.train[int(row)].frame.id[:12] for row in error.rows))
    what = f"training diverged in step {error.step + 1} of {job.steps}, batch of frames {frames}"
    if error.step > 0:
        save(path, sizes, error.average, reference)
        what += f"; the weights of step {error.step} are in {path}"
    return TrainingError(f"{what}: lower training.learning_rate, or look for absurd labels among them")


def _unused(model: PhysNetModel) -> set[str]:
    """Names of mixtures that were not learnt."""
    learnt = {
        "dipole_mixed": model.training.dipole_loss_sources,
        "esp_mixed": model.training.esp_loss_sources,
    }
    return {name for name, sources in learnt.items() if "mixed" not in sources}


def _metrics(job: Job, params: Any, unused: set[str]) -> dict[str, Any]:
    """Root mean squares of both sides, None where no label has any; energies per molecule."""
    arrays, size = job.data, job.batch_size
    metrics: dict[str, Any] = {"n_train": arrays.n_train, "n_valid": arrays.n_valid}
    for side, first, n in (("train", 0, arrays.n_train), ("valid", arrays.n_train, arrays.n_valid)):
        total: dict[str, NDArray[np.float64]] = {}
        for start in range(0, n, size):
            row = np.arange(start, start + size)
            batch = jax.tree.map(jnp.asarray, arrays.rows(first + np.minimum(row, n - 1)))
            sums = job.machine.errors(params, batch, jnp.asarray(row < n, jnp.float32))
            total = {name: total.get(name, 0.0) + np.array(pair, np.float64) for name, pair in sums.items()}
        for name, (squares, count) in total.items():
            if name not in unused:
                metrics[f"{side}_{name}_rmse"] = float(np.sqrt(squares / count)) if count else None
    return metrics
