"""A PhysNet campaign through FireWorks: water, GFN2-xTB labels with dipoles, a training cut off, MD that explodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import campaigns
import numpy as np
import pytest

pytest.importorskip("e3x", reason="needs e3x: pip install 'alfw[physnet]'")
pytest.importorskip("tblite", reason="needs tblite: pip install 'alfw[xtb]'")

from physnet_water import TINY, springs

from alfw.config import CampaignConfig
from alfw.core.records import Resources
from alfw.models import _resume as resume
from alfw.models._physnet_step import CHUNK
from alfw.models.physnet import PhysNetModel
from alfw.steps.train import training_data
from alfw.store import Store


def water_campaign(folder: Path) -> CampaignConfig:
    """One round; hydrogen at 6000 K is soon faster than the limit."""
    raw = campaigns.raw_copper(folder)
    ase.io.write(folder / "initial.extxyz", [item.frame.to_atoms() for item in springs(14, 0)])
    raw["name"] = "water"
    training = {"epochs": CHUNK, "batch_size": 4, "learning_rate": 5e-3}  # more steps than a chunk has
    raw["model"] = {"kind": "physnet", **TINY, "warm_start": True, "training": training}
    raw["sample"][0] |= {"temperatures_K": [300, 6000], "dt_fs": 0.5, "walkers": 4, "n_steps": 40}
    raw["sample"][0]["limits"] = {"max_speed_A_per_fs": 0.1, "max_force_eV_per_A": 200.0}
    raw["label"] = {"kind": "tblite", "method": "GFN2-xTB"}
    return CampaignConfig(raw)


@pytest.mark.slow
def test_a_campaign_with_physnet(launchpad: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    store = campaigns.begin(launchpad, water_campaign(tmp_path))
    fw_id, put = campaigns.fly_to(launchpad, "Train"), Store.put_checkpoint

    def cut_off(self: Store, *args: Any) -> None:
        put(self, *args)
        raise RuntimeError("the worker is gone")

    monkeypatch.setattr(Store, "put_checkpoint", cut_off)
    assert campaigns.launch(launchpad, fw_id) == "FIZZLED"
    monkeypatch.setattr(Store, "put_checkpoint", put)
    ctx = campaigns.context(store, "water", 0)
    data = training_data(ctx)
    assert all(item.label.dipole is not None for item in data.train)
    model, seed = ctx.plugins.model, ctx.seed("train", 0)
    whole = model.train(data, seed, None, tmp_path / "whole", Resources())
    launchpad.rerun_fw(fw_id)
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "water")
    first, second = (store.get_result("water", r, "train", 0)["outputs"] for r in (0, 1))
    assert store.get_blob(first["member"]) == whole.read_bytes()
    statistics = [store.get_ensemble(outputs["ensemble"])["statistics"] for outputs in (first, second)]
    assert statistics[0] == statistics[1]
    assert_events_have_dipoles(store, whole)


def assert_events_have_dipoles(store: Store, weights: Path) -> None:
    """The stored events of round 1 say what the ensemble that drove the MD says of their good frames."""
    ctx = campaigns.context(store, "water", 1)
    events = ctx.get_json(store.get_result("water", 1, "sample", 0)["outputs"]["events"])
    assert {event["temperature_K"] for event in events} >= {6000.0}
    potential = PhysNetModel(**TINY).load([weights])
    frames = store.get_frames([event["good"] for event in events])
    for event, *expected in zip(events, *(d[0] for d in potential.dipoles(frames)), strict=True):
        for name, dipole in zip(("dipole_physnet", "dipole_dcmnet"), expected, strict=True):
            np.testing.assert_allclose(event["dipoles"][name], dipole, atol=1e-6)
