"""The calculations of a folder of QM inputs, in worker processes; it may be stopped and repeated."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, cast

from alfw.core.errors import (
    AlfwError,
    ConfigError,
    LabelError,
    OutOfDiskError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.ids import sha256
from alfw.core.records import Run
from alfw.steps.qm_folder import QMFolder, Refused, load_folder
from alfw.steps.qm_runs import is_done, save_run

PATIENCE_S = 20.0  # for workers to end their programs; longer than the grace between SIGTERM and SIGKILL
Told = Callable[[str, Refused | None], None]


class WorkerLostError(LabelError):
    """The worker process died while it computed this frame."""

    failure_class = "NODE_LOST"


@dataclass
class Finished:
    """What came of a folder.

    Attributes
    ----------
    skipped : int
        Frames that had a good output before.
    good : list of str
    failed : list of Refused
    """

    skipped: int = 0
    good: list[str] = field(default_factory=list)
    failed: list[Refused] = field(default_factory=list)


def check_unedited(folder: QMFolder) -> None:
    """Raise ConfigError when an input is not as it was written, or would now be of another theory.

    Remedies render inputs anew, so that what somebody wrote into one would be lost without a word.
    """
    anew = "write the folder anew: alfw qm write … --force"
    now = folder.labeler.theory().id
    if now != folder.theory:
        raise ConfigError(
            f"{folder.path}: written at theory {folder.theory[:12]}, now it would be {now[:12]}; {anew}"
        )
    for name, digest in folder.inputs.items():
        path = folder.path / name
        if not path.is_file():
            raise ConfigError(f"{path}: missing; {anew}")
        if sha256(path.read_bytes()) != digest:
            raise ConfigError(
                f"{path} was edited, and alfw qm run renders inputs anew: edit the deck (--decks) or an "
                "option and write with --force, or run the program yourself and alfw qm read its output"
            )


def run_folder(folder: QMFolder, jobs: int, told: Told) -> Finished:
    """Run whatever has no good output yet.

    Parameters
    ----------
    folder : QMFolder
    jobs : int
        Calculations at once.
    told : callable
        Gets each stem when it is finished, or found so, with what went wrong.

    Raises
    ------
    ConfigError
        As `check_unedited`.
    LabelError
        Every further frame would end so: program or licence missing, unknown keyword, disk full.
    KeyboardInterrupt
        Ctrl-C or SIGTERM; no program is left running, nothing half-written.
    """
    check_unedited(folder)
    todo = []
    for stem in folder.items:
        if is_done(folder, stem):
            told(stem, None)
        else:
            todo.append(stem)
    finished = Finished(skipped=len(folder.items) - len(todo))
    with _sigterm_interrupts(), _Workers(folder, min(jobs, len(todo))) as workers:
        for stem, refused in workers.results(todo):
            told(stem, refused)
            if refused is None:
                finished.good.append(stem)
            else:
                finished.failed.append(refused)
    order = {stem: index for index, stem in enumerate(folder.items)}
    finished.failed.sort(key=lambda each: order[each.name])
    return finished


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, stack: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Workers:
    """Processes that calculate: custodian and its signals want a main thread each."""

    def __init__(self, folder: QMFolder, number: int) -> None:
        self._arguments = (str(folder.path.resolve()), dict(folder.execution))
        self._number = number
        self._processes: dict[Connection, SpawnProcess] = {}

    def __enter__(self) -> _Workers:
        for _ in range(self._number):
            self._start()
        return self

    def __exit__(self, *error: object) -> None:
        """End all of them, with the programs they run; Ctrl-C meanwhile changes nothing."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
        try:
            for process in self._processes.values():
                process.terminate()
            for process in self._processes.values():
                process.join(PATIENCE_S)
                process.kill()
                process.join()
        finally:
            if main:
                signal.signal(signal.SIGINT, before)

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=_work, args=(*self._arguments, theirs), daemon=True)
        # Ctrl-C reaches the worker, too, and has to wait until it knows what to do with it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # so that the end of the worker is the end of the pipe
        self._processes[mine] = process
        return mine

    def results(self, todo: Sequence[str]) -> Iterator[tuple[str, Refused | None]]:
        """Each stem with what went wrong, as they finish; a worker that dies is replaced."""
        waiting = list(reversed(todo))
        at_work: dict[Connection, str] = {}
        for connection in list(self._processes):
            at_work[connection] = waiting.pop()
            connection.send(at_work[connection])
        while at_work:
            for connection in cast(list[Connection], wait(list(at_work))):
                stem = at_work.pop(connection)
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    answer, connection = self._replaced(stem, connection)
                if isinstance(answer, Exception):
                    raise answer
                yield stem, answer
                if waiting:
                    at_work[connection] = waiting.pop()
                    connection.send(at_work[connection])

    def _replaced(self, stem: str, connection: Connection) -> tuple[Refused, Connection]:
        """What is said of the frame that a worker died with, and a new worker."""
        process = self._processes.pop(connection)
        process.join()
        text = f"the worker process died (exit status {process.exitcode})"
        return Refused.of(stem, WorkerLostError(text)), self._start()


def _work(path: str, execution: Mapping[str, Any], connection: Connection) -> None:
    """A worker: one stem after the other, until it is told to end or its parent is gone."""
    os.dup2(2, 1)  # stdout is the parent's, for results
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C, too, and tells
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix=".qm_", dir=path, ignore_cleanup_errors=True) as scratch:
        with chdir(scratch):  # whatever a program leaves here is nobody's
            folder = None
            while True:
                stem = connection.recv()
                try:
                    folder = folder or load_folder(Path(path), execution)
                    connection.send(_calculate(folder, stem, Path(scratch)))
                except AlfwError as error:
                    connection.send(error)


def _leave(signum: int, stack: FrameType | None) -> None:
    raise SystemExit


def _end_with_parent() -> None:
    """SIGTERM to this process when its parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _calculate(folder: QMFolder, stem: str, scratch: Path) -> Refused | None:
    """Run one frame and keep its output; what went wrong.

    Raises
    ------
    LabelError
        Every other frame would end so.
    """
    frame, label, run = folder.items[stem].frame, None, Run(files={})
    refused: Refused | None = None
    try:
        run = folder.labeler.run(frame, scratch / stem, folder.resources)
        label = folder.labeler.parse(frame, run)
    except WalltimeError as error:
        raise SystemExit from error  # SIGTERM: there is no other limit here
    except LabelError as error:
        if error.policy == "pause" or isinstance(error, OutOfDiskError):
            if error.partial is not None and error.policy == "pause":
                save_run(folder, stem, error.partial, None, Refused.of(stem, error))
            raise type(error)(f"{stem}: {error}", error.signature) from error
        refused = Refused.of(stem, error)
    except AlfwError:
        raise
    except Exception as error:  # a labeler of somebody else
        refused = Refused.of(stem, UnknownLabelError(f"{type(error).__name__}: {error}"))
    save_run(folder, stem, run, label, refused)
    return refused
