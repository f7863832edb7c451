"""What a training of Nequix members starts from: the network's description, its weights, the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.ids import sha256
from alfw.core.records import Labeled, TrainingData
from alfw.core.reference import fit_reference_energies, reference_sums, species_of
from alfw.models._jax import use_compilation_cache
from alfw.models._nequix_network import Params, Spec, load, program
from alfw.models._nequix_potential import NequixPotential
from alfw.models.nequix import NequixModel
from alfw.models.statistics import check_finite
from alfw.models.statistics import statistics as shared_statistics

PROBE_FACTORS = (0.5, 1.0, 2.0)  # of the learning rate
PROBE_STEPS = 100


def spec_of(model: NequixModel, statistics: dict[str, Any], start: Path | None) -> Spec:
    """The network that the options and the shared statistics describe, or the one of the weights `start`."""
    scale, neighbours = float(statistics["scale_eV"]), float(statistics["avg_n_neighbors"])
    if start is not None:
        return load(start).spec
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
        mlp_init_scale=model.mlp_init_scale,
        index_weights=model.index_weights,
        layer_norm=model.layer_norm,
        shift=0.0,
        scale=scale,
        avg_n_neighbors=neighbours,
    )


def first_weights(model: NequixModel, spec: Spec, start: Path | None, seed: int) -> Params:
    """Arrays of the untrained member of this seed: random, or those of `start`, with a new readout where wanted.

    A member of the round before keeps its readout: it is what makes it differ from the others.
    """
    fresh = program(spec).arrays(spec.build(seed))
    if start is None:
        return fresh
    params = load(start).params
    wanted = model.members > 1 if model.new_readout is None else model.new_readout
    renewed = wanted and is_foundation(model, start)
    return eqx.tree_at(lambda p: p.readout, params, fresh.readout) if renewed else params


def is_foundation(model: NequixModel, start: Path | None) -> bool:
    """Whether these weights are the checkpoint that all members start from, not a member of the round before."""
    if start is None or model.start_from is None:
        return False
    if model.start_sha256 is not None:
        return sha256(start.read_bytes()) == model.start_sha256
    return start.resolve() == Path(model.start_from).resolve()


def bootstrapped(model: NequixModel, start: Path | None) -> bool:
    """Whether each member sees its own sample of the training side."""
    chosen = model.training.bootstrap
    return model.members > 1 and is_foundation(model, start) if chosen is None else chosen


def steps_of(model: NequixModel, start: Path | None) -> int:
    """How long a member is trained: fully from scratch or from a checkpoint, shorter from the round before."""
    options = model.training
    if start is None or is_foundation(model, start):
        return options.steps
    return options.warm_steps or max(options.steps // 2, 1)


def statistics(model: NequixModel, data: TrainingData, start: Path | None) -> dict[str, Any]:
    """See `NequixModel.statistics`; here of a checkpoint, or with a learning rate to probe."""
    use_compilation_cache()
    shared = (
        shared_statistics(data.train, model.cutoff_A) if start is None else _of_checkpoint(data.train, start)
    )
    if model.training.probe:
        from alfw.models._nequix_train import final_loss

        shared["learning_rate"] = probed(model, data, shared, start, final_loss)
    return shared


def _of_checkpoint(train: Sequence[Labeled], start: Path) -> dict[str, Any]:
    """The checkpoint's own statistics, with E0 fitted to what it leaves of the labelled energies."""
    check_finite(train)
    if not train:
        raise TrainingError("no training labels: add labelled frames to the train side")
    found = load(start)
    spec, reference = found.spec, found.reference
    frames: list[Frame] = [item.frame for item in train]
    unknown = set(species_of(frames)) - set(spec.atomic_numbers)
    if unknown:
        raise TrainingError(
            f"{start}: the checkpoint does not know Z = {sorted(unknown)}: train from scratch"
        )
    interaction = NequixPotential([start]).predict(frames).energy[0] - reference_sums(frames, reference)
    energies = np.array([item.label.energy for item in train]) - interaction
    fitted = reference | fit_reference_energies(frames, energies, prior=reference)
    return {
        "species": list(spec.atomic_numbers),
        "E0_eV": {str(z): energy for z, energy in sorted(fitted.items())},
        "scale_eV": spec.scale,
        "avg_n_neighbors": spec.avg_n_neighbors,
    }


def probed(
    model: NequixModel,
    data: TrainingData,
    shared: dict[str, Any],
    start: Path | None,
    loss: Callable[..., float],
) -> float:
    """The best of three learning rates: lowest loss on the valid side, else on a fifth of the train side."""
    if not data.valid:
        cut = max(1, len(data.train) - len(data.train) // 5)
        data = TrainingData(data.train[:cut], data.train[cut:] or data.train)
    rate = model.training.learning_rate
    losses = {}
    for factor in PROBE_FACTORS:
        steps = min(PROBE_STEPS, model.training.steps)
        trial = _with(model, learning_rate=factor * rate, steps=steps, probe=False)
        losses[factor * rate] = loss(trial, data, shared, start)
    finite = {rate: value for rate, value in losses.items() if np.isfinite(value)}
    if not finite:
        raise TrainingError(f"no learning rate of {sorted(losses)} works: look for absurd labels")
    return min(finite, key=lambda rate: finite[rate])


def with_rate(model: NequixModel, shared: dict[str, Any]) -> NequixModel:
    """The model with the learning rate that the lineage has probed, if it has."""
    if "learning_rate" not in shared:
        return model
    return _with(model, learning_rate=float(shared["learning_rate"]), probe=False)


def _with(model: NequixModel, **options: Any) -> NequixModel:
    """The model with other options of training."""
    return model.model_copy(update={"training": model.training.model_copy(update=options)})
