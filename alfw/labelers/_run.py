"""One calculation under custodian; the only module that knows custodian."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

from alfw.core.errors import WalltimeError
from alfw.core.records import Resources, Run
from alfw.labelers._handlers import Ladder
from alfw.labelers._process import Child, Files, Settings, full_disk_raises, sigterm_raises

for _variable in ("SENTRY_DSN", "CUSTODIAN_REPORTING_OPT_IN"):  # custodian would report to a remote server
    os.environ.pop(_variable, None)

from custodian.custodian import Custodian, CustodianError, ErrorHandler, Job  # noqa: E402

# Its records at level ERROR are bare names of handlers; what they stand for is in Run.corrections.
logging.getLogger("custodian").setLevel(logging.CRITICAL)

POLL_S = 0.1


class InProcessJob(Job):
    """A calculation inside this process: ``files = compute(settings)``."""

    def __init__(self, compute: Callable[[Settings], Files], settings: Settings) -> None:
        self.compute = compute
        self.settings = settings
        self._files: Files = {}

    def setup(self, directory: str = "./") -> None:
        """Nothing to prepare."""

    def run(self, directory: str = "./") -> None:
        """Compute; custodian takes anything but a Popen as a finished job."""
        self._files = self.compute(self.settings)

    def postprocess(self, directory: str = "./") -> None:
        """Nothing to tidy up."""

    def files(self) -> Files:
        """Output of the last attempt."""
        return self._files

    def as_dict(self) -> dict[str, Any]:
        """What custodian.json shows."""
        return {"job": "in-process", "settings": dict(self.settings)}


class ChildJob(Job):
    """A calculation in a child process."""

    def __init__(self, child: Child, settings: Settings) -> None:
        self.child = child
        self.settings = settings

    def setup(self, directory: str = "./") -> None:
        """Nothing to prepare: each attempt writes its own input."""

    def run(self, directory: str = "./") -> Popen[bytes]:
        """Start the program."""
        return self.child.start(self.settings)

    def postprocess(self, directory: str = "./") -> None:
        """Nothing to tidy up."""

    def terminate(self, directory: str = "./") -> None:
        """End the whole process group; custodian's own way leaves grandchildren alive."""
        self.child.terminate()

    def files(self) -> Files:
        """Input and output of the last attempt."""
        return self.child.files()

    def as_dict(self) -> dict[str, Any]:
        """What custodian.json shows."""
        return {"job": self.child.command, "settings": dict(self.settings)}


class LadderHandler(ErrorHandler):
    """Custodian's handler of one ladder: the next remedy, until there is none."""

    def __init__(self, ladder: Ladder, job: InProcessJob | ChildJob) -> None:
        self.ladder = ladder
        self.job = job
        self.rung = 0

    def check(self, directory: str = "./") -> bool:
        """Whether the attempt just finished shows the error."""
        return self.ladder.matches(self.job.files())

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """The next remedy, put into the job's settings; actions None when the ladder ends."""
        if self.rung == len(self.ladder.steps):
            return {"errors": [self.ladder.error], "actions": None}
        step = dict(self.ladder.steps[self.rung])
        self.rung += 1
        self.job.settings.update(step)
        return {"errors": [self.ladder.error], "actions": [step]}

    def as_dict(self) -> dict[str, Any]:
        """What custodian.json shows."""
        return {"handler": self.ladder.error, "rung": self.rung}


class WalltimeMonitor(ErrorHandler):
    """Stops the child when the calculation, remedies included, takes longer than its limit."""

    is_monitor = True

    def __init__(self, limit_s: float, child: Child) -> None:
        self.limit_s = limit_s
        self.child = child
        self.expired = False
        self._start = time.monotonic()

    def check(self, directory: str = "./") -> bool:
        """Whether time is up; a child that has finished in the meantime is left alone."""
        return self.child.running and time.monotonic() - self._start > self.limit_s

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """There is no remedy."""
        self.expired = True
        return {"errors": ["WALLTIME"], "actions": None}

    def as_dict(self) -> dict[str, Any]:
        """What custodian.json shows."""
        return {"handler": "WALLTIME", "limit_s": self.limit_s}


