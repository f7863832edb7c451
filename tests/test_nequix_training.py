"""Training of Nequix members on small real data: EMT (a metal potential of ASE) and GFN2-xTB."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.core.reference import reference_sums
from alfw.models.nequix import NequixModel

TRAINING = {"steps": 120, "batch_size": 4}
TINY = {
    "hidden_irreps": "4x0e + 2x1o",
    "n_layers": 2,
    "radial_mlp_size": 8,
    "members": 2,
    "training": TRAINING,
}


def emt(atoms: Atoms, stress: bool = False) -> Labeled:
    """A frame and what EMT says of it."""
    copy = atoms.copy()
    copy.calc = EMT()
    label = Label(copy.get_potential_energy(), copy.get_forces())
    if stress:
        label = Label(label.energy, label.forces, copy.get_stress(voigt=False))
    return Labeled(Frame.from_atoms(atoms), label)


def rattled(atoms: Atoms, count: int, seed: int, strain: float = 0.0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        copy = atoms.copy()
        if strain:
            e = strain * rng.standard_normal((3, 3))
            copy.set_cell(copy.cell @ (np.eye(3) + (e + e.T) / 2), scale_atoms=True)
        copy.positions += 0.1 * rng.standard_normal(copy.positions.shape)
        result.append(copy)
    return result


CLUSTER = Atoms("Cu4Au", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5], [2.5, 2.5, 0.3]])
METAL = bulk("Cu", cubic=True)


def mixture(seed: int, count: int = 8) -> list[Labeled]:
    """Clusters and strained crystals of different sizes, some with a stress."""
    clusters = [emt(atoms) for atoms in rattled(CLUSTER, count, seed)]
    crystals = [emt(atoms, stress=True) for atoms in rattled(METAL, count // 2, seed, 0.02)]
    small = [emt(atoms, stress=True) for atoms in rattled(bulk("Au"), count // 2, seed, 0.03)]
    return [*clusters, *crystals, *small]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Train one member in a folder of its own; strict about dtypes and ranks."""

    def fit(data: TrainingData, seed: int = 0, **options: Any) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("member")
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            weights = NequixModel(**{**TINY, **options}).train(data, seed, None, folder, Resources())
        return weights, json.loads((folder / "metrics.json").read_text())

    return fit


def training(**changes: Any) -> dict[str, Any]:
    return {"training": {**TRAINING, **changes}}


def force_rmse(weights: list[Path], items: list[Labeled]) -> float:
    said = NequixModel(**TINY).load(weights).predict([item.frame for item in items])
    errors = [f.mean(0) - item.label.forces for f, item in zip(said.forces, items, strict=True)]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def test_statistics_are_json_shared_and_deterministic():
    data = TrainingData(mixture(0))
    found = NequixModel(**TINY).statistics(data)
    assert found == json.loads(json.dumps(found)) == NequixModel(**TINY).statistics(data)
    assert found["species"] == [29, 79] and set(found["E0_eV"]) == {"29", "79"}
    forces = np.concatenate([item.label.forces for item in data.train])
    assert found["scale_eV"] == pytest.approx(np.sqrt((forces**2).mean()))
    assert found["avg_n_neighbors"] > 3


def test_forces_that_vanish_by_symmetry_do_not_set_the_scale():
    perfect = TrainingData([emt(atoms) for atoms in (bulk("Cu"), bulk("Au"), bulk("Cu", cubic=True))])
    assert NequixModel(**TINY).statistics(perfect)["scale_eV"] == 1.0


