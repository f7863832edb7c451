"""Labels that fail, workers that die over and over, programs that are not there."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import campaigns
import pytest
from fireworks import FWorker

from alfw.steps.summary import campaign_summary
from alfw.workflow import control
from alfw.workflow.reconcile import reconcile

EMT = "alfw.labelers.ase:ASELabeler.run"


def moody(share: float, message: str, **options: Any) -> dict[str, Any]:
    """The label section of a calculator that fails for some frames."""
    kwargs = {"share": share, "message": message}
    return {"calculator": "moody_calculators:Moody", "kwargs": kwargs, **options}


def put_right(launchpad: Any, store: Any) -> Any:
    return reconcile(launchpad, store, expiration_s=0.0, lock_s=0.05, grace_s=0.0)


def fly_and_put_right(launchpad: Any, store: Any, times: int = 12) -> None:
    """Launch and reconcile until there is nothing left to do."""
    for _ in range(times):
        campaigns.fly(launchpad)
        if put_right(launchpad, store).nothing:
            return
    raise AssertionError(f"no end: {campaigns.states(launchpad)}")


@pytest.mark.slow
def test_final_failures_are_recorded_and_the_round_goes_on(tmp_path: Path, launchpad: Any) -> None:
    label = moody(0.2, "SCF failed to converge in 50 cycles", max_failed_fraction=0.9)
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, frames=12, label=label))
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    failures = campaigns.collection(store, "failures")
    assert failures
    for failure in failures:
        assert failure["class"] == "SCF_NOT_CONVERGED"
        assert failure["signature"] == "RuntimeError: SCF failed to converge in 50 cycles"
        assert failure["final"]
        assert failure["attempt"] == 1
    summary = campaign_summary(store, "copper")
    assert sum(row["n_failed"] for row in summary["rounds"]) == len(failures)
    [(name, counts)] = summary["failures"].items()
    assert name == "SCF_NOT_CONVERGED" and counts.pop("newest") in {failure["_id"] for failure in failures}
    assert counts == {"final": len(failures), "retried": 0, "reopened": 0}
    failed = {failure["frame"] for failure in failures}
    assert failed.isdisjoint(row.frame for row in campaigns.dataset_rows(store, "copper", 1))
    assert len(campaigns.collection(store, "runs")) == len(failed) + len(
        campaigns.collection(store, "labels")
    )


@pytest.mark.slow
def test_too_many_failures_pause_the_campaign_until_its_user_accepts(tmp_path: Path, launchpad: Any) -> None:
    label = moody(0.5, "SCF failed to converge", max_failed_fraction=0.05)
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, frames=12, label=label))
    control.pause(launchpad, store, "copper", "paused by the user")
    control.resume(launchpad, store, "copper")  # accepts nothing: nothing was found yet
    campaigns.fly(launchpad)
    record = store.get_campaign("copper")
    assert record["state"] == "paused"
    assert (
        "of 12 labels of round 0 failed for good (SCF_NOT_CONVERGED), more than max_failed_fraction"
        in record["reason"]
    )
    assert set(campaigns.states(launchpad)) == {"COMPLETED", "PAUSED"}
    [merge] = campaigns.fireworks_of_stage(launchpad, "Merge")
    assert (merge["state"], merge["launches"]) == ("PAUSED", [])
    assert store.get_result("copper", 0, "merge") is None
    control.resume(launchpad, store, "copper")
    while store.get_campaign("copper")["state"] != "ended":
        campaigns.fly(launchpad)
        if store.get_campaign("copper")["state"] == "paused":  # round 1 has failures of its own
            control.resume(launchpad, store, "copper")
    campaigns.assert_whole(store, launchpad, "copper")


@pytest.mark.slow
def test_failures_that_another_try_may_cure_are_tried_again_then_final(
    tmp_path: Path, launchpad: Any
) -> None:
    label = moody(0.2, "something unheard of", max_tries=2, frames_per_firework=4)
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, frames=12, label=label))
    fly_and_put_right(launchpad, store)
    campaigns.assert_whole(store, launchpad, "copper")
    failures = campaigns.collection(store, "failures")
    assert {failure["class"] for failure in failures} == {"UNKNOWN"}
    by_frame: dict[str, list[Any]] = {}
    for failure in sorted(failures, key=lambda item: item["attempt"]):
        by_frame.setdefault(failure["frame"], []).append((failure["attempt"], failure["final"]))
    assert all(tries == [(1, False), (2, True)] for tries in by_frame.values())
    assert len(campaigns.collection(store, "runs")) == 2 * len(by_frame) + len(
        campaigns.collection(store, "labels")
    )


@pytest.mark.slow
def test_a_label_whose_worker_dies_every_time(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, label={"max_tries": 2}))
    cursed = campaigns.fly_to(launchpad, "CalculateLabels")
    for _ in range(2):
        campaigns.kill(launchpad_file, cursed, EMT, "before")
        _, lost, _ = launchpad.detect_lostruns(expiration_secs=0, rerun=True)
        assert lost == [cursed]
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    [failure] = campaigns.collection(store, "failures")
    assert (failure["class"], failure["final"]) == ("NODE_LOST", True)
    assert "no result in 2 tries" in failure["message"]
    assert campaign_summary(store, "copper")["rounds"][0]["n_failed"] == 1


@pytest.mark.slow
def test_a_missing_program_pauses_and_poisons_no_frame(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.syspath_prepend(modules)
    label = {"calculator": "late_calculators:Late", "kwargs": {}, "max_tries": 1}
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, label=label))
    for _ in range(4):  # more often than max_tries: what is missing is not the frame's fault
        campaigns.fly(launchpad)
        record = store.get_campaign("copper")
        assert record["state"] == "paused"
        assert "late_calculators" in record["reason"]
        assert set(campaigns.states(launchpad)) == {"PAUSED"}
        control.resume(launchpad, store, "copper")
    (modules / "late_calculators.py").write_text("from ase.calculators.emt import EMT as Late\n")
    importlib.invalidate_caches()
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    assert store.failure_counts("copper", final=True) == {}
    assert store.failure_counts("copper") == {"EXECUTABLE_MISSING": 4}
    runs = campaigns.collection(store, "runs")
    assert len(runs) == len({run["frame"] for run in runs})


@pytest.mark.slow
def test_stopping_a_worker_by_hand_is_no_failure_of_the_frame(tmp_path: Path, launchpad: Any) -> None:
    (tmp_path / "stop").touch()
    kwargs = {"file": str(tmp_path / "stop")}
    label = {"calculator": "moody_calculators:Stopped", "kwargs": kwargs, "max_tries": 1}
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, label=label))
    fw_id = campaigns.fly_to(launchpad, "CalculateLabels")
    for _ in range(3):
        assert campaigns.launch(launchpad, fw_id) == "FIZZLED"
        launchpad.rerun_fw(fw_id)  # as `alfw run` does
    (tmp_path / "stop").unlink()
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    assert store.failure_counts("copper") == {"STOPPED": 3}
    assert store.failure_counts("copper", final=True) == {}


@pytest.mark.slow
def test_only_the_worker_that_labels_needs_the_values_of_the_labeler(tmp_path: Path, launchpad: Any) -> None:
    label = {"execution_kwargs": {"directory": ">>scratch_folder<<"}}
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, label=label))
    campaigns.fly(launchpad)
    assert "scratch_folder" in store.get_campaign("copper")["reason"]
    assert set(campaigns.states(launchpad)) == {"PAUSED"}
    control.resume(launchpad, store, "copper")
    while (firework := campaigns.ready(launchpad)) is not None:
        env = {"scratch_folder": str(tmp_path)} if campaigns.stage_of(firework) == "CalculateLabels" else {}
        assert campaigns.launch(launchpad, firework["fw_id"], FWorker(env=env)) == "COMPLETED"
    campaigns.assert_whole(store, launchpad, "copper")


@pytest.mark.slow
def test_trouble_that_is_not_of_the_frames_leaves_the_firework_to_its_user(
    tmp_path: Path, launchpad: Any
) -> None:
    """Whatever breaks before a frame is touched (here: a blob is lost) never costs a frame."""
    label = {"max_tries": 1, "frames_per_firework": 4}
    store = campaigns.begin(launchpad, campaigns.copper(tmp_path, label=label))
    lost = store.get_result("copper", 0, "start")["outputs"]["to_label"]
    blob = store.database["alfw_blobs"].find_one_and_delete({"_id": lost})
    for _ in range(8):
        campaigns.fly(launchpad)
        report = put_right(launchpad, store)
    assert report.nothing and all(lost in trouble for trouble in report.trouble) and report.trouble
    assert campaigns.collection(store, "failures") == []
    fizzled = campaigns.fireworks_of_stage(launchpad, "CalculateLabels")
    assert [firework["state"] for firework in fizzled] == ["FIZZLED"] * 2
    assert len(fizzled[0]["archived_launches"]) == 4  # tried again, but not for ever
    store.database["alfw_blobs"].insert_one(blob)
    for firework in fizzled:
        launchpad.rerun_fw(firework["fw_id"])
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")


@pytest.mark.slow
def test_two_campaigns_over_the_same_frames(tmp_path: Path, launchpad: Any) -> None:
    names = ("copper", "copper-b")
    for name in names:
        store = campaigns.begin(launchpad, campaigns.copper(tmp_path, name, stop={"min_rounds": 0}))
    campaigns.fly(launchpad)
    imported = {row.frame for row in campaigns.dataset_rows(store, "copper", 0)}
    for name in names:
        campaigns.assert_whole(store, launchpad, name)
        assert {row.frame for row in campaigns.dataset_rows(store, name, 0)} == imported
    runs = campaigns.collection(store, "runs")
    assert len(runs) == len({(run["frame"], run["theory"]) for run in runs})
    assert sum(run["frame"] in imported for run in runs) == len(imported)
