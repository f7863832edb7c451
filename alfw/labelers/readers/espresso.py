"""What pw.x of Quantum ESPRESSO 6 and 7 prints: scf, relax, vc-relax and md.

Source of the lines: PW/src/electrons.f90, forces.f90, stress.f90, summary.f90 and output_tau.f90 (6.6 to 7.5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase.data import atomic_numbers

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    GeometryError,
    GradientMissingError,
    LabelError,
    MissingOutputError,
    NotConvergedError,
    OutOfMemoryLabelError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Float
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers._judge import LOG
from alfw.labelers._output import Output, Reader, Step
from alfw.labelers.readers.endings import behind, broken_off

RY_eV = HARTREE_eV / 2
START = re.compile(r"^ *Program PWSCF +v\.?(\d[\d.]*)", re.MULTILINE)
# "Error in routine …" with the lines below it → class; first match wins. Unknown ones stay unknown.
ROUTINES: tuple[tuple[str, type[LabelError]], ...] = (
    (r"charge is wrong: smearing is needed|need tot_magnetization|tot_magnetization", ChargeError),
    (
        r"charge is wrong|cholesky|S matrix not positive definite|too many bands are not converged",
        NotConvergedError,
    ),
    (
        r"zhegv|dsygv|[cr]diaghg|eigenvectors failed to converge|routine +\w*broyden|dexx is negative",
        NotConvergedError,
    ),
    (r"atoms? #.*overlap|some atoms? .*too close", GeometryError),
    (r"routine +(readpp|read_upf\w*|read_ps\w*|upf_\w+)|pseudo.*not found", BasisError),
    (r"allocat|[Nn]ot enough (space|memory)", OutOfMemoryLabelError),
    (r"routine +(read_namelists|read_cards|card_\w+|iosys|\w+_checkin|read_input\w*|init_pos)", DeckError),
    (r"routine +(set_dft\w*|dft_setting\w*|matching_shortIDs)|unrecognized dft|too few bands", DeckError),
)
# Lines of a run that ended by itself, but not well.
ENDS: tuple[tuple[str, type[LabelError]], ...] = (
    (r"Maximum CPU time exceeded|Program stopped by user request", WalltimeError),
    (r"convergence NOT achieved after|Calculation \(EXX\) stopped", NotConvergedError),
    # Then the energy that is printed is not the one whose derivative the forces are.
    (r"Total\+Makov-Payne energy|pot\.stat\. contrib|total charge of GC-SCF", UnknownLabelError),
)
ROUNDING = 1.1  # threshold and accuracy are printed with two digits


@dataclass
class _Draft:
    """What is known so far of one geometry."""

    positions: Float
    cell: Float
    energy: float | None = None
    hybrid: bool = False
    converged: bool = False
    forces: Float | None = None
    stress: Float | None = None
    stress_asked: bool = False


@dataclass(frozen=True)
class _Header:
    """What is printed once, at the start."""

    labels: Sequence[str]
    numbers: Sequence[int]
    alat_A: float
    threshold: float
    first: _Draft = field(repr=False)


def read(files: Mapping[str, bytes]) -> Output:
    """Every complete ionic step of a run that came to its end.

    The energy is the line that starts with ``!``: with smearing the free energy F = E − TS, whose derivative the forces
    are; with a hybrid functional the ``!!`` of the outer loop. Stress is printed as −(1/V) dE/dε.

    Raises
    ------
    LabelError
        The class that the output calls for.
    """
    text = files.get(LOG, b"").decode(errors="replace")
    _raise_failure(files, text)
    lines = text.splitlines()
    header = _header(lines)
    steps = _steps(lines, header)
    if not steps:
        energy = _first(lines, r"^(!+ +total energy.*)")
        raise GradientMissingError(f"forces were not computed: {energy}", energy)
    charge, multiplicity = _electrons(lines, header)
    version = f"pw.x {START.findall(text)[0]}"
    return Output("espresso", version, steps, _theory(lines), charge, multiplicity)


def _raise_failure(files: Mapping[str, bytes], text: str) -> None:
    """Raise what the output says went wrong; a run that ended well passes."""
    starts = len(START.findall(text))
    block = re.search(r"^ *%{20,}\n( *Error in routine.*?)^ *%{20,}", text, re.MULTILINE | re.DOTALL)
    if block is not None:
        said = " ".join(line.strip() for line in block.group(1).splitlines())
        signature = block.group(1).strip().splitlines()[-1].strip()
        error = next((error for pattern, error in ROUTINES if re.search(pattern, said)), None)
        raise (error or behind(text))(said, signature)
    for pattern, error in ENDS:
        found = re.search(f"^.*(?:{pattern}).*$", text, re.MULTILINE)
        if found is not None:
            raise error(found.group().strip(), found.group().strip())
    if starts == 0 or not re.search(r"^ *JOB DONE\. *$", text, re.MULTILINE):
        raise broken_off(files, text)
    if starts > 1:
        what = f"{starts} runs of pw.x in one output: appended, or a serial pw.x under mpirun"
        raise UnknownLabelError(what, what)
    if not re.search(r"^!+ +total energy", text, re.MULTILINE):
        raise MissingOutputError("no total energy: not a self-consistent calculation", "JOB DONE.")


def _header(lines: Sequence[str]) -> _Header:
    """Atoms, cell and threshold as the run starts."""
    n = int(_first(lines, r"number of atoms/cell +=(.*)"))
    alat = float(_first(lines, r"celldm\(1\)= *(\S+)")) * BOHR_A
    threshold = float(_first(lines, r"^ *(?:scf )?convergence threshold +=(.*)"))
    at = _index(lines, r"crystal axes: \(cart\. coord\. in units of alat\)")
    cell = alat * np.array([_numbers(line, 6) for line in lines[at + 1 : at + 4]])
    elements = {label: element for label, _, element in _species(lines)}
    at = _index(lines, r"site n\. +atom +positions \(alat units\)")
    sites = [
        re.match(r" *(\d+) +(\S+) +tau\( *\d+\) = \((.*)\)", line) for line in lines[at + 1 : at + 1 + n]
    ]
    found = [site.groups() for site in sites if site is not None]
    if [int(number) for number, _, _ in found] != list(range(1, n + 1)):
        raise ValueError(f"list of {n} atoms")
    labels = [label for _, label, _ in found]
    positions = alat * np.array([_numbers(numbers, 7) for _, _, numbers in found])
    numbers = [atomic_numbers[elements[label]] for label in labels]
    return _Header(labels, numbers, alat, threshold, _Draft(positions, cell))


def _species(lines: Sequence[str]) -> list[tuple[str, float, str]]:
    """Label, number of valence electrons and element of each species.

    The element is that of the pseudopotential, with which a label starts (Fe1, Fe_up); where the pseudopotential does
    not name it properly, the letters of the label.
    """
    at = _index(lines, r"atomic species +valence +mass +pseudopotential")
    found = []
    for line in lines[at + 1 :]:
        species = re.match(r" *(\S+) +(\S+) +(\S+) +(\S*) *\( *[\d.]+\)", line)
        if species is None:
            break
        label, valence, _, element = species.groups()
        if element.capitalize() not in atomic_numbers:
            element = re.split(r"[\d_-]", label)[0]
        if not label.lower().startswith(element.lower()):
            raise ValueError(f"species {label} has a pseudopotential of {element}")
        found.append((label, float(valence), element.capitalize()))
    return found


def _steps(lines: Sequence[str], header: _Header) -> list[Step]:
    """The geometries with energy and forces, each with its own cell."""
    n, draft, steps = len(header.labels), header.first, []
    accuracy = np.inf
    for at, line in enumerate(lines):
        if line.startswith(("CELL_PARAMETERS", "ATOMIC_POSITIONS")):
            steps += _finished(draft, header)
            draft = _moved(draft, line, lines[at + 1 : at + 1 + max(n, 3)], header)
        elif "estimated scf accuracy" in line:
            accuracy = float(line.split("<")[1].split()[0])
        elif line.startswith("!"):
            draft.energy = float(line.split("=")[1].split()[0]) * RY_eV
        elif "convergence has been achieved" in line:
            # With scf_must_converge = .false. pw.x prints this after its last iteration, whatever the accuracy.
            if accuracy > header.threshold * ROUNDING and not draft.hybrid:
                what = f"accuracy {accuracy:g} Ry, threshold {header.threshold:g} Ry"
                raise NotConvergedError(what, line.strip())
            draft.converged = not draft.hybrid
        elif "EXX: now go back" in line:
            draft.hybrid, draft.converged = True, False
        elif "EXX self-consistency reached" in line:
            draft.converged = True
        elif "Forces acting on atoms" in line:
            draft.forces = _forces([row for row in lines[at + 1 : at + 3 + n] if row.strip()][:n], n)
        elif "Computing stress" in line:
            draft.stress_asked = True
        elif line.lstrip().startswith("total   stress"):
            draft.stress = -np.array([_numbers(row, 8) for row in lines[at + 1 : at + 4]]) * RY_eV / BOHR_A**3
    return steps + _finished(draft, header)


def _moved(draft: _Draft, line: str, rows: Sequence[str], header: _Header) -> _Draft:
    """The next geometry: other positions, or another cell, whose positions follow."""
    if line.startswith("CELL_PARAMETERS"):
        values = np.array([row.split() for row in rows[:3]], np.float64)
        stated = re.search(r"alat *= *([\d.]+)", line)
        alat = header.alat_A if stated is None else float(stated.group(1)) * BOHR_A
        return _Draft(draft.positions, values * _length(line, alat))
    n = len(header.labels)
    if [row.split()[0] for row in rows[:n]] != list(header.labels):
        raise ValueError(f"list of {n} atoms after {line.strip()!r}")
    values = np.array([row.split()[1:4] for row in rows[:n]], np.float64)
    positions = values @ draft.cell if "crystal" in line else values * _length(line, header.alat_A)
    return _Draft(positions, draft.cell)


def _length(line: str, alat: float) -> float:
    """The unit (Å) that a card of coordinates names."""
    units = {"alat": alat, "bohr": BOHR_A, "angstrom": 1.0}
    return units[re.findall(r"alat|bohr|angstrom", line)[0]]


def _forces(rows: Sequence[str], n: int) -> Float:
    """(n, 3) eV/Å."""
    found = [re.match(r" *atom +(\d+) +type +\d+ +force =(.*)", row) for row in rows]
    values = [_numbers(row.group(2), 8) for row in found if row is not None]
    if [int(row.group(1)) for row in found if row is not None] != list(range(1, n + 1)):
        raise GradientMissingError(f"forces on {len(values)} of {n} atoms", "Forces acting on atoms")
    return np.array(values) * RY_eV / BOHR_A


def _finished(draft: _Draft, header: _Header) -> list[Step]:
    """The step, if it is complete."""
    if draft.energy is None or not draft.converged or draft.forces is None:
        return []
    if draft.stress_asked and draft.stress is None:
        raise GradientMissingError("the stress was asked for, but is not there", "Computing stress")
    numbers = np.array(header.numbers)
    # The stress of a hybrid lacks the volume dependence of the Coulomb divergence's correction: by finite differences
    # of the energy (6.7, Si2, PBE0) the pressure is 4 to 7 GPa off, while forces are right.
    stress = None if draft.hybrid else draft.stress
    return [Step(numbers, draft.positions, draft.energy, draft.forces, draft.cell, stress)]


def _electrons(lines: Sequence[str], header: _Header) -> tuple[int, int | None]:
    """Charge and, where the magnetisation is fixed, multiplicity."""
    valence = {label: electrons for label, electrons, _ in _species(lines)}
    printed = _first(lines, r"number of electrons +=(.*)")
    charge = sum(valence[label] for label in header.labels) - float(printed.split()[0])
    if abs(charge - round(charge)) > 0.02:
        raise ValueError(f"a charge of {charge:.2f} e")
    spins = re.search(r"up: *([\d.]+), down: *([\d.]+)", printed)
    if spins is None:
        return round(charge), None
    unpaired = abs(float(spins.group(1)) - float(spins.group(2)))
    return round(charge), round(unpaired) + 1 if abs(unpaired - round(unpaired)) < 0.02 else None


def _theory(lines: Sequence[str]) -> str:
    """Functional and cutoffs."""
    functional = _first(lines, r"Exchange-correlation *=(.*)").split("(")[0].split()
    cutoffs = [
        _first(lines, rf"{name} cutoff +=(.*)").split()[0] for name in ("kinetic-energy", "charge density")
    ]
    return f"{'+'.join(functional)}, {float(cutoffs[0]):g}/{float(cutoffs[1]):g} Ry"


def _numbers(text: str, decimals: int) -> list[float]:
    """The three numbers with this many decimals that a line starts with; they may stick together."""
    values = [float(value) for value in re.findall(rf"-?\d+\.\d{{{decimals}}}(?!\d)", text)[:3]]
    if len(values) != 3:
        raise ValueError(f"three numbers in {text.strip()!r}")
    return values


def _index(lines: Sequence[str], pattern: str) -> int:
    """Number of the first line that matches."""
    return next((at for at, line in enumerate(lines) if re.search(pattern, line)), len(lines))


def _first(lines: Sequence[str], pattern: str) -> str:
    """What the group of this pattern is in the first line that matches."""
    for line in lines:
        found = re.search(pattern, line)
        if found is not None:
            return found.group(1).strip()
    raise ValueError(f"no line with {pattern!r}")


READER = Reader(code="espresso", mark=START.pattern, main=LOG, read=read)
