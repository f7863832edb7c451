"""Trainings of PhysNet: cut off and continued, diverged, started from other weights; compiled once; refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("e3x", reason="needs e3x: pip install 'alfw[physnet]'")

import jax
from ase.build import molecule
from physnet_water import TINY, springs

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.ids import derive_seed
from alfw.core.protocols import HasElectrostatics, HasFeatures, JaxPotential
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.models import _resume as resume
from alfw.models._physnet_files import load, save
from alfw.models._physnet_step import CHUNK
from alfw.models.physnet import PhysNetModel
from alfw.models.schedule import batch_indices

SHORT = {"epochs": 3, "batch_size": 4}
COMPILED = "/jax/core/compile/backend_compile_duration"


def train(
    items: list[Labeled], folder: Path, seed: int = 0, start: Path | None = None, **options: Any
) -> Path:
    model = PhysNetModel(**{**TINY, "training": SHORT, **options})
    return model.train(TrainingData(items), seed, start, folder, Resources())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(springs(8, 0), tmp_path_factory.mktemp("physnet"))


@pytest.mark.slow
def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    model = PhysNetModel(**TINY, training={"epochs": CHUNK, "batch_size": 4})
    items, kept = TrainingData(springs(8, 0)), []

    def cut_off(path: Path, step: int) -> None:
        kept.append((path, step))
        raise RuntimeError("the worker is gone")

    with pytest.raises(RuntimeError, match="gone"):
        model.train(items, 3, None, tmp_path / "a", Resources(), keep=cut_off)
    state = tmp_path / "a" / "state.npz"
    assert kept == [(state, CHUNK)]
    (tmp_path / "b").mkdir()
    shutil.copy(state, tmp_path / "b" / "state.npz")  # of another seed
    lines: list[str] = []
    again = model.train(items, 3, None, tmp_path / "a", Resources(), lines.append)
    assert len(lines) == 1 and lines[0].startswith(f"step {2 * CHUNK}/{2 * CHUNK}")
    whole = model.train(items, 3, None, tmp_path / "whole", Resources())
    assert again.read_bytes() == whole.read_bytes() and not state.exists()
    lines.clear()
    model.train(items, 4, None, tmp_path / "b", Resources(), lines.append)
    assert len(lines) == 2


@pytest.mark.slow
def test_a_second_round_compiles_nothing(tmp_path: Path) -> None:
    """More labels, so more steps, and other numbers of points: the same programs."""
    compiled: list[str] = []

    def listen(event: str, duration: float, **more: Any) -> None:
        if event == COMPILED:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        model = PhysNetModel(**{**TINY, "physnet_features": 5}, training=SHORT)
        for number in (7, 18):
            before = len(compiled)
            data = TrainingData(springs(number, number, points=18 + number % 4), springs(3, 9))
            shared = TrainingData(data.train, data.valid, {**model.statistics(data), "scale_eV": 1.0})
            path = model.train(shared, number, None, tmp_path / str(number), Resources())
            potential = model.load([path])
            frames = [item.frame for item in shared.train[:number]]
            potential.predict(frames[:5])
            potential.features(frames[:5])
            potential.esp(frames[0], shared.train[0].label.esp_points)
            new = len(compiled) - before
            assert (new > 0) == (number == 7), f"{new} compilations with {number} labels"
    finally:
        jax.monitoring.clear_event_listeners()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_weights(tmp_path: Path) -> None:
    items = springs(8, 0)
    shared = PhysNetModel(**TINY).statistics(TrainingData(items))
    good = items[5].label
    items[5] = replace(items[5], label=replace(good, forces=good.forces + 1e30))
    late = next(
        seed for seed in range(20) if 5 not in next(batch_indices(8, 4, derive_seed(seed, "order"))).tolist()
    )
    model = PhysNetModel(**TINY, training=SHORT)
    with pytest.raises(TrainingError, match="diverged in step 2 of 6, batch of frames") as caught:
        model.train(TrainingData(items, [], shared), late, None, tmp_path, Resources())
    said = str(caught.value)
    assert items[5].frame.id[:12] in said and "\n" not in said and not (tmp_path / "member.npz").exists()
    assert f"the weights of step 1 are in {tmp_path / 'last_good.npz'}" in said
    found = model.load([tmp_path / "last_good.npz"]).predict([items[0].frame])
    assert np.isfinite(found.energy).all() and np.isfinite(found.forces[0]).all()


def test_training_starts_from_given_weights_and_their_statistics(weights: Path, tmp_path: Path) -> None:
    items = springs(6, 5, offset_eV=-43.0)
    still = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-12}
    path = train(items, tmp_path, seed=7, start=weights, training=still)
    before, after = load(weights), load(path)
    assert after.sizes == before.sizes and after.reference == before.reference
    for one, two in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-9)


def test_weights_of_another_network_or_of_other_elements_are_no_start(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be started from: physnet_features differ"):
        train(springs(4, 0), tmp_path, start=weights, physnet_features=6)
    frame = Frame.from_atoms(molecule("NH3"))
    ammonia = Labeled(frame, Label(-50.0, np.ones((4, 3))))
    with pytest.raises(TrainingError, match="these weights do not know N, which the labels have"):
        train([*springs(4, 0), ammonia], tmp_path, start=weights)


def test_what_cannot_be_predicted_is_said_in_one_line(weights: Path, tmp_path: Path) -> None:
    potential = PhysNetModel(**TINY).load([weights])
    with pytest.raises(TrainingError, match=r"^frame \w{12}: the model does not know N .it knows H, O."):
        potential.predict([Frame.from_atoms(molecule("NH3"))])
    boxed = molecule("H2O")
    boxed.set_cell([9.0] * 3)
    boxed.pbc = True
    with pytest.raises(TrainingError, match=r"^frame \w{12} is periodic: model 'physnet' is for molecules"):
        potential.predict([Frame.from_atoms(boxed)])


def test_members_share_sizes_and_statistics(weights: Path, tmp_path: Path) -> None:
    found, model = load(weights), PhysNetModel(**TINY)
    save(tmp_path / "wider.npz", replace(found.sizes, n_dcm=3), found.params, found.reference)
    with pytest.raises(TrainingError, match="differ in n_dcm: members of one ensemble share these"):
        model.load([weights, tmp_path / "wider.npz"])
    save(tmp_path / "other.npz", found.sizes, found.params, {z: e + 1.0 for z, e in found.reference.items()})
    with pytest.raises(TrainingError, match="differ in E0_eV: members of one ensemble share these"):
        model.load([weights, tmp_path / "other.npz"])


def test_features_are_what_energies_are_read_from(weights: Path) -> None:
    potential, frames = PhysNetModel(**TINY).load([weights]), [item.frame for item in springs(3, 1)]
    assert all(isinstance(potential, kind) for kind in (JaxPotential, HasElectrostatics, HasFeatures))
    found = load(weights)
    p = jax.tree.map(np.asarray, found.params["physnet"]["params"])
    for frame, x, energy in zip(
        frames, potential.features(frames), potential.predict(frames).energy[0], strict=True
    ):
        assert x.shape == (3, TINY["physnet_features"]) and x.dtype == np.float32
        hidden = x @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]
        each = (hidden / (1.0 + np.exp(-hidden))) @ p["Dense_0"]["kernel"][:, 0] + p["Dense_0"]["bias"]
        kinds = np.searchsorted(found.sizes.atomic_numbers, frame.numbers)
        own = found.sizes.scale_eV * (each + p["energy_of_element"][kinds])
        e0 = sum(found.reference[int(z)] for z in frame.numbers)
        assert own.sum() + e0 == pytest.approx(energy, abs=1e-4)


def test_metrics_name_what_labels_have(weights: Path) -> None:
    metrics = json.loads((weights.parent / "metrics.json").read_text())
    assert metrics["train_esp_dcmnet_rmse"] > 0 and metrics["train_dipole_physnet_rmse"] > 0
    assert not any("mixed" in name or name.startswith("valid") for name in metrics)
