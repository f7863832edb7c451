"""Nequix from a checkpoint: what is taken from it, members that differ, trainings cut off, shallow ensembles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from pydantic import ValidationError

from alfw.core.errors import DataError, TrainingError
from alfw.core.frame import Frame
from alfw.core.ids import derive_seed, sha256
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.core.reference import reference_sums
from alfw.models import _resume as resume
from alfw.models._nequix_network import load
from alfw.models._nequix_step import CHUNK
from alfw.models.nequix import FINE_TUNING, NequixModel
from alfw.models.schedule import batch_indices

pytestmark = pytest.mark.slow  # each of them trains

SMALL = {"hidden_irreps": "4x0e + 2x1o", "n_layers": 2, "radial_mlp_size": 8}
SHORT = {"steps": 120, "batch_size": 4}
FOUNDATION = Path(__file__).resolve().parents[2] / "shared" / "models" / "nequix-mp-1.nqx"
CLUSTER = Atoms("Cu3Au2", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5], [2.5, 2.5, 0.3]])


def labels(count: int, seed: int, atoms: Atoms = CLUSTER, shift: float = 0.0) -> list[Labeled]:
    """Rattled clusters at EMT, energies off by `shift` eV an atom."""
    rng, items = np.random.default_rng(seed), []
    for _ in range(count):
        copy = atoms.copy()
        copy.positions += 0.12 * rng.standard_normal(copy.positions.shape)
        copy.calc = EMT()
        energy = copy.get_potential_energy() + shift * len(copy)
        items.append(Labeled(Frame.from_atoms(copy), Label(energy, copy.get_forces())))
    return items


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network trained on Cu-Au clusters."""
    model = NequixModel(**SMALL, members=1, training={"steps": 400, "batch_size": 4})
    both = [*labels(16, 0), *labels(8, 1, CLUSTER[:3]), *labels(8, 2, CLUSTER[2:])]
    return model.train(TrainingData(both), 0, None, tmp_path_factory.mktemp("foundation"), Resources())


def tuned(checkpoint: Path, folder: Path, data: TrainingData, seed: int = 0, **options: Any) -> Path:
    """One member fine-tuned from the checkpoint."""
    training = {**SHORT, **options.pop("training", {})}
    model = NequixModel(start_from=str(checkpoint), training=training, **options)
    statistics = model.statistics(data, checkpoint)
    return model.train(
        TrainingData(data.train, data.valid, statistics), seed, checkpoint, folder, Resources()
    )


def error(weights: list[Path], items: list[Labeled]) -> float:
    said = NequixModel().load(weights).predict([item.frame for item in items])
    away = [f.mean(0) - item.label.forces for f, item in zip(said.forces, items, strict=True)]
    return float(np.sqrt(np.mean(np.concatenate(away) ** 2)))


def test_a_checkpoint_fixes_the_network_and_its_e0_are_refitted_to_the_labels(checkpoint, tmp_path):
    data = TrainingData(labels(6, 5, shift=-3.0))
    statistics = NequixModel(start_from=str(checkpoint)).statistics(data, checkpoint)
    before = load(checkpoint)
    assert statistics["species"] == [29, 79] and statistics["scale_eV"] == before.spec.scale
    frames = [item.frame for item in data.train]
    e0 = {int(z): e for z, e in statistics["E0_eV"].items()}
    # One composition: only the sum over the cluster is known, and it takes up the whole shift.
    moved = (reference_sums(frames, e0) - reference_sums(frames, before.reference)) / 5
    assert moved == pytest.approx(np.full(6, -3.0), abs=0.1)
    weights = tuned(checkpoint, tmp_path, data)
    assert load(weights).spec == before.spec
    said = NequixModel().load([weights]).predict(frames)
    assert said.energy[0] == pytest.approx([item.label.energy for item in data.train], abs=0.3)


def test_fine_tuning_needs_fewer_labels_than_starting_from_scratch(checkpoint, tmp_path):
    few, test = labels(6, 7), labels(20, 8)
    scratch = NequixModel(**SMALL, training=SHORT).train(
        TrainingData(few), 0, None, tmp_path / "s", Resources()
    )
    fine = tuned(checkpoint, tmp_path / "f", TrainingData(few), members=1)
    assert error([fine], test) < 0.7 * error([scratch], test)


