"""Outputs of Q-Chem 4 to 6: one step per gradient, with its own geometry and energy.

Everything is printed in the *Standard Nuclear Orientation*, which is that of the input with SYM_IGNORE only; dipoles
are about its origin. With a solvent, the gradient of the SCF is only a part: the total one follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from alfw.core.errors import GradientMissingError, NotConvergedError, UnknownLabelError
from alfw.core.frame import Float, Int
from alfw.core.units import DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._output import Output, Reader, Step
from alfw.labelers.readers._molecular import check_balance, check_repulsion, line_at, one_level, text_of, why
from alfw.labelers.readers._qchem_failures import FAILURES, GENERAL

MAIN = "qchem.out"
JOB = re.compile(r"^ *Welcome to Q-Chem *\n", re.MULTILINE)
DISPERSION_eV = 0.3  # an atom, of what Q-Chem counts as nuclear repulsion
SMALL_FIELD = 1e-6  # Q-Chem's own, which tells degenerate states apart, are below
ANNOUNCED = re.compile(r"^Running Job \d+ of (\d+) ", re.MULTILINE)
CYCLE = re.compile(r"^ *Optimization Cycle: +(\d+) *$", re.MULTILINE)
NORMAL = "Thank you very much for using Q-Chem"
FATAL = re.compile(r"Q-Chem (?:fatal )?error occurred|exit codes: [1-9]")
VERSIONS = (
    r"Q-Chem (\d+(?:\.\d+)+) for ",
    r"Version (\d+(?:\.\d+)+) *\n",
    r"Q-Chem (\d+(?:\.\d+)+)",
)  # best first
NOT_A_NUMBER = re.compile(r"(?i)^(?!.*\( *nan).*\bnan\b.*$", re.MULTILINE)  # (NaN): a share of no time
SECTION = re.compile(r"^ *\$(\w+) *\n(.*?)^ *\$end", re.MULTILINE | re.DOTALL | re.IGNORECASE)
NOT_READ = ("external_charges", "efp_fragments", "efp_params", "qm_atoms", "multipole_field")
# What $rem says of the level of theory beside method and basis.
LEVEL = ("ecp", "dft_d", "xc_grid", "nl_grid", "solvent_method", "omega", "unrestricted", "relativity", "x2c")

NUMBER = r"-?\d+\.\d+"
EVENT = re.compile(
    r"""^(?:
      \ +Standard\ Nuclear\ Orientation\ \((?P<orientation>\w+)\)\ *\n
    | \ *Nuclear\ Repulsion\ Energy\ =\ +(?P<repulsion>\S+)\ hartrees
    | \ *(?P<dispersion>Dispersion:)\ *Grimme
    | \ *Energy\ is\ +(?P<again>\S+)\ *$
    | \ There\ are\ +(?P<alpha>\d+)\ alpha\ and\ +(?P<electrons>\d+)\ beta\ electrons
    | .*(?P<met>Convergence\ criterion\ met)
    | \ *<S\^2>\ =\ +(?P<spin>\S+)
    | \ *Total\ energy(?:\ in\ the\ final\ basis\ set)?\ =\ +(?P<energy>\S+)\ *$
    | \ +\(\d,\d,\d\)\ +(?P<field>\S+)\ *$
    | \ +Ground-State\ Mulliken\ Net\ Atomic\ Charges\ *\n(?:.*\n){3}(?P<charges>)
    | \ +Dipole\ Moment\ \(Debye\)\ *\n(?P<dipole>.*)$
    | \ *Gradient\ of\ SCF\ Energy\ *\n(?P<gradient>)
    | \ *--\ total\ gradient\ after\ adding\ PCM\ contribution\ --\ *\n(?:.*\n){3}(?P<total>)
    | \ *(?P<beyond>Full\ Analytical\ Gradient|Gradient\ of\ MP2|Gradient\ of\ the\ state|\S*\ *total\ MP2\ energy
        |MP2\ +total\ energy|(?:TDDFT|CIS).*Excitation\ Energies|CCSD\ total\ energy)
    )""",
    re.MULTILINE | re.VERBOSE,
)
TABLE = re.compile(r" +I +Atom .*\n -+ *\n((?: +\d+ +\S+ .*\n)+) -+ *\n")
EXTENT = re.compile(r" *Max gradient component = +(\S+)\n *RMS gradient += +(\S+)\n")


@dataclass
class _Point:
    """What has been printed of one geometry so far; Hartree and Bohr."""

    numbers: Int
    positions: Float  # Å
    electrons: tuple[int, int] | None = None  # alpha, beta
    repulsion: float | None = None  # of the nuclei, with dispersion
    dispersion: bool = False  # whether there is any
    converged: bool = False
    energy: float | None = None
    spin: float | None = None
    charges: Float | None = None
    dipole: Float | None = None  # e·Å
    gradient: Float | None = None
    solvated: bool = False  # whether the gradient includes the solvent's part
    beyond: str = ""  # a line of another method, or a field

    @property
    def complete(self) -> bool:
        """Whether there is a gradient, of the SCF or of another method."""
        return self.gradient is not None or "Gradient" in self.beyond


@dataclass(frozen=True)
class _Input:
    """What the echo of the input says."""

    charge: int | None  # None where it is read from elsewhere
    rem: Mapping[str, str]

    @property
    def level(self) -> str:
        """Method, basis and what else fixes the energy surface, in lower case."""
        rem = self.rem
        method = rem.get("method") or "-".join(rem[key] for key in ("exchange", "correlation") if key in rem)
        more = [f"{key}={rem[key]}" for key in LEVEL if rem.get(key, "none") not in ("none", "false")]
        return " ".join([f"{method or 'hf'}/{rem.get('basis', '?')}", *more])

    @property
    def solvent(self) -> bool:
        """Whether there is one."""
        named = self.rem.get("solvent_method", "none") not in ("none", "false", "0")
        return named or any(
            key in self.rem for key in ("solvent_dielectric", "chemsol", "svp", "smd", "smx_solvent")
        )


def read(files: Mapping[str, bytes]) -> Output:
    """Every complete step of an output whose jobs all ended normally."""
    text = text_of(files, MAIN)
    jobs = JOB.split(text)[1:]
    announced = max((int(match[1]) for match in ANNOUNCED.finditer(text)), default=0)
    if not jobs or not all(NORMAL in job for job in jobs) or FATAL.search(text) or len(jobs) < announced:
        raise why(files, MAIN, FAILURES, GENERAL)
    version = next((found[1] for found in (re.search(each, text) for each in VERSIONS) if found), None)
    if version is None:
        raise UnknownLabelError("no line says which version of Q-Chem this is")
    inputs: list[_Input] = []
    for job in jobs:
        inputs.append(_input(job, inputs[-1] if inputs else None))
    found = [each for job, given in zip(jobs, inputs, strict=True) for each in _points(job, given)]
    states = {state for state, _, _ in found}
    if len(states) > 1:
        raise UnknownLabelError(f"several charges and multiplicities in one output: {sorted(states)}")
    steps = list(one_level((level, step) for _, level, step in found))
    not_a_number = NOT_A_NUMBER.search(text)
    if not steps and not_a_number is not None:
        line = not_a_number[0].strip()
        raise GradientMissingError(f"no gradient, and numbers that are none: {line}", line)
    charge, multiplicity = states.pop() if states else (None, None)
    return Output("qchem", f"qchem {version}", steps, inputs[0].level, charge, multiplicity)


def _input(job: str, before: _Input | None) -> _Input:
    """What the echo of a job's input says; `before`: that of the job before it, which it may refer to."""
    sections: dict[str, str] = {}
    for name, content in SECTION.findall(job.partition("User input:")[2]):
        sections.setdefault(name.lower(), content)
    for name in NOT_READ:
        if name in sections:
            raise UnknownLabelError(f"calculations with ${name} are not read", f"${name}")
    words = [
        re.split(r"[\s=]+", line.partition("!")[0].strip().lower()) for line in sections["rem"].splitlines()
    ]
    first = sections.get("molecule", "").strip().partition("\n")[0].split()
    if [word.lower() for word in first] == ["read"] and before is not None:
        charge = before.charge
    else:
        charge = int(first[0]) if len(first) == 2 and first[0].lower() != "read" else None
    return _Input(charge, {word[0]: word[1] for word in words if len(word) > 1})


