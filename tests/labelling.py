"""For the tests of labelers: recorded outputs, and label Fireworks of a campaign that is only there to label."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import campaigns
import pytest
from fireworks import FWorker, LaunchPad

from alfw.config import CampaignConfig
from alfw.core.frame import Frame
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.store import Store

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"
CUTS = 20


def fixture(name: str) -> bytes:
    """A recorded output (``orca/orca6_dvb_gopt.out``; gzipped ones are unpacked), or the test is skipped."""
    path = FIXTURES / name
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            data = candidate.read_bytes()
            return gzip.decompress(data) if candidate.suffix == ".gz" else data
    pytest.skip(f"recorded output {name} is not here: {FIXTURES}")


def needs(program: str, package: str | None = None) -> str:
    """Path of an executable, or the test is skipped with the line that installs it."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}: apt-get install --no-install-recommends {package or program}")
    return found


def cuts(data: bytes) -> list[bytes]:
    """An output cut off at 20 places."""
    return [data[: len(data) * i // (CUTS + 1)] for i in range(1, CUTS + 1)]


def label_campaign(
    folder: Path, frames: Sequence[Frame], label: Mapping[str, Any], name: str = "labels"
) -> CampaignConfig:
    """A campaign whose start labels these frames with this `label` section."""
    write_extxyz(folder / "frames.extxyz", [Imported(frame) for frame in frames])
    sampler = {"kind": "jaxmd", "temperatures_K": [300], "walkers": 1, "n_steps": 1, "keep_every": 1}
    return CampaignConfig(
        {
            "schema_version": 1,
            "name": name,
            "data": {
                "initial": [{"path": str(folder / "frames.extxyz"), "theory": "ignore"}],
                "split": {"test": 0.0},
            },
            "model": {"kind": "nequix"},
            "sample": [sampler],
            "select": {"kind": "random"},
            "label": dict(label),
        }
    )


def label_through_fireworks(
    launchpad: LaunchPad, config: CampaignConfig, env: Mapping[str, Any] | None = None
) -> tuple[Store, dict[str, int]]:
    """The store after the campaign's label Fireworks have flown, and how many Fireworks are in each state.

    `env`: the worker's values for ``>>name<<``.
    """
    store = campaigns.begin(launchpad, config)
    worker = FWorker(env=dict(env or {}))
    while (firework := _next_label(launchpad)) is not None:
        campaigns.launch(launchpad, firework["fw_id"], worker)
    return store, campaigns.states(launchpad)


def _next_label(launchpad: LaunchPad) -> dict[str, Any] | None:
    found: dict[str, Any] | None = launchpad.fireworks.find_one(
        {"state": "READY", campaigns.TASK: "{{alfw.firetasks.CalculateLabels}}"}, sort=[("fw_id", 1)]
    )
    return found
