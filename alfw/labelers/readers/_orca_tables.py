"""Tables of ORCA's output and the files beside it, as numbers in alfw's units.

Source: outputs of ORCA 4.1, 5.0 and 6.0; the ORCA manual 6.1 for `.engrad` and ``orca_vpot``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from alfw.core.errors import StructureError, UnknownLabelError
from alfw.core.frame import Float, Int
from alfw.core.units import BOHR_A, HARTREE_eV

ROWS = r"((?:[^\n]*\S[^\n]*\n)+)"  # up to the next blank line
ANGSTROEM = re.compile(rf"^CARTESIAN COORDINATES \(ANGSTROEM\)\n-+\n{ROWS}", re.MULTILINE)
BOHR = re.compile(rf"^CARTESIAN COORDINATES \(A\.U\.\)\n-+\n[^\n]*\n{ROWS}", re.MULTILINE)
# ORCA 5 writes "Norm of the cartesian gradient", ORCA 6 "Cartesian".
GRADIENT = re.compile(rf"^CARTESIAN GRADIENT *\n-+ *\n *\n{ROWS}", re.MULTILINE)
NORM = re.compile(r"^Norm of the [Cc]artesian gradient +\.\.\. +(\S+)", re.MULTILINE)
DIPOLE = re.compile(r"^Total Dipole Moment +: +(\S+) +(\S+) +(\S+) *$", re.MULTILINE)
ORIGIN = re.compile(
    r"(?:The origin for moment calculation is the|Choice of electric origin +\.\.\.) *(.*)", re.I
)
MULLIKEN = re.compile(
    r"^MULLIKEN ATOMIC CHARGES(?: AND SPIN POPULATIONS)? *\n-+\n((?: *\d+ [^\n]*\n)+)", re.MULTILINE
)
SAME_A = 2e-5  # how far two tables may put an atom: both have 6 decimals
SAME_GRADIENT = 1e-6  # Hartree/Bohr, between the table and the .engrad file


@dataclass(frozen=True, eq=False)
class Engrad:
    """What a ``.engrad`` file holds: energy Hartree, gradient (n, 3) Hartree/Bohr, positions (n, 3) Å."""

    numbers: Int
    positions: Float
    energy: float
    gradient: Float


@dataclass(frozen=True, eq=False)
class Geometry:
    """Atoms of one step: numbers (n,), positions (n, 3) Å, masses (n,) amu as ORCA has them."""

    numbers: Int
    positions: Float
    masses: Float


def geometry(block: str) -> Geometry:
    """The atoms at the beginning of a step, the same in both tables.

    Raises
    ------
    UnknownLabelError
        There is no second table, or one has something else than atoms.
    StructureError
        The two tables differ.
    """
    first, second = ANGSTROEM.search(block), BOHR.search(block)
    if first is None or second is None:
        raise UnknownLabelError("only one of the two tables of Cartesian coordinates is there")
    rows = [line.split() for line in first.group(1).splitlines()]
    others = [line.split() for line in second.group(1).splitlines() if not line.startswith(("*", ">"))]
    strange = {row[0] for row in rows if row[0] not in atomic_numbers or len(row) != 4}
    if strange:
        raise UnknownLabelError(f"{', '.join(sorted(strange))} in the coordinates: only atoms are understood")
    positions = np.array([[float(x) for x in row[1:]] for row in rows])
    again = BOHR_A * np.array([[float(x) for x in row[-3:]] for row in others])
    same = [row[0] for row in rows] == [row[1] for row in others]
    if not same or np.abs(positions - again).max() > SAME_A:
        raise StructureError("the tables of coordinates in Å and in a.u. differ")
    numbers = np.array([atomic_numbers[row[0]] for row in rows], np.int64)
    return Geometry(numbers, positions, np.array([float(row[4]) for row in others]))


def gradient(block: str, atoms: Geometry) -> Float | None:
    """(n, 3) Hartree/Bohr, as printed with 9 decimals; None where none is printed.

    Raises
    ------
    UnknownLabelError
        More than one, one of other atoms, or one with another norm than the output says.
    """
    tables = GRADIENT.findall(block)
    if not tables:
        return None
    if len(tables) > 1:
        raise UnknownLabelError(f"{len(tables)} gradients for one geometry")
    rows = [line.split() for line in tables[0].splitlines()]
    wanted = [(str(i + 1), int(z)) for i, z in enumerate(atoms.numbers)]
    if [(row[0], atomic_numbers.get(row[1], 0)) for row in rows] != wanted:
        raise UnknownLabelError("the gradient is of other atoms than the coordinates")
    found = np.array([[float(x) for x in row[-3:]] for row in rows])
    norm = NORM.search(block)
    if norm is not None and not np.isclose(np.linalg.norm(found), float(norm.group(1)), rtol=1e-5, atol=1e-7):
        raise UnknownLabelError(f"the norm of the gradient is not {norm.group(1)}")
    return found


def engrad(data: bytes) -> Engrad:
    """The content of a ``.engrad`` file, which has more digits than the output."""
    words = " ".join(line for line in data.decode(errors="replace").splitlines() if line[:1] != "#").split()
    n = int(words[0])
    if len(words) != 2 + 3 * n + 4 * n:
        raise UnknownLabelError(f"orca.engrad has {len(words)} numbers, not {2 + 7 * n} for {n} atoms")
    atoms = np.array(words[2 + 3 * n :], np.float64).reshape(n, 4)
    forces = np.array(words[2 : 2 + 3 * n], np.float64).reshape(n, 3)
    return Engrad(atoms[:, 0].astype(np.int64), BOHR_A * atoms[:, 1:], float(words[1]), forces)


def belongs(file: Engrad, atoms: Geometry, energy: float) -> bool:
    """Whether a ``.engrad`` file is of this step: same atoms, same energy (Hartree)."""
    return (
        np.array_equal(file.numbers, atoms.numbers)
        and bool(np.abs(file.positions - atoms.positions).max() < SAME_A)
        and abs(file.energy - energy) < 2e-9
    )


def dipole(block: str, atoms: Geometry, charge: int | None) -> Float | None:
    """(3,) e·Bohr about the origin of the coordinates; None where it is not sure which it is.

    ORCA prints it about the centre of mass; of a charged molecule μ(0) = μ(R) + q R.
    """
    found = DIPOLE.findall(block)
    if len(found) != 1:
        return None
    values = np.array(found[0], np.float64)
    if charge == 0:
        return values
    origins = {text.strip().lower()[:14] for text in ORIGIN.findall(block)}
    if charge is None or origins != {"center of mass"}:
        return None
    centre = np.average(atoms.positions, axis=0, weights=atoms.masses) / BOHR_A
    return np.asarray(values + charge * centre)


def mulliken(block: str, n: int) -> Float | None:
    """(n,) e: Mulliken's charges; None where they are not printed just once."""
    tables = MULLIKEN.findall(block)
    if len(tables) != 1:
        return None
    rows = [line.partition(":")[2].split() for line in tables[0].splitlines()]
    return np.array([float(row[0]) for row in rows]) if len(rows) == n else None


def potential(data: bytes) -> tuple[Float, Float]:
    """(G,) V and (G, 3) Å: the potential that ``orca_vpot`` has left, and where.

    Raises
    ------
    UnknownLabelError
        The file is not complete.
    """
    lines = data.decode(errors="replace").splitlines() or [""]
    rows = [line.split() for line in lines[1:] if line.strip()]
    complete = lines[0].split()[:1] == [str(len(rows))] and {len(row) for row in rows} == {4}
    if not complete or not data.endswith(b"\n"):
        raise UnknownLabelError("orca.vpot.out is not complete", lines[-1].strip() or "orca.vpot.out")
    values = np.array(rows, np.float64)
    return HARTREE_eV * values[:, 3], BOHR_A * values[:, :3]