def test_members_of_one_checkpoint_differ_by_readout_and_bootstrap(checkpoint, tmp_path):
    data, test = TrainingData(labels(10, 9)), labels(10, 10)
    members = [tuned(checkpoint, tmp_path / str(k), data, seed=k, members=2) for k in range(2)]
    said = NequixModel().load(members).predict([item.frame for item in test])
    spread = np.array([f.std(0).mean() for f in said.forces])
    assert spread.min() > 1e-3
    same = [tuned(checkpoint, tmp_path / f"again{k}", data, seed=0, members=2) for k in range(2)]
    assert same[0].read_bytes() == same[1].read_bytes()


def test_what_the_checkpoint_has_cannot_be_set_beside_it(checkpoint):
    with pytest.raises(ValidationError, match="cutoff_A, n_layers cannot be set beside start_from"):
        NequixModel(start_from=str(checkpoint), cutoff_A=5.0, n_layers=2)
    assert NequixModel(start_from="x").training.steps == FINE_TUNING["steps"]
    assert (
        NequixModel(start_from="x", training={"steps": 7}).training.learning_rate
        == FINE_TUNING["learning_rate"]
    )


def test_an_element_that_the_checkpoint_lacks_is_refused(checkpoint):
    silver = labels(2, 0, Atoms("Ag3", CLUSTER.positions[:3]))
    with pytest.raises(TrainingError, match=r"does not know Z = \[47\]"):
        NequixModel(start_from=str(checkpoint)).statistics(TrainingData(silver), checkpoint)


def test_a_checkpoint_is_pinned_by_its_content(checkpoint, tmp_path):
    copy = tmp_path / "start.nqx"
    copy.write_bytes(checkpoint.read_bytes())
    options = NequixModel.with_files({"kind": "nequix", "start_from": "start.nqx"}, tmp_path)
    assert options["start_from"] == str(copy) and options["start_sha256"] == sha256(copy.read_bytes())
    assert NequixModel.with_files(options, tmp_path) == options
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="has SHA-256"):
        NequixModel.with_files(options, tmp_path)
    with pytest.raises(DataError, match="is not there"):
        NequixModel.with_files({"start_from": "nothing.nqx"}, tmp_path)


def test_a_training_cut_off_goes_on_where_it_was_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    data = TrainingData(labels(12, 3), labels(4, 4))
    model = NequixModel(
        **SMALL, members=1, training={"steps": 3 * CHUNK, "batch_size": 4, "keep_best_from": 1}
    )
    whole = model.train(data, 0, None, tmp_path / "whole", Resources())

    class Killed(Exception):
        pass

    def kill(path: Path, step: int) -> None:
        if step == CHUNK:
            raise Killed

    with pytest.raises(Killed):
        model.train(data, 0, None, tmp_path / "cut", Resources(), keep=kill)
    assert not (tmp_path / "cut" / "member.nqx").exists()
    steps = []
    again = model.train(
        data, 0, None, tmp_path / "cut", Resources(), keep=lambda path, step: steps.append(step)
    )
    assert steps == [2 * CHUNK, 3 * CHUNK]
    assert again.read_bytes() == whole.read_bytes()


def test_a_state_of_another_network_or_half_a_file_is_not_used(tmp_path):
    data = TrainingData(labels(6, 3))
    (tmp_path / "state.npz").write_bytes(b"PK half")
    model = NequixModel(**SMALL, members=1, training={"steps": 20, "batch_size": 4})
    assert model.train(data, 0, None, tmp_path, Resources()).exists()


def test_the_state_of_another_training_is_not_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    data = TrainingData(labels(6, 3))
    model = NequixModel(**SMALL, members=1, training={"steps": 2 * CHUNK, "batch_size": 4})
    states = []
    model.train(
        data, 1, None, tmp_path / "a", Resources(), keep=lambda path, _: states.append(path.read_bytes())
    )
    other = model.train(data, 2, None, tmp_path / "b", Resources())
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "state.npz").write_bytes(states[0])  # of seed 1
    assert model.train(data, 2, None, tmp_path / "c", Resources()).read_bytes() == other.read_bytes()


def test_a_loss_that_is_not_finite_names_the_batch(tmp_path):
    good = labels(8, 3)
    model = NequixModel(**SMALL, members=1, training={"steps": 300, "batch_size": 2, "learning_rate": 1e-2})
    bad = Labeled(
        good[0].frame.moved(good[0].frame.positions * 1.01), Label(1e30, good[0].label.forces * 1e30)
    )
    statistics = model.statistics(TrainingData(good))
    with pytest.raises(TrainingError, match="diverged in step") as caught:
        model.train(TrainingData([*good, bad], statistics=statistics), 0, None, tmp_path, Resources())
    assert bad.frame.id[:12] in str(caught.value)


