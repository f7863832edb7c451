"""Campaigns whose models start from a checkpoint, or from the round before; trainings that are cut off."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import campaigns
import pytest

from alfw.core.errors import ConfigError
from alfw.core.records import Resources, TrainingData
from alfw.models import _resume as resume
from alfw.models._nequix_network import load
from alfw.models._nequix_step import CHUNK
from alfw.models.nequix import NequixModel
from alfw.steps.start import absolute_paths
from alfw.steps.train import training_data
from alfw.store import Store

SMALL = {"hidden_irreps": "4x0e + 4x1o", "radial_mlp_size": 8, "n_layers": 2}


def fine_tuned(folder: Path, checkpoint: Path, **more: Any) -> dict[str, Any]:
    """The crystal campaign, its ensemble fine-tuned from this checkpoint."""
    raw = campaigns.raw_copper(folder)
    shutil.copy(checkpoint, folder / "start.nqx")
    raw["model"] = {"kind": "nequix", "members": 2, "start_from": "start.nqx", **more}
    raw["model"].setdefault("training", {"steps": 20, "batch_size": 4})
    return absolute_paths(raw, folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network trained on the campaign's first frames."""
    from ase.calculators.emt import EMT

    from alfw.core.records import Label, Labeled
    from alfw.io.frames import read_frames

    folder = tmp_path_factory.mktemp("checkpoint")
    campaigns.raw_copper(folder)
    items = []
    for imported in read_frames(folder / "initial.extxyz"):
        atoms = imported.frame.to_atoms()
        atoms.calc = EMT()
        items.append(Labeled(imported.frame, Label(atoms.get_potential_energy(), atoms.get_forces())))
    model = NequixModel(**SMALL, members=1, training={"steps": 60, "batch_size": 4})
    return model.train(TrainingData(items), 0, None, folder, Resources())


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True])
def test_members_start_from_the_checkpoint_or_from_themselves(
    launchpad: Any, tmp_path: Path, checkpoint: Path, warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Path] = []
    before = NequixModel.train

    def train(self: NequixModel, data: Any, seed: int, start: Path, *rest: Any, **more: Any) -> Path:
        starts.append(start)
        return before(self, data, seed, start, *rest, **more)

    monkeypatch.setattr(NequixModel, "train", train)
    config = campaigns.CampaignConfig(fine_tuned(tmp_path, checkpoint, warm_start=warm))
    store = campaigns.begin(launchpad, config)
    (tmp_path / "start.nqx").unlink()  # workers elsewhere have it from the database
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    names = [path.name for path in starts]
    assert names[:2] == ["checkpoint.nqx"] * 2
    assert names[2:] == (["before_0.nqx", "before_1.nqx"] if warm else ["checkpoint.nqx"] * 2)
    potential = load(campaigns_weights(store, tmp_path))
    assert potential.spec == load(checkpoint).spec


def campaigns_weights(store: Store, folder: Path) -> Path:
    """The weights of the first member of the last round."""
    blob = store.get_result("copper", 1, "train", 0)["outputs"]["member"]
    store.save_blob(blob, folder / "last.nqx")
    return folder / "last.nqx"


def test_a_checkpoint_that_is_not_there_is_said_with_its_key(tmp_path: Path, checkpoint: Path) -> None:
    raw = campaigns.raw_copper(tmp_path)
    raw["model"] = {"kind": "nequix", "start_from": "nowhere.nqx"}
    with pytest.raises(ConfigError, match=r"model: start_from: .*nowhere.nqx is not there"):
        absolute_paths(raw, tmp_path)


@pytest.mark.slow
def test_a_training_that_is_cut_off_goes_on_and_makes_the_same_member(
    launchpad: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    training = {"steps": 2 * CHUNK, "batch_size": 4}
    config = campaigns.copper(tmp_path, model={**SMALL, "members": 1, "training": training})
    store = campaigns.begin(launchpad, config)
    fw_id = campaigns.fly_to(launchpad, "Train")
    put = Store.put_checkpoint

    def cut_off(self: Store, *args: Any) -> None:
        put(self, *args)
        raise RuntimeError("the worker is gone")

    monkeypatch.setattr(Store, "put_checkpoint", cut_off)
    assert campaigns.launch(launchpad, fw_id) == "FIZZLED"
    monkeypatch.setattr(Store, "put_checkpoint", put)
    ctx = campaigns.context(store, "copper", 0)
    whole = ctx.plugins.model.train(
        training_data(ctx), ctx.seed("train", 0), None, tmp_path / "whole", Resources()
    )
    launchpad.rerun_fw(fw_id)
    assert campaigns.launch(launchpad, fw_id) == "COMPLETED"
    made = store.get_result("copper", 0, "train", 0)["outputs"]["member"]
    assert store.get_blob(made) == whole.read_bytes()
