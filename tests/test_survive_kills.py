"""kill -9 of a worker at every moment that matters: nothing is lost, nothing is doubled, the campaign ends."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import campaigns
import pytest
from fireworks import Firework, FWorker, LaunchPad

from alfw.firetasks import StartCampaign
from alfw.store import Store
from alfw.workflow.reconcile import Report, reconcile

LABEL = "CalculateLabels"
PAD = "fireworks.core.launchpad:LaunchPad."
COMMIT = "alfw.store:Store.commit_result"
WRITTEN = "fireworks.core.firework:Workflow._reassign_ids"  # Fireworks are written, their workflow is not yet
EMT = "alfw.labelers.ase:ASELabeler.run"


@dataclass(frozen=True)
class Kill:
    """Where a worker dies: in a Firework that begins with this Firetask, at this call.

    Attributes
    ----------
    inside : bool
        Whether it dies inside a Firetask, where FireWorks' own `detect_lostruns --rerun` is all it takes.
    last : bool
        In the last Firework of its stage, the one that makes the next stage READY.
    """

    stage: str
    point: str
    when: str = "before"
    within: str = ""
    inside: bool = False
    last: bool = False


KILLS = [
    Kill("StartCampaign", "alfw.store:Store.insert_campaign", "after", inside=True),
    Kill("StartCampaign", COMMIT, "after", inside=True),
    Kill("StartCampaign", WRITTEN, within="add_wf"),
    Kill(LABEL, EMT, "before", inside=True),
    Kill(LABEL, "alfw.steps.label:judge", "before", inside=True),
    Kill(LABEL, PAD + "get_new_launch_id", "before"),
    Kill(LABEL, PAD + "_upsert_fws", "before", within="checkout_fw"),
    Kill(LABEL, PAD + "_refresh_wf", "before", within="checkout_fw", inside=True),
    Kill(LABEL, PAD + "_refresh_wf", "before", within="complete_launch"),
    Kill(LABEL, PAD + "_update_wf", "before", within="complete_launch"),
    Kill(LABEL, WRITTEN, "before", within="complete_launch", last=True),
    Kill("Merge", "alfw.store:Store.put_dataset", "after", inside=True),
    Kill("Train", "alfw.store:Store.put_member", "before", inside=True),
    Kill("Evaluate", COMMIT, "before", inside=True),
    Kill("Decide", "alfw.store:Store.open_round", "after", inside=True),
    Kill("Decide", WRITTEN, "before", within="add_wf"),
    Kill("Decide", "alfw.store:Store.register_workflow", "before", inside=True),
    Kill("Sample", "alfw.steps.sample:pool_shard", "before", inside=True),
    Kill("Screen", COMMIT, "before", inside=True),
    Kill("Select", COMMIT, "before", inside=True),
    Kill("Select", COMMIT, "after", inside=True),
    Kill("Select", PAD + "_refresh_wf", "before", within="complete_launch"),
    Kill(LABEL, WRITTEN, "before", within="complete_launch", last=True),
    Kill("Select", WRITTEN, "before", within="complete_launch"),  # in the next round
    Kill("Decide", "alfw.store:Store.set_state", "before", inside=True),
    Kill("Decide", WRITTEN, "before", within="complete_launch"),
]


def put_right(launchpad: LaunchPad, store: Store) -> Report:
    """What `alfw reconcile` does, without the patience that live workers need."""
    return reconcile(launchpad, store, expiration_s=0.0, lock_s=0.05, grace_s=0.0)


def at_once(launchpad_file: Path, number: int = 2) -> None:
    """`reconcile` that many times at the same moment."""
    errors: list[BaseException] = []

    def work() -> None:
        launchpad = LaunchPad.from_file(str(launchpad_file))
        try:
            put_right(launchpad, Store.from_launchpad(launchpad))
        except BaseException as error:
            errors.append(error)
        finally:
            launchpad.connection.close()

    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def wanted(launchpad: LaunchPad, kill: Kill) -> Any:
    """Whether a READY Firework is the one to kill."""

    def stop(firework: dict[str, Any]) -> bool:
        if campaigns.stage_of(firework) != kill.stage:
            return False
        same = campaigns.fireworks_of_stage(launchpad, kill.stage)
        return not kill.last or sum(item["state"] not in ("COMPLETED", "DEFUSED") for item in same) == 1

    return stop


@pytest.mark.slow
def test_killed_everywhere(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    config = campaigns.copper(tmp_path, stop={"max_rounds": 2})
    spec = {"_add_launchpad_and_fw_id": True}
    launchpad.add_wf(Firework([StartCampaign(campaign=config.raw)], spec=spec, name="copper"))
    store = Store.from_launchpad(launchpad)
    for number, kill in enumerate(KILLS):
        fw_id = campaigns.fly(launchpad, wanted(launchpad, kill))
        assert fw_id is not None, f"{kill} is never reached: {campaigns.states(launchpad)}"
        campaigns.kill(launchpad_file, fw_id, kill.point, kill.when, kill.within)
        if kill.inside:
            _, lost, _ = launchpad.detect_lostruns(expiration_secs=0, rerun=True)
            assert lost == [fw_id], kill
        elif number % 2:
            put_right(launchpad, store)
            assert put_right(launchpad, store).nothing, kill
        else:
            at_once(launchpad_file)
            assert put_right(launchpad, store).nothing, kill
    campaigns.fly(launchpad)
    assert put_right(launchpad, store).nothing
    campaigns.assert_whole(store, launchpad, "copper")
    runs = campaigns.collection(store, "runs")
    assert len(runs) == len({run["frame"] for run in runs}) == len(campaigns.collection(store, "labels"))
    assert store.failure_counts("copper") == {}


@pytest.mark.slow
def test_killed_when_a_queue_job_takes_over_its_reservation(
    tmp_path: Path, launchpad: Any, launchpad_file: Path
) -> None:
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path))
    fw_id = campaigns.fly_to(launchpad, LABEL)
    launchpad.reserve_fw(FWorker(), str(tmp_path), fw_id=fw_id)
    assert put_right(launchpad, store).nothing, "it waits in a queue"
    campaigns.kill(launchpad_file, fw_id, PAD + "_upsert_fws", "before", within="checkout_fw")
    assert put_right(launchpad, store).released == [fw_id]
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")


@pytest.mark.slow
def test_reconcile_itself_is_killed(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path))
    moments = [
        ("CalculateLabels", PAD + "rerun_fw", "before", "detect_lostruns"),  # FIZZLED, not rerun
        ("CalculateLabels", WRITTEN, "before", "rerun_fw"),  # READY, its workflow does not know
        ("Merge", PAD + "rerun_fw", "before", "detect_lostruns"),
        ("Merge", WRITTEN, "before", "rerun_fw"),
    ]
    for stage, point, when, within in moments:
        fw_id = campaigns.fly_to(launchpad, stage)
        campaigns.kill(launchpad_file, fw_id, "alfw.firetasks:Stage.run_task", "before")
        campaigns.kill(launchpad_file, 0, point, when, within)
        assert not put_right(launchpad, store).nothing
        while not put_right(launchpad, store).nothing:
            pass
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    assert store.failure_counts("copper") == {}


@pytest.mark.slow
def test_a_worker_given_up_as_lost_comes_back(tmp_path: Path, launchpad: Any) -> None:
    """It was cut off, not dead: what it brings when another has done its work changes nothing."""
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path))
    for stage in (LABEL, "Merge", "Select", "Decide"):
        fw_id = campaigns.fly_to(launchpad, stage)
        firework, launch_id = launchpad.checkout_fw(FWorker(), str(tmp_path), fw_id=fw_id)
        for task in firework.tasks:
            task.launchpad, task.fw_id = launchpad, fw_id
            action = task.run_task(dict(firework.spec))
        _, lost, _ = launchpad.detect_lostruns(expiration_secs=0, rerun=True)
        assert lost == [fw_id]
        assert campaigns.launch(launchpad, fw_id) == "COMPLETED"
        launchpad.complete_launch(launch_id, action, "COMPLETED")
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
