"""The labeler `dataset`: labels that are there already, found by the frame and by nothing else."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from labelling import label_through_fireworks
from pydantic import ValidationError

from alfw.config import CampaignConfig
from alfw.core.errors import DataError, DeckError, ExecutableError, InputError
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Label, Resources
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.io.training_npz import write_training_npz
from alfw.labelers.dataset import DatasetLabeler
from alfw.steps.start import absolute_paths

RNG = np.random.default_rng(0)
WATER = Frame.from_atoms(molecule("H2O"))
COPPER = Frame.from_atoms(bulk("Cu", cubic=True))
ION = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], charge=-1)


def labelled(frame, energy=-1.0, **more):
    return Imported(frame, Label(energy, RNG.normal(size=(len(frame), 3)), **more))


POOL = [
    labelled(WATER, -470.123456789012, dipole=np.array([0.1, 0.2, 0.3]), charges=np.array([-0.6, 0.3, 0.3])),
    labelled(ION, -10.0),
    labelled(
        WATER.moved(WATER.positions * 1.1), -460.0, esp=np.arange(4.0), esp_points=RNG.normal(size=(4, 3))
    ),
    labelled(COPPER, -14.0, stress=np.eye(3) * 0.01),
]


def labeler(folder, *names, **options):
    return DatasetLabeler(**DatasetLabeler.with_files({"paths": list(names)} | options, folder))


@pytest.fixture
def pool(tmp_path):
    """One file of each kind."""
    write_training_npz(tmp_path / "pool.npz", POOL[:3])
    write_extxyz(tmp_path / "more.extxyz", POOL[3:])
    return tmp_path


@pytest.mark.parametrize("item", POOL, ids=lambda item: item.frame.formula)
def test_a_label_comes_back_to_the_last_digit(pool, item):
    found = label(labeler(pool, "pool.npz", "*.extxyz"), item.frame, pool, Resources())
    for name in ("energy", "forces", "stress", "dipole", "charges", "esp", "esp_points"):
        wanted = getattr(item.label, name)
        assert (getattr(found, name) is None) == (wanted is None), name
        assert wanted is None or np.array_equal(getattr(found, name), wanted), name


@pytest.mark.parametrize(
    "frame",
    [
        WATER.moved(WATER.positions + 2e-6),
        replace(WATER, charge=1, multiplicity=2),
        replace(WATER, numbers=np.array([16, 1, 1])),
        Frame.from_atoms(molecule("NH3")),
    ],
)
def test_any_other_frame_is_not_in_the_dataset(pool, frame):
    with pytest.raises(InputError, match=r"not in the dataset \(3 frames\)") as caught:
        label(labeler(pool, "pool.npz"), frame, pool, Resources())
    assert caught.value.policy == "final" and frame.id[:12] in str(caught.value)


def test_the_theory_is_the_content(pool):
    one = labeler(pool, "pool.npz", "more.extxyz")
    assert one.theory().id == labeler(pool, "more.extxyz", "pool.npz").theory().id
    os.rename(pool / "pool.npz", pool / "elsewhere.npz")
    assert one.theory().id == labeler(pool, "elsewhere.npz", "more.extxyz").theory().id
    others = [labeler(pool, "more.extxyz"), labeler(pool, "more.extxyz", "elsewhere.npz", charge=1)]
    assert len({each.theory().id for each in (one, *others)}) == 3


def test_files_are_pinned_once(pool):
    options = DatasetLabeler.with_files({"paths": ["*.npz"]}, pool)
    assert options["paths"] == [str(pool / "pool.npz")] and len(options["sha256"]) == 1
    assert DatasetLabeler.with_files(options, pool / "nowhere") == options
    with pytest.raises(DataError, match=r"gone\.npz: no such file"):
        DatasetLabeler.with_files({"paths": ["gone.npz"]}, pool)
    with pytest.raises(DeckError, match="not looked at"):
        DatasetLabeler(paths=("pool.npz",)).theory()
    with pytest.raises(ValidationError):
        DatasetLabeler(paths=())


def test_a_worker_without_the_files_is_to_blame_not_the_frame(pool):
    one = labeler(pool, "pool.npz")
    write_training_npz(pool / "pool.npz", POOL[:1])
    with pytest.raises(ExecutableError, match="not the file that the campaign was added with"):
        one.run(WATER, pool, Resources())
    os.remove(pool / "pool.npz")
    with pytest.raises(ExecutableError, match=r"pool\.npz: No such file"):
        one.run(WATER, pool, Resources())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.extxyz", "1\n\nHe 0 0 0\n", "no energies with forces"), ("a.npz", "nonsense", "cannot be read")],
)
def test_files_without_labels_stop_the_first_frame(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ExecutableError, match=words):
        labeler(tmp_path, name).run(WATER, tmp_path, Resources())


def test_two_labels_of_one_frame_have_to_agree(tmp_path):
    write_extxyz(tmp_path / "a.extxyz", [POOL[0], POOL[1]])
    contrary = replace(POOL[1], label=replace(POOL[1].label, energy=-9.0))
    write_extxyz(tmp_path / "b.extxyz", [POOL[0], contrary, POOL[1]])
    one = labeler(tmp_path, "a.extxyz", "b.extxyz")
    assert label(one, WATER, tmp_path, Resources()).energy == POOL[0].label.energy
    with pytest.raises(InputError, match="two different labels"):
        label(one, ION, tmp_path, Resources())


def test_units_of_old_files(tmp_path):
    arrays = {"R": WATER.positions[None], "Z": WATER.numbers[None], "E": [-1.0], "F": np.ones((1, 3, 3))}
    np.savez(tmp_path / "old.npz", **arrays)
    with pytest.raises(ExecutableError, match="eV or hartree"):
        labeler(tmp_path, "old.npz").run(WATER, tmp_path, Resources())
    found = label(labeler(tmp_path, "old.npz", units="hartree"), WATER, tmp_path, Resources())
    assert found.energy == pytest.approx(-27.211386, abs=1e-5)


def test_files_are_read_once_a_process(pool, monkeypatch):
    import alfw.labelers.dataset as module

    calls = []
    read = module.read_frames
    monkeypatch.setattr(
        module, "read_frames", lambda *args, **more: calls.append(args) or read(*args, **more)
    )
    one = labeler(pool, "pool.npz", charge=3)  # an option that no other test has
    for item in POOL[:3] * 5:
        one.parse(item.frame, one.run(item.frame, pool, Resources()))
    assert len(calls) == 1


def test_a_campaign_labels_from_a_dataset(pool, launchpad):
    """The paths of a campaign file are relative to it; what is missing is a final failure."""
    stranger = WATER.moved(WATER.positions * 1.3)
    write_extxyz(pool / "frames.extxyz", [Imported(WATER), Imported(POOL[2].frame), Imported(stranger)])
    raw = {
        "schema_version": 1,
        "name": "looked-up",
        "data": {"initial": [{"path": "frames.extxyz", "theory": "ignore"}], "split": {"test": 0.0}},
        "model": {"kind": "nequix"},
        "sample": [{"kind": "jaxmd", "temperatures_K": [300], "walkers": 1, "n_steps": 1, "keep_every": 1}],
        "select": {"kind": "random"},
        "label": {"kind": "dataset", "paths": ["pool.npz"]},
    }
    config = CampaignConfig(absolute_paths(raw, pool))
    store, _ = label_through_fireworks(launchpad, config)
    theory = config.plugins(None).labeler.theory().id
    found = store.get_labels([WATER.id, POOL[2].frame.id, stranger.id], theory)
    assert {frame: label.energy for frame, (_, label) in found.items()} == {
        WATER.id: POOL[0].label.energy,
        POOL[2].frame.id: -460.0,
    }
    [failure] = store.failures("looked-up", [stranger.id], theory)
    assert failure["class"] == "INPUT_ERROR" and failure["final"]
    assert failure["signature"].startswith("not in the dataset")
