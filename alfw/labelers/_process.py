"""A program in a child process: started with pinned threads, ended with its whole process group."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from alfw.core.errors import ExecutableError, OutOfDiskError, WalltimeError
from alfw.labelers._common import thread_environment
from alfw.labelers._judge import LOG, RETURN_CODE

GRACE_S = 10.0  # between SIGTERM and SIGKILL
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)

Settings = dict[str, Any]
Files = Mapping[str, bytes]


class Child:
    """One program in one folder, started once or, with other settings, several times in turn.

    Parameters
    ----------
    command : sequence of str
    render : callable
        From settings to the input files.
    outputs : sequence of str
        Names of the files that it leaves, besides the log of its stdout and stderr.
    threads : int
    folder : Path
    unset : sequence of str
        Environment variables that it does not get.
    """

    def __init__(
        self,
        command: Sequence[str],
        render: Callable[[Settings], Files],
        outputs: Sequence[str],
        threads: int,
        folder: Path,
        unset: Sequence[str] = (),
    ) -> None:
        self.command = list(command)
        self.render = render
        self.outputs = (*outputs, LOG)
        self.threads = threads
        self.folder = folder
        self.unset = tuple(unset)
        self.inputs: Files = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False
        self._rendered: Settings | None = None

    def start(self, settings: Settings) -> subprocess.Popen[bytes]:
        """The process, without any output of the attempt before; input is written anew where settings changed.

        Where they did not, one of custodian's own handlers has edited the input in place.

        Raises
        ------
        ExecutableError
            The command cannot be started.
        WalltimeError
            Time was up before.
        """
        if self.stopped:
            raise WalltimeError(f"time was up before another attempt: {' '.join(self.command)}")
        for name in self.outputs:
            (self.folder / name).unlink(missing_ok=True)
        if settings != self._rendered:
            self.inputs = self.render(settings)
            self._rendered = dict(settings)
            for name, data in self.inputs.items():
                (self.folder / name).parent.mkdir(exist_ok=True)
                (self.folder / name).write_bytes(data)
        try:
            with open(self.folder / LOG, "wb") as log:
                self.process = subprocess.Popen(
                    self.command,
                    cwd=self.folder,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # leader of a process group of its own
                )
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            what = f"cannot start {self.command[0]!r} on {socket.gethostname()}: {error.strerror}"
            looked = "" if "/" in self.command[0] else f" (looked in PATH {os.environ.get('PATH', '')})"
            raise ExecutableError(f"{what}{looked}; correct the command of the labeler") from error
        return self.process

    def _environment(self) -> dict[str, str]:
        """The environment of the program."""
        kept = {name: value for name, value in os.environ.items() if name not in self.unset}
        return kept | thread_environment(self.threads)

    @property
    def running(self) -> bool:
        """Whether the program is still at work."""
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        """End the process group, grandchildren included: SIGTERM, a time of grace, SIGKILL."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=GRACE_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def files(self) -> dict[str, bytes]:
        """Input, output and return code of the last attempt."""
        files: dict[str, bytes] = {}
        for name in (*self.inputs, *self.outputs):
            with suppress(FileNotFoundError):
                files[name] = (self.folder / name).read_bytes()
        if self.process is not None and self.process.returncode is not None:
            files[RETURN_CODE] = str(self.process.returncode).encode()
        return files


@contextmanager
def deadline(child: Child, limit_s: float | None) -> Iterator[threading.Event]:
    """Ends the child, now and from then on, when `limit_s` is over; the event tells whether it did.

    custodian's monitors would do the same by polling, which costs every label a wait.
    """
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        child.stopped = True
        child.terminate()

    timer = threading.Timer(limit_s, stop) if limit_s is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield expired
    finally:
        if timer is not None:
            timer.cancel()


@contextmanager
def full_disk_raises(folder: Path) -> Iterator[None]:
    """OSErrors that mean a full disk become OutOfDiskError; those of a folder nobody may write to, ExecutableError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"{error.strerror} in {folder} on {socket.gethostname()}"
            raise OutOfDiskError(f"{what}; free some space or set `scratch`") from error
        if error.errno in UNWRITABLE:
            what = f"cannot write to {folder} on {socket.gethostname()}: {error.strerror}"
            raise ExecutableError(f"{what}; set `scratch` to a folder that workers may write to") from error
        raise


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """WalltimeError in the main thread on SIGTERM, which is how queueing systems announce the end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return

    def stop(signum: int, stack: FrameType | None) -> None:
        raise WalltimeError(
            f"SIGTERM on {socket.gethostname()}: the queueing system or a person ended the job"
        )

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
