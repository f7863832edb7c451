"""The failure ledger: what stops a campaign at the first frame, what is tried again, and how; what is shown of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import campaigns
import labelling
import numpy as np
import pytest
import toy_labelers
from ase.build import molecule
from fireworks import LaunchPad
from test_suspect import coppers, share_of

from alfw.cli.table import failure_lines
from alfw.config import CampaignConfig
from alfw.core.frame import Frame
from alfw.core.records import Theory
from alfw.steps import export
from alfw.steps.provenance import records, write_output
from alfw.steps.summary import campaign_summary
from alfw.store import Store
from alfw.workflow import control
from alfw.workflow.reconcile import reconcile

PAUSING = ("ExecutableError", "LicenseError", "DeckError", "BasisError")


def begin(
    tmp_path: Path, launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch, number: int = 12, **label: Any
) -> tuple[Store, CampaignConfig]:
    """A campaign of the toy labeler that is only there to label."""
    toy_labelers.register(tmp_path, monkeypatch)
    toy = {"kind": "toy", "log": str(tmp_path / "log"), "file": str(tmp_path / "trouble")}
    (tmp_path / "trouble").touch()
    resources = label.pop("resources", {})
    config = labelling.label_campaign(tmp_path, coppers(number), toy | label)
    config = CampaignConfig(config.raw | {"resources": {"label": resources}})
    return campaigns.begin(launchpad, config), config


def fly_labels(launchpad: LaunchPad) -> None:
    """Launch the label Fireworks that are READY."""
    while (firework := campaigns.ready(launchpad)) is not None and campaigns.stage_of(
        firework
    ) == "CalculateLabels":
        campaigns.launch(launchpad, firework["fw_id"])


def log(tmp_path: Path) -> list[dict[str, Any]]:
    """What the toy labeler was asked to do."""
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def put_right(launchpad: LaunchPad, store: Store) -> Any:
    return reconcile(launchpad, store, expiration_s=0.0, lock_s=0.05, grace_s=0.0)


@pytest.mark.parametrize(
    ("error", "where", "in_process"),
    [
        *((error, "run", False) for error in PAUSING[:3]),
        *(("BasisError", where, in_process) for where in ("run", "parse") for in_process in (False, True)),
    ],
)
def test_what_would_hit_every_frame_stops_at_the_first(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch, error: str, where: str, in_process: bool
) -> None:
    options = {"fails": error, "where": where, "in_process": in_process, "max_tries": 1}
    store, _ = begin(tmp_path, launchpad, monkeypatch, frames_per_firework=12, **options)
    for round_ in range(3):  # more often than max_tries: it is not the frame's fault
        fly_labels(launchpad)
        assert len(log(tmp_path)) == round_ + 1, "one frame each time, not the whole pack"
        record = store.get_campaign("labels")
        assert record["state"] == "paused" and f"{error} wanted" in record["reason"]
        assert "\n" not in record["reason"]
        assert campaigns.states(launchpad) == {"PAUSED": 5}
        control.resume(launchpad, store, "labels")
    (tmp_path / "trouble").unlink()
    fly_labels(launchpad)
    assert len(campaigns.collection(store, "labels")) == 12
    failures = campaigns.collection(store, "failures")
    assert len(failures) == 3 and not any(failure["final"] for failure in failures)
    assert {failure["policy"] for failure in failures} == {"pause"}


def test_what_hits_one_frame_of_many_stops_there(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The element without a basis set is in the last frame: what was computed before is kept."""
    share = share_of(coppers(12), 1)
    options = {"fails": "BasisError", "failing": share, "frames_per_firework": 12}
    store, _ = begin(tmp_path, launchpad, monkeypatch, **options)
    fly_labels(launchpad)
    assert store.get_campaign("labels")["state"] == "paused"
    assert len(campaigns.collection(store, "labels")) == 11
    [failure] = campaigns.collection(store, "failures")
    assert (failure["class"], failure["final"]) == ("BASIS_MISSING", False)


