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
    """

    def __init__(
        self,
        command: Sequence[str],
        render: Callable[[Settings], Files],
        outputs: Sequence[str],
        threads: int,
        folder: Path,
    ) -> None:
        self.command = list(command)
        self.render = render
        self.outputs = (*outputs, LOG)
        self.threads = threads
        self.folder = folder
        self.inputs: Files = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, settings: Settings) -> subprocess.Popen[bytes]:
        """The process, on freshly written input and without any output of the attempt before.

        Raises
        ------
        ExecutableError
            The command cannot be started.
        """
        for name in self.outputs:
            (self.folder / name).unlink(missing_ok=True)
        self.inputs = self.render(settings)
        for name, data in self.inputs.items():
            (self.folder / name).write_bytes(data)
        try:
            with open(self.folder / LOG, "wb") as log:
                self.process = subprocess.Popen(
                    self.command,
                    cwd=self.folder,
                    env={**os.environ, **thread_environment(self.threads)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # leader of a process group of its own
                )
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            what = f"cannot start {self.command[0]!r} on {socket.gethostname()}: {error.strerror}"
            raise ExecutableError(f"{what}; correct the command of the labeler") from error
        return self.process

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
        files = dict(self.inputs)
        for name in self.outputs:
            with suppress(FileNotFoundError):
                files[name] = (self.folder / name).read_bytes()
        if self.process is not None and self.process.returncode is not None:
            files[RETURN_CODE] = str(self.process.returncode).encode()
        return files


@contextmanager
def full_disk_raises(folder: Path) -> Iterator[None]:
    """OSErrors that mean a full disk become OutOfDiskError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"{error.strerror} in {folder} on {socket.gethostname()}"
            raise OutOfDiskError(f"{what}; free some space or set `scratch`") from error
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
