"""Pausing, resuming, stopping, adding again, also while workers are at it; and after `lpad reset`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import campaigns
import pytest
from fireworks import Firework, FWorker, LaunchPad

from alfw.core.errors import CampaignConflictError, StoreError
from alfw.firetasks import StartCampaign
from alfw.store import Store
from alfw.workflow import control
from alfw.workflow.reconcile import reconcile

BIN = Path(sys.executable).parent


def add(launchpad: LaunchPad, raw: dict[str, Any]) -> int:
    """fw_id of a campaign added as `lpad add` does it."""
    spec = {"_add_launchpad_and_fw_id": True}
    added = launchpad.add_wf(Firework([StartCampaign(campaign=raw)], spec=spec, name=raw["name"]))
    return int(next(iter(added.values())))


@pytest.mark.slow
def test_pause_gives_back_what_waits_in_a_queue(tmp_path: Path, launchpad: Any) -> None:
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path))
    fw_id = campaigns.fly_to(launchpad, "Merge")
    launchpad.reserve_fw(FWorker(), str(tmp_path), fw_id=fw_id)  # qlaunch -r
    control.pause(launchpad, store, "copper", "paused by the user")
    assert campaigns.states(launchpad) == {"COMPLETED": 8, "RESERVED": 1, "PAUSED": 3}
    assert campaigns.launch(launchpad, fw_id) == "PAUSED"  # its job starts in the end
    assert store.get_result("copper", 0, "merge") is None
    launchpad.resume_fw(fw_id)  # lpad resume_fws: the campaign is still paused
    assert campaigns.launch(launchpad, fw_id) == "PAUSED"
    report = reconcile(launchpad, store, expiration_s=0.0, lock_s=0.05, grace_s=0.0)
    assert report.nothing
    control.resume(launchpad, store, "copper")
    assert campaigns.states(launchpad) == {"COMPLETED": 8, "READY": 1, "WAITING": 3}
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")


@pytest.mark.slow
def test_given_back_while_the_user_resumes(tmp_path: Path, launchpad: Any) -> None:
    """A worker saw the campaign paused; it runs again before the worker has given back its Firework."""
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path))
    fw_id = campaigns.fly_to(launchpad, "Merge")
    _, launch_id = launchpad.checkout_fw(FWorker(), str(tmp_path), fw_id=fw_id)
    control.pause(launchpad, store, "copper", "paused by the user")
    control.resume(launchpad, store, "copper")
    action = control.give_back(launchpad, store, "copper", fw_id)
    assert launchpad.fireworks.find_one({"fw_id": fw_id})["state"] == "READY"
    launchpad.complete_launch(launch_id, action, "COMPLETED")
    assert launchpad.fireworks.find_one({"fw_id": fw_id})["state"] == "READY"
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")


@pytest.mark.slow
def test_what_runs_when_the_user_pauses_may_finish(
    tmp_path: Path, launchpad: Any, launchpad_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(campaigns.HERE))
    label = {"calculator": "moody_calculators:Slow", "kwargs": {"seconds": 1.0}}
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, label=label))
    command = [BIN / "rlaunch", "-l", str(launchpad_file), "singleshot"]
    worker = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    for _ in range(600):
        if store.database["alfw_claims"].count_documents({"released": False}):
            break
        time.sleep(0.05)
    control.pause(launchpad, store, "copper", "paused by the user")
    assert worker.wait(60) == 0
    assert campaigns.states(launchpad) == {"COMPLETED": 1, "PAUSED": 11}
    assert len(campaigns.collection(store, "labels")) == 1
    control.stop(launchpad, store, "copper")
    assert campaigns.states(launchpad) == {"COMPLETED": 1, "DEFUSED": 11}


@pytest.mark.slow
def test_stop_lets_nothing_begin(tmp_path: Path, launchpad: Any) -> None:
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, stop={"max_rounds": 3}))
    decide = campaigns.fly_to(launchpad, "Decide")
    _, launch_id = launchpad.checkout_fw(FWorker(), str(tmp_path), fw_id=decide)
    control.stop(launchpad, store, "copper")
    from alfw.workflow.rounds import open_round

    assert open_round(launchpad, store, "copper", 1, claimed_by=decide)  # decide was at it already
    sample = campaigns.fly_to(launchpad, "Sample")
    assert campaigns.launch(launchpad, sample) == "COMPLETED"
    assert campaigns.ready(launchpad) is None
    assert store.get_results("copper", 1) == []
    assert store.get_campaign("copper")["reason"] == "stopped by the user"
    with pytest.raises(StoreError, match="has ended"):
        control.resume(launchpad, store, "copper")
    launchpad.complete_launch(launch_id, None, "COMPLETED")
    assert reconcile(launchpad, store, expiration_s=0.0, lock_s=0.05, grace_s=0.0).nothing


@pytest.mark.slow
def test_added_again(tmp_path: Path, launchpad: Any) -> None:
    raw = campaigns.raw_copper(tmp_path)
    first = add(launchpad, raw)
    store = Store.from_launchpad(launchpad)
    assert campaigns.launch(launchpad, first) == "COMPLETED"
    campaigns.fly_to(launchpad, "Merge")
    before = campaigns.snapshot(store), launchpad.workflows.count_documents({})
    assert campaigns.launch(launchpad, add(launchpad, raw)) == "COMPLETED"  # runs already: nothing to do
    assert (campaigns.snapshot(store), launchpad.workflows.count_documents({}) - 1) == before
    other = add(launchpad, raw | {"seed": 8, "select": raw["select"] | {"max_frames": 4}})
    assert campaigns.launch(launchpad, other) == "FIZZLED"
    launch = launchpad.launches.find_one({"fw_id": other})
    why = launch["action"]["stored_data"]["_exception"]["_stacktrace"].strip().splitlines()[-1]
    assert CampaignConflictError.__name__ in why
    assert "copper exists with other values of seed, select.max_frames" in why
    assert campaigns.snapshot(store) == before[0]
    launchpad.delete_wf(other)
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    assert campaigns.launch(launchpad, add(launchpad, raw)) == "COMPLETED"  # and after its end
    campaigns.assert_whole(store, launchpad, "copper")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["Train", "Select", "Decide"])
def test_after_lpad_reset(tmp_path: Path, launchpad: Any, stage: str) -> None:
    """All Fireworks are gone: the campaign is added again, and its results make it skip what is done."""
    raw = campaigns.raw_copper(tmp_path)
    add(launchpad, raw)
    store = Store.from_launchpad(launchpad)
    campaigns.launch(launchpad, campaigns.fly_to(launchpad, stage))
    launchpad.reset("", require_password=False, max_reset_wo_password=10**6)
    before = campaigns.snapshot(store)
    add(launchpad, raw)
    campaigns.fly(launchpad)
    assert store.get_campaign("copper")["state"] == "ended"
    after = campaigns.snapshot(store)
    for name in before.keys() - {"rounds", "candidates"}:  # what was there is there, unchanged
        assert [item for item in after[name] if item in before[name]] == before[name], name
    workflow = launchpad.workflows.find_one({"metadata.campaign": "copper"})
    assert workflow["metadata"]["round"] == {"Train": 0, "Select": 1, "Decide": 1}[stage]
    runs = campaigns.collection(store, "runs")
    assert len(runs) == len({run["frame"] for run in runs})


@pytest.mark.slow
def test_reset_between_the_last_decision_and_its_effect(
    tmp_path: Path, launchpad: Any, launchpad_file: Path
) -> None:
    raw = campaigns.raw_copper(tmp_path) | {"stop": {"min_rounds": 0, "max_rounds": 1, "max_labels": 1}}
    add(launchpad, raw)
    store = Store.from_launchpad(launchpad)
    campaigns.kill(
        launchpad_file, campaigns.fly_to(launchpad, "Decide"), "alfw.store:Store.set_state", "before"
    )
    assert store.get_campaign("copper")["state"] == "running"
    launchpad.reset("", require_password=False, max_reset_wo_password=10**6)
    campaigns.launch(launchpad, add(launchpad, raw))
    assert campaigns.ready(launchpad) is None
    record = store.get_campaign("copper")
    assert (record["state"], record["reason"]) == ("ended", "max_labels 1 reached (8 labels)")