@pytest.mark.slow
def test_sizes_and_periodicity_mix_and_training_lowers_the_error(fitted, tmp_path):
    data = TrainingData(mixture(0), mixture(1, 4))
    weights, metrics = fitted(data)
    untrained = NequixModel(**TINY).initialise(NequixModel(**TINY).statistics(data), 0, tmp_path)
    unseen = mixture(2, 4)
    assert force_rmse([weights], unseen) < 0.6 * force_rmse([untrained], unseen)
    assert (
        metrics["n_train"] == 16
        and metrics["n_valid"] == 8
        and metrics["steps"] == metrics["kept_step"] == 120
    )
    assert metrics["train_force_rmse_eV_per_A"] == pytest.approx(force_rmse([weights], mixture(0)), rel=1e-3)
    assert metrics["valid_force_rmse_eV_per_A"] == pytest.approx(
        force_rmse([weights], mixture(1, 4)), rel=1e-3
    )
    said = NequixModel(**TINY).load([weights]).predict([item.frame for item in data.train])
    per_atom = [(e - i.label.energy) / len(i.frame) for e, i in zip(said.energy[0], data.train, strict=True)]
    assert metrics["train_energy_rmse_eV_per_atom"] == pytest.approx(
        np.sqrt(np.mean(np.square(per_atom))), rel=1e-2
    )


def test_same_seed_same_weights_other_seed_other_member(fitted):
    data = TrainingData(mixture(0))
    first, second, other = (fitted(data, seed, **training(steps=7)) for seed in (3, 3, 4))
    assert first[0].read_bytes() == second[0].read_bytes() != other[0].read_bytes()
    assert NequixModel(**TINY).load([first[0], other[0]]).members == 2


def test_the_next_member_and_the_next_round_compile_nothing(fitted):
    data = TrainingData(mixture(0))
    shared = NequixModel(**TINY).statistics(data)
    fitted(TrainingData(data.train, mixture(1, 4), shared), **training(steps=7))
    compiled: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    fitted(TrainingData(data.train, mixture(1, 4), shared), 1, **training(steps=7))
    larger = [*data.train, *mixture(0, 4)]
    fitted(TrainingData(larger, mixture(1, 4), shared), 0, **training(steps=7))
    before = len(compiled)
    jax.jit(lambda x: x * 3.25 + 1)(np.float32(2))
    assert before == 0 and len(compiled) == 1  # the listener works


@pytest.mark.slow
def test_stress_labels_are_learnt(fitted):
    items = [emt(atoms, stress=True) for atoms in rattled(bulk("Cu"), 16, 5, 0.05)]
    errors = []
    for weight in (0.0, 30.0):
        weights, _ = fitted(
            TrainingData(items), **training(energy_weight=0.0, force_weight=1e-3, stress_weight=weight)
        )
        said = NequixModel(**TINY).load([weights]).predict([item.frame for item in items])
        errors.append(
            np.sqrt(np.mean([(s[0] - i.label.stress) ** 2 for s, i in zip(said.stress, items, strict=True)]))
        )
    assert errors[1] < 0.5 * errors[0]


def test_forces_on_frozen_atoms_do_not_count(fitted):
    frozen, absurd = [], []
    for item in mixture(0):
        fixed = np.arange(len(item.frame)) == 0
        frame = Frame(item.frame.numbers, item.frame.positions, item.frame.cell, item.frame.pbc, fixed=fixed)
        frozen.append(Labeled(frame, item.label))
        wrong = item.label.forces + 1e3 * fixed[:, None]
        absurd.append(Labeled(frame, Label(item.label.energy, wrong, item.label.stress)))
    same = [fitted(TrainingData(items), **training(steps=5))[0].read_bytes() for items in (frozen, absurd)]
    assert same[0] == same[1]
    assert NequixModel(**TINY).statistics(TrainingData(frozen)) == NequixModel(**TINY).statistics(
        TrainingData(absurd)
    )


def test_a_lineage_keeps_its_statistics(fitted):
    data = TrainingData(mixture(0))
    kept = {**NequixModel(**TINY).statistics(data), "scale_eV": 3.25}
    weights, _ = fitted(TrainingData(mixture(1), statistics=kept), **training(steps=2))
    with open(weights, "rb") as file:
        header = json.loads(file.readline())
    assert header["scale"] == 3.25 and header["atom_energies"] == kept["E0_eV"]


