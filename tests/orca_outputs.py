"""Hand-made outputs of ORCA: the lines of ORCA 5 and 6 that alfw reads, around numbers of one's choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from alfw.core.frame import Float, Frame
from alfw.core.units import BOHR_A

BANNER = "\n                                 *****************\n                                 * O   R   C   A *\n"
END = "\n                             ****ORCA TERMINATED NORMALLY****\nTOTAL RUN TIME: 0 days\n"
# ORCA 6.1 held to two cycles; wording as users of it report it.
SCF_FAILED = """
[file orca_leanscf/orca_leanscf.cpp, line 306]: Error (ORCA_LEANSCF): unfortunately,
the SCF has not converged. There may be a way out but we have to stop here

ORCA finished by error termination in LEANSCF
Calling Command: mpirun -np 4 /opt/orca/orca_leanscf_mpi orca.gbw orca
[file orca_tools/qcmsg.cpp, line 394]:
  .... aborting the run
"""


def head(version: str = "6.0.0", echo: Sequence[str] = ("! PBE0 def2-SVP TightSCF", "! EnGrad")) -> str:
    """What every output begins with."""
    lines = "".join(f"|{i + 1:3d}> {line}\n" for i, line in enumerate(echo))
    return f"{BANNER}\n          Program Version {version}  -   RELEASE  -\n\n{lines}"


def failed(lines: str) -> bytes:
    """An output that ends with these lines."""
    return (head() + lines).encode()


def coordinates(frame: Frame, ecp: bool = False) -> str:
    """Both tables; `ecp`: the first atom has an effective core potential."""
    symbols = [chemical_symbols[z] for z in frame.numbers]
    line = "-" * 33
    text = f"{line}\nCARTESIAN COORDINATES (ANGSTROEM)\n{line}\n"
    for symbol, (x, y, z) in zip(symbols, frame.positions, strict=True):
        text += f"  {symbol:<2s} {x:12.6f}{y:12.6f}{z:12.6f}\n"
    text += f"\n{line}\nCARTESIAN COORDINATES (A.U.)\n{line}\n"
    text += "  NO LB      ZA    FRAG     MASS         X           Y           Z\n"
    for i, (symbol, row) in enumerate(zip(symbols, frame.positions / BOHR_A, strict=True)):
        charge = f"{float(frame.numbers[i]):8.4f}{'*' if ecp and not i else ' '}"
        mass = atomic_masses[frame.numbers[i]]
        x, y, z = row
        text += f"{i:4d} {symbol:<2s} {charge}   0  {mass:8.3f}{x:12.6f}{y:12.6f}{z:12.6f}\n"
    return text + ("* core charge reduced due to ECP\n\n" if ecp else "\n")


def gradient_table(frame: Frame, gradient: Float) -> str:
    """The Cartesian gradient (n, 3), Hartree/Bohr."""
    line = "-" * 18
    text = f"{line}\nCARTESIAN GRADIENT\n{line}\n\n"
    for i, (z, row) in enumerate(zip(frame.numbers, gradient, strict=True)):
        numbers = "".join(f"{x:15.9f}" for x in row)
        text += f"{i + 1:4d}   {chemical_symbols[z]:<2s}  :{numbers}\n"
    return f"{text}\nNorm of the Cartesian gradient     ... {np.linalg.norm(gradient):15.10f}\n"


def dipole_block(dipole: Sequence[float], version: str = "6", method: str = "SCF") -> str:
    """The dipole (3,) in e·Bohr, about the centre of mass, in the words of ORCA 5 or 6."""
    x, y, z = dipole
    line = f"Total Dipole Moment    : {x:16.9f} {y:17.9f} {z:17.9f}\n"
    if version.startswith("6"):
        origin = "Choice of electric origin               ... Center of mass\n"
        return (
            f"{origin}\n-------------\nDIPOLE MOMENT\n-------------\n\nMethod             : {method}\n{line}"
        )
    origin = "The origin for moment calculation is the CENTER OF MASS  = ( 0.000000,  0.000000  0.000000)\n"
    return f"{origin}\n-------------\nDIPOLE MOMENT\n-------------\n{line}"


def step(frame: Frame, energy: float, gradient: Float | None, dipole: str = "") -> str:
    """One geometry with its energy (Hartree), its gradient if there is one, and a dipole block."""
    text = coordinates(frame)
    text += f" Total Charge           Charge          .... {frame.charge:4d}\n"
    text += f" Multiplicity           Mult            .... {frame.multiplicity:4d}\n"
    text += "               *           SCF CONVERGED AFTER  10 CYCLES          *\n\n"
    if frame.multiplicity > 1:
        text += "Expectation value of <S**2>     :     0.752887\n\n"
        text += "-" * 44 + "\nMULLIKEN ATOMIC CHARGES AND SPIN POPULATIONS\n" + "-" * 44 + "\n"
    else:
        text += "-" * 23 + "\nMULLIKEN ATOMIC CHARGES\n" + "-" * 23 + "\n"
    for i, z in enumerate(frame.numbers):
        spin = "    1.000000" if frame.multiplicity > 1 else ""
        text += f"{i:4d} {chemical_symbols[z]:<2s}:   {0.1 * (i + 1):9.6f}{spin}\n"
    text += f"Sum of atomic charges: {frame.charge:12.7f}\n\nFINAL SINGLE POINT ENERGY {energy:21.12f}\n\n"
    return text + ("" if gradient is None else gradient_table(frame, gradient)) + dipole


def good(
    frame: Frame, energy: float, gradient: Float | None, version: str = "6.0.0", dipole: str = ""
) -> bytes:
    """A whole output of one geometry that ends well."""
    return (head(version) + step(frame, energy, gradient, dipole) + END).encode()


def engrad(frame: Frame, energy: float, gradient: Float) -> bytes:
    """A ``.engrad`` file."""
    rows = [
        f"{z:4d} " + " ".join(f"{x:12.7f}" for x in row)
        for z, row in zip(frame.numbers, frame.positions / BOHR_A, strict=True)
    ]
    parts = [
        ("Number of atoms", [f"{len(frame):10d}"]),
        ("The current total energy in Eh", [f"{energy:20.12f}"]),
        ("The current gradient in Eh/bohr", [f"{x:22.12f}" for x in gradient.ravel()]),
        ("The atomic numbers and current coordinates in Bohr", rows),
    ]
    return "".join(f"#\n# {title}\n#\n" + "\n".join(lines) + "\n" for title, lines in parts).encode()


def vpot(points_A: Float, values: Float) -> bytes:
    """What ``orca_vpot`` leaves: points in Bohr, potential in Hartree/e."""
    rows = [" ".join(f"{x:18.10f}" for x in (*p / BOHR_A, v)) for p, v in zip(points_A, values, strict=True)]
    return "\n".join([f"{len(rows):10d}", *rows, ""]).encode()
