"""`alfw qm retry`: frames that failed for good come back, into their round or into the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import campaigns
import labelling
import pytest
import toy_labelers
from fireworks import LaunchPad
from pymongo import MongoClient
from shell import Shell
from test_suspect import coppers, share_of

from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError
from alfw.steps import label as label_step
from alfw.steps import retry as step
from alfw.store import Store
from alfw.workflow import control
from alfw.workflow.reconcile import reconcile
from alfw.workflow.relabel import newest_round
from alfw.workflow.retry import retry

PAD = "fireworks.core.launchpad:LaunchPad."


def begin(
    tmp_path: Path, launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch, bad: int = 3, **label: Any
) -> Store:
    """The store of a campaign of 12 frames, its label Fireworks done: some failed for good, and it is held for that."""
    toy_labelers.register(tmp_path, monkeypatch)
    frames, trouble = coppers(12), tmp_path / "trouble"
    trouble.touch()
    toy = {
        "kind": "toy",
        "file": str(trouble),
        "failing": share_of(frames, bad),
        "fails": "NotConvergedError",
    }
    options = toy | {"max_failed_fraction": 0.1, "frames_per_firework": 4} | label
    store = campaigns.begin(launchpad, labelling.label_campaign(tmp_path, frames, options))
    to_train(launchpad)
    return store


def to_train(launchpad: LaunchPad) -> None:
    """Launch what is READY until the labels are merged."""
    campaigns.fly(launchpad, lambda firework: campaigns.stage_of(firework) == "Train")


def failed(store: Store) -> set[str]:
    return {failure["frame"] for failure in store.all_final_failures("labels")}


def merged(store: Store) -> dict[str, int]:
    result = store.get_result("labels", 0, "merge")
    assert result is not None
    return {key: result["counts"][key] for key in ("n_labeled", "n_failed")}


def put_right(launchpad: LaunchPad, store: Store) -> Any:
    return reconcile(launchpad, store, expiration_s=0.0, lock_s=0.05, grace_s=0.0)


@pytest.mark.parametrize(
    ("fails", "name"),
    [("NotConvergedError", "SCF_NOT_CONVERGED"), ("LinearDependencyError", "LINEAR_DEPENDENCY")],
)
def test_a_campaign_held_for_its_failures_goes_on(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch, fails: str, name: str
) -> None:
    store = begin(tmp_path, launchpad, monkeypatch, fails=fails)
    record = store.get_campaign("labels")
    assert record["state"] == "paused" and "alfw qm retry labels" in record["reason"]
    bad = failed(store)
    assert len(bad) == 3
    report = retry(launchpad, store, "labels", dry_run=True)
    assert (report.classes, set(report.frames)) == ({name: 3}, bad) and report.fireworks
    assert failed(store) == bad and store.get_campaign("labels") == record
    (tmp_path / "trouble").unlink()
    runs = len(campaigns.collection(store, "runs"))
    assert retry(launchpad, store, "labels").fireworks == report.fireworks
    assert store.get_campaign("labels")["state"] == "running"
    to_train(launchpad)
    assert merged(store) == {"n_labeled": 12, "n_failed": 0}
    assert not store.get_round("labels", 0).get("accepted")  # type: ignore[union-attr]
    assert len(campaigns.collection(store, "runs")) == runs + 3, "nothing else was computed again"
    assert len(campaigns.collection(store, "failures")) == 3, "history stays"
    assert retry(launchpad, store, "labels") == type(report)({}, [], [], [], [])


def test_what_fails_again_holds_the_campaign_again(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begin(
        tmp_path, launchpad, monkeypatch, fails="UnknownLabelError", max_tries=1, max_failed_fraction=1.0
    )
    assert merged(store) == {"n_labeled": 9, "n_failed": 3}  # failures of no class of science hold nothing
    other = begin_again(tmp_path, launchpad, monkeypatch)
    for attempt in (1, 2, 3):
        assert {f["attempt"] for f in other.all_final_failures("again")} == {attempt}
        assert other.get_campaign("again")["state"] == "paused"
        retry(launchpad, other, "again", classes=["SCF_NOT_CONVERGED"])
        to_train(launchpad)
    table = other.failure_table("again")["SCF_NOT_CONVERGED"]
    assert (table["final"], table["reopened"], table["retried"]) == (3, 9, 0)
    control.resume(launchpad, other, "again")
    to_train(launchpad)
    assert other.get_result("again", 0, "merge")["counts"]["n_failed"] == 3  # type: ignore[index]


def begin_again(tmp_path: Path, launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A second campaign, of another theory, whose frames never converge."""
    frames = coppers(12)
    toy = {"kind": "toy", "file": str(tmp_path / "trouble"), "failing": share_of(frames, 3)}
    options = toy | {"fails": "NotConvergedError", "max_failed_fraction": 0.1, "shift_eV": 3.0}
    launchpad.reset("", require_password=False, max_reset_wo_password=10**6)
    store = campaigns.begin(launchpad, labelling.label_campaign(tmp_path, frames, options, name="again"))
    to_train(launchpad)
    return store


