"""Real FireWorks workers, several at once, and two campaigns in one database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import campaigns
import pytest

BIN = Path(sys.executable).parent
LIMIT_S = 240.0


@contextmanager
def workers(launchpad_file: Path, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """`rlaunch multi 2` and two `rlaunch rapidfire`, ended when the block ends."""
    (folder / "my_fworker.yaml").write_text("name: worker\ncategory: ''\nquery: '{}'\nenv: {}\n")
    rlaunch = [str(BIN / "rlaunch"), "-l", str(launchpad_file), "-w", str(folder / "my_fworker.yaml")]
    commands = [
        ["multi", "2", "--timeout", str(int(LIMIT_S))],
        *[["rapidfire", "--nlaunches", "infinite"]] * 2,
    ]
    running = []
    for number, command in enumerate(commands):
        place = folder / f"worker_{number}"
        place.mkdir()
        log = (place / "log").open("wb")
        running.append(
            subprocess.Popen([*rlaunch, *command], cwd=place, stdout=log, stderr=log, start_new_session=True)
        )
        log.close()
    try:
        yield running
    finally:
        for process in running:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a worker and to all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)


@pytest.mark.slow
def test_workers_of_all_kinds_at_once(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    names = ("copper", "copper-b")
    for name in names:
        train = {"firework_per_member": name == "copper-b"}
        store = campaigns.begin(launchpad, campaigns.copper(tmp_path, name, train=train))
    with workers(launchpad_file, tmp_path) as running:
        until = time.monotonic() + LIMIT_S
        while any(store.get_campaign(name)["state"] != "ended" for name in names):
            logs = "\n".join(log.read_text()[-2000:] for log in tmp_path.glob("worker_*/log"))
            assert time.monotonic() < until, f"{campaigns.states(launchpad)}\n{logs}"
            assert all(process.poll() is None for process in running), logs
            time.sleep(0.5)
        _wait_for_the_last(launchpad)
    for name in names:
        campaigns.assert_whole(store, launchpad, name)
    runs = campaigns.collection(store, "runs")
    assert len(runs) == len({(run["frame"], run["theory"]) for run in runs})
    assert store.failure_counts("copper") == store.failure_counts("copper-b") == {}
    hosts = launchpad.launches.distinct("launch_dir")
    assert len({Path(folder).parent.name for folder in hosts}) > 1, "one worker did everything"


def _wait_for_the_last(launchpad: Any) -> None:
    """Until the workflows are complete: a campaign has ended a moment before its last Firework has."""
    for _ in range(200):
        running = launchpad.fireworks.count_documents({"state": {"$nin": ["COMPLETED", "DEFUSED"]}})
        if not running and not launchpad.workflows.count_documents({"locked": True}):
            return
        time.sleep(0.1)
