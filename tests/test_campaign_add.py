"""`lpad add campaign.yaml`: what it accepts, what it refuses, and how little it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import campaigns
import pytest

from alfw.cli.folder import make_folder
from alfw.store import Store

BIN = Path(sys.executable).parent
HEAVY = ["jax", "jax_md", "torch", "pyscf", "tblite", "nequix", "custodian"]
ADD = """
import json, sys
from fireworks.scripts.lpad_run import lpad
code = lpad(sys.argv[1:])
print(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""


@pytest.fixture
def folder(tmp_path: Path, launchpad_file: Path) -> Path:
    """A working folder as `alfw init` makes it, with the test's own database."""
    folder = tmp_path / "work"
    make_folder(folder, "copper")
    (folder / "my_launchpad.yaml").write_text(launchpad_file.read_text())
    settings = folder / "FW_config.yaml"
    settings.write_text(settings.read_text() + f"LAUNCHPAD_LOC: {folder / 'my_launchpad.yaml'}\n")
    return folder


def lpad_add(folder: Path, name: str = "campaign.yaml") -> subprocess.CompletedProcess[str]:
    """`lpad add` in this folder."""
    command = [str(BIN / "lpad"), "add", name]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def change(folder: Path, old: str, new: str) -> None:
    """Replace text in the campaign file."""
    text = (folder / "campaign.yaml").read_text()
    assert text.count(old) == 1
    (folder / "campaign.yaml").write_text(text.replace(old, new))


def test_added_from_its_own_folder(folder: Path, launchpad: Any) -> None:
    done = lpad_add(folder)
    assert done.returncode == 0, done.stderr
    [firework] = launchpad.fireworks.find()
    [task] = firework["spec"]["_tasks"]
    assert task["checked"] == 1
    assert task["campaign"]["data"]["initial"][0]["path"] == str(folder / "initial.extxyz")
    assert firework["spec"]["_category"] == "control"
    assert campaigns.launch(launchpad, firework["fw_id"]) == "COMPLETED"  # from another folder
    store = Store.from_launchpad(launchpad)
    assert store.get_campaign("copper")["state"] == "running"
    assert store.get_result("copper", 0, "start")["counts"]["n_to_label"] > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("walkers: 4", "walker: 4", "sample.0.walker"),
        ("max_frames: 6", "max_frame: 6", "select.max_frame"),
        ("max_rounds: 2", "max_rounds: two", "stop.max_rounds"),
        ("path: initial.extxyz", "path: inital.extxyz", "data.initial.0.path"),
        ("kind: jaxmd", "kind: jax-md", "sample.0.kind"),
    ],
)
def test_refused_with_the_path_of_the_key(
    folder: Path, launchpad: Any, old: str, new: str, message: str
) -> None:
    change(folder, old, new)
    done = lpad_add(folder)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert message in last
    assert "ConfigError" in last
    assert launchpad.fireworks.count_documents({}) == 0
    assert launchpad.workflows.count_documents({}) == 0
    assert Store.from_launchpad(launchpad).list_campaigns() == []


def test_adding_and_listing_import_nothing_heavy(folder: Path, launchpad: Any) -> None:
    for arguments in (["add", "campaign.yaml"], ["get_fws", "-d", "all"]):
        command = [sys.executable, "-c", ADD, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
        code, modules = json.loads(done.stdout.strip().splitlines()[-1])
        assert code in (0, None)
        assert not set(HEAVY) & set(modules)
    assert launchpad.fireworks.count_documents({}) == 1


def test_every_load_leaves_a_checked_campaign_alone(folder: Path, launchpad: Any) -> None:
    """Its files may be gone, and its plug-ins missing, where somebody lists Fireworks."""
    assert lpad_add(folder).returncode == 0
    (folder / "initial.extxyz").unlink()
    [fw_id] = launchpad.get_fw_ids()
    before = launchpad.fireworks.find_one({"fw_id": fw_id})["spec"]
    launchpad.fireworks.update_one(
        {"fw_id": fw_id}, {"$set": {"spec._tasks.0.campaign.label.kind": "no-such-code"}}
    )
    loaded = launchpad.get_fw_by_id(fw_id)
    assert loaded.tasks[0]["campaign"]["label"]["kind"] == "no-such-code"
    assert loaded.tasks[0]["campaign"]["data"] == before["_tasks"][0]["campaign"]["data"]
