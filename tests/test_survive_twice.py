"""Every Firework run twice, one after the other or at once: one result, nothing doubled."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import campaigns
import pytest
from fireworks import Firework, LaunchPad

from alfw.firetasks import StartCampaign
from alfw.store import Store
from alfw.workflow import rounds
from alfw.workflow.reconcile import reconcile


def rerun(launchpad: Any, fw_id: int) -> None:
    """Run a COMPLETED Firework again."""
    launchpad.rerun_fw(fw_id)
    assert launchpad.fireworks.find_one({"fw_id": fw_id})["state"] == "READY"
    assert campaigns.launch(launchpad, fw_id) == "COMPLETED"


@pytest.mark.slow
def test_every_firework_twice(tmp_path: Path, launchpad: Any) -> None:
    config = campaigns.copper(tmp_path)
    start = Firework(
        [StartCampaign(campaign=config.raw)], spec={"_add_launchpad_and_fw_id": True}, name="copper"
    )
    launchpad.add_wf(start)
    store = Store.from_launchpad(launchpad)
    while (firework := campaigns.ready(launchpad)) is not None:  # while the campaign runs
        assert campaigns.launch(launchpad, firework["fw_id"]) == "COMPLETED"
        if campaigns.stage_of(firework) != "CalculateLabels" or firework["fw_id"] % 3 == 0:
            before = campaigns.snapshot(store)
            rerun(launchpad, firework["fw_id"])
            assert campaigns.snapshot(store) == before, firework["name"]
    campaigns.assert_whole(store, launchpad, "copper")
    labels = campaigns.fireworks_of_stage(launchpad, "CalculateLabels")
    before = campaigns.snapshot(store)
    for firework in launchpad.fireworks.find().sort("fw_id", 1):  # and after it has ended
        launchpad.rerun_fw(firework["fw_id"])
        campaigns.fly(launchpad)
    assert campaigns.snapshot(store) == before
    assert len(campaigns.fireworks_of_stage(launchpad, "CalculateLabels")) == len(labels)
    assert launchpad.workflows.count_documents({}) == 3  # StartCampaign and two rounds
    campaigns.assert_whole(store, launchpad, "copper")


PAIR = """
import sys, time
from pathlib import Path
from fireworks import FWorker, LaunchPad
import alfw.firetasks
from alfw.store import Store
file, fw_id, me, other = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
launchpad = LaunchPad.from_file(file)
firework = launchpad.get_fw_by_id(fw_id)
for stage in sys.argv[5:]:
    __import__(stage)
me.touch()
while not other.exists():
    time.sleep(0.001)
for task in firework.tasks:
    task.launchpad, task.fw_id = launchpad, fw_id
    action = task.run_task(dict(firework.spec))
    print(type(action).__name__, len(action.detours) if action else 0)
"""
HEAVY = {"Sample": ["jax_md", "nequix"], "Train": ["nequix"]}  # imported before they begin


def two_at_once(launchpad_file: Path, folder: Path, fw_id: int, stage: str) -> list[str]:
    """What two processes print that run the Firetasks of the same Firework at the same moment."""
    flags = [str(folder / f"{fw_id}.{name}") for name in "ab"]
    command = [sys.executable, "-c", PAIR, str(launchpad_file), str(fw_id)]
    heavy = HEAVY.get(stage, [])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    orders = (flags, flags[::-1])
    pair = [subprocess.Popen(command + order + heavy, cwd=folder, **pipes) for order in orders]
    answers = [process.communicate(timeout=120) for process in pair]
    assert all(process.returncode == 0 for process in pair), answers
    return [answer[0] for answer in answers]


@pytest.mark.slow
def test_two_copies_of_a_stage_at_once(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, label={"frames_per_firework": 8}))
    for stage in (
        "CalculateLabels",
        "Merge",
        "Train",
        "Decide",
        "Sample",
        "Screen",
        "Select",
        "CalculateLabels",
    ):
        fw_id = campaigns.fly_to(launchpad, stage)
        answers = two_at_once(launchpad_file, tmp_path, fw_id, stage)
        if stage == "Select":
            assert answers[0] == answers[1] == "FWAction 1\n"
        campaigns.launch(launchpad, fw_id)  # the third copy, by a rocket
    campaigns.fly(launchpad)
    live = [item for item in launchpad.workflows.find({"metadata.round": 1}) if item["state"] != "DEFUSED"]
    assert len(live) == 1
    campaigns.assert_whole(store, launchpad, "copper")
    runs = Counter(run["frame"] for run in campaigns.collection(store, "runs"))
    assert set(runs.values()) == {1}


@pytest.mark.slow
def test_two_rockets_of_the_same_firework(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    """Two workers sent to one fw_id, as two queue jobs may be: both fly, detours are added once."""
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path))
    for stage in ("CalculateLabels", "Merge", "Select"):
        fw_id = campaigns.fly_to(launchpad, stage)
        code = (
            "import sys; from fireworks import FWorker, LaunchPad; import alfw.firetasks, numpy\n"
            "from fireworks.core.rocket_launcher import launch_rocket\n"
            "launch_rocket(LaunchPad.from_file(sys.argv[1]), FWorker(), fw_id=int(sys.argv[2]))"
        )
        command = [sys.executable, "-c", code, str(launchpad_file), str(fw_id)]
        pair = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
        assert [process.wait(60) for process in pair] == [0, 0]
        reconcile(launchpad, store, expiration_s=0.0, lock_s=0.05, grace_s=0.0)
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")


@pytest.mark.slow
def test_rounds_opened_by_many_at_once(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    """However many open a round at the same moment, first or again, one workflow is live; the others defuse."""
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, frames=6))
    for attempt in range(4):
        if attempt:  # all its workflows are gone: `lpad reset`
            launchpad.reset("", require_password=False, max_reset_wo_password=10**6)
        _open_at_once(launchpad_file, number=0, threads=4)
        for firework in campaigns.fireworks_of_stage(launchpad, "CalculateLabels"):
            campaigns.launch(launchpad, firework["fw_id"])
        found = sorted(workflow["state"] for workflow in launchpad.workflows.find())
        assert found == ["DEFUSED"] * (len(found) - 1) + ["RUNNING"]
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    assert {run["attempt"] for run in campaigns.collection(store, "runs")} == {1}


def _open_at_once(launchpad_file: Path, number: int, threads: int) -> None:
    barrier = threading.Barrier(threads)

    def work() -> None:
        pad = LaunchPad.from_file(str(launchpad_file))
        barrier.wait()
        rounds.open_round(pad, Store.from_launchpad(pad), "copper", number, claimed_by=None)
        pad.connection.close()

    group = [threading.Thread(target=work) for _ in range(threads)]
    for thread in group:
        thread.start()
    for thread in group:
        thread.join()
