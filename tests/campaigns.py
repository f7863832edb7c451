"""Small real campaigns for the tests: a copper crystal, EMT labels, tiny Nequix ensemble, real jax-md."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket

from alfw.cli.common import read_campaign
from alfw.config import CampaignConfig
from alfw.steps.context import Context
from alfw.steps.dataset import Row, rows_of
from alfw.store import Store
from alfw.workflow import control

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parent / "fw_templates" / "campaigns" / "copper"
TASK = "spec._tasks.0._fw_name"
ATOMS = 4 + 2  # lines of one frame in initial.extxyz


def raw_copper(folder: Path, frames: int = 8) -> dict[str, Any]:
    """The crystal campaign of the templates with small numbers, as plain data; its frames are in `folder`."""
    lines = (TEMPLATE / "initial.extxyz").read_text().splitlines(keepends=True)
    (folder / "initial.extxyz").write_text("".join(lines[: ATOMS * frames]))
    raw = copy.deepcopy(read_campaign(TEMPLATE / "campaign.yaml").raw)
    raw["data"]["initial"] = [{"path": str(folder / "initial.extxyz"), "theory": "ignore"}]
    raw["model"] |= {"hidden_irreps": "4x0e + 4x1o", "radial_mlp_size": 8}
    raw["model"]["training"] = {"steps": 30, "batch_size": 4}
    raw["sample"][0] |= {"walkers": 2, "n_steps": 40, "keep_every": 5}
    raw["select"] |= {"max_frames": 3, "audit_frames": 2, "dedup": {"min_distance_A": 0.01}}
    raw["stop"] = {"min_rounds": 1, "max_rounds": 1}
    return raw


def copper(folder: Path, name: str = "copper", frames: int = 8, **sections: Any) -> CampaignConfig:
    """The small crystal campaign; `sections` are merged into its sections of these names."""
    raw = raw_copper(folder, frames) | {"name": name}
    for key, value in sections.items():
        raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
    return CampaignConfig(raw)


def begin(launchpad: LaunchPad, config: CampaignConfig) -> Store:
    """Start a campaign in this process; the store it is in."""
    control.start(launchpad, config, {}, lambda text: None)
    return Store.from_launchpad(launchpad)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A new working folder for rockets, which leave files where they are."""
    with tempfile.TemporaryDirectory(prefix="alfw_rockets_") as name, contextlib.chdir(name):
        yield Path(name)


def ready(launchpad: LaunchPad) -> dict[str, Any] | None:
    """The READY Firework that comes next: in order of their numbers."""
    found: dict[str, Any] | None = launchpad.fireworks.find_one({"state": "READY"}, sort=[("fw_id", 1)])
    return found


def launch(launchpad: LaunchPad, fw_id: int, worker: FWorker | None = None) -> str:
    """State of a Firework after its rocket flew in this process."""
    with scratch():
        launch_rocket(launchpad, worker or FWorker(), fw_id=fw_id, strm_lvl="ERROR")
        for thread in threading.enumerate():  # FireWorks pings once more after the rocket has landed
            if "ping_launch" in thread.name:
                thread.join(timeout=10)
    return str(launchpad.fireworks.find_one({"fw_id": fw_id})["state"])


def fly(launchpad: LaunchPad, until: Callable[[dict[str, Any]], bool] = lambda firework: False) -> int | None:
    """Launch what is READY, one after the other; fw_id of the first for which `until` says stop, else None."""
    while (firework := ready(launchpad)) is not None:
        if until(firework):
            return int(firework["fw_id"])
        launch(launchpad, firework["fw_id"])
    return None


def stage_of(firework: dict[str, Any]) -> str:
    """Name of the first Firetask of a Firework."""
    return str(firework["spec"]["_tasks"][0]["_fw_name"]).strip("{}").rpartition(".")[2]


def fly_to(launchpad: LaunchPad, stage: str) -> int:
    """Launch until a Firework of this stage comes next; its fw_id."""
    fw_id = fly(launchpad, lambda firework: stage_of(firework) == stage)
    assert fw_id is not None, f"no {stage} ever became READY: {states(launchpad)}"
    return fw_id


def states(launchpad: LaunchPad) -> dict[str, int]:
    """How many Fireworks of the database are in each state."""
    return dict(Counter(item["state"] for item in launchpad.fireworks.find({}, {"state": 1})))


def fireworks_of_stage(launchpad: LaunchPad, stage: str) -> list[dict[str, Any]]:
    """The Fireworks whose first Firetask is this one, in order."""
    name = "{{alfw.firetasks." + stage + "}}"
    return list(launchpad.fireworks.find({TASK: name}).sort("fw_id", 1))


def kill(launchpad_file: Path, fw_id: int, point: str, when: str, within: str = "") -> None:
    """Launch one rocket (fw_id 0: reconcile) in a process that gets SIGKILL at `point` (module:attribute).

    `when` it is called: before or after it has done its work; `within`: only while that function is running.
    """
    command = [
        sys.executable,
        str(HERE / "killer.py"),
        str(launchpad_file),
        str(fw_id),
        point,
        when,
        within,
    ]
    with tempfile.TemporaryDirectory(prefix="alfw_killed_") as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, f"{point} was never reached: {done.stdout}\n{done.stderr}"


