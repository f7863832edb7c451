"""`alfw run`: database, campaign, workers and progress on one machine, until the campaign ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fireworks import LaunchPad
from fireworks.fw_config import RUN_EXPIRATION_SECS

from alfw.cli import output
from alfw.cli.common import checked_campaign, find_launchpad, launchpad_file
from alfw.cli.work import POLL_SECONDS, StopFlag, rerun_dead, this_fworker, work
from alfw.core.errors import StoreError
from alfw.steps.summary import campaign_summary
from alfw.store import Store, server
from alfw.store.mongod import find_mongod
from alfw.workflow import control
from alfw.workflow.reconcile import reconcile

PATIENCE_SECONDS = 5.0  # between two looks at what is stuck


def run_campaign(file: Path, workers: int, launchpad: Path | None, as_json: bool) -> int:
    """Work on the campaign of this file until it ends; the exit code."""
    config, _ = checked_campaign(file)
    pad_file = _database(launchpad or launchpad_file(), file.resolve().parent)
    pad, store = find_launchpad(pad_file)
    stop = StopFlag()
    stop.install()
    try:
        control.start(pad, config, this_fworker().env, output.say)
        with _helpers(config.name, pad_file, workers - 1):
            _work_on(pad, store, config.name, stop)
    except KeyboardInterrupt:
        stop.set = True
    finally:
        stop.uninstall()
        _rerun_interrupted(pad, config.name)
    return _verdict(store, pad, config.name, stop.set, as_json)


def _database(file: Path | None, folder: Path) -> Path:
    """The launchpad file to use; without one, or when its database is ours and stopped, a managed one is started."""
    managed = server.status(folder)
    if file is None or (managed.state == "stopped" and managed.launchpad == file.resolve()):
        managed = server.start(folder, find_mongod())
        where = "" if folder == Path.cwd() else f" --dir {folder}"
        output.say(managed.note or f"mongod runs on port {managed.port}; to end it: alfw db stop{where}")
        file = managed.launchpad
    if file is None:
        raise StoreError(f"{folder}: the managed database has no launchpad file; alfw db start writes it")
    return file


@contextmanager
def _helpers(campaign: str, file: Path, number: int) -> Iterator[None]:
    """That many further worker processes, ended when the block ends."""
    command = [sys.executable, "-m", "alfw.cli.work", campaign, str(file)]
    processes = [subprocess.Popen(command) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _work_on(pad: LaunchPad, store: Store, campaign: str, stop: StopFlag) -> None:
    """Launch, and put right what can be, until the campaign is not running any more or is stuck."""
    told = Progress(store, campaign)
    _rerun_interrupted(pad, campaign)
    rerun_dead(pad, campaign)
    with output.live():
        _until_done(pad, store, campaign, stop, told)


def _until_done(pad: LaunchPad, store: Store, campaign: str, stop: StopFlag, told: Progress) -> None:
    """Work; when nothing has been READY for a while, put right what killed workers left behind, or give up."""
    idle_since, explained = time.monotonic(), False
    while not stop.set and control.state(store, campaign) == "running":
        before = len(told)
        work(pad, store, campaign, stop, told.tell)
        told.tell()
        if len(told) > before:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since < PATIENCE_SECONDS:
            time.sleep(POLL_SECONDS)
        else:
            idle_since = time.monotonic()
            if reconcile(pad, store).nothing:
                if not _running(pad, campaign):
                    return
                if not explained:
                    output.say(
                        f"waiting for another worker; one that died is found after {RUN_EXPIRATION_SECS} s"
                    )
                explained = True


class Progress:
    """Tells of each stage when it is done, once."""

    def __init__(self, store: Store, campaign: str) -> None:
        self._store, self._campaign = store, campaign
        self._told = {result["_id"] for result in store.get_results(campaign)}

    def __len__(self) -> int:
        return len(self._told)

    def tell(self) -> None:
        """One line for each result that is new since the last call."""
        for result in self._store.get_results(self._campaign):
            if result["_id"] not in self._told:
                self._told.add(result["_id"])
                output.say(_line(result))


def _line(result: dict[str, Any]) -> str:
    """What happened in one stage, in one line."""
    counts = ", ".join(f"{key.removeprefix('n_')} {value}" for key, value in result["counts"].items())
    test = (result["metrics"].get("test") or {}).get("force_rmse_eV_per_A")
    if test is not None:
        counts = f"sealed test force RMSE {test:.3f} eV/Å"
    if result["stage"] == "train":
        counts = f"member {result['part']}"
    if result["stage"] == "decide":
        counts = result["outputs"]["why"] or "go on"
    wall = result["cost"].get("wall_s", 0.0)
    return f"r{result['round']:03d} {result['stage']:<8} {wall:7.1f} s  {counts}"


def _running(pad: LaunchPad, campaign: str) -> bool:
    query = {
        "fw_id": {"$in": control.fireworks_of(pad, campaign)},
        "state": {"$in": ["RUNNING", "RESERVED", "READY"]},
    }
    return pad.fireworks.find_one(query, {"_id": 1}) is not None


def _rerun_interrupted(pad: LaunchPad, campaign: str) -> None:
    """Make READY again what Ctrl-C fizzled."""
    for firework in control.fizzled(pad, campaign):
        if firework["why"].startswith(("KeyboardInterrupt", "SystemExit")):
            pad.rerun_fw(firework["fw_id"])


def _verdict(store: Store, pad: LaunchPad, campaign: str, stopped: bool, as_json: bool) -> int:
    """Say how it ended; the exit code."""
    record = store.get_campaign(campaign)
    if as_json:
        output.show_json(campaign_summary(store, campaign))
    if record["state"] == "ended":
        output.say(f"{campaign} ended: {record['reason']}")
        return output.OK
    if record["state"] == "paused":
        output.fail(f"{campaign} is paused: {record['reason']}; then: alfw resume {campaign}")
        return output.INFRASTRUCTURE
    if stopped:
        output.say(f"{campaign} stopped; the same command continues it")
        return 130
    for firework in control.fizzled(pad, campaign):
        output.fail(
            f"{firework['name']} failed: {firework['why']}; mend it, then: lpad rerun_fws -i {firework['fw_id']}"
        )
    if not control.fizzled(pad, campaign):
        raise StoreError(f"campaign {campaign} has nothing to run: alfw status {campaign}")
    return output.INFRASTRUCTURE
