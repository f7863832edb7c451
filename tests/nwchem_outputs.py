"""Outputs of NWChem 7.0.2, made by hand after real ones: only what the reader looks at."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from alfw.core.frame import Frame
from alfw.core.units import BOHR_A

BANNER = """\
             Northwest Computational Chemistry Package (NWChem) 7.0.2
             --------------------------------------------------------

"""
GEOMETRY = """\
                             Geometry "geometry" -> ""
                             -------------------------

 Output coordinates in angstroms (scale by  1.889725989 to convert to a.u.)

  No.       Tag          Charge          X              Y              Z
 ---- ---------------- ---------- -------------- -------------- --------------
{atoms}
      Atomic Mass
      -----------

"""
INFORMATION = """\
 *                          def2-svp                  on all atoms

          No. of atoms     :     {n}
          Charge           :    {charge:2d}
          Spin multiplicity:     {multiplicity}

              XC Information
              --------------
                         PBE0 Method XC Functional
                     Hartree-Fock (Exact) Exchange  0.250

"""
UNCONVERGED = """\
 d= 0,ls=0.0,diis     3    -76.2757362572 -3.83D-02  1.38D-03  5.70D-03     0.2

      Calculation failed to converge
      ------------------------------

         Total DFT energy =      -76.275736257158

"""
ENERGY = """\
         Total DFT energy = {energy:21.12f}
      One electron energy =     -122.903883141618

     Multipole analysis of the density
     ---------------------------------

     L   x y z        total         alpha         beta         nuclear
     -   - - -        -----         -----         ----         -------
     0   0 0 0     -0.000000     -5.000000     -5.000000     10.000000

     1   1 0 0 {0:13.6f}     -0.944863     -0.944863      1.889726
     1   0 1 0 {1:13.6f}     -1.889726     -1.889726      3.779452
     1   0 0 1 {2:13.6f}     -0.398062     -0.398062      0.000004

"""
GRADIENT = """\
                         {level} ENERGY GRADIENTS

    atom               coordinates                        gradient
                 x          y          z           x          y          z
{rows}
                 ----------------------------------------
                 |  Time  |  1-e(secs)   |  2-e(secs)   |
                 ----------------------------------------

"""
END = " Total times  cpu:        0.4s     wall:        0.5s\n"
LINE = " " + 72 * "-" + "\n"


def geometry(frame: Frame) -> str:
    """The table of the geometry."""
    rows = zip(frame.numbers, frame.positions, strict=True)
    atoms = [
        f"{i:5d} {chemical_symbols[z]:<16s} {z:10.4f} {x:14.8f} {y:14.8f} {w:14.8f}\n"
        for i, (z, (x, y, w)) in enumerate(rows, 1)
    ]
    return GEOMETRY.format(atoms="".join(atoms))


def gradients(frame: Frame, gradient: np.ndarray, level: str = "DFT") -> str:
    """The table of the gradient (n, 3), Hartree/Bohr."""
    lines = []
    for i, (z, place, slope) in enumerate(
        zip(frame.numbers, frame.positions / BOHR_A, gradient, strict=True), 1
    ):
        columns = (f"  {' '.join(f'{x:10.6f}' for x in vector)}" for vector in (place, slope))
        lines.append(f"{i:4d} {chemical_symbols[z]:<4s}{''.join(columns)}\n")
    return GRADIENT.format(level=level, rows="".join(lines))


def information(frame: Frame) -> str:
    """What was calculated."""
    return INFORMATION.format(n=len(frame), charge=frame.charge, multiplicity=frame.multiplicity)


def step(
    frame: Frame, energy: float, gradient: np.ndarray, dipole: tuple[float, ...] = (0.1, 0.2, 0.3)
) -> str:
    """Geometry, energy (Hartree), dipole (a.u.) and gradient."""
    return (
        geometry(frame)
        + information(frame)
        + ENERGY.format(*dipole, energy=energy)
        + gradients(frame, gradient)
    )


def good(frame: Frame, energy: float, gradient: np.ndarray) -> bytes:
    """The output of a single point."""
    return (BANNER + step(frame, energy, gradient) + END).encode()


def failed(text: str, frame: Frame) -> bytes:
    """The output of a calculation that went wrong behind its geometry."""
    return (BANNER + geometry(frame) + information(frame) + text).encode()


def box(message: str, category: str = "", line: str = "14: task dft gradient") -> str:
    """How NWChem tells an error."""
    words = f" {category}\n" if category else ""
    told = f"{LINE} {message}{0:20d}\n{LINE}{LINE}  current input line : \n    {line}\n{LINE}"
    manual = " For more information see the NWChem manual at https://github.com/nwchemgit/nwchem/wiki\n"
    return (
        f"{told}{LINE}{words}{LINE}{manual}[0] ARMCI Error: 0:{message}:\nMPI_ABORT was invoked on rank 0\n"
    )


def unconverged(frame: Frame) -> bytes:
    """The output of an SCF that did not converge."""
    category = (
        "This type of error is most commonly associated with calculations not reaching convergence criteria"
    )
    return failed(UNCONVERGED + box("dft gradient failed", category), frame)
