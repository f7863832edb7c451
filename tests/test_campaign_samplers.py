"""A campaign that explores with every sampler of this library that needs no jax, on an ASE calculator as its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import campaigns
import numpy as np
import pytest

from alfw.io.shards import unpack

SAMPLERS: list[dict[str, Any]] = [
    {
        "kind": "ase-md",
        "temperatures_K": [300, 900],
        "walkers": 4,
        "dt_fs": 3.0,
        "n_steps": 60,
        "keep_every": 6,
    },
    {"kind": "rattle", "std_A": [0.05, 0.15], "count": 10},
    {"kind": "strain", "count": 10},
    {"kind": "normal-modes", "temperatures_K": [300], "count": 10, "max_starts": 2},
    {"kind": "random", "composition": {"Cu": 4}, "volume_A3_per_atom": [11, 16], "count": 5},
]
MODEL = {"kind": "ase", "members": 2, "calculator": "ase.calculators.emt:EMT",
         "member_kwargs": [{"asap_cutoff": True}, {"asap_cutoff": False}]}  # fmt: skip


@pytest.mark.slow
def test_all_samplers_explore_and_only_md_is_audited(launchpad: Any, tmp_path: Path) -> None:
    raw = campaigns.raw_copper(tmp_path)
    raw["model"], raw["sample"] = MODEL, SAMPLERS
    raw["select"] |= {"max_frames": 8, "audit_frames": 3}
    store = campaigns.begin(launchpad, campaigns.CampaignConfig(raw))
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    results = {
        (item["stage"], item["part"]): item for item in store.get_results("copper") if item["round"] == 1
    }
    for part, expected in enumerate((40, 10, 10, 10, 5)):
        sampled = results["sample", part]
        assert sampled["counts"]["n_frames"] == expected, SAMPLERS[part]
        assert sampled["metrics"]["unbiased"] == (part == 0)
        _, arrays = unpack(store.get_blob(results["screen", part]["outputs"]["pool"]))
        assert np.isfinite(arrays["force_std"]).all() and (arrays["force_std"] > 0).any()
    assert results["sample", 0]["metrics"]["counters"]["time_ps"] == pytest.approx(4 * 60 * 0.003)
    candidates = campaigns.collection(store, "candidates")
    audited = [item for item in candidates if item["audit"]]
    assert len(audited) == 3 and all(item["part"] == 0 for item in audited)
    assert len({item["source"] for item in candidates}) > 2
    assert all(item["state"] == "labeled" for item in candidates)
