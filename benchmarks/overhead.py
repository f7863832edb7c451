"""Orchestration cost of a label Firework: 100 labels a round through FireWorks, store and custodian, less the QM."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from label_campaigns import campaign, database, ethanols, label_fireworks, labelled
from machine import describe_machine, publish

from alfw.config import CampaignConfig
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Resources

N = 100


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


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=lambda text: Path(text).resolve())
    arguments = parser.parse_args()
    with database() as (pad, folder):
        frames = ethanols(N, seed=1)
        cfg = campaign(folder, "overhead", frames, {"kind": "tblite"})
        seconds = label_fireworks(pad, cfg)
        qm = bare(cfg, frames, folder)
        done = labelled(pad, cfg, frames)
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
    publish(result, arguments.output)


if __name__ == "__main__":
    main()