def _points(job: str, given: _Input) -> Iterator[tuple[tuple[int | None, int], str, Step]]:
    """Charge and multiplicity, level of theory and step of each gradient, in order."""
    cycles = [int(match[1]) for match in CYCLE.finditer(job)]
    if cycles != list(range(1, len(cycles) + 1)):
        raise ValueError(f"cycles of an optimisation are missing: {cycles}")
    point: _Point | None = None
    first: Int | None = None
    for match in EVENT.finditer(job):
        if match.lastgroup == "orientation":
            if point is not None and point.complete:
                yield _finished(point, given)
            point = _Point(*_table(job, match))
            first = point.numbers if first is None else first
            if not np.array_equal(first, point.numbers):
                raise ValueError("the atoms change within one job")
        elif point is not None:
            _note(point, match, job)
    if point is not None and point.complete:
        yield _finished(point, given)


def _note(point: _Point, match: re.Match[str], job: str) -> None:
    """Put one printed thing where it belongs; what follows the gradient is printed of it once more."""
    match match.lastgroup:
        case "electrons":
            point.electrons = int(match["alpha"]), int(match["electrons"])
        case "beyond":
            point.beyond = line_at(job, match.start("beyond"))
        case "field" if abs(float(match["field"])) > SMALL_FIELD:
            point.beyond = f"external field: {match[0].strip()}"
        case "gradient" if point.gradient is not None:
            point.beyond = "several gradients of one geometry"
        case "total" if point.gradient is not None:
            rows = _lines(job, match.end(), len(point.numbers))
            point.gradient = _numbered([row.split() for row in rows])
            point.solvated = True
        case "met":
            point.converged = True
        case "again" if point.energy is None or abs(float(match["again"]) - point.energy) > 1e-7:
            raise ValueError(f"an optimiser that goes on with another energy: {match[0].strip()}")
        case _ if point.gradient is not None:
            return
        case "dispersion":
            point.dispersion = True
        case "repulsion":
            point.repulsion = float(match["repulsion"])
        case "spin":
            point.spin = float(match["spin"])
        case "energy":
            point.energy = float(match["energy"])
        case "charges":
            rows = _lines(job, match.end(), len(point.numbers))
            point.charges = _numbered([[row.split()[0], row.split()[2]] for row in rows])[:, 0]
        case "dipole":
            x, y, z = (float(value) for value in re.findall(NUMBER, match["dipole"]))
            point.dipole = np.array([x, y, z]) * DEBYE_eA
        case "gradient":
            point.gradient = _gradient(job, match.end(), len(point.numbers))


