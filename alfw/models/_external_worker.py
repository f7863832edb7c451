"""ASE calculators in any interpreter that has numpy and ASE: batches come in on stdin, answers go out on stdout.

Run as a script by the interpreter of the model; it imports nothing of alfw. A message is its length (8 bytes, little
endian) and an NPZ without pickle. The process ends with its input, so it cannot outlive the one that started it.
"""

from __future__ import annotations

import io
import json
import os
import sys
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

HEADER = 8


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
    answer = {"forces": np.asarray(atoms.get_forces(), np.float64)}
    answer["energy"] = float(calculator.results.get("free_energy", atoms.get_potential_energy()))
    if atoms.pbc.all() and "stress" in offered:
        answer["stress"] = np.asarray(atoms.get_stress(voigt=False), np.float64)
    if not atoms.pbc.any() and charge == 0 and "dipole" in offered:
        answer["dipole"] = np.asarray(atoms.get_dipole_moment(), np.float64)
    return answer


def calculators(setup: str) -> list[Any]:
    """The calculators that the first message asks for."""
    wanted = json.loads(setup)
    module, _, name = wanted["target"].partition(":")
    factory = getattr(import_module(module), name)
    return [factory(**options) for options in wanted["options"]]


def answer_to(message: dict[str, Any], made: list[Any]) -> dict[str, Any]:
    """The answer to a batch of frames: ``member.frame.property``."""
    systems: list[dict[str, Any]] = [{} for _ in range(int(message.pop("frames")))]
    for name, value in message.items():
        i, key = name.split(".")
        systems[int(i)][key] = value
    answer: dict[str, Any] = {"members": np.array(len(made))}
    for k, calculator in enumerate(made):
        for i, system in enumerate(systems):
            for key, value in compute(calculator, system).items():
                answer[f"{k}.{i}.{key}"] = np.asarray(value)
    return answer


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer messages until there are no more."""
    made: list[Any] = []
    while True:
        try:
            message = receive(source)
        except EOFError:
            return
        try:
            if "setup" in message:
                made = calculators(str(message["setup"]))
                answer: dict[str, Any] = {"members": np.array(len(made))}
            else:
                answer = answer_to(message, made)
        except Exception as error:  # code of others, any error: the one who asked gets its words
            answer = {"error": np.array(f"{type(error).__name__}: {error}")}
        send(sink, answer)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: its neighbours would hide other packages
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get into the answers
    serve(sys.stdin.buffer, out)
