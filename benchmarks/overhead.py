"""Orchestration cost of a label Firework: 100 labels a round through FireWorks, store and custodian, less the QM."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket
from machine import describe_machine

from alfw.cli.work import quiet
from alfw.config import CampaignConfig
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Resources
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.store import Store, server
from alfw.store.mongod import find_mongod
from alfw.workflow import control

N = 100


def config(folder: Path) -> CampaignConfig:
    """A campaign whose start labels N rattled ethanol frames, one Firework each."""
    import numpy as np
    from ase.build import molecule

    atoms, rng = molecule("CH3CH2OH"), np.random.default_rng(1)
    frames = [
        Frame.from_atoms(atoms).moved(atoms.positions + rng.normal(scale=0.03, size=(9, 3))) for _ in range(N)
    ]
    write_extxyz(folder / "frames.extxyz", [Imported(frame) for frame in frames])
    return CampaignConfig(
        {
            "schema_version": 1,
            "name": "overhead",
            "data": {"initial": [{"path": str(folder / "frames.extxyz"), "theory": "ignore"}]},
            "model": {"kind": "nequix"},
            "sample": [
                {"kind": "jaxmd", "temperatures_K": [300], "walkers": 1, "n_steps": 1, "keep_every": 1}
            ],
            "select": {"kind": "environments"},
            "label": {"kind": "tblite"},
        }
    )


def bare(cfg: CampaignConfig, frames: list[Frame], folder: Path) -> float:
    """Seconds per label of the labeler alone (custodian included), in one warm process."""
    labeler = cfg.plugins(None).labeler
    seconds = []
    for i, frame in enumerate(frames):
        workdir = folder / f"bare{i}"
        workdir.mkdir()
        began = time.perf_counter()
        label(labeler, frame, workdir, Resources())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def fireworks(cfg: CampaignConfig, pad: LaunchPad) -> list[float]:
    """Seconds of each label Firework, from look-up to completion."""
    control.start(pad, cfg, {}, lambda text: None)
    worker, seconds = FWorker(), []
    while pad.fireworks.find_one({"state": "READY", "name": {"$regex": "^label"}}):
        began = time.perf_counter()
        launch_rocket(pad, worker)
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=lambda text: Path(text).resolve())
    arguments = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        database = server.start(folder, find_mongod())
        try:
            pad = LaunchPad.from_file(str(database.launchpad))
            control.prepare(pad)
            cfg = config(folder)
            seconds = fireworks(cfg, pad)
            store = Store.from_launchpad(pad)
            rows = json.loads(store.get_blob(store.get_result("overhead", 0, "start")["outputs"]["entries"]))
            frames = store.get_frames([row["frame"] for row in rows])
            qm = bare(cfg, frames, folder)
            done = len(store.labelled([frame.id for frame in frames], cfg.plugins(None).labeler.theory().id))
        finally:
            server.stop(folder)
    mean = statistics.fmean(seconds)
    result = {
        "benchmark": "overhead",
        "label_fireworks": len(seconds),
        "labels": done,
        "ms_per_label_firework": round(1e3 * mean, 2),
        "ms_per_label_firework_median": round(1e3 * statistics.median(seconds), 2),
        "ms_per_label_alone": round(1e3 * qm, 2),
        "overhead_ms_per_label_firework": round(1e3 * (mean - qm), 2),
        "goal_ms": 50.0,
        "reached": 1e3 * (mean - qm) <= 50.0,
        "machine": describe_machine(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