def _finished(point: _Point, given: _Input) -> tuple[tuple[int | None, int], str, Step]:
    """Charge and multiplicity, level of theory and the step, if everything is there."""
    if point.beyond:
        what = "only gradients of the SCF without a field are read"
        raise UnknownLabelError(f"{what}: {point.beyond}", point.beyond)
    if given.solvent and not point.solvated:
        raise UnknownLabelError("no total gradient with the solvent's part", "Gradient of SCF Energy")
    if not point.converged:
        raise NotConvergedError(
            "a gradient without 'Convergence criterion met' before it", "Gradient of SCF Energy"
        )
    if point.energy is None or point.gradient is None or point.electrons is None:
        raise UnknownLabelError(
            "a gradient without 'Total energy' and electrons before it", "Gradient of SCF Energy"
        )
    if not np.isfinite(point.gradient).all() or not np.isfinite(point.energy):
        raise GradientMissingError("energy or gradient is not a number", "nan")
    alpha, beta = point.electrons
    core = int(point.numbers.sum()) - alpha - beta - (given.charge or 0)
    if given.charge is not None and (core < 0 or core % 2):  # what effective core potentials stand for
        raise ValueError(f"{alpha} and {beta} electrons do not fit charge {given.charge}")
    if given.charge is not None and point.repulsion is not None:
        electrons = alpha + beta + given.charge
        more = DISPERSION_eV if point.dispersion else 0.0
        check_repulsion(point.numbers, point.positions, electrons, point.repulsion, more)
    forces = -point.gradient * HARTREE_PER_BOHR_eV_PER_A
    check_balance(point.positions, forces)
    step = Step(
        numbers=point.numbers,
        positions=point.positions,
        energy=point.energy * HARTREE_eV,
        forces=forces,
        dipole=point.dipole,
        charges=point.charges,
        s_squared=point.spin,
    )
    return (given.charge, alpha - beta + 1), given.level, step


def _table(job: str, match: re.Match[str]) -> tuple[Int, Float]:
    """Atomic numbers and positions (Å)."""
    table = TABLE.match(job, match.end())
    if table is None or match["orientation"] != "Angstroms":
        raise ValueError(f"table not understood: {match[0].strip()}")
    rows = [line.split() for line in table[1].splitlines()]
    positions = _numbered([[row[0], *row[2:]] for row in rows])
    return np.array([atomic_numbers[row[1]] for row in rows], np.int64), positions


def _gradient(job: str, start: int, atoms: int) -> Float:
    """(n, 3) Hartree/Bohr from blocks of up to six atoms, which fit the line of their maximum and root mean square."""
    lines = iter(_lines(job, start, 4 * -(-atoms // 6) + 2))
    columns: list[list[float]] = []
    while len(columns) < atoms:
        header = [int(word) for word in next(lines).split()]
        if header != list(range(len(columns) + 1, len(columns) + len(header) + 1)) or not header:
            raise ValueError(f"gradient of {len(columns)} of {atoms} atoms")
        rows = [next(lines) for _ in range(3)]
        columns += [[float(row[5 + 12 * i : 17 + 12 * i]) for row in rows] for i in range(len(header))]
    gradient = np.array(columns)
    extent = EXTENT.match("\n".join([*lines, ""]))
    printed = [float(value) for value in extent.groups()] if extent else [0.0, 0.0]
    found = [np.abs(gradient).max(), np.sqrt((gradient**2).mean())]
    if extent is None or not np.allclose(found, printed, rtol=1e-3, atol=1e-7, equal_nan=True):
        raise ValueError("gradient does not fit the line of its maximum and root mean square")
    return gradient


def _lines(text: str, start: int, count: int) -> list[str]:
    """So many lines from here on, each of at most 200 characters."""
    return text[start : start + 200 * count].split("\n")[:count]


def _numbered(rows: list[list[str]]) -> Float:
    """The numbers in rows that count from 1."""
    if [row[0] for row in rows] != [str(i + 1) for i in range(len(rows))]:
        raise ValueError("rows of a table do not count from 1")
    return np.array([[float(x) for x in row[1:]] for row in rows])


READER = Reader(code="qchem", mark=r"^ *Welcome to Q-Chem|Q-Chem, Inc\.", main=MAIN, read=read)
