"""Outputs of Gaussian 09 and 16: one step per forces block, with its own geometry and energy.

Forces are printed in the *input* orientation, dipoles in the *standard* one, unless NoSymm keeps both the same. Every
signature and format below has been seen in real outputs of both versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from alfw.core.errors import NotConvergedError, UnknownLabelError
from alfw.core.frame import Float, Int
from alfw.core.superposition import rotation
from alfw.core.units import BOHR_A, DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._output import MATCH_A, Output, Reader, Step
from alfw.labelers.readers import _gaussian_route as route
from alfw.labelers.readers._gaussian_failures import FAILURES, GENERAL
from alfw.labelers.readers._molecular import check_balance, check_repulsion, line_at, one_level, text_of, why

MAIN = "gaussian.log"
BEYOND = "forces of a method beyond SCF and second order, or of an excited state, are not read"
JOB = re.compile(r"^ (?:Entering Link 1 = |Link1: +Proceeding to internal job step number).*\n", re.MULTILINE)
NORMAL = " Normal termination of Gaussian"
VERSION = re.compile(r"^ Gaussian (\d\d): .*?Rev([A-Z]\.\d+)", re.MULTILINE)
NUMBER = r"-?\d+\.\d+(?:[DE]?[-+]\d+)?"
EVENT = re.compile(
    r"""^\ (?:
      \ *Input\ orientation:\ *\n(?P<input>)
    | \ *Standard\ orientation:\ *\n(?P<standard>)
    | Symmetry\ (?P<unturned>turned\ off)\ by\ external\ request
    | (?:Standard\ basis|General\ basis\ read\ from\ cards):\ (?P<basis>.*)$
    | \ *(?P<alpha>\d+)\ alpha\ electrons\ +(?P<electrons>\d+)\ beta\ electrons
    | \ *nuclear\ repulsion\ energy\ +(?P<nuclei>\S+)\ Hartrees
    | Nuclear\ repulsion\ after\ [\w\ -]+\ terms?\ =\ +(?P<repulsion>\S+)\ Hartrees
    | KE=\ *(?P<parts>\S+\ PE=.{19}\ EE=\ *\S+)
    | >+\ Convergence\ criterion\ not\ met(?P<failed>)
    | SCF\ Done:\ +E\((?P<method>[^)]+)\)\ =\ *(?P<energy>\S+)
    | E2(?:\(\S+\))?\ =\ *\S+\ +(?:EUMP2|E\(\S+\))\ =\ *(?P<second>\S+)
    | (?P<beyond>DE\(Corr\)=|DE\(CI\)=|E3=|E4\(|CCSD\(T\)=|Total\ Energy,\ E\(|Excited\ State\ +\d+:
        |ONIOM:\ extrapolated|Counterpoise:\ corrected|After\ PCM\ corrections)
    | S\*\*2\ before\ annihilation\ +(?P<spin>\S+),
    | Mulliken\ (?:atomic\ )?charges(?:\ and\ spin\ densities)?:\ *\n.*\n(?P<charges>)
    | Dipole\ moment\ \(field-independent\ basis,\ Debye\):\ *\n(?P<debye>.*)$
    | Dipole\ {8}=(?P<dipole>.{45})$
    | Forces\ in\ standard\ orientation:\ *\n.*\n\ Center.*(?P<skipped>)
    | Center\ +Atomic\ +Forces\ \(Hartrees/Bohr\)\ *\n(?P<forces>)
    )""",
    re.MULTILINE | re.VERBOSE,
)
TABLE = re.compile(r"(?: -+ *\n)?(?: (?:Center|Number) .*\n)+ -+ *\n((?: +\d+ .*\n)+) -+ *\n")
EXTENT = re.compile(rf" Cartesian Forces: +Max +({NUMBER}) +RMS +({NUMBER}) *\n")
CHARGE = re.compile(rf" +(\d+) +[A-Z][a-z]? +({NUMBER})(?: +{NUMBER})? *\n")


@dataclass
class _Point:
    """What has been printed of one geometry so far."""

    numbers: Int | None = None
    positions: Float | None = None  # Å, input orientation
    standard: Float | None = None  # Å, standard orientation
    unturned: bool = False  # whether there is no other orientation than that of the input
    method: str = ""
    energy: float | None = None  # Hartree
    electrons: int = 0
    repulsion: float | None = None  # Hartree, of the nuclei, with dispersion and cavity
    implied: float | None = None  # the same, from the last SCF's energy and its parts
    failed: str = ""  # the line that says so of the SCF now running
    unconverged: str = ""  # the same of the last one that ended
    second: bool = False  # whether the energy is of second order; populations are of the SCF all the same
    beyond: str = ""  # a line of another method
    spin: float | None = None
    charges: Float | None = None
    dipole: Float | None = None  # e·Å, as in the last table of coordinates


def read(files: Mapping[str, bytes]) -> Output:
    """Every complete step of an output whose jobs all ended normally."""
    text = text_of(files, MAIN)
    jobs = JOB.split(text)
    jobs = jobs if len(jobs) == 1 or NORMAL in jobs[0] else jobs[1:]
    after = jobs[-1].partition(NORMAL)[2]
    if not all(NORMAL in job for job in jobs) or "Error termination" in text or "(Enter " in after:
        raise why(files, MAIN, FAILURES, GENERAL)
    release = VERSION.search(text)
    if release is None or release[1] not in ("09", "16"):
        what = release[0].strip() if release else "no line says which version of Gaussian this is"
        raise UnknownLabelError(f"only Gaussian 09 and 16 are read: {what}", what)
    charge, multiplicity = route.state(text)
    theory = route.theory(text)
    outside = re.search(r"(?:^| )((?:field|charge)\b\S*)", theory)
    if outside is not None:
        raise UnknownLabelError(f"external fields and charges are not read: {outside[1]}", outside[1])
    steps = list(one_level(_steps(jobs, charge)))
    version = f"gaussian {release[1]}.{release[2]}"
    return Output("gaussian", version, steps, theory, charge, multiplicity)


def _steps(jobs: list[str], charge: int) -> Iterator[tuple[str, Step]]:
    """Level of theory and step of each table of forces, in order."""
    basis = ""  # a later job may take it from the checkpoint file
    for text in jobs:
        route.check_gaps(text)
        point, foreign = _Point(), route.foreign(text)
        for match in EVENT.finditer(text):
            match match.lastgroup:
                case "basis":
                    basis = match["basis"].strip()
                case "input" | "standard":
                    point = _moved(point, match.lastgroup, *_table(text, match.end())[:2])
                case "forces" if foreign:
                    raise UnknownLabelError(f"{BEYOND}: route {foreign}", foreign)
                case "forces":
                    yield f"{point.method}/{basis}", _step(point, *_table(text, match.end()), text, charge)
                case _:
                    _note(point, match, text, charge)


def _moved(point: _Point, orientation: str, numbers: Int, positions: Float) -> _Point:
    """What is known of the geometry in a new table of coordinates."""
    if orientation == "input":
        return _Point(numbers, positions)
    if point.numbers is None or point.energy is not None:
        return _Point()  # without a table in the input orientation there is no telling how forces are turned
    if not np.array_equal(numbers, point.numbers):
        raise ValueError("input and standard orientation are of different atoms")
    point.standard = positions
    return point


def _note(point: _Point, match: re.Match[str], text: str, charge: int) -> None:
    """Put one printed thing where it belongs."""
    match match.lastgroup:
        case "unturned":
            point.unturned = True
        case "failed":
            point.failed = match[0].strip()
        case "energy":
            point.unconverged, point.failed = point.failed, ""
            point.energy, point.method = _number(match["energy"]), match["method"]
            point.second, point.beyond, point.implied = False, "", None
        case "electrons":
            point.electrons = int(match["alpha"]) + int(match["electrons"])
        case "nuclei":
            point.repulsion = _number(match["nuclei"])
            if point.numbers is not None and point.positions is not None:
                check_repulsion(point.numbers, point.positions, point.electrons + charge, point.repulsion)
        case "repulsion":
            point.repulsion = _number(match["repulsion"])
        case "parts" if point.energy is not None:
            parts = re.split(r" PE=| EE=", match["parts"])
            point.implied = point.energy - sum(_number(part) for part in parts)
        case "second":
            point.energy, point.second = _number(match["second"]), True
            point.charges = point.dipole = None
        case "beyond":
            point.beyond = line_at(text, match.start())
        case "spin":
            point.spin = _number(match["spin"])
        case "charges" if point.numbers is not None and not point.second:
            point.charges = _charges(text, match.end(), len(point.numbers))
        case "debye" if not point.second:
            x, y, z = (_number(value) for value in re.findall(rf"[XYZ]= *({NUMBER})", match["debye"]))
            point.dipole = np.array([x, y, z]) * DEBYE_eA
        case "dipole":
            columns = [match["dipole"][start : start + 15] for start in (0, 15, 30)]
            point.dipole = np.array([_number(column) for column in columns]) * BOHR_A


def _step(point: _Point, numbers: Int, gradient: Float, end: int, text: str, charge: int) -> Step:
    """The step that a table of forces (Hartree/Bohr) completes."""
    if point.positions is None or point.energy is None:
        what = "forces without energy and 'Input orientation' before them: print it with NoSymm"
        raise UnknownLabelError(what, line_at(text, end))
    implied, printed = point.implied, point.repulsion
    if implied is not None and (printed is None or abs(implied - printed) > 1e-5):
        what = f"{implied:.6f} and {printed or 0:.6f} Hartree of nuclear repulsion"
        raise UnknownLabelError(f"energy and geometry do not belong together: {what}", what)
    if point.unconverged:
        raise NotConvergedError(
            f"forces of an SCF that did not converge: {point.unconverged}", point.unconverged
        )
    if point.beyond:
        raise UnknownLabelError(f"{BEYOND}: {point.beyond}", point.beyond)
    if point.numbers is None or not np.array_equal(numbers, point.numbers):
        raise ValueError("coordinates and forces are of different atoms")
    extent = EXTENT.match(text, end)
    if extent is None:
        raise ValueError("no summary after the forces")
    summary = [_number(extent[1]), _number(extent[2])]
    if not np.allclose([np.abs(gradient).max(), np.sqrt((gradient**2).mean())], summary, rtol=0, atol=2e-9):
        raise ValueError(f"forces do not fit their summary: {extent[0].strip()}")
    forces = gradient * HARTREE_PER_BOHR_eV_PER_A
    check_balance(point.positions, forces)
    return Step(
        numbers=numbers,
        positions=point.positions,
        energy=point.energy * HARTREE_eV,
        forces=forces,
        dipole=_dipole(point, charge),
        charges=point.charges,
        s_squared=point.spin,
    )


def _dipole(point: _Point, charge: int) -> Float | None:
    """Dipole (3,) e·Å about the origin of the input orientation; printed is that about the standard one's."""
    if point.unturned:
        return point.dipole
    if point.dipole is None or point.positions is None or point.standard is None:
        return None
    turn = rotation(point.standard, point.positions)
    shift = point.positions.mean(0) - turn @ point.standard.mean(0)
    away = np.abs(point.standard @ turn.T + shift - point.positions).max()
    if away > MATCH_A:
        raise ValueError(f"input and standard orientation are {away:.4f} Å apart")
    return np.asarray(turn @ point.dipole + charge * shift, np.float64)


def _table(text: str, start: int) -> tuple[Int, Float, int]:
    """Atomic numbers and the last three columns of a table, and where it ends."""
    table = TABLE.match(text, start)
    rows = [line.split() for line in table[1].splitlines()] if table else []
    if table is None or [row[0] for row in rows] != [str(i + 1) for i in range(len(rows))]:
        raise ValueError(f"table cut off after: {line_at(text, start - 1)}")
    numbers = np.array([int(row[1]) for row in rows], np.int64)
    if numbers.min() < 1:
        raise ValueError("ghost or dummy atoms")
    return numbers, np.array([[_number(x) for x in row[-3:]] for row in rows]), table.end()


def _charges(text: str, start: int, atoms: int) -> Float:
    """Mulliken charges (n,) e."""
    found: list[float] = []
    for _ in range(atoms):
        row = CHARGE.match(text, start)
        if row is None or int(row[1]) != len(found) + 1:
            raise ValueError(f"charges of {len(found)} of {atoms} atoms")
        found.append(_number(row[2]))
        start = row.end()
    return np.array(found)


def _number(text: str) -> float:
    """A number as Fortran prints it: exponents may come with D, or without a letter where they have three digits."""
    return float(re.sub(r"(?<=\d)[DE]?([-+]\d+)$", r"E\1", text.strip()))


READER = Reader(
    code="gaussian",
    mark=r"^ Entering Gaussian System|^ Entering Link 1 = |^ This is part of the Gaussian\(R\)|^ Gaussian \d\d:",
    main=MAIN,
    read=read,
)
