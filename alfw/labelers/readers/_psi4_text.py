"""What Psi4's text output says of Hartree-Fock and density functional calculations, module by module.

Every module that works begins with ``*** tstart() called on``. A step is an SCF and the gradient (``SCF GRAD``) that
follows it at the same geometry. Other modules (MP2, coupled cluster, SAPT …) give energies and gradients of their own
under the same headings, so outputs with one of them are refused.

Source: outputs of Psi4 1.3.2, run; those of 1.1 to 1.11 that come with Psi4's own tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from alfw.core.errors import GradientMissingError, NotConvergedError, UnknownLabelError
from alfw.core.frame import Float, Int
from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._output import Step
from alfw.labelers.readers._molecular import check_balance

NUMBER = r"\s+(-?\d+\.\d+)"
MODULE = re.compile(r"^\*\*\* tstart\(\) called on ", re.MULTILINE)
TITLE = re.compile(r"^ {2,}(SCF GRAD|SCF HESS|SCF(?=\s*\n +by Justin Turney))\s*$", re.MULTILINE)
GEOMETRY = re.compile(
    r"^ +Geometry \(in (Angstrom|Bohr)\), charge = (-?\d+), multiplicity = (\d+):\n\n"
    r" +Center +X +Y +Z.*\n[ -]+\n((?: +\S+(?: +-?\d+\.\d+){3}.*\n)+)",
    re.MULTILINE,
)
GRADIENT = re.compile(
    r"^ +-Total [Gg]radient:\n +Atom +X +Y +Z\n[ -]+\n((?: +\d+(?: +-?\d+\.\d+){3}\n)+)\n", re.MULTILINE
)
ENERGY = re.compile(r"^ +@(?:DF-)?(\S+) Final Energy:" + NUMBER + "$", re.MULTILINE)
TERM = re.compile(r"^ {4}([A-Z][\w -]* Energy) =" + NUMBER + "$", re.MULTILINE)
CONVERGED = re.compile(r"^ +Energy (?:and wave function )?converged\.$", re.MULTILINE)
NOT_CONVERGED = re.compile(r"^.*did not converge.*$", re.MULTILINE)
DIPOLES = (
    re.compile(
        r"Dipole Moment: (?:\[e a0\]|\(a\.u\.\))\s*\n +X:" + NUMBER + " +Y:" + NUMBER + " +Z:" + NUMBER
    ),
    re.compile(
        "".join(rf"^ Dipole {x} +:(?:\s+-?\d+\.\d+){{2}}{NUMBER}\n" for x in "XYZ"), re.MULTILINE
    ),  # from 1.4 on
)
ORIGIN = re.compile(r"Properties will be evaluated at +(\S+), +(\S+), +(\S+) +(?:\[a0\]|Bohr)")
CHARGES = re.compile(
    r"^ +Mulliken Charges:.*\n +Center +Symbol +Alpha +Beta +Spin +Total\n((?: +\d+ +\S+(?: +-?\d+\.\d+){4}\n)+)",
    re.MULTILINE,
)
S_SQUARED = re.compile(r"@S\^2 Observed: +(\d+\.\d+E[+-]\d+)")
FUNCTIONAL = re.compile(r"=> (?:Composite Functional: (\S+)|(\S+) Composite Functional) +<=")
DISPERSION = re.compile(r"=> (\S+): Empirical Dispersion +<=")
BASIS = re.compile(r"Name: (.+)\n +Role: ORBITAL")
# A molecule by itself has these terms of the energy alone; others are printed, too, but zero.
TERMS = (
    *("Nuclear Repulsion Energy", "One-Electron Energy", "Two-Electron Energy"),
    *("DFT Exchange-Correlation Energy", "Empirical Dispersion Energy", "VV10 Nonlocal Energy"),
)
OUTSIDE = re.compile(r"=> External Potential Field|Perturbing [A-Z]\w* by|==> EFP Geometry")
SAME_Eh, SAME_A = 1e-6, 1e-6


@dataclass(frozen=True, eq=False)
class Scf:
    """One SCF that has converged.

    Attributes
    ----------
    numbers, positions
        As in `Step`.
    energy : float, Hartree
    charge, multiplicity : int
    level : str
        Functional and basis.
    text : str
    """

    numbers: Int
    positions: Float
    energy: float
    charge: int
    multiplicity: int
    level: str
    text: str


def modules(text: str) -> Iterator[tuple[str, str]]:
    """Name and text of every module that has worked, in order."""
    for body in MODULE.split(text)[1:]:
        title = TITLE.search(body)
        lines = (line.strip(" *|-=/<>\t") for line in body.splitlines()[2:])
        yield title[1] if title else next((line for line in lines if line), ""), body


def steps(text: str) -> Iterator[tuple[Scf, Step]]:
    """Every SCF with the gradient that follows it.

    Raises
    ------
    UnknownLabelError
        Another module has worked, or energy, gradient and geometry do not fit together.
    NotConvergedError
    """
    outside = OUTSIDE.search(text)
    if outside is not None:
        raise UnknownLabelError(f"not of a molecule by itself: {outside.group()}", outside.group())
    last: Scf | None = None
    for name, body in modules(text):
        if name == "SCF":
            last = scf(body)
        elif name == "SCF GRAD":
            if last is None:
                raise UnknownLabelError("a gradient without an SCF before it", "SCF GRAD")
            yield last, _step(last, body)
        elif name != "SCF HESS":
            what = f"module {name!r}: only Hartree-Fock and density functionals are read from Psi4's text"
            raise UnknownLabelError(what, name)


def scf(body: str) -> Scf:
    """What an SCF module says.

    Raises
    ------
    NotConvergedError, UnknownLabelError
    """
    bad = NOT_CONVERGED.search(body)
    if bad is not None:
        raise NotConvergedError(bad.group().strip(), bad.group().strip())
    numbers, positions, charge, multiplicity = geometry(body)
    energies = ENERGY.findall(body)
    if not CONVERGED.search(body) or not energies:
        raise UnknownLabelError("an SCF without a converged energy", "SCF")
    reference, energy = energies[-1]
    _check_terms(body, float(energy))
    functional, basis = FUNCTIONAL.findall(body), BASIS.findall(body)
    method = "".join(functional[-1]) if functional else "HF" if reference.endswith("HF") else "?"
    level = f"{method}/{(basis or ['?'])[-1].strip()}"
    level += " restricted open" * reference.startswith("RO")
    level += "".join(f" with {name}" for name in DISPERSION.findall(body)[-1:])
    return Scf(numbers, positions, float(energy), charge, multiplicity, level.lower(), body)


def _check_terms(body: str, energy: float) -> None:
    """Raise UnknownLabelError where the energy (Hartree) is not the sum of the terms of a molecule by itself."""
    terms = {name: float(value) for name, value in TERM.findall(body.rpartition("=> Energetics <=")[2])}
    total = terms.pop("Total Energy", np.nan)
    others = [name for name, value in terms.items() if name not in TERMS and value != 0.0]
    if others:
        raise UnknownLabelError(f"not of a molecule by itself: {others[0]}", others[0])
    # Of Hartree-Fock with dispersion, Psi4 does not print that term.
    whole = "Empirical Dispersion Energy" in terms or "Empirical Dispersion <=" not in body
    if not abs(energy - total) < SAME_Eh or (whole and not abs(sum(terms.values()) - total) < SAME_Eh):
        raise UnknownLabelError(
            f"an energy of {energy} Hartree is not the sum of its terms", f"Total Energy = {total}"
        )


def geometry(body: str) -> tuple[Int, Float, int, int]:
    """Atomic numbers (n,), positions (n, 3) Å, charge and multiplicity of the last geometry in a module.

    Raises
    ------
    UnknownLabelError
        There is none, or it has ghost atoms.
    """
    tables = GEOMETRY.findall(body)
    if not tables:
        raise UnknownLabelError("a module without a geometry", "Geometry")
    unit, charge, multiplicity, rows = tables[-1]
    cells = [row.split() for row in rows.splitlines()]
    ghosts = [cell[0] for cell in cells if cell[0].capitalize() not in atomic_numbers]
    if ghosts:
        raise UnknownLabelError(f"{ghosts[0]} is not an element", ghosts[0])
    numbers = np.array([atomic_numbers[cell[0].capitalize()] for cell in cells])
    positions = np.array([cell[1:4] for cell in cells], np.float64) * (BOHR_A if unit == "Bohr" else 1.0)
    return numbers, positions, int(charge), int(multiplicity)


def gradient(body: str) -> Float:
    """(n, 3) Hartree/Bohr: the last total gradient in a text; with core potentials there are two in a module.

    Raises
    ------
    GradientMissingError
    """
    tables = GRADIENT.findall(body)
    if not tables:
        raise GradientMissingError("no total gradient", "-Total Gradient:")
    return np.array([row.split()[1:4] for row in tables[-1].splitlines()], np.float64)


def _step(found: Scf, body: str) -> Step:
    """The step of an SCF and the gradient module after it."""
    numbers, positions, charge, multiplicity = geometry(body)
    forces = -gradient(body) * HARTREE_PER_BOHR_eV_PER_A
    if (charge, multiplicity) != (found.charge, found.multiplicity) or len(forces) != len(numbers):
        raise UnknownLabelError("energy and gradient are of different molecules", "SCF GRAD")
    if not np.array_equal(numbers, found.numbers) or np.abs(positions - found.positions).max() > SAME_A:
        raise UnknownLabelError("energy and gradient are of different geometries", "SCF GRAD")
    check_balance(positions, forces)
    return Step(
        numbers=numbers,
        positions=positions,
        energy=found.energy * HARTREE_eV,
        forces=forces,
        dipole=dipole(found.text),
        charges=charges(found.text + body, len(numbers)),
        s_squared=s_squared(found),
    )


def dipole(body: str) -> Float | None:
    """(3,) e·Å about the origin of the coordinates; None where it is not printed, or about another point."""
    tables = [table for pattern in DIPOLES for table in pattern.findall(body)]
    origins = ORIGIN.findall(body)
    if not tables or not origins or np.any(np.array(origins, np.float64) != 0.0):
        return None
    return np.array(tables[-1], np.float64) * BOHR_A


def charges(body: str, n: int) -> Float | None:
    """(n,) e: the last Mulliken charges in a module; None where they are not printed for all atoms."""
    tables = CHARGES.findall(body)
    found = [float(row.split()[-1]) for row in tables[-1].splitlines()] if tables else []
    return np.array(found) if len(found) == n else None


def s_squared(found: Scf) -> float | None:
    """⟨S²⟩ of an open shell; None where it is not printed."""
    values = S_SQUARED.findall(found.text)
    return float(values[-1]) if values and found.multiplicity > 1 else None
