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
from alfw.labelers._process import Child, Files, Settings, deadline, full_disk_raises, sigterm_raises

for _variable in ("SENTRY_DSN", "CUSTODIAN_REPORTING_OPT_IN"):  # custodian would report to a remote server
    os.environ.pop(_variable, None)

from custodian.custodian import Custodian, CustodianError, ErrorHandler, Job  # noqa: E402

# Its records at level ERROR are bare names of handlers; what they stand for is in Run.corrections.
logging.getLogger("custodian").setLevel(logging.CRITICAL)

OTHERS_REMEDIES = 10  # at most, of one of custodian's own handlers


class InProcessJob(Job):
    """A calculation inside this process: ``files = compute(settings)``."""

    def __init__(self, compute: Callable[[Settings], Files], settings: Settings) -> None:
        self.compute = compute
        self.settings = settings
        self._files: Files = {}
        self._done: Settings | None = None  # settings of the attempt in `_files`

    def setup(self, directory: str = "./") -> None:
        """Nothing to prepare."""

    def run(self, directory: str = "./") -> None:
        """Compute, unless just that was done; custodian takes anything but a Popen as a finished job."""
        if self._done != self.settings:
            self._files = self.compute(self.settings)
            self._done = dict(self.settings)

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
        self.changes: dict[str, Any] = {}

    def check(self, directory: str = "./") -> bool:
        """Whether the attempt just finished shows the error."""
        return self.ladder.shows(self.job.files())

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """The next remedy, put into the job's settings; actions None when the ladder ends."""
        steps = (*self.ladder.steps, *self.ladder.changes)
        if self.rung == len(steps):
            return {"errors": [self.ladder.error], "actions": None}
        step = {**steps[self.rung], **self.ladder.advice(self.job.files())}
        if self.rung >= len(self.ladder.steps):
            self.changes.update(step)
        self.rung += 1
        self.job.settings.update(step)
        return {"errors": [self.ladder.error], "actions": [step]}

    def as_dict(self) -> dict[str, Any]:
        """What custodian.json shows."""
        return {"handler": self.ladder.error, "rung": self.rung}


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
        job.run()
        handlers = [LadderHandler(ladder, job) for ladder in ladders]
        # Custodian costs as much as a fast label does, so it comes in when there is something to correct.
        needed = any(handler.check() for handler in handlers)
        corrections = _corrections(job, handlers, workdir) if needed else []
    return Run(
        files=job.files(),
        corrections=corrections,
        changes=_changes(handlers),
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
    checkpoints: Sequence[str] = (),
    threads: int | None = None,
    more_handlers: Callable[[Path], Sequence[ErrorHandler]] | None = None,
    out_of_time: Callable[[Files], bool] | None = None,
    unset: Sequence[str] = (),
) -> Run:
    """The raw output of a program, repeated with remedies as long as a ladder matches.

    It works in a new folder inside `resources.scratch` or `workdir`, removed at the end; a folder in `workdir`
    stays when there is no Run to return.

    Parameters
    ----------
    command, render, outputs, unset
        As in `Child`.
    settings : mapping
        What remedies change.
    checkpoints : sequence of str
        Files that join what a calculation out of time leaves, so that the next attempt may restart from them.
    threads : int, optional
        OpenMP and BLAS threads; None = `resources.threads`. A program that spreads over MPI wants 1.
    more_handlers : callable, optional
        From the folder to custodian's own error handlers for this program; `changes` of a handler as in `Run`.
    out_of_time : callable, optional
        Whether the output says that the program has stopped itself for want of time.

    Raises
    ------
    ExecutableError
        The command cannot be started.
    OutOfDiskError
        The folder is full, or cannot be written to.
    WalltimeError
        `resources.walltime_s` is over, this process got SIGTERM, or the program has stopped itself in time; the whole
        process group is dead, and `partial` of the error has what it left.
    """
    start = time.perf_counter()
    parent = resources.scratch or workdir
    finished = False
    with full_disk_raises(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="label-", dir=parent)).resolve()
        child = Child(command, render, outputs, threads or resources.threads, folder, unset)
        job = ChildJob(child, dict(settings))
        handlers = [LadderHandler(ladder, job) for ladder in ladders]
        others = list(more_handlers(folder)) if more_handlers else []
        try:
            corrections = _supervise(job, [*handlers, *others], folder, resources.walltime_s)
            files = child.files()
            if out_of_time is not None and out_of_time(files):
                raise WalltimeError(f"stopped itself for want of time: {' '.join(command)}")
            finished = True
        except WalltimeError as error:
            error.partial = _partial(child, checkpoints, time.perf_counter() - start)
            raise
        finally:
            if child.running:
                child.terminate()
            if finished or resources.scratch:
                shutil.rmtree(folder, ignore_errors=True)
    wall_s = time.perf_counter() - start
    host, line = socket.gethostname(), " ".join(command)
    return Run(files, corrections, _changes([*handlers, *others]), wall_s, command=line, host=host)


def _partial(child: Child, checkpoints: Sequence[str], wall_s: float) -> Run:
    """What a calculation left that was stopped from outside."""
    child.terminate()
    left = {name: child.folder / name for name in checkpoints}
    files = child.files() | {name: path.read_bytes() for name, path in left.items() if path.is_file()}
    return Run(files, wall_s=wall_s, command=" ".join(child.command), host=socket.gethostname())


def _changes(handlers: Sequence[ErrorHandler]) -> dict[str, Any]:
    """Settings of the theory that remedies changed; a handler that may change some has them in `changes`."""
    return {key: value for handler in handlers for key, value in getattr(handler, "changes", {}).items()}


def _supervise(
    job: ChildJob, handlers: Sequence[ErrorHandler], folder: Path, walltime_s: float | None
) -> list[dict[str, Any]]:
    """Corrections of a child calculation that nothing stopped from outside."""
    with sigterm_raises(), deadline(job.child, walltime_s) as expired:
        corrections = _corrections(job, handlers, folder)
    if expired.is_set():
        command = " ".join(job.child.command)
        raise WalltimeError(f"stopped after its limit of {walltime_s:g} s: {command}")
    return corrections


def _corrections(
    job: InProcessJob | ChildJob, handlers: Sequence[ErrorHandler], folder: Path
) -> list[dict[str, Any]]:
    """Corrections, after custodian has run the job to its end, good or bad: `parse` judges the output."""
    custodian = Custodian(
        list(handlers),
        [job],
        # custodian's N allows N − 1 reruns; each ladder also counts the remedy that is missing at its end.
        max_errors=2 + sum(_remedies(handler) + 1 for handler in handlers),
        directory=str(folder),
        polling_time_step=0.5,  # these two are for custodian's own monitors, if there are any
        monitor_freq=20,
    )
    with suppress(CustodianError):  # no remedy left, or a return code: the run log and the output have both
        custodian.run()
    return [
        {"errors": entry["errors"], "actions": entry["actions"]}
        for log in custodian.run_log
        for entry in log["corrections"]
    ]


def _remedies(handler: ErrorHandler) -> int:
    """How many remedies a handler may try at most."""
    if isinstance(handler, LadderHandler):
        return len(handler.ladder.steps) + len(handler.ladder.changes)
    return OTHERS_REMEDIES
