"""One worker of `alfw run`: launches what is READY in one campaign until it ends, is paused, or cannot go on."""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from types import FrameType
from typing import Any

from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket
from fireworks.fw_config import FWORKER_LOC

from alfw.cli.common import find_launchpad
from alfw.store import Store
from alfw.workflow.control import fireworks_of, state
from alfw.workflow.reconcile import unlock_stale

POLL_SECONDS = 0.5
FOLDER = "alfw_run_"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """Set by the first Ctrl-C (or SIGTERM), which also interrupts the Firework at hand; nothing new begins then."""

    def __init__(self) -> None:
        self.set = False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Catch SIGINT and SIGTERM from now on."""
        self._before = {number: signal.signal(number, self._caught) for number in SIGNALS}

    def uninstall(self) -> None:
        """Catch no more; after a stop further signals pass by: what is left to do is short and must not be cut."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self.set else handler)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.set = True
        raise KeyboardInterrupt


def this_fworker() -> FWorker:
    """The FireWorker of the file that FireWorks finds, else one that takes everything."""
    return FWorker.from_file(FWORKER_LOC) if FWORKER_LOC else FWorker()


def work(
    launchpad: LaunchPad, store: Store, campaign: str, stop: StopFlag, tell: Callable[[], None] = lambda: None
) -> None:
    """Launch rockets of this campaign one after the other until none is READY or `stop` is set."""
    worker = this_fworker()
    quiet()
    prefix = f"{FOLDER}{os.getpid()}_"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder, chdir(folder):
        while not stop.set and state(store, campaign) == "running":
            try:
                fw_id = _next(launchpad, worker, campaign)
                if fw_id is None:
                    return
                launch_rocket(launchpad, worker, fw_id=fw_id, err_file=io.StringIO())
                tell()
            except KeyboardInterrupt:
                if not stop.set:
                    raise


def rerun_dead(launchpad: LaunchPad, campaign: str) -> list[int]:
    """Make READY again what a worker of `alfw run` on this machine was at when it was killed; fw_ids.

    Its launch folder names the process, so there is no need to wait until its pings are missed.
    """
    query = {
        "fw_id": {"$in": fireworks_of(launchpad, campaign)},
        "state": "RUNNING",
        "host": socket.gethostname(),
        "launch_dir": {"$regex": f"/{FOLDER}[0-9]+_[^/]*$"},
    }
    launches = launchpad.launches.find(query, {"launch_id": 1, "fw_id": 1, "launch_dir": 1})
    dead = [launch for launch in launches if _died(launch["launch_dir"])]
    if dead:
        unlock_stale(
            launchpad
        )  # a worker that died in a lock left it set, and FireWorks would wait minutes for it
    for launch in dead:
        launchpad.mark_fizzled(launch["launch_id"])
        launchpad.rerun_fw(launch["fw_id"])
    return [launch["fw_id"] for launch in dead]


def _died(launch_dir: str) -> bool:
    """Whether the process that this launch folder names is gone."""
    pid = Path(launch_dir).name.removeprefix(FOLDER).split("_")[0]
    return not Path("/proc", pid).exists() and Path("/proc/self").exists()


def quiet() -> None:
    """Keep FireWorks' own log of each rocket off the terminal; failures are told by `alfw run` itself."""
    for name in ("launchpad", "rocket.launcher"):
        logging.getLogger(name).addFilter(lambda record: False)


def _next(launchpad: LaunchPad, worker: FWorker, campaign: str) -> int | None:
    """fw_id of a READY Firework of this campaign that this worker may take."""
    query: dict[str, Any] = {"$and": [worker.query, {"fw_id": {"$in": fireworks_of(launchpad, campaign)}}]}
    query["state"] = "READY"
    found = launchpad.fireworks.find_one(query, {"fw_id": 1}, sort=[("spec._priority", -1), ("fw_id", 1)])
    return None if found is None else found["fw_id"]


def main() -> None:
    """A further worker process: `python -m alfw.cli.work CAMPAIGN LAUNCHPAD_FILE`; ends with its parent."""
    campaign, file = sys.argv[1:3]
    parent = os.getppid()
    launchpad, store = find_launchpad(Path(file) if file else None)
    stop = StopFlag()
    stop.install()

    def watch() -> None:
        if os.getppid() != parent:
            stop.set = True

    while not stop.set and state(store, campaign) == "running":
        try:
            work(launchpad, store, campaign, stop, watch)
            watch()
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
