"""The members of an ASE ensemble: calculators in this process, or in another interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import TrainingError
from alfw.core.frame import Float, Frame
from alfw.core.records import Prediction
from alfw.models import _external_worker as worker

ANY_ELEMENT = tuple(range(1, 119))


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

        Raises
        ------
        TrainingError
            One cannot be made.
        """
        self.species = tuple(species or ANY_ELEMENT)
        self.members = len(options)
        self._remote = None if python is None else Worker(python, target, options)
        self._local = [_calculator(target, kwargs) for kwargs in options] if python is None else []

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
                raise TrainingError(f"frame {frame.id[:12]}: the model does not know Z = {unknown}")
        systems = [as_system(frame) for frame in frames]
        answers = self._remote.predict(systems) if self._remote else _computed(self._local, systems)
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


def _calculator(target: str, options: Mapping[str, Any]) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)(**options)
    except Exception as error:  # code of others, any error: the message names it
        raise TrainingError(f"calculator {target} cannot be made: {type(error).__name__}: {error}") from error


def _computed(calculators: Sequence[Any], systems: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    try:
        return [[worker.compute(calculator, system) for system in systems] for calculator in calculators]
    except Exception as error:  # code of others, any error: the message names it
        raise TrainingError(f"calculator failed: {type(error).__name__}: {error}") from error


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
    """Calculators in another interpreter: a process over a pipe, started once, that dies with this one."""

    def __init__(self, python: str, target: str, options: Sequence[Mapping[str, Any]]) -> None:
        """Start it.

        Raises
        ------
        TrainingError
            The interpreter cannot be started, or a calculator cannot be made there.
        """
        setup = json.dumps({"target": target, "options": [dict(o) for o in options]})
        self.python = python
        try:
            self._process = subprocess.Popen(
                [python, "-u", str(Path(worker.__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise TrainingError(
                f"cannot start {python!r}: {error.strerror}; correct `python` of the model"
            ) from error
        self._ask({"setup": np.array(setup)})

    def predict(self, systems: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """Answers by member and frame, as `_external_worker.compute` gives them."""
        flat = {f"{i}.{key}": value for i, system in enumerate(systems) for key, value in system.items()}
        answer = self._ask({"frames": np.array(len(systems)), **flat})
        members = int(answer["members"])
        found: list[list[dict[str, Any]]] = [[{} for _ in systems] for _ in range(members)]
        for name, value in answer.items():
            if "." in name:
                k, i, key = name.split(".")
                found[int(k)][int(i)][key] = float(value) if key == "energy" else value
        return found

    def close(self) -> None:
        """End the process: the end of its input is its end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()

    def __del__(self) -> None:
        if hasattr(self, "_process") and not sys.is_finalizing():
            self.close()

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            worker.send(self._process.stdin, message)
            answer = worker.receive(self._process.stdout)
        except (BrokenPipeError, EOFError):
            raise TrainingError(
                f"the model's process ({self.python}) ended: its messages are on stderr"
            ) from None
        if "error" in answer:
            raise TrainingError(f"in {self.python}: {answer['error']}")
        return answer