def test_out_of_time_restarts_with_more_time(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = {"walltime": "01:30:00", "queue": "debug"}
    options = {"fails": "WalltimeError", "where": "run", "max_tries": 5, "resources": resources}
    store, _ = begin(tmp_path, launchpad, monkeypatch, number=1, **options)
    [firework] = campaigns.fireworks_of_stage(launchpad, "CalculateLabels")
    assert firework["spec"]["_queueadapter"] == {"walltime": "01:30:00", "queue": "debug"}
    for walltime in ("03:00:00", "06:00:00", "06:00:00"):
        fly_labels(launchpad)
        assert put_right(launchpad, store).rerun == [firework["fw_id"]]
        [firework] = campaigns.fireworks_of_stage(launchpad, "CalculateLabels")
        assert firework["spec"]["_queueadapter"] == {"walltime": walltime, "queue": "debug"}
    (tmp_path / "trouble").unlink()
    fly_labels(launchpad)
    assert [line["walltime_s"] for line in log(tmp_path)] == [5400.0, 10800.0, 21600.0, 21600.0]
    left = {"out": "cycle 1", "chk": "orbitals"}
    assert [line["restart"] for line in log(tmp_path)] == [{}, left, left, left]
    runs = sorted(campaigns.collection(store, "runs"), key=lambda run: run["attempt"])
    assert [(run["attempt"], run["partial"]) for run in runs] == [(1, True), (2, True), (3, True), (4, False)]
    [label] = campaigns.collection(store, "labels")
    assert label["run"] == runs[-1]["_id"]
    assert [failure["run"] for failure in campaigns.collection(store, "failures")] == [
        r["_id"] for r in runs[:3]
    ]


def test_without_a_walltime_nothing_gets_longer(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"fails": "WalltimeError", "where": "run", "max_tries": 2}
    store, _ = begin(tmp_path, launchpad, monkeypatch, number=1, **options)
    for _ in range(2):
        fly_labels(launchpad)
        put_right(launchpad, store)
    assert [line["walltime_s"] for line in log(tmp_path)] == [None, None]
    assert "_queueadapter" not in campaigns.fireworks_of_stage(launchpad, "CalculateLabels")[0]["spec"]
    table = store.failure_table("labels")["WALLTIME"]
    assert (table["final"], table["retried"], table["reopened"]) == (1, 1, 0)


def test_a_pack_is_stored_also_when_one_of_its_frames_waits_for_another_try(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = share_of(coppers(12), 3)
    options = {"fails": "UnknownLabelError", "failing": share, "frames_per_firework": 12}
    store, _ = begin(tmp_path, launchpad, monkeypatch, **options)
    fly_labels(launchpad)
    [firework] = campaigns.fireworks_of_stage(launchpad, "CalculateLabels")
    assert firework["state"] == "FIZZLED"
    assert "UNKNOWN: frame" in control.fizzled(launchpad, "labels")[0]["why"]
    assert len(campaigns.collection(store, "labels")) == 9
    (tmp_path / "trouble").unlink()
    put_right(launchpad, store)
    fly_labels(launchpad)
    assert len(campaigns.collection(store, "labels")) == 12
    assert len(log(tmp_path)) == 15


def test_a_failure_says_what_and_where_and_its_output_can_be_had(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = begin(
        tmp_path, launchpad, monkeypatch, number=1, fails="NotConvergedError", command="toy --fast"
    )
    fly_labels(launchpad)
    [failure] = campaigns.collection(store, "failures")
    [shown] = records(store, failure["_id"][:12])
    assert shown["class"] == "SCF_NOT_CONVERGED" and shown["final"] and shown["attempt"] == 1
    assert shown["signature"] == "the literal line" and shown["corrections"] == []
    assert (shown["command"], shown["host"], shown["policy"]) == ("toy --fast", "here", "final")
    assert shown["files"] == f"alfw show {failure['run'][:12]} --files DIR"
    [run] = records(store, failure["run"])
    assert set(run["output"]) == {"result.json", "out"} and run["output"]["out"] == "9 bytes"
    for what in (failure["_id"], failure["run"][:12]):
        folder = tmp_path / what[:8]
        assert {path.name for path in write_output(store, what, folder)} == {"result.json", "out"}
        assert (folder / "out").read_bytes() == b"converged"


def test_labels_of_a_changed_theory_are_marked_and_counted(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"smears": share_of(coppers(12), 2), "frames_per_firework": 12}
    store, config = begin(tmp_path, launchpad, monkeypatch, **options)
    campaigns.fly(launchpad, lambda firework: campaigns.stage_of(firework) == "Train")
    theory = config.plugins(None).labeler.theory()
    surfaces = [label["surface"] for label in campaigns.collection(store, "labels")]
    other = Theory(theory.code, {**theory.settings, "smearing_eV": 0.1})
    assert sorted(surfaces) == sorted([theory.id] * 10 + [other.id] * 2)
    assert store.get_theory(other.id) == other
    counts = store.get_result("labels", 0, "merge")["counts"]  # type: ignore[index]
    assert (counts["n_changed_surface"], counts["n_confirmed"]) == (2, 0)
    summary = campaign_summary(store, "labels")
    assert summary["rounds"][0]["n_changed_surface"] == 2
    assert "2 labels are of a theory that an allowed remedy changed" in failure_lines(summary)
    report = export.dataset(store, "labels", tmp_path / "d.npz")
    assert report["changed_surface"] == 2
    with np.load(tmp_path / "d.npz") as data:
        assert sorted(data["theory"]) == sorted(surfaces)


@pytest.mark.slow
def test_a_frame_that_kills_its_worker_takes_no_other_with_it(
    tmp_path: Path, launchpad: Any, launchpad_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In-process labels are claimed many at a time: only the one at which the worker dies is given up for it."""
    options = {"in_process": True, "frames_per_firework": 12, "max_tries": 2}
    store, _ = begin(tmp_path, launchpad, monkeypatch, **options)
    [firework] = campaigns.fireworks_of_stage(launchpad, "CalculateLabels")
    wanted = campaigns.context(store, "labels", 0).get_json(
        store.get_result("labels", 0, "start")["outputs"]["to_label"]
    )
    monkeypatch.setenv("CURSED", wanted[9])
    for _ in range(3):  # the first time among others, which does not count
        campaigns.kill(launchpad_file, firework["fw_id"], "toy_labelers:mourn", "before")
        launchpad.detect_lostruns(expiration_secs=0, rerun=True)
    fly_labels(launchpad)
    assert campaigns.fireworks_of_stage(launchpad, "CalculateLabels")[0]["state"] == "COMPLETED"
    assert len(campaigns.collection(store, "labels")) == 11
    [failure] = campaigns.collection(store, "failures")
    assert (failure["frame"], failure["class"], failure["final"]) == (wanted[9], "NODE_LOST", True)


LATE = """#!/bin/sh
cp nwchem.nw seen.$$ && mv seen.$$ {home}/input.$(ls {home} | wc -l)
if [ -e alfw.movecs ]; then cp alfw.movecs {home}/found; echo done; exit 0; fi
echo orbitals > alfw.movecs
sleep 60 & wait
"""


def test_a_program_out_of_time_goes_on_from_its_checkpoint(tmp_path: Path, launchpad: Any) -> None:
    """A real process, its time limit, what it left, and the input and folder of the next attempt."""
    home, program = tmp_path / "home", tmp_path / "late"
    home.mkdir()
    program.write_text(LATE.format(home=home))
    program.chmod(0o755)
    label = {"kind": "nwchem", "method": "hf", "basis": "sto-3g", "command": str(program), "max_tries": 2}
    water = Frame.from_atoms(molecule("H2O"))
    config = labelling.label_campaign(tmp_path, [water], label)
    config = CampaignConfig(config.raw | {"resources": {"label": {"walltime": "00:00:02"}}})
    store = campaigns.begin(launchpad, config)
    fly_labels(launchpad)
    assert store.failure_table("labels")["WALLTIME"]["retried"] == 1
    [run] = campaigns.collection(store, "runs")
    assert run["partial"] and store.get_run(run["_id"]).files["alfw.movecs"] == b"orbitals\n"
    put_right(launchpad, store)
    fly_labels(launchpad)
    assert (home / "found").read_text() == "orbitals\n"
    first, second = ((home / f"input.{number}").read_text() for number in (0, 1))
    assert "input atomic" in first and "input alfw.movecs" in second
    assert store.failure_table("labels")["MISSING_OUTPUT"]["final"] == 1  # it had nothing to say for itself
