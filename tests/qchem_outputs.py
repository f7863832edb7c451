"""Hand-made outputs of Q-Chem, from the documented format: what is printed where in a force job."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from alfw.core.units import DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A

HEAD = """                  Welcome to Q-Chem
 Q-Chem 5.4, Q-Chem, Inc., Pleasanton, CA (2021)
 Q-Chem {version} for Intel X86 EM64T Linux

--------------------------------------------------------------
User input:
--------------------------------------------------------------
$molecule
{charge} {multiplicity}
O 0.0 0.0 0.1
$end

$rem
jobtype = force
method = pbe0
basis = def2-svp
{rem}
$end
{sections}
--------------------------------------------------------------
"""
END = """
        *************************************************************
        *                                                           *
        *  Thank you very much for using Q-Chem.  Have a nice day.  *
        *                                                           *
        *************************************************************
"""
SCF = "   11    -382.3003620825      8.88e-09  Convergence criterion met\n"
CHARGES = """
          Ground-State Mulliken Net Atomic Charges

     Atom                 Charge (a.u.)
  ----------------------------------------
{rows}  ----------------------------------------
"""


def orientation(frame, positions=None, unit="Angstroms"):
    positions = frame.positions if positions is None else positions
    rows = "".join(
        f"{i:5d}      {chemical_symbols[z]:<2s}" + "".join(f"{x:17.10f}" for x in r) + "\n"
        for i, (z, r) in enumerate(zip(frame.numbers, positions, strict=True), 1)
    )
    line = f" {'-' * 64}\n"
    electrons = int(frame.numbers.sum()) - frame.charge
    beta = (electrons - frame.multiplicity + 1) // 2
    return (
        f"{line}             Standard Nuclear Orientation ({unit})\n"
        f"    I     Atom           X                Y                Z\n{line}{rows}{line}"
        f" There are {electrons - beta:8d} alpha and {beta:8d} beta electrons\n"
    )


def energy(value, word=" in the final basis set"):
    return f" Total energy{word} = {value / HARTREE_eV:18.10f}\n"


def mulliken(frame, charges):
    rows = "".join(
        f"{i:7d} {chemical_symbols[z]:<2s}{q:26.6f}\n"
        for i, (z, q) in enumerate(zip(frame.numbers, charges, strict=True), 1)
    )
    return CHARGES.format(rows=rows)


def moment(dipole):
    x, y, z = np.asarray(dipole) / DEBYE_eA
    return f"    Dipole Moment (Debye)\n         X {x:11.4f}      Y {y:11.4f}      Z {z:11.4f}\n"


def gradient(forces):
    atomic = np.round(-forces / HARTREE_PER_BOHR_eV_PER_A, 7)
    text = " Calculating analytic gradient of the SCF energy\n Gradient of SCF Energy\n"
    for start in range(0, len(atomic), 6):
        block = atomic[start : start + 6]
        text += " " * 5 + "".join(f"{start + i + 1:8d}    " for i in range(len(block))).rstrip() + "\n"
        text += "".join(f"{k + 1:5d}" + "".join(f"{g:12.7f}" for g in block[:, k]) + "\n" for k in range(3))
    largest, mean = np.abs(atomic).max(), np.sqrt((atomic**2).mean())
    return text + f" Max gradient component = {largest:15.3E}\n RMS gradient           = {mean:15.3E}\n"


def solvated(forces):
    atomic = -forces / HARTREE_PER_BOHR_eV_PER_A
    line = f"{'-' * 51}\n"
    rows = "".join(f"{i:4d} " + "".join(f"{g:15.6f}" for g in row) + "\n" for i, row in enumerate(atomic, 1))
    return (
        " Computing fast CPCM-SWIG gradient\n Updating gradient with PCM contributions...\n"
        f" -- total gradient after adding PCM contribution --\n{line}  Atom         X              Y              Z\n"
        f"{line}{rows}{line}"
    )


def step(frame, value, forces, *, middle="", positions=None):
    """One ionic step; `middle` is printed between SCF and gradient."""
    return orientation(frame, positions) + SCF + energy(value) + middle + gradient(forces)


def out(frame, *parts, rem="", sections="", version="5.4.1", end=END):
    """A whole job."""
    head = HEAD.format(
        version=version, charge=frame.charge, multiplicity=frame.multiplicity, rem=rem, sections=sections
    )
    return (head + "".join(parts) + end).encode()


def failed(frame, lines):
    """A job that ends with these lines."""
    return out(frame, f"{lines}\n", end="")