def test_a_training_that_diverges_later_leaves_its_last_good_weights(tmp_path):
    good = labels(2 * CHUNK, 3)
    order = batch_indices(len(good), 1, derive_seed(0, "order"))
    late = int([next(order)[0] for _ in range(CHUNK + 50)][-1])  # the frame of a step in the second hundred
    items = list(good)
    items[late] = Labeled(good[late].frame, Label(1e30, good[late].label.forces * 1e30))
    model = NequixModel(**SMALL, members=1, training={"steps": 2 * CHUNK, "batch_size": 1})
    data = TrainingData(items, statistics=model.statistics(TrainingData(good)))
    what = rf"diverged in step {CHUNK + 50} of {2 * CHUNK}, batch of frames {items[late].frame.id[:12]}"
    with pytest.raises(TrainingError, match=f"{what}; the weights of step {CHUNK} are in .*last_good.nqx"):
        model.train(data, 0, None, tmp_path, Resources())
    assert not (tmp_path / "member.nqx").exists()
    assert np.isfinite(error([tmp_path / "last_good.nqx"], good[:5]))


def test_the_learning_rate_is_probed_once_for_the_lineage(tmp_path):
    training = {"steps": 60, "batch_size": 4, "learning_rate": 1e-6, "probe": True}
    model = NequixModel(**SMALL, members=1, training=training)
    data = TrainingData(labels(10, 3), labels(4, 4))
    statistics = model.statistics(data)
    assert statistics["learning_rate"] == 2e-6  # of three that are much too small the largest
    path = model.train(TrainingData(data.train, data.valid, statistics), 0, None, tmp_path, Resources())
    assert json.loads((path.parent / "metrics.json").read_text())["learning_rate"] == 2e-6


def test_training_stops_when_the_valid_side_gains_nothing(tmp_path):
    training = {
        "steps": 20 * CHUNK,
        "batch_size": 2,
        "keep_best_from": 1,
        "patience": 1,
        "learning_rate": 0.05,
    }
    model = NequixModel(**SMALL, members=1, training=training)
    seen: list[str] = []
    model.train(TrainingData(labels(3, 3), labels(3, 44)), 0, None, tmp_path, Resources(), seen.append)
    assert 1 < len(seen) < 20


def test_a_shallow_ensemble_has_the_trained_network_as_its_mean(tmp_path):
    data, test = TrainingData(labels(16, 3), labels(8, 4)), labels(12, 5)
    options = {**SMALL, "members": 1, "training": {"steps": 300, "batch_size": 4}}
    deep = NequixModel(**options).train(data, 0, None, tmp_path / "one", Resources())
    shallow = NequixModel(**options, heads=8).train(data, 0, None, tmp_path / "many", Resources())
    frames = [item.frame for item in test]
    one, many = NequixModel().load([deep]).predict(frames), NequixModel().load([shallow]).predict(frames)
    assert one.energy.shape == (1, 12) and many.energy.shape == (8, 12)
    np.testing.assert_allclose(many.energy.mean(0), one.energy[0], atol=1e-4)
    np.testing.assert_allclose(many.forces[0].mean(0), one.forces[0][0], atol=1e-4)
    away = np.concatenate([f.mean(0) - item.label.forces for f, item in zip(many.forces, test, strict=True)])
    spread = np.concatenate([f.std(0) for f in many.forces])
    assert 0.3 < np.sqrt((away**2).mean() / (spread**2).mean()) < 3.0  # calibrated on 8 other frames
    with pytest.raises(ValidationError, match="need members 1"):
        NequixModel(members=2, heads=8)


def test_the_published_checkpoint_is_fine_tuned(tmp_path):
    if not FOUNDATION.is_file():
        pytest.skip(f"needs nequix-mp-1.nqx: {FOUNDATION}")
    few, test = labels(6, 7), labels(6, 8)
    weights = tuned(
        FOUNDATION, tmp_path, TrainingData(few), members=1, training={"steps": 20, "batch_size": 3}
    )
    zero = error([FOUNDATION], test)
    assert error([weights], test) < 0.7 * zero
    from nequix.calculator import NequixCalculator

    atoms = test[0].frame.to_atoms()
    atoms.calc = NequixCalculator(model_path=os.fspath(weights), use_kernel=False)
    mine = NequixModel().load([weights]).predict([test[0].frame]).energy[0, 0]
    assert atoms.get_potential_energy() == pytest.approx(mine, abs=1e-3)
