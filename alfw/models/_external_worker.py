"""ASE calculators in any interpreter that has numpy and ASE: batches come in on stdin, answers go out on stdout.

Run as a script by the interpreter of the model; it imports nothing of alfw. A message is its length (8 bytes, little
endian) and an NPZ without pickle. The process ends with its input, or when the one that started it is gone.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

HEADER = 8
WATCH_S = 0.5  # how often the worker looks whether its parent is alive


def send(stream: Any, message: Any) -> None:
    """Write one message of named arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **message)
    data = buffer.getvalue()
    stream.write(len(data).to_bytes(HEADER, "little"))
    stream.write(data)
    stream.flush()


def receive(stream: Any) -> dict[str, Any]:
    """The next message; EOFError where there is none."""
    data = _exactly(stream, int.from_bytes(_exactly(stream, HEADER), "little"))
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _exactly(stream: Any, count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def compute(calculator: Any, system: Any) -> dict[str, Any]:
    """Energy (eV), forces (n, 3) eV/Å, stress (3, 3) eV/Å^3 of a crystal, dipole (3,) e·Å of a neutral molecule.

    The energy is the free one where the calculator has it: the forces are its derivative.
    """
    from ase import Atoms

    atoms = Atoms(system["numbers"], system["positions"], cell=system["cell"], pbc=system["pbc"])
    charge = int(system["charge"])
    atoms.info.update(
        charge=charge, multiplicity=int(system["multiplicity"]), spin=int(system["multiplicity"])
    )
    atoms.calc = calculator
    offered = set(calculator.implemented_properties)
    answer: dict[str, Any] = {"forces": np.asarray(atoms.get_forces(), np.float64)}
    answer["energy"] = float(calculator.results.get("free_energy", atoms.get_potential_energy()))
    if atoms.pbc.all() and "stress" in offered:
        answer["stress"] = np.asarray(atoms.get_stress(voigt=False), np.float64)
    if not atoms.pbc.any() and charge == 0 and "dipole" in offered:
        answer["dipole"] = np.asarray(atoms.get_dipole_moment(), np.float64)
    return answer


class Failed(Exception):
    """A calculator cannot be made, or cannot compute a frame; its words in one line."""


def made(target: str, options: Any) -> list[Any]:
    """The calculators of a factory ``module:callable``, one for each mapping of options; or Failed."""
    module, _, name = target.partition(":")
    try:
        factory = getattr(import_module(module), name)
        return [factory(**each) for each in options]
    except Exception as error:  # code of others, any error: whoever asked gets its words
        raise Failed(f"calculator {target} cannot be made: {words(error)}") from error


def computed(calculators: Any, systems: Any) -> list[list[dict[str, Any]]]:
    """What each calculator gives for each system, as `compute`; or Failed."""
    return [[_tried(calculator, system) for system in systems] for calculator in calculators]


def _tried(calculator: Any, system: Any) -> dict[str, Any]:
    try:
        return compute(calculator, system)
    except Exception as error:  # code of others, any error: whoever asked gets its words
        elements = ", ".join(str(z) for z in sorted({int(z) for z in system["numbers"]}))
        raise Failed(f"a frame with atomic numbers {elements}: {words(error)}") from error


def words(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def answer_to(message: dict[str, Any], calculators: list[Any]) -> dict[str, Any]:
    """The answer to a batch of frames: ``member.frame.property``."""
    systems: list[dict[str, Any]] = [{} for _ in range(int(message.pop("frames")))]
    only = message.pop("only", None)
    calculators = calculators if only is None else [calculators[int(only)]]
    for name, value in message.items():
        i, key = name.split(".")
        systems[int(i)][key] = value
    answer: dict[str, Any] = {"members": np.array(len(calculators))}
    for k, member in enumerate(computed(calculators, systems)):
        for j, properties in enumerate(member):
            answer |= {f"{k}.{j}.{key}": np.asarray(value) for key, value in properties.items()}
    return answer


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer messages until there are no more."""
    calculators: list[Any] = []
    while True:
        try:
            message = receive(source)
        except EOFError:
            return
        try:
            if "setup" in message:
                wanted = json.loads(str(message["setup"]))
                import_module("ase")
                calculators = made(wanted["target"], wanted["options"])
                answer: dict[str, Any] = {"members": np.array(len(calculators))}
            else:
                answer = answer_to(message, calculators)
        except Exception as error:  # whatever it is, the one who asked gets its words
            answer = {"error": np.array(str(error) if isinstance(error, Failed) else words(error))}
        send(sink, answer)


def watch(parent: int) -> None:
    """End this process, in the middle of a batch if need be, when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get into the answers
    serve(sys.stdin.buffer, out)
