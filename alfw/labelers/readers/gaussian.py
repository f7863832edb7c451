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
from alfw.core.units import BOHR_A, DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._output import MATCH_A, Output, Reader, Step, rotation
from alfw.labelers.readers._gaussian_failures import FAILURES, GENERAL
from alfw.labelers.readers._molecular import check_balance, line_at, one_level, text_of, why

MAIN = "gaussian.log"
BEYOND = "forces of a method beyond SCF and second order, or of an excited state, are not read"
JOB = re.compile(r"^ (?:Entering Link 1 = |Link1: +Proceeding to internal job step number).*\n", re.MULTILINE)
NORMAL = " Normal termination of Gaussian"
VERSION = re.compile(r"^ Gaussian (\d\d): .*?Rev([A-Z]\.\d+)", re.MULTILINE)
ROUTE = re.compile(r"^ -{2,} *\n ( *#[^\n]*(?:\n (?!-{2,}).*)*)\n -{2,} *$", re.MULTILINE)
METHOD = re.compile(r"^ SCF Done: +E\(([UR](?!O)[^)]+)\)", re.MULTILINE)
STATE = re.compile(r"^ Charge = +(-?\d+) Multiplicity = +(\d+) *(.*)$", re.MULTILINE)
FROZEN = re.compile(r"^ [A-Z][a-z]?\S* +-\d+(?: +-?\d+\.\d+){3} *$", re.MULTILINE)
# A route is listed as overlay/options/links: what may find the energy that forces belong to is the SCF (overlay 5)
# and second order (l906), not CASSCF (l510), coupled cluster (l913) or excited states (l914).
LINKS = re.compile(r"^ ([59])/[^/\n]*/([\d,]+)(?:\(-?\d+\))?;", re.MULTILINE)
KNOWN_LINKS = {"5": {"2", "3", "6", "8"}, "9": {"6"}}
# Words of a route that say nothing of the level of theory; lower case, up to "=" or "(".
NO_THEORY = {
    *("force", "opt", "freq", "sp", "irc", "bomd", "admp", "scan", "polar", "test"),
    *("guess", "geom", "scf", "nosymm", "nosymmetry", "symmetry", "symm", "pop", "population", "density"),
    *("gfinput", "gfprint", "gfoldprint", "formcheck", "maxdisk", "output", "units", "genchk"),
}

NUMBER = r"-?\d+\.\d+(?:[DE]?[-+]\d+)?"
EVENT = re.compile(
    r"""^\ (?:
      \ *Input\ orientation:\ *\n(?P<input>)
    | \ *Standard\ orientation:\ *\n(?P<standard>)
    | (?:Standard\ basis|General\ basis\ read\ from\ cards):\ (?P<basis>.*)$
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
CHARGE = re.compile(rf" +\d+ +[A-Z][a-z]? +({NUMBER})(?: +{NUMBER})? *\n")


@dataclass
class _Point:
    """What has been printed of one geometry so far."""

    numbers: Int | None = None
    positions: Float | None = None  # Å, input orientation
    standard: Float | None = None  # Å, standard orientation
    method: str = ""
    energy: float | None = None  # Hartree
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
    charge, multiplicity = _state(text)
    theory = _theory(text)
    outside = re.search(r"(?:^| )((?:field|charge)\b\S*)", theory)
    if outside is not None:
        raise UnknownLabelError(f"external fields and charges are not read: {outside[1]}", outside[1])
    steps = list(one_level(_steps(jobs, charge)))
    version = f"gaussian {release[1]}.{release[2]}"
    return Output("gaussian", version, steps, theory, charge, multiplicity)


def _state(text: str) -> tuple[int, int]:
    """Charge and multiplicity, where there is one of each, for all atoms."""
    found = {match.groups(): match[0].strip() for match in STATE.finditer(text)}
    partial = [line for (_, _, rest), line in found.items() if rest]
    if partial or len(found) != 1:
        what = (partial or ["; ".join(found.values())])[0] or "no line with charge and multiplicity"
        raise UnknownLabelError(f"ONIOM, fragments or several charges are not read: {what}", what)
    frozen = FROZEN.search(text)
    if frozen is not None:
        what = frozen[0].strip()
        raise UnknownLabelError(f"frozen atoms are not read: {what}", what)
    ((charge, multiplicity, _),) = found
    return int(charge), int(multiplicity)


def _theory(text: str) -> str:
    """What the first route says of the level of theory: method/basis first, without R and U, in lower case."""
    route, method = ROUTE.search(text), METHOD.search(text)
    line = route[1].replace("\n ", "").lower() if route else ""
    line = re.sub(r"^ *#(?:[pnt](?= ))?", "", re.sub(r" *([=,(/]) *", r"\1", line))
    words = re.findall(r"(?:[^\s()]|\((?:[^()]|\([^()]*\))*\))+", line)
    words = [word for word in words if re.split(r"[=(]", word)[0] not in NO_THEORY]
    if method is not None:  # RB3LYP, UB3LYP: B3LYP of a singlet and of a doublet are one level of theory
        words = [word[1:] if word.startswith(method[1].lower()) else word for word in words]
    return " ".join(sorted(words, key=lambda word: ("/" not in word or word.startswith("iop"), word)))


def _steps(jobs: list[str], charge: int) -> Iterator[tuple[str, Step]]:
    """Level of theory and step of each table of forces, in order."""
    basis = ""  # a later job may take it from the checkpoint file
    for text in jobs:
        point, foreign = _Point(), _foreign(text)
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
                    _note(point, match, text)


def _foreign(text: str) -> str:
    """The line of a job's route with a link whose energy is not read; empty without any."""
    listed = LINKS.finditer(text)
    return next(
        (line[0].strip() for line in listed if not set(line[2].split(",")) <= KNOWN_LINKS[line[1]]), ""
    )


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


def _note(point: _Point, match: re.Match[str], text: str) -> None:
    """Put one printed thing where it belongs."""
    match match.lastgroup:
        case "failed":
            point.failed = match[0].strip()
        case "energy":
            point.unconverged, point.failed = point.failed, ""
            point.energy, point.method = _number(match["energy"]), match["method"]
            point.second, point.beyond = False, ""
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
            values = re.findall(rf"[XYZ]= *({NUMBER})", match["debye"])
            point.dipole = np.array([_number(value) for value in values]) * DEBYE_eA
        case "dipole":
            columns = [match["dipole"][start : start + 15] for start in (0, 15, 30)]
            point.dipole = np.array([_number(column) for column in columns]) * BOHR_A


def _step(point: _Point, numbers: Int, gradient: Float, end: int, text: str, charge: int) -> Step:
    """The step that a table of forces (Hartree/Bohr) completes."""
    if point.positions is None or point.energy is None:
        what = "forces without energy and 'Input orientation' before them: print it with NoSymm"
        raise UnknownLabelError(what, line_at(text, end))
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
    printed = [_number(extent[1]), _number(extent[2])]
    if not np.allclose([np.abs(gradient).max(), np.sqrt((gradient**2).mean())], printed, rtol=0, atol=2e-9):
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
    if point.dipole is None or point.positions is None or point.standard is None:
        return point.dipole
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
        if row is None:
            raise ValueError(f"charges of {len(found)} of {atoms} atoms")
        found.append(_number(row[1]))
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
