"""Replay: what a checkpoint is not to forget while it is fine-tuned."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from pydantic import ValidationError
from test_nequix_start import CLUSTER, SMALL, labels

from alfw.core.errors import DataError, TrainingError
from alfw.core.frame import Float, Frame
from alfw.core.records import Resources, TrainingData
from alfw.core.reference import reference_sums
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.models._nequix_network import load
from alfw.models._nequix_replay import replayed, rows
from alfw.models.nequix import NequixModel

TRAINING = {"steps": 150, "batch_size": 5, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network trained on Cu-Au clusters."""
    model = NequixModel(**SMALL, members=1, training={"steps": 200, "batch_size": 4})
    both = [*labels(16, 0), *labels(8, 1, CLUSTER[:3]), *labels(8, 2, CLUSTER[2:])]
    return model.train(TrainingData(both), 0, None, tmp_path_factory.mktemp("foundation"), Resources())


def forces(weights: Path, frames: list[Frame]) -> Float:
    return np.concatenate([f[0] for f in NequixModel(members=1).load([weights]).predict(frames).forces])


@pytest.mark.slow
def test_what_is_replayed_is_remembered(checkpoint: Path, tmp_path: Path) -> None:
    # The new theory has all forces doubled: what the checkpoint knows of gold is of no use for these copper trimers.
    items = labels(8, 3, CLUSTER[:3])
    for item in items:
        item.label.forces[:] *= 2.0
    old = [item.frame for item in labels(12, 4, CLUSTER[2:])]
    model = NequixModel(members=1, start_from=str(checkpoint), training=TRAINING)
    statistics = model.statistics(TrainingData(items), checkpoint)
    before = forces(checkpoint, old)
    away, learnt = {}, {}
    for name, replay in (("without", old[:0]), ("with", old[:6])):
        data = TrainingData(items, (), statistics, replay)
        weights = model.train(data, 0, checkpoint, tmp_path / name, Resources())
        away[name] = np.sqrt(np.mean((forces(weights, old[6:]) - before[30 * 3 // 5 :]) ** 2))
        truth = np.concatenate([item.label.forces for item in items])
        learnt[name] = np.sqrt(np.mean((forces(weights, [item.frame for item in items]) - truth) ** 2))
    assert away["with"] < 0.5 * away["without"]
    assert learnt["with"] < 3 * learnt["without"] + 0.1  # and the new labels are learnt all the same


def test_frames_are_labelled_by_the_checkpoint_itself_on_the_e0_of_the_lineage(checkpoint: Path) -> None:
    frames = [item.frame for item in labels(3, 5)]
    known = load(checkpoint).reference
    moved = {z: energy - 7.0 for z, energy in known.items()}
    said = NequixModel(members=1).load([checkpoint]).predict(frames)
    for item, energy, f in zip(replayed(frames, checkpoint, moved), said.energy[0], said.forces, strict=True):
        assert item.label.energy == pytest.approx(energy - 7.0 * len(item.frame))
        assert np.array_equal(item.label.forces, f[0])
    assert reference_sums(frames, known) == pytest.approx(reference_sums(frames, moved) + 35.0)


def test_batches_have_their_share_of_what_is_replayed() -> None:
    order = np.array([0, 1, 2, 2])
    batches = np.array(list(islice(rows(order, 5, 0, 10, 3, 0.2), 30)))
    assert batches.shape == (30, 5)
    assert ((batches >= 10).sum(1) == 1).all() and set(batches.ravel()) == {0, 1, 2, 10, 11, 12}
    counts = np.bincount(batches[batches < 10])
    assert counts[2] == 2 * counts[0] == 2 * counts[1]
    alone = np.array(list(islice(rows(order, 5, 0, 10, 0, 0.2), 4)))
    assert set(alone.ravel()) == {0, 1, 2}


def test_what_cannot_be_replayed_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    silver = Frame.from_atoms(Atoms("Ag3", CLUSTER.positions[:3]))
    with pytest.raises(TrainingError, match=r"replay: member\.nqx does not know Z = \[47\]"):
        replayed([silver], checkpoint, {47: 0.0})
    with pytest.raises(ValidationError, match="replay needs start_from"):
        NequixModel(replay="old.extxyz")
    with pytest.raises(DataError, match=r"replay: .*old\.extxyz is not there"):
        NequixModel.with_files({"start_from": str(checkpoint), "replay": "old.extxyz"}, tmp_path)
    write_extxyz(tmp_path / "old.extxyz", [Imported(item.frame) for item in labels(2, 6)])
    pinned = NequixModel.with_files({"start_from": str(checkpoint), "replay": "old.extxyz"}, tmp_path)
    assert pinned["replay"] == str(tmp_path / "old.extxyz") and len(pinned["replay_sha256"]) == 64
    (tmp_path / "old.extxyz").write_text("other")
    with pytest.raises(DataError, match="replay_sha256 says"):
        NequixModel.with_files(pinned, tmp_path)
