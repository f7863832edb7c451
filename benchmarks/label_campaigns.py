"""For the benchmarks of labels: campaigns that are only there to label, their Fireworks, a database for them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import molecule
from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket

from alfw.cli.work import quiet
from alfw.config import CampaignConfig
from alfw.core.frame import Frame
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.store import Store, server
from alfw.store.mongod import find_mongod
from alfw.workflow import control


@contextmanager
def database() -> Iterator[tuple[LaunchPad, Path]]:
    """A LaunchPad on a MongoDB of its own, and the working folder; both are gone afterwards."""
    quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        started = server.start(folder, find_mongod())
        try:
            pad = LaunchPad.from_file(str(started.launchpad))
            control.prepare(pad)
            yield pad, folder
        finally:
            server.stop(folder)


def ethanols(number: int, seed: int) -> list[Frame]:
    """Rattled ethanol molecules."""
    atoms, rng = molecule("CH3CH2OH"), np.random.default_rng(seed)
    moves = rng.normal(scale=0.03, size=(number, 9, 3))
    return [Frame.from_atoms(atoms).moved(atoms.positions + move) for move in moves]


def campaign(folder: Path, name: str, frames: list[Frame], label: Mapping[str, Any]) -> CampaignConfig:
    """A campaign whose start labels these frames."""
    write_extxyz(folder / f"{name}.extxyz", [Imported(frame) for frame in frames])
    sampler = {"kind": "jaxmd", "temperatures_K": [300], "walkers": 1, "n_steps": 1, "keep_every": 1}
    return CampaignConfig(
        {
            "schema_version": 1,
            "name": name,
            "data": {"initial": [{"path": str(folder / f"{name}.extxyz"), "theory": "ignore"}]},
            "model": {"kind": "nequix"},
            "sample": [sampler],
            "select": {"kind": "random"},
            "label": dict(label),
        }
    )


def label_fireworks(pad: LaunchPad, cfg: CampaignConfig) -> list[float]:
    """Seconds of each label Firework of the campaign's start, from look-up to completion."""
    control.start(pad, cfg, {}, lambda text: None)
    worker, seconds = FWorker(), []
    while pad.fireworks.find_one({"state": "READY", "name": {"$regex": "^label"}}):
        began = time.perf_counter()
        launch_rocket(pad, worker)
        seconds.append(time.perf_counter() - began)
    return seconds


def labelled(pad: LaunchPad, cfg: CampaignConfig, frames: list[Frame]) -> int:
    """How many of the frames have a label at the campaign's theory."""
    theory = cfg.plugins(None).labeler.theory().id
    return len(Store.from_launchpad(pad).labelled([frame.id for frame in frames], theory))
