"""Output of NWChem: Hartree-Fock and density functionals, single points and optimisations.

Source: what NWChem 7.0.2 prints; the categories of its errors: src/util/errquit.F of that release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    GeometryError,
    GradientMissingError,
    LabelError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.frame import Float
from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._judge import LOG, RETURN_CODE
from alfw.labelers._output import Output, Reader, Step

Files = Mapping[str, bytes]
MARK = r"Northwest Computational Chemistry Package \(NWChem\) \d|For more information see the NWChem manual"
NUMBER = r" +(-?\d+\.\d+)"
# What makes up a step, in the order of printing.
BLOCKS = {
    "geometry": r"^ Output coordinates in \S+ \(scale by +(?P<scale>[\d.]+) to convert to a\.u\.\)\n\n.*\n ----.*\n"
    r"(?P<atoms>(?: +\d+ \S+ .*\n)+)\n",
    "energy": r"^ +Total (?P<kind>DFT|SCF) energy =(?P<energy> +-?\d+\.\d+)$",
    "spin": r"^ +(?:<S2>|S\^2) =(?P<spin> +\d+\.\d+)",
    "moments": rf"^ +1   1 0 0(?P<x>{NUMBER}).*\n +1   0 1 0(?P<y>{NUMBER}).*\n +1   0 0 1(?P<z>{NUMBER})",
    "gradient": r"^ +(?P<level>\S+) ENERGY GRADIENTS\n\n +atom +coordinates +gradient\n.*\n"
    r"(?P<rows>(?: +\d+ \S+ .*\n)+)\n",
}
BLOCK = re.compile("|".join(f"(?P<{name}_>{pattern})" for name, pattern in BLOCKS.items()), re.MULTILINE)
ATOM = re.compile(rf"^ +\d+ \S+ +(\d+\.0000){NUMBER * 3}$")
ROW = re.compile(rf"^ +\d+ \S+{NUMBER * 6}$")
SAME_A = 1e-5  # geometry and gradient are printed with other numbers of digits
LEVELS = {"DFT": "DFT", "RHF": "SCF", "ROHF": "SCF", "UHF": "SCF"}  # whose gradient belongs to which energy
# The box in which every error is told: message and number, line of the input, category.
BOX = re.compile(
    r"^ -{72}\n (?P<message>.*?) +[-\d*]+\n -{72}\n[\s\S]*?current input line : *\n(?P<input>.*)\n -{72}\n"
    r" -{72}\n(?P<category>[\s\S]*?) -{72}$",
    re.MULTILINE,
)
# First match wins. A full disk shows where the run-time database is written to, whatever the category says.
MESSAGES: tuple[tuple[str, type[LabelError]], ...] = (
    (r"failed to store basis|rtdb_(store|put|close)\S* failed", OutOfDiskError),
    (r"electrons and multiplicity not compatible|electrons not valid|closed-shell electrons", ChargeError),
    (r"geom_verify_coords failed|geom_calc_\w+ failed|geom_binvr", GeometryError),
    (r"out of memory|[Ii]nsuff\w* .*(memory|stack|heap)|Memory_Defaults", OutOfMemoryLabelError),
    (r"failed opening basis file|no such basis available", BasisError),
    (r"movecs_(converged|read)|\b(read|pop|free|destroy|chop)|corrupt", UnknownLabelError),
)
CATEGORIES: dict[str, type[LabelError]] = {
    "": OutOfMemoryLabelError,  # errquit.F has no words for MEM_ERR, GA_ERR, MA_ERR
    "There is an error in the specified basis set": BasisError,
    "There is an error related to the specified geometry": GeometryError,
    "There is an error in the input file": DeckError,
    "A feature requested has not yet been implemented": DeckError,
    "An error occured while trying to read or write to disk space": OutOfDiskError,
}
# Of programs around NWChem: MPI, shell, operating system.
AROUND: tuple[tuple[str, type[LabelError]], ...] = (
    (r"No space left on device|Disk quota exceeded", OutOfDiskError),
    (r"Cannot allocate memory|[Oo]ut [Oo]f [Mm]emory|oom-kill", OutOfMemoryLabelError),
    (
        r"mpirun noticed that|MPI_ABORT was invoked|ARMCI Error|Segmentation [Vv]iolation|SIGSEGV",
        MPIAbortError,
    ),
)


def read(files: Files) -> Output:
    """The steps that have geometry, energy and gradient."""
    text = files.get(LOG, b"").decode(errors="replace")
    problem = _problem(text, files.get(RETURN_CODE, b""))
    if problem is not None:
        raise problem
    version = re.search(r"\(NWChem\) +(\d\S*)", text)
    return Output(
        code="nwchem",
        version=f"nwchem {version[1]}" if version else "nwchem",
        steps=_steps(text),
        theory=_theory(text),
        charge=_one(text, r"^ +[Cc]harge +[:=] +(-?\d+)(?:\.00)?$"),
        multiplicity=_multiplicity(text),
    )


def _problem(text: str, code: bytes) -> LabelError | None:
    """Why there is no result; None where the program ended as it should."""
    if not text.strip():
        return MissingOutputError("no output")
    unconverged = re.search(r"^ +Calculation failed to converge *$", text, re.MULTILINE)
    if unconverged:
        line = unconverged[0].strip()
        return NotConvergedError(f"the SCF did not converge: {line}", line)
    box = BOX.search(text)
    if box:
        return _boxed(box)
    if code in (b"-9", b"137"):
        return OutOfMemoryLabelError("killed by signal 9, which is what runs out of memory get")
    if not re.search(r"^ Total times  cpu: +\d+\.\ds +wall: +\d+\.\ds$", text, re.MULTILINE):
        return _cut_off(text)
    if "G(SMD-CDS)" in text:
        return DeckError("energies with SMD solvation are not understood: use COSMO alone", "G(SMD-CDS)")
    return None


def _boxed(box: re.Match[str]) -> LabelError:
    """The error that NWChem tells in its box."""
    message, category = box["message"].strip(), " ".join(box["category"].split())
    found = next((error for pattern, error in MESSAGES if re.search(pattern, message)), None)
    found = found or CATEGORIES.get(category, UnknownLabelError)
    words = " ".join(box["input"].split())
    return found(f"NWChem stopped: {message} ({category or 'memory'}; input: {words})", message)


def _cut_off(text: str) -> LabelError:
    """The error of an output that ends early."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern, error in AROUND:
        line = next((line for line in reversed(lines) if re.search(pattern, line)), None)
        if line:
            return error(f"NWChem ended without its last lines: {line}", line)
    return MissingOutputError(f"no 'Total times  cpu:' at the end; the last line is: {lines[-1]}", lines[-1])


