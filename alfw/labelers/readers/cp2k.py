"""What CP2K 7 to 2026 prints in its main output for Quickstep.

Of several ionic steps CP2K prints the coordinates of the first alone: the others stand in files of the trajectory, and
give no label. Source of the lines: src/force_env_methods.F, force_env_utils.F, virial_methods.F, particle_methods.F,
cell_methods.F, qs_scf.F and population_analyses.F of the tags v7.1.0 to v2026.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from ase.cell import Cell
from ase.data import atomic_numbers

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    GradientMissingError,
    LabelError,
    LinearDependencyError,
    NotConvergedError,
    OutOfMemoryLabelError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Float, Int
from alfw.core.units import BOHR_A, EV_PER_A3_GPa, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._judge import LOG
from alfw.labelers._output import Output, Reader, Step
from alfw.labelers.readers.endings import behind, broken_off

MAIN = "cp2k.out"
VERSION = re.compile(r"^ CP2K\| version string: +CP2K version (\S+)", re.MULTILINE)
STARTED, ENDED = r"^.*PROGRAM STARTED AT", r"^.*PROGRAM ENDED AT"
# What stands in the box of an [ABORT] → class; first match wins. Unknown ones stay unknown.
ABORTS: tuple[tuple[str, type[LabelError]], ...] = (
    (r"SCF run NOT converged|abnormal value", NotConvergedError),
    (r"[Cc]holesky|ill[- ]conditioned|not positive definite", LinearDependencyError),
    (r"for an odd number of electrons|[Mm]ultiplicity", ChargeError),
    (
        r"basis set <|[Bb]asis set .*not found|atomic potential|potential (type )?<|[Pp]seudopotential.*not found",
        BasisError,
    ),
    (r"interatomic distance|[Tt]oo close", GeometryError),
    (r"cannot be opened|does not exist", ExecutableError),
    (
        r"unknown (keyword|subsection|section)|invalid value for enumeration|input_\w+\.F|cp_parser\w*\.F",
        DeckError,
    ),
    (r"allocat|[Oo]ut of memory", OutOfMemoryLabelError),
)
LENGTHS_A = {"angstrom": 1.0, "pm": 0.01, "bohr": BOHR_A}
PRESSURES_GPa = {"GPa": 1.0, "kbar": 0.1, "bar": 1e-4, "Pa": 1e-9}
X = r"(-?\d+\.\d{6})"  # a coordinate
PRINTED_A = 6e-4  # vectors in Å have three decimals


@dataclass(frozen=True)
class _Draft:
    """What is known so far of one step."""

    numbers: Int | None = None
    positions: Float | None = None
    cell: Float | None = None
    converged: bool = False
    energy: float | None = None
    forces: Float | None = None
    stress: Float | None = None
    charges: Float | None = None
    s_squared: float | None = None


def read(files: Mapping[str, bytes]) -> Output:
    """The steps whose geometry is printed, of a run that came to its end with all its SCFs converged.

    The energy is that of the line ``ENERGY|``: with smearing the one with the electronic entropy, whose derivative the
    forces are. Stress is printed as −(1/V) dE/dε.

    Raises
    ------
    LabelError
        The class that the output calls for.
    """
    text = files.get(MAIN, b"").decode(errors="replace")
    _raise_failure(files, text, text + "\n" + files.get(LOG, b"").decode(errors="replace"))
    lines = text.splitlines()
    steps = _steps(lines, _is_periodic(lines))
    if not steps:
        energy = next(
            (line.strip() for line in lines if line.startswith(" ENERGY|")), "no energy of Quickstep"
        )
        raise GradientMissingError(f"no step with geometry, energy and forces: {energy}", energy)
    version = VERSION.findall(text)[0]
    charge, multiplicity = (_whole(lines, name) for name in ("Charge", "Multiplicity"))
    return Output("cp2k", f"cp2k {version}", steps, _theory(lines), charge, multiplicity)


def _raise_failure(files: Mapping[str, bytes], text: str, everything: str) -> None:
    """Raise what the output says went wrong; a run that ended well passes."""
    late = re.search(r"^.*exceeded requested execution time.*$", everything, re.MULTILINE)
    if late is not None:
        raise WalltimeError(late.group().strip(), late.group().strip())
    box = _aborted(everything)
    if box:
        said = " ".join(box)
        error = next((error for pattern, error in ABORTS if re.search(pattern, said)), None)
        raise (error or behind(everything))(said, box[0])
    unconverged = re.search(r"^.*SCF run NOT converged.*$", text, re.MULTILINE)
    if unconverged is not None:
        raise NotConvergedError(unconverged.group().strip(), unconverged.group().strip(" *"))
    starts = len(re.findall(STARTED, text, re.MULTILINE))
    if starts == 0 or not re.search(ENDED, text, re.MULTILINE):
        raise broken_off(files, everything)
    if starts > 1:
        what = f"{starts} runs of CP2K in one output"
        raise UnknownLabelError(what, what)


def _aborted(text: str) -> list[str]:
    """What the box around an [ABORT] says, line by line, the place in the source last; empty where there is no box."""
    box = re.search(
        r"^ \*{20,}\n((?: \*.*\*\n)*? \* \[ABORT\].*\n(?: \*.*\*\n)*?) \*{20,}", text, re.MULTILINE
    )
    if box is None:
        return [line.strip(" *") for line in text.splitlines() if "[ABORT]" in line][:1]
    words = (line[10:].strip("* ") for line in box.group(1).splitlines())  # ten columns are a drawing
    return [" ".join(line.split()) for line in words if line]


def _is_periodic(lines: Sequence[str]) -> bool:
    """Whether the run is periodic in all directions; False where in none."""
    printed = (re.match(r" (?:CELL|POISSON)\| Periodicity +(\S+)", line) for line in lines)
    found = {match.group(1) for match in printed if match is not None}
    if found not in ({"XYZ"}, {"NONE"}):
        what = f"periodicity {' and '.join(sorted(found)) or 'not printed'}: neither a crystal nor a molecule"
        raise UnknownLabelError(what, what)
    return found == {"XYZ"}


def _steps(lines: Sequence[str], periodic: bool) -> list[Step]:
    """The complete steps."""
    draft, steps = _Draft(), []
    for at, line in enumerate(lines):
        if line.startswith(" CELL| Vector a"):  # the coordinates before were those in another cell
            draft = _Draft(cell=_cell(lines[at : at + 6]) if periodic else None)
        elif re.match(r" MODULE QUICKSTEP: +ATOMIC COORDINATES IN", line, re.IGNORECASE):
            numbers, positions = _atoms(lines, at)
            draft = replace(draft, numbers=numbers, positions=positions)
        elif "SCF WAVEFUNCTION OPTIMIZATION" in line and draft.energy is not None:
            steps += _finished(draft, periodic)
            draft = _Draft(cell=draft.cell)  # the step after: of a geometry that is not printed
        elif "*** SCF run converged in" in line:
            draft = replace(draft, converged=True)
        elif "single determinant S**2" in line:
            draft = replace(draft, s_squared=float(line.split()[-1]))
        elif re.match(r" # +Atom +Element +Kind +Atomic population.*Net charge", line):
            draft = replace(draft, charges=_charges(lines, at))
        elif line.startswith(" ENERGY| Total FORCE_EVAL ( QS ) energy"):
            draft = replace(draft, energy=_energy(line))
        elif re.match(r" (ATOMIC FORCES in|FORCES\| Atomic forces)", line):
            draft = replace(draft, forces=_forces(lines, at))
        elif re.match(r" (STRESS TENSOR|STRESS\| Analytical stress tensor) \[", line):
            draft = replace(draft, stress=_stress(lines, at))
    return steps + _finished(draft, periodic)


def _finished(draft: _Draft, periodic: bool) -> list[Step]:
    """The step, if it is complete."""
    numbers, positions, energy, forces = draft.numbers, draft.positions, draft.energy, draft.forces
    if not draft.converged or numbers is None or positions is None or energy is None or forces is None:
        return []
    if len(forces) != len(numbers):
        raise GradientMissingError(f"forces on {len(forces)} of {len(numbers)} atoms", "ATOMIC FORCES")
    if periodic and draft.cell is None:
        raise ValueError("no cell of a periodic step")
    stress = draft.stress if periodic else None
    return [
        Step(numbers, positions, energy, forces, draft.cell, stress, None, draft.charges, draft.s_squared)
    ]


def _cell(rows: Sequence[str]) -> Float:
    """(3, 3) Å: three vectors, three angles.

    Vectors have three decimals in whatever unit, which is enough in pm. In Å, lengths and angles (six decimals since
    8.1) give the cell where it lies as usual: a along x, b in the xy plane.
    """
    unit = LENGTHS_A[re.findall(r"\[(\w+)\]", rows[0])[0].lower()]
    vectors = unit * np.array([[float(row[i : i + 10]) for i in (29, 39, 49)] for row in rows[:3]])
    if unit == LENGTHS_A["pm"]:
        return np.asarray(vectors)
    lengths, angles = (
        [row.split("=")[1].strip() for row in rows[:3]],
        [row.split(":")[1] for row in rows[3:6]],
    )
    exact = np.array(
        Cell.fromcellpar([unit * float(length) for length in lengths] + [float(a) for a in angles])
    )
    if len(lengths[0].split(".")[1]) < 6 or np.abs(exact - vectors).max() > PRINTED_A:
        what = (
            "the cell is printed with three decimals only: &SUBSYS &PRINT &CELL with UNIT pm prints it better"
        )
        raise UnknownLabelError(what, rows[0].strip())
    return exact


def _atoms(lines: Sequence[str], at: int) -> tuple[Int, Float]:
    """(n,) atomic numbers and (n, 3) Å, of the table with its title in line `at`."""
    row = re.compile(rf" *(\d+) +\d+ +([A-Z][a-z]?) +(\d+) *{X} *{X} *{X} ")
    table = [found.groups() for found in _table(lines, at, row)]
    if any(atomic_numbers[symbol] != int(z) for _, symbol, z, *_ in table):
        raise ValueError("list of atoms: symbols and atomic numbers")
    printed = next((line for line in lines if re.match(r" +- Atoms: +\d+", line)), None)
    if [int(number) for number, *_ in table] != list(range(1, len(table) + 1)) or (
        printed is not None and int(printed.split()[-1]) != len(table)
    ):
        raise ValueError(f"list of {len(table)} atoms")
    unit = LENGTHS_A[lines[at].split()[-1].lower()]
    return np.array([int(z) for _, _, z, *_ in table]), unit * np.array([r[3:] for r in table], np.float64)


def _energy(line: str) -> float:
    """eV."""
    found = re.search(r"energy [\[(](?:a\.u\.|hartree)[\])]:? +(-?\d+\.\d+)$", line.rstrip())
    if found is None:
        raise ValueError(f"energy in {line.strip()!r}")
    return float(found.group(1)) * HARTREE_eV


def _forces(lines: Sequence[str], at: int) -> Float:
    """(n, 3) eV/Å: the table up to 2024, or that of 2025 and later."""
    if not re.search(r"\[(a\.u\.|hartree/bohr)\]", lines[at]):
        raise ValueError(f"unit in {lines[at].strip()!r}")
    number = r"(-?\d+\.\d+(?:E[+-]\d+)?)"
    row = re.compile(rf" (?:FORCES\|)? *(\d+)(?: +\d+ +[A-Z][a-z]?)? +{number} +{number} +{number}\b")
    table = [found.groups() for found in _table(lines, at, row)]
    last = lines[at + len(table) + (3 if lines[at].startswith(" ATOMIC") else 2)]
    if [int(i) for i, *_ in table] != list(range(1, len(table) + 1)) or not re.search(r"SUM OF|\| Sum", last):
        raise GradientMissingError(f"forces on {len(table)} atoms, then {last.strip()!r}", lines[at].strip())
    return np.array([values for _, *values in table], np.float64) * HARTREE_PER_BOHR_eV_PER_A


def _stress(lines: Sequence[str], at: int) -> Float:
    """(3, 3) eV/Å^3, tension positive."""
    unit = PRESSURES_GPa[re.findall(r"\[(\w+)\]", lines[at])[0]] / EV_PER_A3_GPa
    row = re.compile(r" (?:STRESS\|)? +[xyzXYZ] +(-?\d\S+) +(-?\d\S+) +(-?\d\S+)$")
    rows = [found.groups() for found in _table(lines, at, row)]
    if len(rows) != 3:
        raise GradientMissingError(f"{len(rows)} rows of the stress tensor", lines[at].strip())
    return -unit * np.array(rows, np.float64)


def _charges(lines: Sequence[str], at: int) -> Float:
    """(n,) e, of a Mulliken analysis."""
    row = re.compile(r" +\d+ +[A-Z][a-z]? +\d+( +-?\d+\.\d+)+ *$")
    column = -2 if "Spin moment" in lines[at] else -1
    return np.array([float(found.group().split()[column]) for found in _table(lines, at, row)])


def _table(lines: Sequence[str], at: int, row: re.Pattern[str]) -> list[re.Match[str]]:
    """The rows of the table whose title is line `at`: the first that match, after at most four others."""
    start = next((i for i in range(at + 1, min(at + 6, len(lines))) if row.match(lines[i])), len(lines))
    matches = (row.match(lines[i]) for i in range(start, len(lines)))
    return [match for match in takewhile(bool, matches) if match is not None]


def _whole(lines: Sequence[str], name: str) -> int | None:
    """Charge or multiplicity, where they are printed."""
    found = next((line for line in lines if re.match(rf" DFT\| {name} +-?\d+$", line.rstrip())), None)
    return None if found is None else int(found.split()[-1])


def _theory(lines: Sequence[str]) -> str:
    """Functionals."""
    names = [
        line.split("|")[1].strip(" :") for line in lines if re.match(r" FUNCTIONAL\| \S+:$", line.rstrip())
    ]
    return "+".join(dict.fromkeys(names))


READER = Reader(
    code="cp2k",
    mark=r"^ CP2K\| version string:|^ +\*\*\*\* \*\*\*\* .*PROGRAM STARTED AT|^ \* \[ABORT\]",
    main=MAIN,
    read=read,
)