def test_identical_forces_give_no_nan(fitted):
    """A label that is met exactly has a force error of 0, where the plain norm has no derivative."""
    atom = Labeled(Frame([29], np.zeros((1, 3))), Label(-1.0, np.zeros((1, 3))))
    weights, metrics = fitted(TrainingData([atom]), **training(steps=200))
    assert metrics["train_energy_rmse_eV_per_atom"] < 1e-2
    assert np.isfinite(NequixModel(**TINY).load([weights]).predict([atom.frame]).energy).all()


def test_the_best_weights_are_kept_only_when_validation_is_worth_trusting(fitted):
    wild = training(steps=300, learning_rate=0.5, warmup_fraction=0.0, keep_best_from=16, ema_decay=0.0)
    data = TrainingData(mixture(0), mixture(1, 4))
    weights, metrics = fitted(data, **wild)
    assert metrics["kept_step"] in (100, 200, 300)
    last, fixed = fitted(data, **training(**{**wild["training"], "keep_best_from": 17}))
    assert fixed["kept_step"] == 300
    assert metrics["valid_force_rmse_eV_per_A"] <= fixed["valid_force_rmse_eV_per_A"] * 1.05


def test_progress_counts_steps_and_metrics_are_json(tmp_path):
    said: list[str] = []
    model = NequixModel(**{**TINY, **training(steps=5)})
    weights = model.train(TrainingData(mixture(0)), 0, None, tmp_path, Resources(), said.append)
    assert weights.parent == tmp_path and len(said) == 1 and said[0].startswith("step 5/5, loss ")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["seed"] == 0 and metrics["wall_s"] > 0 and metrics["valid_force_rmse_eV_per_A"] is None


def test_what_cannot_be_trained_is_said(fitted, tmp_path):
    model, data = NequixModel(**TINY), TrainingData(mixture(0))
    with pytest.raises(TrainingError, match="start.nqx: cannot be read"):
        model.train(data, 0, tmp_path / "start.nqx", tmp_path, Resources())
    with pytest.raises(TrainingError, match="no training labels"):
        model.train(TrainingData([]), 0, None, tmp_path, Resources())
    with pytest.raises(TrainingError, match="does not know Au .it knows Cu."):
        fitted(TrainingData(data.train, statistics=model.statistics(TrainingData([emt(METAL)]))))
    with pytest.raises(TrainingError, match="ask for a gpu"):
        model.train(data, 0, None, tmp_path, Resources(device="gpu"))
    bad = Labeled(data.train[0].frame, Label(np.nan, data.train[0].label.forces))
    with pytest.raises(TrainingError, match="not finite"):
        fitted(TrainingData([*data.train, bad]))


@pytest.mark.slow
def test_ethanol_gfn2_from_scratch(fitted):
    """Interactions of a molecule whose total energy is hundreds of eV, from 40 labels."""
    tblite = pytest.importorskip("tblite.ase")
    calculator = tblite.TBLite(method="GFN2-xTB", verbosity=0)
    items = []
    for atoms in rattled(molecule("CH3CH2OH"), 60, 0):
        atoms.calc = calculator
        items.append(
            Labeled(Frame.from_atoms(atoms), Label(atoms.get_potential_energy(), atoms.get_forces()))
        )
    steps = training(steps=600, batch_size=8)
    members = [
        fitted(TrainingData(items[:40]), seed, hidden_irreps="16x0e + 8x1o", **steps)[0] for seed in range(2)
    ]
    spread = float(np.sqrt(np.mean([item.label.forces**2 for item in items])))
    assert force_rmse(members, items[40:]) < 0.35 * spread
    said = NequixModel(**TINY).load(members).predict([item.frame for item in items[40:]])
    errors = said.energy.mean(0) - [item.label.energy for item in items[40:]]
    e0 = NequixModel(**TINY).statistics(TrainingData(items[:40]))["E0_eV"]
    assert abs(reference_sums([items[0].frame], {int(z): e for z, e in e0.items()})[0]) > 100
    assert np.sqrt(np.mean(errors**2)) / 9 < 0.05
