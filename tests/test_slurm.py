"""A campaign from `lpad add` to its end through a real queue."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import slurm

from alfw.cli.folder import make_folder
from alfw.store import Store

BIN = Path(sys.executable).parent
SMALLER = {
    "steps: 2000": "steps: 40",
    "walkers: 4": "walkers: 2",
    "n_steps: 200": "n_steps: 40",
    "max_frames: 6, audit_frames: 4": "max_frames: 3, audit_frames: 2",
    "max_rounds: 2": "max_rounds: 1",
    "kwargs: {asap_cutoff: false}": "kwargs: {asap_cutoff: false}\n    frames_per_firework: 12",
}


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.skipif(slurm.missing() is not None, reason=str(slurm.missing()))
def test_campaign_through_slurm(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    folder = tmp_path / "work"
    make_folder(folder, "copper")
    campaign = (folder / "campaign.yaml").read_text()
    for old, new in SMALLER.items():
        assert old in campaign
        campaign = campaign.replace(old, new)
    (folder / "campaign.yaml").write_text(campaign)
    (folder / "my_launchpad.yaml").write_text(launchpad_file.read_text())
    settings = (folder / "FW_config.yaml").read_text().replace("INTERVAL: 5", "INTERVAL: 1")
    (folder / "FW_config.yaml").write_text(settings.replace("SLEEP_SECS: 5", "SLEEP_SECS: 1"))
    with slurm.one_node(tmp_path / "slurm") as environment:
        environment |= {"FW_CONFIG_FILE": str(folder / "FW_config.yaml")}
        subprocess.run(
            [BIN / "lpad", "add", "campaign.yaml"], cwd=folder, env=environment, check=True, timeout=60
        )
        log = (tmp_path / "qlaunch.log").open("wb")
        command = [BIN / "qlaunch", "-r", "rapidfire", "--nlaunches", "infinite", "-m", str(os.cpu_count())]
        queue = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            state = _wait_for_end(Store.from_launchpad(launchpad), queue)
        finally:
            queue.terminate()
            queue.wait(20)
            log.close()
    text = (tmp_path / "qlaunch.log").read_text()[-3000:]
    assert state == "ended", text
    assert launchpad.fireworks.count_documents({"state": {"$ne": "COMPLETED"}}) == 0, text
    reservations = [launch["state_history"][0] for launch in launchpad.launches.find()]
    assert all(entry.get("reservation_id") for entry in reservations), "every Firework went through the queue"
    store = Store.from_launchpad(launchpad)
    assert [item["number"] for item in store.rounds("copper")] == [0, 1]
    assert len(store.get_results("copper", 1, "evaluate")) == 1


def _wait_for_end(store: Store, queue: subprocess.Popen[bytes], limit_s: float = 420.0) -> str:
    """State of the campaign when it is not running any more, the queue launcher has gone, or time is up."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until and queue.poll() is None:
        found = [record for record in store.list_campaigns() if record["state"] != "running"]
        if found:
            return str(found[0]["state"])
        time.sleep(1.0)
    return f"still running after {limit_s} s" if queue.poll() is None else "qlaunch left"