def run_here(
    compute: Callable[[Settings], Files],
    settings: Mapping[str, Any],
    ladders: Sequence[Ladder],
    workdir: Path,
    version: str = "",
) -> Run:
    """The raw output of a calculation in this process, repeated with remedies as long as a ladder matches.

    Parameters
    ----------
    compute : callable
        From settings to named bytes; reports what goes wrong in them instead of raising.
    settings : mapping
        What remedies change.
    workdir : Path
        Folder for custodian's log.

    Raises
    ------
    OutOfDiskError
        The folder is full.
    """
    job = InProcessJob(compute, dict(settings))
    start = time.perf_counter()
    with full_disk_raises(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        corrections = _corrections(job, [LadderHandler(ladder, job) for ladder in ladders], workdir)
    return Run(
        files=job.files(),
        corrections=corrections,
        wall_s=time.perf_counter() - start,
        version=version,
        command="in-process",
        host=socket.gethostname(),
    )


def run_child(
    command: Sequence[str],
    render: Callable[[Settings], Files],
    outputs: Sequence[str],
    settings: Mapping[str, Any],
    ladders: Sequence[Ladder],
    workdir: Path,
    resources: Resources,
) -> Run:
    """The raw output of a program, repeated with remedies as long as a ladder matches.

    It works in a new folder inside `resources.scratch` or `workdir`, removed at the end; a folder in `workdir`
    stays when there is no Run to return.

    Parameters
    ----------
    command, render, outputs
        As in `Child`.
    settings : mapping
        What remedies change.

    Raises
    ------
    ExecutableError
        The command cannot be started.
    OutOfDiskError
        The folder is full.
    WalltimeError
        `resources.walltime_s` is over, or this process got SIGTERM; the whole process group is dead.
    """
    start = time.perf_counter()
    parent = resources.scratch or workdir
    finished = False
    with full_disk_raises(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="label-", dir=parent)).resolve()
        child = Child(command, render, outputs, resources.threads, folder)
        try:
            corrections = _supervise(ChildJob(child, dict(settings)), ladders, folder, resources.walltime_s)
            files = child.files()
            finished = True
        finally:
            if child.running:
                child.terminate()
            if finished or resources.scratch:
                shutil.rmtree(folder, ignore_errors=True)
    wall_s = time.perf_counter() - start
    return Run(files, corrections, wall_s, command=" ".join(command), host=socket.gethostname())


def _supervise(
    job: ChildJob, ladders: Sequence[Ladder], folder: Path, walltime_s: float | None
) -> list[dict[str, Any]]:
    """Corrections of a child calculation that nothing stopped from outside."""
    handlers = [LadderHandler(ladder, job) for ladder in ladders]
    monitor = None if walltime_s is None else WalltimeMonitor(walltime_s, job.child)
    with sigterm_raises():
        corrections = _corrections(job, handlers, folder, monitor)
    if monitor is not None and monitor.expired:
        command = " ".join(job.child.command)
        raise WalltimeError(f"stopped after its limit of {walltime_s:g} s: {command}")
    return corrections


def _corrections(
    job: Job, handlers: Sequence[LadderHandler], folder: Path, monitor: WalltimeMonitor | None = None
) -> list[dict[str, Any]]:
    """Corrections, after custodian has run the job to its end, good or bad: `parse` judges the output."""
    custodian = Custodian(
        [*handlers, *([] if monitor is None else [monitor])],
        [job],
        # custodian's N allows N − 1 reruns; each ladder also counts the remedy that is missing at its end.
        max_errors=2 + sum(len(handler.ladder.steps) + 1 for handler in handlers),
        polling_time_step=POLL_S,
        # Each look at the monitor writes custodian.json: every 5 % of the limit is enough, 10 s at most.
        monitor_freq=1 if monitor is None else max(1, round(min(0.05 * monitor.limit_s, 10.0) / POLL_S)),
        directory=str(folder),
    )
    with suppress(CustodianError):  # no remedy left, or a return code: the run log and the output have both
        custodian.run()
    return [
        {"errors": entry["errors"], "actions": entry["actions"]}
        for log in custodian.run_log
        for entry in log["corrections"]
    ]