def _steps(text: str) -> list[Step]:
    """Every step: a gradient, and the energy, spin and moments since the geometry before it."""
    steps = []
    atoms: tuple[list[int], Float] | None = None
    energy: tuple[str, float] | None = None
    more: dict[str, Any] = {}
    for block in BLOCK.finditer(text):
        if block["geometry_"]:
            atoms, energy, more = _geometry(block["atoms"], float(block["scale"])), None, {}
        elif block["energy_"]:
            energy, more = (block["kind"], float(block["energy"])), {}
        elif block["spin_"]:
            more["s_squared"] = float(block["spin"])
        elif block["moments_"]:
            more["dipole"] = np.array([float(block[axis]) for axis in "xyz"]) * BOHR_A
        elif energy is not None and atoms is not None:
            steps.append(_step(block["level"], block["rows"], atoms, energy, more))
            energy = None
    return steps


def _geometry(rows: str, scale: float) -> tuple[list[int], Float]:
    """Atomic numbers and positions (n, 3) Å of the table of the geometry; `scale` is what its unit has in Bohr."""
    found = [ATOM.match(row) for row in rows.splitlines()]
    if not all(found):
        raise UnknownLabelError(f"geometry not understood: {rows.splitlines()[0].strip()} …")
    numbers = [round(float(row[1])) for row in found if row]
    if 0 in numbers:
        raise UnknownLabelError("the geometry has point charges or ghost atoms")
    unit = 1.0 if abs(scale * BOHR_A - 1.0) < 1e-5 else scale * BOHR_A  # Å stay as they are
    return numbers, np.array([[float(x) for x in row.groups()[1:]] for row in found if row]) * unit


def _step(
    level: str, table: str, atoms: tuple[list[int], Float], energy: tuple[str, float], more: Mapping[str, Any]
) -> Step:
    """The step of one table of gradients.

    Raises
    ------
    LabelError
        It is incomplete, of another geometry, or not of this energy.
    """
    numbers, positions = atoms
    if LEVELS.get(level) != energy[0]:
        raise UnknownLabelError(f"'{level} ENERGY GRADIENTS' do not belong to a 'Total {energy[0]} energy'")
    found = [ROW.match(row) for row in table.splitlines()]
    if len(found) != len(numbers) or not all(found):
        raise GradientMissingError(f"gradient of {len(numbers)} atoms not complete: {table.splitlines()[-1]}")
    rows = np.array([[float(x) for x in row.groups()] for row in found if row])
    away = np.abs(rows[:, :3] * BOHR_A - positions).max()
    if away > SAME_A:
        raise StructureError(f"gradient and geometry differ: an atom is {away:.4f} Å away")
    return Step(
        numbers=np.array(numbers),
        positions=positions,
        energy=energy[1] * HARTREE_eV,
        forces=-rows[:, 3:] * HARTREE_PER_BOHR_eV_PER_A,
        **more,
    )


def _theory(text: str) -> str:
    """Method and basis in the program's words."""
    methods = re.findall(r"^ +XC Information\n +-+\n((?: +\S.*\n)+)", text, re.MULTILINE)
    methods += re.findall(r"^ +wavefunction += (\S+) *$", text, re.MULTILINE)
    bases = re.findall(r"^ \S+ +(\S.*?\S) +on all atoms *$", text, re.MULTILINE)
    dispersion = re.findall(r"^ +(DFT-D\d.*?) *$", text, re.MULTILINE)
    parts = [", ".join(" ".join(line.split()) for line in method.splitlines()) for method in methods[:1]]
    return " / ".join([*parts, *dict.fromkeys(dispersion), *dict.fromkeys(bases)])


def _one(text: str, pattern: str) -> int | None:
    """The one number that a pattern finds; None where there is none or more than one."""
    found = set(re.findall(pattern, text, re.MULTILINE))
    return int(found.pop()) if len(found) == 1 else None


def _multiplicity(text: str) -> int | None:
    """2S + 1 as printed, or from the electrons of a Hartree-Fock calculation."""
    printed = _one(text, r"^ +Spin multiplicity: +(\d+)$")
    alpha, beta = (_one(text, rf"^ +{spin} electrons = +(\d+)$") for spin in ("alpha", "beta "))
    open_shells = _one(text, r"^ +open shells += +(\d+)$")
    if printed is None and alpha is not None and beta is not None:
        return alpha - beta + 1
    return printed if printed is not None or open_shells is None else open_shells + 1


READER = Reader(code="nwchem", mark=MARK, main=LOG, read=read)