def test_only_what_is_chosen_comes_back(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begin(tmp_path, launchpad, monkeypatch)
    (tmp_path / "trouble").unlink()
    chosen, *others = sorted(failed(store))
    with pytest.raises(
        ConfigError, match="WALLTIME: no final failure of this class in labels; there are: SCF_NOT"
    ):
        retry(launchpad, store, "labels", classes=["WALLTIME"])
    with pytest.raises(ConfigError, match="abcdef: no frame of labels"):
        retry(launchpad, store, "labels", frames=["abcdef"])
    for _ in range(2):  # asking twice is asking once
        report = retry(launchpad, store, "labels", frames=[chosen[:10]])
        assert len(report.fireworks) == (1 if report.frames else 0)
    assert failed(store) == set(others)
    to_train(launchpad)
    assert store.get_campaign("labels")["state"] == "paused"  # two of twelve are still too many
    assert failed(store) == set(others)


def test_tries_are_counted_anew(tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"fails": "UnknownLabelError", "max_tries": 2, "frames_per_firework": 1}
    toy_labelers.register(tmp_path, monkeypatch)
    (tmp_path / "trouble").touch()
    toy = {"kind": "toy", "file": str(tmp_path / "trouble"), **options}
    store = campaigns.begin(launchpad, labelling.label_campaign(tmp_path, coppers(1), toy))
    for round_ in range(2):
        for _ in range(4):
            campaigns.fly(launchpad, lambda firework: campaigns.stage_of(firework) != "CalculateLabels")
            put_right(launchpad, store)
        found = [(f["attempt"], f["final"]) for f in store.failures("labels", failed(store), theory(store))]
        assert found == [(1, False), (2, True), (3, False), (4, True)][: 2 + 2 * round_]
        retry(launchpad, store, "labels")


def theory(store: Store) -> str:
    return campaigns.store_config(store, "labels").plugins(None).labeler.theory().id


def test_put_back_while_its_firework_runs(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begin(tmp_path, launchpad, monkeypatch)
    ctx = newest_round(store, "labels")
    (tmp_path / "trouble").unlink()
    pack = label_step.pack(ctx, 8, 4)
    label_step.calculate(ctx, pack)
    step.reopen(ctx, step.choose(ctx))
    assert label_step.judge(ctx, pack)["n_failed"] == 0


@pytest.mark.slow
def test_killed_in_between(
    tmp_path: Path, launchpad: Any, launchpad_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`alfw qm retry` dies after it has reopened; what it left undone is done by reconcile, which dies as well."""
    store = begin(tmp_path, launchpad, monkeypatch, max_failed_fraction=0.5, frames_per_firework=1)
    assert merged(store) == {"n_labeled": 9, "n_failed": 3}
    store.database["alfw_results"].delete_one({"stage": "merge"})  # as if the last label had only just failed
    store.database["alfw_datasets"].delete_many({})
    (tmp_path / "trouble").unlink()
    ctx = newest_round(store, "labels")
    step.reopen(ctx, step.choose(ctx))
    for point, when, within in [
        (PAD + "rerun_fw", "before", "rerun_reopened"),
        ("fireworks.core.firework:Workflow._reassign_ids", "before", "rerun_reopened"),  # READY, nobody knows
        (PAD + "rerun_fw", "after", "rerun_reopened"),
    ]:
        campaigns.kill(launchpad_file, 0, point, when, within)
    put_right(launchpad, store)
    while not put_right(launchpad, store).nothing:
        pass
    firework = campaigns.fly_to(launchpad, "CalculateLabels")
    campaigns.kill(launchpad_file, firework, "toy_labelers:ToyLabeler.run", "after")
    launchpad.detect_lostruns(expiration_secs=0, rerun=True)
    to_train(launchpad)
    assert put_right(launchpad, store).nothing
    assert merged(store) == {"n_labeled": 12, "n_failed": 0}
    assert campaigns.states(launchpad)["READY"] == 1


@pytest.mark.slow
def test_frames_of_a_merged_round_join_the_next_selection(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_labelers.register(tmp_path, monkeypatch)
    trouble, name = tmp_path / "trouble", "copper"
    trouble.touch()
    raw = campaigns.raw_copper(tmp_path, frames=14)
    toy = {"kind": "toy", "fails": "NotConvergedError", "failing": 0.4, "file": str(trouble)}
    raw |= {"name": name, "label": toy | {"max_failed_fraction": 0.9, "frames_per_firework": 5}}
    store = campaigns.begin(launchpad, CampaignConfig(raw))
    campaigns.fly(launchpad, lambda firework: campaigns.stage_of(firework) == "Sample")
    trouble.unlink()
    entries = {row["frame"]: row["side"] for row in step.rows_of_round(newest_round(store, name), 0)}
    lost = {failure["frame"] for failure in store.all_final_failures(name)}
    sealed = {frame for frame in lost if entries[frame] == "test"}
    report = retry(launchpad, store, name)
    assert set(report.frames) == lost and set(report.sealed) == sealed
    assert set(report.later) == lost - sealed and report.later and not report.fireworks
    trouble.touch()
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, name)
    chosen = {row["frame"]: row for row in store.get_candidates(name, 1)}
    assert {frame for frame, row in chosen.items() if row["reason"] == "retry"} == lost - sealed
    assert len(chosen) == len(lost - sealed) + 3 + 2, "beside max_frames and audit_frames"
    assert all(chosen[frame]["state"] == "failed" for frame in lost - sealed)
    trouble.unlink()
    again = retry(launchpad, store, name, classes=["SCF_NOT_CONVERGED"])
    assert "copper has ended: `alfw amend FILE`" in again.note and set(again.later) >= lost - sealed
    raw["stop"] = {"min_rounds": 1, "max_rounds": 2}
    control.revise(launchpad, store, CampaignConfig(raw))
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, name)
    rows = {row.frame: row for row in campaigns.dataset_rows(store, name, 2)}
    for frame in lost - sealed:
        assert (rows[frame].side, rows[frame].round, rows[frame].audit) == (entries[frame], 2, False)
    assert not sealed & set(rows)
    assert retry(launchpad, store, name).later == []


@pytest.fixture
def _clients_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """FireWorks' LaunchPads never close their connections; a test does."""
    opened: list[MongoClient[Any]] = []

    def client(*args: Any, **kwargs: Any) -> MongoClient[Any]:
        opened.append(MongoClient(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr("fireworks.core.launchpad.MongoClient", client)
    yield
    for each in opened:
        each.close()


@pytest.mark.usefixtures("_clients_closed")
def test_typed(tmp_path: Path, launchpad: Any, launchpad_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = begin(tmp_path, launchpad, monkeypatch)
    shell, pad = Shell(tmp_path), ["-l", launchpad_file]
    shown = shell.here("status", "labels", *pad).out
    failure = store.all_final_failures("labels")[-1]
    assert "failed: SCF_NOT_CONVERGED 3 for good (alfw show" in shown and "alfw qm retry labels" in shown
    failures = shell.json("status", "labels", *pad)["failures"]["SCF_NOT_CONVERGED"]
    assert (failures["final"], failures["retried"]) == (3, 0)
    text = shell.here("show", failure["_id"][:12], *pad).out
    assert f"files: alfw show {failure['run'][:12]} --files DIR" in text and "the literal line" in text
    written = shell.here("show", failure["run"][:12], "--files", "out", *pad).out.split()
    assert written == ["out/out", "out/result.json"] or written == ["out/result.json", "out/out"]
    assert (tmp_path / "out" / "out").read_bytes() == b"converged"
    assert "nor a failure" in shell.here("show", failure["frame"], "--files", "out", *pad, code=1).err
    assert "would put back: SCF_NOT_CONVERGED 3" in shell.here("qm", "retry", "labels", "--dry-run", *pad).out
    assert "there are: SCF_NOT" in shell.here("qm", "retry", "labels", "--class", "X", *pad, code=1).line
    assert "no campaign" in shell.here("qm", "retry", "nothing", *pad, code=1).line
    report = shell.json("qm", "retry", "labels", "--class", "SCF_NOT_CONVERGED", *pad)
    assert report["classes"] == {"SCF_NOT_CONVERGED": 3} and report["fireworks"] and not report["dry_run"]
    assert "put back" in shell.here("status", "labels", *pad).out
    assert "nothing new" in shell.here("qm", "retry", "labels", *pad).out
