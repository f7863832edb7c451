"""`alfw run` killed for good, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import campaigns
import pytest

from alfw.cli.folder import make_folder
from alfw.store import Store

ALFW = Path(sys.executable).parent / "alfw"
SMALLER = (
    ("steps: 2000, batch_size: 4", "steps: 30, batch_size: 4"),
    ("walkers: 4", "walkers: 2"),
    ("n_steps: 200", "n_steps: 40"),
    ("max_frames: 6, audit_frames: 4", "max_frames: 2, audit_frames: 1"),
    ("max_rounds: 2", "max_rounds: 1"),
)


@pytest.mark.slow
def test_alfw_run_goes_on_at_once_after_kill_9(tmp_path: Path, launchpad: Any, launchpad_file: Path) -> None:
    folder = tmp_path / "work"
    make_folder(folder, "copper")
    text = (folder / "campaign.yaml").read_text()
    for old, new in SMALLER:
        assert old in text
        text = text.replace(old, new)
    (folder / "campaign.yaml").write_text(text)
    # Far longer than the test may take: a dead worker of this machine must be noticed without waiting for its pings.
    settings = f"PING_TIME_SECS: 60\nRUN_EXPIRATION_SECS: 100000\nLAUNCHPAD_LOC: {launchpad_file}\n"
    (folder / "FW_config.yaml").write_text(settings)
    environment = {**os.environ, "FW_CONFIG_FILE": str(folder / "FW_config.yaml")}
    command = [ALFW, "run", "campaign.yaml", "-l", str(launchpad_file)]
    first = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if launchpad.fireworks.find_one({"state": "RUNNING", "name": {"$regex": "^train"}}):
                break
            time.sleep(0.1)
        else:
            pytest.fail("the training never began")
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(20)
    assert launchpad.fireworks.count_documents({"state": "RUNNING"}) == 1
    launchpad.workflows.update_many(
        {}, {"$set": {"locked": True}}
    )  # it may as well have died while it held the lock

    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)

    assert done.returncode == 0, done.stderr
    assert "copper ended: max_rounds 1 reached" in done.stderr
    campaigns.assert_whole(Store.from_launchpad(launchpad), launchpad, "copper")
