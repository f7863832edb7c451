"""Hand-made .castep files: the lines that a reader looks at, laid out as CASTEP 20 does."""

from __future__ import annotations

import numpy as np

from alfw.core.frame import Frame

CELL = np.array([[4.0, 0.0, 0.0], [0.3, 4.2, 0.0], [0.0, 0.1, 4.4]])
MIXED = Frame(
    numbers=[14, 8, 14],
    positions=[[0.1, 0.2, 0.3], [2.0, 0.0, 0.0], [0.1, 2.2, 0.0]],
    cell=CELL,
    pbc=[True] * 3,
)
FORCES = np.arange(9.0).reshape(3, 3) / 10 - 0.4
STRESS_GPa = np.array([[1.0, 0.5, 0.25], [0.5, 2.0, 0.75], [0.25, 0.75, 3.0]])
ENERGIES = """Final energy, E             =  -862.0480303004     eV
Final free energy (E-TS)    =  -862.1480303004     eV
(energies not corrected for finite basis set)

NB est. 0K energy (E-0.5TS)      =  -862.0980303004     eV
"""
DISPERSION = """Dispersion corrected final energy*, Ecor          =  -863.0480303004     eV
Dispersion corrected final free energy* (Ecor-TS) =  -863.1480303004     eV
NB dispersion corrected est. 0K energy* (Ecor-0.5TS) =  -863.0980303004     eV
"""
UNCONVERGED = " *Warning* max. SCF cycles performed but system has not reached the groundstate."
HEAD = """ |      CCC   AA    SSS  TTTTT  EEEEE  PPPP        |
 | Welcome to Academic Release CASTEP version 20.11|
 type of calculation                            : {task}
 output         length unit                     : A
 output         charge unit                     : e
 output         energy unit                     : eV
 output          force unit                     : eV/A
 output       pressure unit                     : {pressure}
 using functional                               : Perdew Burke Ernzerhof
 DFT+D: Semi-empirical dispersion correction    : {sedc}
 plane wave basis set cut-off                   :   500.0000   eV
 net charge of system                           :  {charge:.3f}
 treating system as non-spin-polarized
 Method: Treating system as {kind} with density mixing treatment of electrons,
 smearing scheme                                : Gaussian
                         Total number of ions in cell =    {n}
                      Number of ionic constraints     =           0
"""
TAIL = """
Initialisation time =      0.60 s
Calculation time    =      2.17 s
Finalisation time   =      0.04 s
Total time          =      2.82 s
Peak Memory Use     = 123456 kB
"""


def box(title, rows, width=49):
    """Lines in a box of stars."""
    lines = [
        "",
        " " + f" {title} ".center(width, "*"),
        " *" + " " * (width - 2) + "*",
        *rows,
        " " + "*" * width,
    ]
    return "\n".join(lines) + "\n"


def unit_cell(cell):
    """The table of lattice vectors."""
    rows = [" " + "".join(f"{x:14.7f}" for x in (*row, *row)) for row in cell]
    line = f"{'':27}-------------------------------"
    return "\n".join(
        [line, f"{'':38}Unit Cell", line, "   Real Lattice(A)    Reciprocal Lattice(1/A)", *rows, ""]
    )


def positions(frame, order):
    """The table of atoms in this order."""
    border = " " * 12 + "x" * 60
    fractional = frame.positions @ np.linalg.inv(frame.cell)
    rows = [
        f"            x  {'Si' if frame.numbers[i] == 14 else 'O':2s} {k + 1:12d}   "
        + "".join(f"{x:11.6f}" for x in fractional[i])
        + "   x"
        for k, i in enumerate(order)
    ]
    head = "            x  Element    Atom        Fractional coordinates of atoms  x"
    return "\n".join(["", border, head, *rows, border, ""])


def result(order, numbers, energies=ENERGIES, forces=FORCES, stress=STRESS_GPa, title="Symmetrised Forces"):
    """Energies, forces and stress."""
    names = ["Si" if numbers[i] == 14 else "O" for i in order]
    rows = [
        f" * {name:2s} {k + 1:14d} " + "".join(f"{x:13.5f}" for x in forces[i]) + " *"
        for k, (i, name) in enumerate(zip(order, names, strict=True))
    ]
    tension = [
        f" *  {axis} " + "".join(f"{x:14.6f}" for x in row) + "  *"
        for axis, row in zip("xyz", stress, strict=True)
    ]
    pressure = f" *  Pressure: {-np.trace(stress) / 3:9.4f}                          *"
    return (
        f"\n{energies}" + box(title, rows, 60) + box("Symmetrised Stress Tensor", [*tension, " *", pressure])
    )


def output(*parts, sedc="off", charge=0.0, kind="metallic", pressure="GPa", task="single point energy"):
    """A .castep file; CASTEP puts oxygen before silicon."""
    order = [1, 0, 2]
    head = HEAD.format(n=3, sedc=sedc, charge=charge, kind=kind, pressure=pressure, task=task)
    body = parts or (unit_cell(CELL), positions(MIXED, order), result(order, MIXED.numbers))
    return (head + "".join(body) + TAIL).encode()


GOOD = output()
