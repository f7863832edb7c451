"""The members of an ASE ensemble: calculators in this process, or in another interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase.data import chemical_symbols

from alfw.core.errors import TrainingError
from alfw.core.frame import Float, Frame
from alfw.core.records import Prediction
from alfw.models import _external_worker as worker

ANY_ELEMENT = tuple(range(1, 119))
LISTEN_S = 1.0  # how long the last words of a process that ended are waited for
TAIL = 3  # of the last lines that a process said, those that its error quotes
# Run so, neither the worker's folder nor the current one is where it looks for packages.
BOOT = "import runpy, sys; sys.path[:] = filter(None, sys.path); runpy.run_path(sys.argv[1], run_name='__main__')"


class ASEPotential:
    """K calculators that predict one frame after the other; in this process or through `Worker`.

    Attributes
    ----------
    species : tuple of int
    cutoff_A : float
        0: not known; nothing needs it.
    members : int
    """

    cutoff_A = 0.0

    def __init__(
        self,
        target: str,
        options: Sequence[Mapping[str, Any]],
        python: str | None,
        species: Sequence[int] | None,
        timeout_s: float | None = None,
    ) -> None:
        """Make the calculators.

        Parameters
        ----------
        target : str
            ``module:callable``.
        options : sequence of K mappings
            Keyword arguments of each.
        python : str or None
            Another interpreter.
        timeout_s : float or None
            How long a batch may take there; None = as long as it wants.

        Raises
        ------
        TrainingError
            One cannot be made.
        """
        self.species = tuple(species or ANY_ELEMENT)
        self.members = len(options)
        self._remote = None if python is None else Worker(python, target, options, timeout_s)
        self._local = [] if python is not None else _made(target, options)
        self._only: int | None = None

    def member(self, k: int) -> ASEPotential:
        """See `HasMembers`; the calculator is the same object, or in the same process."""
        alone = copy(self)
        alone.members, alone._only = 1, k
        alone._local = self._local[k : k + 1]
        return alone

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """What each member says of each frame.

        Raises
        ------
        TrainingError
            An element that the model does not know, or a calculator that fails (its words in the message).
        """
        for frame in frames:
            unknown = sorted(set(frame.numbers.tolist()) - set(self.species))
            if unknown:
                names, known = (
                    ", ".join(chemical_symbols[z] for z in each) for each in (unknown, self.species)
                )
                raise TrainingError(
                    f"frame {frame.id[:12]}: the model does not know {names} (its `species` are {known}):"
                    " label frames with it and retrain"
                )
        systems = [as_system(frame) for frame in frames]
        answers = (
            self._remote.predict(systems, self._only) if self._remote else _computed(self._local, systems)
        )
        energy = np.array([[a["energy"] for a in member] for member in answers], np.float64)
        forces: list[Float] = [
            np.array([member[i]["forces"] for member in answers]) for i in range(len(frames))
        ]
        return Prediction(
            energy=energy.reshape(self.members, len(frames)),
            forces=forces,
            stress=_per_frame(answers, frames, "stress"),
            dipole=_dipole(answers, frames),
        )


def as_system(frame: Frame) -> dict[str, Any]:
    """The frame as plain arrays."""
    return {
        "numbers": frame.numbers,
        "positions": frame.positions,
        "cell": frame.cell,
        "pbc": frame.pbc,
        "charge": np.array(frame.charge),
        "multiplicity": np.array(frame.multiplicity),
    }


def _made(target: str, options: Sequence[Mapping[str, Any]]) -> list[Any]:
    try:
        return worker.made(target, options)
    except worker.Failed as error:
        raise TrainingError(str(error)) from error


def _computed(calculators: Sequence[Any], systems: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    try:
        return worker.computed(calculators, systems)
    except worker.Failed as error:
        raise TrainingError(str(error)) from error


def _per_frame(answers: Any, frames: Sequence[Frame], key: str) -> list[Float | None] | None:
    """B × ((K, 3, 3) or None), or None where no frame has it."""
    values = [
        np.array([member[i][key] for member in answers])
        if all(key in member[i] for member in answers)
        else None
        for i in range(len(frames))
    ]
    return values if any(value is not None for value in values) else None


def _dipole(answers: Any, frames: Sequence[Frame]) -> Float | None:
    """(K, B, 3) e·Å where every frame has one."""
    if not frames or not all("dipole" in answer for member in answers for answer in member):
        return None
    return np.array([[answer["dipole"] for answer in member] for member in answers], np.float64)


class Worker:
    """Calculators in another interpreter: a process over a pipe, started once, that dies with this one.

    One that crashed, or did not answer in time, is started again when it is asked again.
    """

    def __init__(
        self, python: str, target: str, options: Sequence[Mapping[str, Any]], timeout_s: float | None = None
    ) -> None:
        """Start it.

        Raises
        ------
        TrainingError
            The interpreter cannot be started, or a calculator cannot be made there.
        """
        self.python, self.timeout_s = python, timeout_s
        self._setup = json.dumps({"target": target, "options": [dict(o) for o in options]})
        self._start()

    def predict(
        self, systems: Sequence[Mapping[str, Any]], only: int | None = None
    ) -> list[list[dict[str, Any]]]:
        """Answers by member (`only` one of them, or all) and frame, as `_external_worker.compute` gives them."""
        if self._process.poll() is not None:
            self._start()
        flat = {f"{i}.{key}": value for i, system in enumerate(systems) for key, value in system.items()}
        asked = {} if only is None else {"only": np.array(only)}
        answer = self._ask({"frames": np.array(len(systems)), **asked, **flat}, self.timeout_s)
        members = int(answer["members"])
        found: list[list[dict[str, Any]]] = [[{} for _ in systems] for _ in range(members)]
        for name, value in answer.items():
            if "." in name:
                k, i, key = name.split(".")
                found[int(k)][int(i)][key] = float(value) if key == "energy" else value
        return found

    def close(self) -> None:
        """End the process: the end of its input is its end."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()
        self._listener.join(LISTEN_S)

    def __del__(self) -> None:
        if hasattr(self, "_listener") and not sys.is_finalizing():
            self.close()

    def _start(self) -> None:
        if hasattr(self, "_listener"):
            self.close()
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [self.python, "-u", "-c", BOOT, str(Path(worker.__file__))]
        try:
            self._process = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
        except OSError as error:
            raise TrainingError(
                f"cannot start {self.python!r}: {error.strerror}; correct `python` of the model"
            ) from error
        self._said: deque[bytes] = deque(maxlen=TAIL)
        self._listener = threading.Thread(
            target=_listen, args=(self._process.stderr, self._said), daemon=True
        )
        self._listener.start()
        try:
            self._ask({"setup": np.array(self._setup)})
        except TrainingError:
            self.close()
            raise

    def _ask(self, message: Mapping[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        with _deadline(self._process, timeout_s) as late:
            try:
                worker.send(self._process.stdin, message)
                answer = worker.receive(self._process.stdout)
            except (BrokenPipeError, EOFError):
                raise TrainingError(self._how_it_ended(late.is_set())) from None
        if "error" in answer:
            raise TrainingError(f"in {self.python}: {answer['error']}")
        return answer

    def _how_it_ended(self, late: bool) -> str:
        """Why there is no answer, with the last words of the process, in one line."""
        status = self._process.wait()
        self._listener.join(LISTEN_S)
        words = b" | ".join(self._said).decode(errors="replace") or "it said nothing"
        if late:
            return f"the model's process ({self.python}) gave no answer in {self.timeout_s:g} s: {words}"
        return f"the model's process ({self.python}) ended with status {status}: {words}"


def _listen(stream: IO[bytes], said: deque[bytes]) -> None:
    """Keep the last lines of a stream until it ends."""
    with stream:
        for line in stream:
            if line.strip():
                said.append(line.strip())


@contextmanager
def _deadline(process: subprocess.Popen[bytes], timeout_s: float | None) -> Iterator[threading.Event]:
    """Kill the process where the block takes longer; the event says whether that was so."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()

    clock = None if timeout_s is None else threading.Timer(timeout_s, give_up)
    if clock is not None:
        clock.daemon = True
        clock.start()
    try:
        yield late
    finally:
        if clock is not None:
            clock.cancel()