def collection(store: Store, name: str) -> list[dict[str, Any]]:
    """All documents of one of alfw's collections."""
    return list(store.database["alfw_" + name].find())


def context(store: Store, campaign: str, number: int) -> Context:
    """A context for reading."""
    return Context.load(store, campaign, number, Path(os.devnull))


def dataset_rows(store: Store, campaign: str, number: int) -> list[Row]:
    """The rows of the dataset version of a round."""
    ctx = context(store, campaign, number)
    return rows_of(ctx, ctx.result("merge")["outputs"]["dataset"])


def snapshot(store: Store) -> dict[str, Any]:
    """Everything a campaign has produced, in a form that can be compared: nothing may change it afterwards."""
    names = (
        "results",
        "labels",
        "runs",
        "failures",
        "datasets",
        "ensembles",
        "members",
        "candidates",
        "frames",
        "rounds",
    )
    return {name: sorted(collection(store, name), key=lambda item: str(item["_id"])) for name in names}


def assert_whole(store: Store, launchpad: LaunchPad, campaign: str) -> None:
    """The campaign has ended, nothing of it is lost, nothing doubled."""
    record = store.get_campaign(campaign)
    assert record["state"] == "ended", record
    _assert_results(store, campaign)
    for name, keys in {
        "runs": ("frame", "theory", "attempt"),
        "labels": ("frame", "theory"),
        "candidates": ("campaign", "round", "frame"),
        "members": ("ensemble", "k"),
    }.items():
        found = Counter(tuple(item[key] for key in keys) for item in collection(store, name))
        assert not found or max(found.values()) == 1, f"{name}: {found.most_common(1)}"
    _assert_sides(store, campaign)
    _assert_workflows(store, launchpad, campaign)


def _assert_results(store: Store, campaign: str) -> None:
    """Exactly one result of each stage and part of each round."""
    plugins = store_config(store, campaign).plugins(None)
    parts = {"sample": len(plugins.samplers), "screen": len(plugins.samplers), "train": plugins.model.members}
    rounds = [item["number"] for item in store.rounds(campaign)]
    assert rounds == list(range(len(rounds)))
    expected = set()
    for number in rounds:
        first = ["start"] if number == 0 else ["sample", "screen", "select"]
        for stage in [*first, "merge", "train", "evaluate", "decide"]:
            expected |= {(number, stage, part) for part in range(parts.get(stage, 1))}
    found = [(item["round"], item["stage"], item["part"]) for item in store.get_results(campaign)]
    assert sorted(found) == sorted(expected)


def store_config(store: Store, campaign: str) -> CampaignConfig:
    """The configuration of a stored campaign."""
    return CampaignConfig(store.get_campaign(campaign)["revisions"][-1]["config"])


def _assert_sides(store: Store, campaign: str) -> None:
    """The test side is sealed at the start; no frame changes its side; datasets only grow."""
    side: dict[str, str] = {}
    before: set[str] = set()
    for item in store.rounds(campaign):
        rows = dataset_rows(store, campaign, item["number"])
        assert len({row.frame for row in rows}) == len(rows)
        assert before <= {row.frame for row in rows}
        before = {row.frame for row in rows}
        for row in rows:
            assert side.setdefault(row.frame, row.side) == row.side
            assert row.side != "test" or row.round == 0
        counts = context(store, campaign, item["number"]).result("merge")["counts"]
        for name in ("train", "valid", "test"):
            assert counts[f"n_{name}"] == sum(row.side == name for row in rows)
    assert set(side.values()) >= {"train", "test"}


def _assert_workflows(store: Store, launchpad: LaunchPad, campaign: str) -> None:
    """One registered workflow a round, completed; Fireworks of others are defused; none is lost."""
    for item in store.rounds(campaign):
        query = {"metadata.campaign": campaign, "metadata.round": item["number"], "state": {"$ne": "DEFUSED"}}
        [workflow] = launchpad.workflows.find(query)
        assert workflow["state"] == "COMPLETED", workflow
        assert "locked" not in workflow
        documents = list(launchpad.fireworks.find({"fw_id": {"$in": workflow["nodes"]}}))
        assert {d["fw_id"] for d in documents} == set(workflow["nodes"])
        assert {d["state"] for d in documents} == {"COMPLETED"}
        assert set(workflow["fw_states"].values()) == {"COMPLETED"}
        tokens = {task["token"] for d in documents for task in d["spec"]["_tasks"] if "token" in task}
        assert tokens == {item["workflow"]}
        packs = [
            tuple(task[key] for key in sorted(task) if key != "token")
            for d in documents
            for task in d["spec"]["_tasks"]
            if task["_fw_name"].endswith("CalculateLabels}}")
        ]
        assert len({str(pack) for pack in packs}) == len(packs), "label Fireworks doubled"
    nodes = [node for workflow in launchpad.workflows.find() for node in workflow["nodes"]]
    everything = [item["fw_id"] for item in launchpad.fireworks.find({}, {"fw_id": 1})]
    assert sorted(nodes) == sorted(everything), "Fireworks in no workflow, or in two"
    assert set(states(launchpad)) <= {"COMPLETED", "DEFUSED"}, states(launchpad)
