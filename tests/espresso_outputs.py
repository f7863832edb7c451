"""Outputs of pw.x for the tests: a recorded one with hand-made forces, and hand-made failures."""

from __future__ import annotations

import numpy as np
from labelling import fixture

from alfw.core.frame import Frame

A = 7.255773 * 0.529177210903 / np.sqrt(2)  # Å, of the recorded outputs: Si2, diamond
CELL = A * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
DIAMOND = Frame(numbers=[14, 14], positions=[[0, 0, 0], [A / 2] * 3], cell=CELL, pbc=[True] * 3)
# Hand-made, as PW/src/forces.f90 and stress.f90 lay it out: what a run with tprnfor and tstress prints besides.
FORCES = """
     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.06653207   -0.00641749   -0.03274974
     atom    2 type  1   force =    -0.06653207    0.00641749    0.03274974

     Total force =     0.105264     Total SCF correction =     0.000010


     Computing stress (Cartesian axis) and pressure

          total   stress  (Ry/bohr**3)                   (kbar)     P=       56.55
   0.00033572   0.00008406   0.00003979           49.39       12.37        5.85
   0.00008406   0.00045140  -0.00034343           12.37       66.40      -50.52
   0.00003979  -0.00034343   0.00036609            5.85      -50.52       53.85

"""
RY, BOHR = 27.211386245988 / 2, 0.529177210903


def good():
    """A recorded run, with forces and stress (hand-made)."""
    text = fixture("espresso/default.out").decode()
    before = "     Writing output data file"
    assert text.count(before) == 1
    return text.replace(before, FORCES + before).encode()


def broken(lines, routine="electrons"):
    """What pw.x prints when it gives up (hand-made)."""
    bar = " " + "%" * 78
    head = "     Program PWSCF v.6.7MaX starts on 21Nov2026 at 12:54:57\n\n"
    text = f"{head}{bar}\n     Error in routine {routine} (1):\n     {lines}\n{bar}\n\n     stopping ...\n"
    return (
        f"{text}MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD\nwith errorcode 1.\n".encode()
    )
