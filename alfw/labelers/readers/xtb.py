"""Output of the xtb program: single points with gradient of GFN1-xTB and GFN2-xTB.

Energy, gradient and coordinates come from ``xtb.engrad``, dipole and charges from ``xtbout.json``; the log tells
whether the calculation ended well, and all three have to tell of the same energy.
Source: what xtb 6.5.1 writes; its errors: src/type/environment.f90.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import (
    DeckError,
    ExecutableError,
    GeometryError,
    GradientMissingError,
    LabelError,
    MissingOutputError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._judge import LOG, RETURN_CODE
from alfw.labelers._output import Output, Reader, Step

Files = Mapping[str, bytes]
ENGRAD, JSON, INPUT = "xtb.engrad", "xtbout.json", "xtb.inp"
MARK = r"\A[\s\S]{0,2000}\| +x T B +\|"  # near the beginning: ORCA can print xtb's banner, too
# stderr, which falls between the lines of stdout.
STDERR = re.compile(r"normal termination of xtb\n?|Note: The following floating-point exceptions are .*\n?")
ENDED = re.compile(
    r"^ \* finished run on .*\n-+\n total:\n(?: \* .*\n){3} SCF:\n(?: \* .*\n){2} \* ratio", re.MULTILINE
)
SAME_Eh = 1e-7  # the JSON file has 8 decimals
ERRORS: tuple[tuple[str, type[LabelError]], ...] = (
    (r"charge iterator did not converge|criteria cannot be satisfied", NotConvergedError),
    (r"is not parametrized|is not recognized by|Unknown option|has not yet made", DeckError),
    (r"Parameter file .* not found", ExecutableError),
    (r"geometry are very close|[Tt]oo close interatomic", GeometryError),
    (r"No space left on device|Disk quota exceeded", OutOfDiskError),
    (r"[Cc]annot allocate memory|[Oo]ut [Oo]f [Mm]emory|Error allocating|oom-kill", OutOfMemoryLabelError),
    (r"Segmentation fault|^-\d+- ", UnknownLabelError),
)


def read(files: Files) -> Output:
    """The one step of a single point."""
    raw = files.get(LOG, b"").decode(errors="replace")
    log = STDERR.sub("", raw)
    problem = _problem(log, files.get(RETURN_CODE, b""))
    if problem is not None:
        raise problem
    results = _json(files)
    energy = _number(log, r"^ +\| TOTAL ENERGY +(-?\d+\.\d+) Eh")
    step = _step(files, energy, _number(log, r"^ +\| GRADIENT NORM +(\d+\.\d+) Eh"), results)
    version = re.search(r"^ +\* xtb version (\S+)", log, re.MULTILINE)
    unpaired = results.get("number of unpaired electrons")
    return Output(
        code="xtb",
        version=f"xtb {version[1]}" if version else "xtb",
        steps=[step],
        theory=_theory(log),
        charge=round(_number(log, r"^ +:: total charge +(-?\d+\.\d+) e")),
        multiplicity=None if unpaired is None else int(unpaired) + 1,
    )


def _problem(log: str, code: bytes) -> LabelError | None:
    """Why there is no result; None where the program ended as it should."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return MissingOutputError("no output")
    for pattern, error in ERRORS:
        line = next((line for line in lines if re.search(pattern, line)), None)
        if line:
            return error(f"xtb stopped: {line}{_hint(line)}", line)
    if code in (b"-9", b"137"):
        return OutOfMemoryLabelError("killed by signal 9, which is what runs out of memory get")
    if "convergence criteria satisfied after" not in log or not ENDED.search(log):
        return MissingOutputError(
            f"not the end of an SCC and of xtb; the last line is: {lines[-1]}", lines[-1]
        )
    return None


def _hint(line: str) -> str:
    """What helps against an error."""
    return "; large molecules need `ulimit -s unlimited` and OMP_STACKSIZE" if "Segmentation" in line else ""


