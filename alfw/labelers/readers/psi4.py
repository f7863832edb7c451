"""Output of Psi4: the text, and the ``result.json`` that alfw's deck has it write.

Where there is a ``result.json``, numbers in full precision come from there; the text tells whether the calculation
ended well, and both have to be of the same molecule, energy and gradient.

Source: Psi4 1.3.2, run; for later versions psi4/driver/p4util/exceptions.py and libpsio/error.cc of Psi4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    LabelError,
    LinearDependencyError,
    MissingOutputError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    UnknownLabelError,
)
from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._judge import LOG, RESULT
from alfw.labelers._output import Output, Reader, Step
from alfw.labelers.readers import _psi4_text
from alfw.labelers.readers._molecular import one_level, text_of, why

Files = Mapping[str, bytes]
MAIN = "psi4.out"
MARK = r"^ +Psi4: An Open-Source Ab Initio Electronic Structure Package"
ENDED = r"^\*\*\* Psi4 exiting successfully"
VERSION = r"^ +Psi4 (\d\S*|undefined)"
# The program repeats its input, and the part of it in which an error came up: those are not its own words.
ECHOES = (
    re.compile(r"==> Input File <==\s*\n-{70,}\n.*?(?:\n-{70,}\n|\Z)", re.DOTALL),
    re.compile(r"Printing out the relevant lines from the Psithon.*?(?=\n +Psi4 stopped on|\Z)", re.DOTALL),
)
# Lines of exceptions begin in the first column, those of the trace before do not.
SIGNATURES: tuple[tuple[str, type[LabelError]], ...] = (
    (r"(?m)^RuntimeError: linear dependency", LinearDependencyError),  # alfw's deck
    (r"(?m)^RuntimeError: esp: ", DeckError),  # alfw's deck
    (r"(?m)^\S*OptimizationConvergenceError: |Could not converge geometry", UnknownLabelError),
    (r"(?m)^\S*ConvergenceError: |Could not converge .+ in \d+ iterations", NotConvergedError),
    (r"[Ii]terations did not converge|Failed to converge\.", NotConvergedError),
    (r"(?m)^\S*BasisSet(?:File)?Not(?:Found|Defined)\w*: ", BasisError),
    (r"(?m)^\S*ValidationError: Inconsistent or unspecified chg/mult", ChargeError),
    (r"(?m)^\S*ValidationError: .*atoms are too close", GeometryError),
    (r"PSIO_ERROR: (?:5|7|10|12) \(", OutOfDiskError),  # open, close, seek, write
    (r"[Nn]ot enough memory|[Ii]nsufficient memory|[Mm]ore memory required|std::bad_alloc", OutOfMemoryLabelError),
    (r"(?m)^\S*MemoryError|[Mm]emory constraints exceeded|exceeds memory allocation", OutOfMemoryLabelError),
    (r"(?m)^\S*(?:ModuleNotFoundError|ImportError|ResourceError|PastureRequiredError): ", ExecutableError),
    (r"Command \(`(?:dftd|mctc|gcp|mp2d)", ExecutableError),
    (r"is not a valid (?:option|choice)|radients are (?:NOT|not) available", DeckError),
    (r"(?m)^\S*(?:ValidationError|MissingMethodError|ManagedMethodError|UpgradeHelper): ", DeckError),
    (r"(?m)^(?:SyntaxError|NameError|AttributeError|TypeError): ", DeckError),
)  # fmt: skip
GENERAL = (
    (r"PSIO_ERROR: \d+ \(", UnknownLabelError),
    (r"(?m)^Fatal Error: .*\S|^[\w.]+(?:Error|Exception): *\S", UnknownLabelError),
)
SAME_Eh, SAME_Eh_PER_BOHR, SAME_A = 1e-6, 1e-6, 1e-6


def read(files: Files) -> Output:
    """The one step of a calculation with ``result.json``, every step with a gradient of one without.

    Raises
    ------
    LabelError
        The subclass that the output calls for.
    """
    spoken = {
        **files,
        MAIN: _spoken(text_of(files, MAIN)),
        LOG: _spoken(files.get(LOG, b"").decode(errors="replace")),
    }
    text = spoken[MAIN].decode()
    if re.search(ENDED, text, re.MULTILINE) is None:
        raise _named(why(spoken, MAIN, SIGNATURES, GENERAL), text)
    if re.search(MARK, text, re.MULTILINE) is None:
        raise UnknownLabelError("not an output of Psi4 from its beginning", text.strip()[:80])
    if len(re.findall(MARK, text, re.MULTILINE)) > 1:
        raise UnknownLabelError("several calculations in one output", "Psi4: An Open-Source Ab Initio")
    version = re.search(VERSION, text, re.MULTILINE)
    name = f"psi4 {version[1] if version else 'undefined'}"
    if RESULT in files:
        return _with_result(files[RESULT], text, name)
    found = list(_psi4_text.steps(text))
    states = {(scf.charge, scf.multiplicity) for scf, _ in found}
    if len(states) > 1:
        raise UnknownLabelError("two charges or multiplicities in one output", "charge")
    steps = list(one_level((scf.level, step) for scf, step in found))
    charge, multiplicity = states.pop() if states else (None, None)
    return Output("psi4", name, steps, found[0][0].level if found else "", charge, multiplicity)


def _spoken(text: str) -> bytes:
    """An output without what it repeats of its input."""
    for echo in ECHOES:
        text = echo.sub("", text)
    return text.encode()


def _named(error: LabelError, text: str) -> LabelError:
    """The same error; one of a missing basis says for which element, which Psi4 does in the lines below."""
    below = re.search(r"Shell Entries: (\[.*\])\n +Basis Sets: \[\('([^']+)'", text)
    if type(error) is not BasisError or below is None:
        return error
    return BasisError(f"basis {below[2]} has none of {below[1]}: {error}", error.signature)


def _with_result(data: bytes, text: str, version: str) -> Output:
    """What the deck has written, checked against the text.

    Raises
    ------
    MissingOutputError
        It is incomplete.
    UnknownLabelError
        It is of another calculation than the text.
    """
    try:
        raw = json.loads(data)
        step = _step(raw)
        charge, multiplicity, scf_level = int(raw["charge"]), int(raw["multiplicity"]), bool(raw["scf_level"])
    except (ValueError, KeyError, TypeError) as error:
        raise MissingOutputError(
            f"{RESULT} is incomplete ({type(error).__name__}: {error})", RESULT
        ) from error
    bodies = dict(_psi4_text.modules(text))
    found = _psi4_text.scf(bodies.get("SCF", ""))
    same = (found.charge, found.multiplicity) == (charge, multiplicity)
    same &= np.array_equal(found.numbers, step.numbers)
    if not same or np.abs(found.positions - step.positions).max() > SAME_A:
        raise UnknownLabelError(f"{RESULT} and the text are of different molecules", RESULT)
    away = np.abs(_psi4_text.gradient(text) + step.forces / HARTREE_PER_BOHR_eV_PER_A).max()
    off = abs(found.energy - step.energy / HARTREE_eV) if scf_level else 0.0
    if not (away < SAME_Eh_PER_BOHR and off < SAME_Eh):
        raise UnknownLabelError(f"{RESULT} and the text tell different energies or gradients", RESULT)
    level = found.level if scf_level else f"{raw['method']} on {found.level}"
    return Output("psi4", version, [step], level, charge, multiplicity)


def _step(raw: Mapping[str, Any]) -> Step:
    """The step in ``result.json``, which is in atomic units."""

    def scaled(name: str, unit: float) -> Any:
        return None if raw.get(name) is None else np.array(raw[name], np.float64) * unit

    multiplicity = int(raw["multiplicity"])
    return Step(
        numbers=np.array(raw["numbers"], np.int64),
        positions=np.array(raw["positions_bohr"], np.float64) * BOHR_A,
        energy=float(raw["energy_hartree"]) * HARTREE_eV,
        forces=-np.array(raw["gradient_hartree_per_bohr"], np.float64) * HARTREE_PER_BOHR_eV_PER_A,
        dipole=scaled("dipole_e_bohr", BOHR_A),
        charges=scaled("mulliken_charges_e", 1.0),
        s_squared=float(raw["s_squared"]) if raw.get("s_squared") is not None and multiplicity > 1 else None,
        esp=scaled("esp_hartree_per_e", HARTREE_eV),
        esp_points=scaled("esp_points_A", 1.0),
    )


def _companions(path: Path) -> dict[str, Path]:
    """``result.json`` beside an output of alfw's own deck."""
    return {RESULT: path.with_name(RESULT)} if path.name == MAIN else {}


READER = Reader("psi4", MARK, MAIN, read, _companions)
