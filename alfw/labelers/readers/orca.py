"""ORCA 4, 5 and 6: an output, and the ``.engrad`` and ``.vpot.out`` files beside it.

Energies and gradients are paired by their place: an optimisation ends with one more energy than gradients.
Source: the ORCA manual 6.1; outputs of ORCA 4.1.2, 5.0.1 and 6.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import (
    ExecutableError,
    GradientMissingError,
    MissingOutputError,
    NotConvergedError,
    UnknownLabelError,
)
from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._judge import LOG
from alfw.labelers._output import Output, Reader, Step
from alfw.labelers.readers import _orca_tables as tables
from alfw.labelers.readers._orca_failures import (
    NO_PROGRAM,
    failure,
    line_with,
    not_converged,
    spoken,
)

ENGRAD, POTENTIAL = "orca.engrad", "orca.vpot.out"
END = re.compile(r"^ *\*\*\*\*ORCA TERMINATED NORMALLY\*\*\*\* *$", re.MULTILINE)
BANNER = re.compile(r"^ *\* O   R   C   A \* *$", re.MULTILINE)
ENERGY = re.compile(r"^FINAL SINGLE POINT ENERGY +(.*\S) *$", re.MULTILINE)
S_SQUARED = re.compile(r"^Expectation value of <S\*\*2> +: +(\S+) *$", re.MULTILINE)
CHARGE = re.compile(r"^ Total Charge +Charge +\.\.\.\. +(-?\d+) *$", re.MULTILINE)
MULTIPLICITY = re.compile(r"^ Multiplicity +Mult +\.\.\.\. +(\d+) *$", re.MULTILINE)
VERSION = re.compile(r"Program Version +(\S+)")
ECHO = re.compile(r"^\| *\d+> (.*)$", re.MULTILINE)
# Jobs whose output has geometries or energies that are not those of the gradient.
MIXTURES = (
    r"JOB NUMBER +[2-9]|ORCA NUMERICAL GRADIENT|ORCA NUMERICAL FREQUENCIES|calculating gradient numerically"
)
# Density, dipole and charges that are printed are of the SCF, the energy is not.
CORRELATED = r"ORCA[- ](RI-|DLPNO-)?(MP2|MDCI|MATRIX DRIVEN CI|AUTOCI|CIS|TD-DFT)|MP2 TOTAL ENERGY"
# Words of the input that say how the SCF is solved, not what is calculated.
NOT_THEORY = {
    *(
        "engrad",
        "opt",
        "tightopt",
        "keepdens",
        "autostart",
        "noautostart",
        "moread",
        "miniprint",
        "largeprint",
    ),
    *("slowconv", "veryslowconv", "kdiis", "diis", "soscf", "nososcf", "trah", "notrah", "normalprint"),
}


def read(files: Mapping[str, bytes]) -> Output:
    """What an output says that has come to its normal end.

    Raises
    ------
    LabelError
        The subclass that the output calls for, with its literal line as `signature`.
    """
    text = files.get(LOG, b"").decode(errors="replace").replace("\r\n", "\n")
    if not text.strip():
        raise MissingOutputError("the output is empty", "no output")
    end = END.search(text)
    if end is None:
        raise failure(files, text)
    _refuse(text, text[end.end() :])
    charge, multiplicity = _only(CHARGE, text), _only(MULTIPLICITY, text)
    steps = _steps(text[: end.start()], files, charge)
    if not steps:
        energy = ENERGY.search(text)
        line = energy.group().strip() if energy else "no FINAL SINGLE POINT ENERGY"
        raise GradientMissingError(f"no geometry with energy and gradient: {line}", line)
    version = VERSION.search(text)
    return Output(
        code="orca",
        version=f"orca {version.group(1)}" if version else "orca",
        steps=_with_potential(steps, text, files),
        theory=_theory(text),
        charge=charge,
        multiplicity=multiplicity,
    )


def _refuse(text: str, after: str) -> None:
    """Raise for outputs that are not what they seem, though ORCA says it has come to its normal end."""
    missing = line_with(NO_PROGRAM, after)  # of what was to run after ORCA
    if missing is not None:
        raise ExecutableError(missing, missing)
    if len(BANNER.findall(text)) != 1 or END.search(after) or tables.ANGSTROEM.search(after):
        raise UnknownLabelError("more than one output in one file", "* O   R   C   A *")
    unconverged = not_converged(text)
    if unconverged is not None:
        raise NotConvergedError(f"ORCA: {unconverged}", unconverged)
    mixture = line_with(MIXTURES, spoken(text))
    if mixture is not None:
        raise UnknownLabelError(f"outputs of such jobs are not read: {mixture}", mixture)


def _steps(text: str, files: Mapping[str, bytes], charge: int | None) -> list[Step]:
    """Every geometry that has an energy and a gradient."""
    starts = [match.start() for match in tables.ANGSTROEM.finditer(text)]
    blocks = [text[start:stop] for start, stop in pairwise([*starts, len(text)])]
    file = tables.engrad(files[ENGRAD]) if ENGRAD in files else None
    steps = (_step(block, file, charge) for block in blocks)
    return [step for step in steps if step is not None]


def _step(block: str, file: tables.Engrad | None, charge: int | None) -> Step | None:
    """The step of one geometry; None where it has no energy or no gradient.

    Raises
    ------
    UnknownLabelError
        It has more than one energy, or does not say that its SCF has converged.
    """
    energies = ENERGY.findall(block)
    atoms = tables.geometry(block)
    if not energies:
        return None
    if len(energies) > 1:
        raise UnknownLabelError(f"{len(energies)} energies for one geometry", energies[0])
    energy = float(energies[0])
    gradient = tables.gradient(block, atoms)
    if file is not None and tables.belongs(file, atoms, energy):
        if gradient is not None and np.abs(file.gradient - gradient).max() > tables.SAME_GRADIENT:
            raise UnknownLabelError("orca.engrad and the output have different gradients of one energy")
        energy, gradient = file.energy, file.gradient
    if gradient is None:
        return None
    if "SCF CONVERGED AFTER" not in block:
        raise UnknownLabelError("the output does not say that the SCF has converged", energies[0])
    printed = _printed(block, atoms, charge)
    return Step(
        numbers=atoms.numbers,
        positions=atoms.positions,
        energy=energy * HARTREE_eV,
        forces=-gradient * HARTREE_PER_BOHR_eV_PER_A,
        **printed,
    )


def _printed(block: str, atoms: tables.Geometry, charge: int | None) -> dict[str, Any]:
    """Dipole, charges and ⟨S²⟩ of one geometry, where they are of the same wave function as its energy."""
    s_squared = S_SQUARED.findall(block)
    found: dict[str, Any] = {"s_squared": float(s_squared[-1]) if s_squared else None}
    if re.search(CORRELATED, block):
        return found
    dipole = tables.dipole(block, atoms, charge)
    found["dipole"] = None if dipole is None else dipole * BOHR_A
    return found | {"charges": tables.mulliken(block, len(atoms.numbers))}


def _with_potential(steps: list[Step], text: str, files: Mapping[str, bytes]) -> list[Step]:
    """The steps, with the potential of the density that ORCA has left where that is the one of the only step."""
    if POTENTIAL not in files:
        return steps
    first, *more = tables.ANGSTROEM.finditer(text)
    if more or re.search(CORRELATED, text[first.start() :]):
        raise UnknownLabelError("orca.vpot.out is of another density than that of the energy", POTENTIAL)
    esp, points = tables.potential(files[POTENTIAL])
    return [replace(steps[0], esp=esp, esp_points=points)]


def _only(pattern: re.Pattern[str], text: str) -> int | None:
    """A number that the output says, always the same; None where it does not."""
    found = {int(value) for value in pattern.findall(text)}
    if len(found) > 1:
        raise UnknownLabelError(f"more than one charge or multiplicity: {', '.join(map(str, sorted(found)))}")
    return found.pop() if found else None


def _theory(text: str) -> str:
    """The simple input and the blocks of the input's echo, without what says only how it is calculated."""
    lines = [line.partition("#")[0].strip() for line in ECHO.findall(text)]
    joined = re.sub(r"^\* *\w*file .*$", "", "\n".join(lines), flags=re.MULTILINE | re.I)
    joined = re.sub(r"^\*.*?^\*$", "", joined, flags=re.MULTILINE | re.DOTALL)
    joined = re.sub(r"%(maxcore|base|moinp)\s+\S+", "", joined, flags=re.I)
    joined = re.sub(r"%(pal|scf|output|geom)\b.*?\bend\b[^%!]*", "", joined, flags=re.I | re.DOTALL)
    words = [word for line in re.findall(r"^!(.*)$", joined, re.MULTILINE) for word in line.split()]
    words = [
        word for word in words if word.lower() not in NOT_THEORY and not re.fullmatch(r"pal\d+", word, re.I)
    ]
    blocks = re.sub(r"^!.*$|\*\*\*\*END OF INPUT\*\*\*\*", "", joined, flags=re.MULTILINE).split()
    return " ".join([*words, *blocks])


def _companions(path: Path) -> dict[str, Path]:
    """The files that ORCA and ``orca_vpot`` leave beside an output."""
    stem = "orca" if path.name == LOG else path.name.removesuffix(path.suffix)
    return {ENGRAD: path.with_name(f"{stem}.engrad"), POTENTIAL: path.with_name(f"{stem}.vpot.out")}


READER = Reader(
    code="orca",
    mark=r"^ *\* O   R   C   A \*\s*$",
    main=LOG,
    read=read,
    companions=_companions,
)