def _number(log: str, pattern: str) -> float:
    """The one number that a pattern finds.

    Raises
    ------
    MissingOutputError
        None, or different ones.
    """
    found = set(re.findall(pattern, log, re.MULTILINE))
    if len(found) != 1:
        raise MissingOutputError(f"{len(found)} different lines like: {pattern}")
    return float(found.pop())


def _json(files: Files) -> dict[str, Any]:
    """The content of ``xtbout.json``; empty where none was asked for."""
    if JSON not in files and b"json=true" not in files.get(INPUT, b""):
        return {}
    try:
        results: dict[str, Any] = json.loads(files.get(JSON, b""))
    except ValueError as error:
        raise _incomplete(JSON, files) from error
    return results


def _incomplete(name: str, files: Files) -> LabelError:
    """The error of a file that is not whole although xtb says that all went well: it ignores a full disk."""
    if files.get(name) == b"":
        return OutOfDiskError(
            f"{name} is empty although xtb ended normally: the disk is full", f"{name}: empty"
        )
    return GradientMissingError(f"{name} is missing or incomplete", name)


def _step(files: Files, energy: float, norm: float, results: Mapping[str, Any]) -> Step:
    """The step of ``xtb.engrad``, if log and JSON file are of the same calculation."""
    text = files.get(ENGRAD, b"").decode(errors="replace")
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    try:
        n = int(rows[0][0])
        total, gradient = float(rows[1][0]), np.array([float(row[0]) for row in rows[2 : 2 + 3 * n]])
        atoms = [(int(z), float(x), float(y), float(w)) for z, x, y, w in rows[2 + 3 * n :]]
    except (IndexError, ValueError) as error:
        raise _incomplete(ENGRAD, files) from error
    if len(gradient) != 3 * n or len(atoms) != n or not text.endswith("\n"):
        raise _incomplete(ENGRAD, files)
    energies = [total, float(results.get("total energy", energy))]
    if (
        max(abs(each - energy) for each in energies) > SAME_Eh
        or abs(np.linalg.norm(gradient) - norm) > SAME_Eh
    ):
        raise StructureError(f"{ENGRAD}, {JSON} and the log are not of the same calculation")
    dipole = results.get("dipole")
    return Step(
        numbers=np.array([atom[0] for atom in atoms]),
        positions=np.array([atom[1:] for atom in atoms]) * BOHR_A,
        energy=energy * HARTREE_eV,
        forces=-gradient.reshape(n, 3) * HARTREE_PER_BOHR_eV_PER_A,
        dipole=None if dipole is None else np.array(dipole, np.float64) * BOHR_A,
        charges=None
        if "partial charges" not in results
        else np.array(results["partial charges"], np.float64),
    )


def _theory(log: str) -> str:
    """Method in the program's words, electronic temperature, accuracy, solvent."""
    method = re.search(r"^ +: +Hamiltonian +(\S+)", log, re.MULTILINE)
    temperature = re.search(r"^ +: +electronic temp\. +([\d.]+) +K", log, re.MULTILINE)
    accuracy = re.search(r"^ +: +accuracy +([\d.]+)", log, re.MULTILINE)
    solvation = re.search(r"^ +\* Solvation model: +(\S+)\n +Solvent +(\S+)", log, re.MULTILINE)
    parts = [
        method[1] if method else "",
        f"{float(temperature[1]):g} K" if temperature else "",
        f"accuracy {float(accuracy[1]):g}" if accuracy else "",
        f"{solvation[1]} {solvation[2]}" if solvation else "",
    ]
    return ", ".join(part for part in parts if part)


def _companions(path: Path) -> dict[str, Path]:
    """The files that xtb leaves beside its log, whatever the molecule's file was called."""
    beside = sorted({each.with_name(each.name.removesuffix(".gz")) for each in path.parent.glob("*.engrad*")})
    own = path.with_suffix(".engrad")
    engrad = own if own in beside or len(beside) != 1 else beside[0]
    return {ENGRAD: engrad, JSON: path.parent / JSON, INPUT: path.parent / INPUT}


READER = Reader(code="xtb", mark=MARK, main=LOG, read=read, companions=_companions)
