"""Outputs of CP2K for the tests: a recorded one made whole by hand, the tables of 2025, and hand-made failures."""

from __future__ import annotations

import re

import numpy as np
from labelling import fixture

from alfw.core.frame import Frame

SI2 = Frame(
    numbers=[14, 14],
    positions=[[1.367182] * 3, [0, 0, 0]],
    cell=2.734364 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    pbc=[True] * 3,
)
ENERGY = " ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.):               -7.096336535944440\n"
# Hand-made after force_env_utils.F of v7.1.0.
FORCES_7 = """
 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      Si          0.00643199     0.01302791     0.05763755
      2      1      Si         -0.00643199    -0.01302791    -0.05763755
 SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000

 STRESS TENSOR [GPa]

            X               Y               Z
  X       -2.63365186     -0.28446092     -0.69958509
  Y       -0.28446092     -2.61496393     -1.39128544
  Z       -0.69958509     -1.39128544     -8.22647392

  1/3 Trace(stress tensor):  -4.49169657E+00
"""
# Hand-made after force_env_utils.F and virial_methods.F of v2025.1, whose pressures are in bar.
FORCES_2025 = """
 FORCES| Atomic forces [hartree/bohr]
 FORCES|   Atom     x                 y                 z                 |f|
 FORCES|      1  6.431990000000E-03  1.302791000000E-02  5.763755000000E-02   5.944000000000E-02
 FORCES|      2 -6.431990000000E-03 -1.302791000000E-02 -5.763755000000E-02   5.944000000000E-02
 FORCES| Sum     0.000000000000E+00  0.000000000000E+00  0.000000000000E+00
 FORCES| Total atomic force                                                     0.000000000000E+00

 STRESS| Analytical stress tensor [bar]
 STRESS|                        x                   y                   z
 STRESS|      x       -2.63365186000E+04  -2.84460920000E+03  -6.99585090000E+03
 STRESS|      y       -2.84460920000E+03  -2.61496393000E+04  -1.39128544000E+04
 STRESS|      z       -6.99585090000E+03  -1.39128544000E+04  -8.22647392000E+04
 STRESS| 1/3 Trace                                            -4.49169657000E+04

 STRESS| Eigenvectors and eigenvalues of the analytical stress tensor [bar]
 STRESS|                        1                   2                   3
 STRESS| Eigenvalues  -8.64509902000E+04  -2.58662648000E+04  -2.24336420000E+04
 STRESS|      x           0.123200703881      0.924079417448     -0.361799415164
 STRESS|      y           0.228617609550      0.328342005394      0.916474503790
 STRESS|      z           0.965689171093     -0.195624021387     -0.170808861273
"""


def cell_line(vector, name="a", unit="pm", scale=100.0):
    """As cell_methods.F prints it since 8.1."""
    x, y, z = (scale * value for value in vector)
    length = scale * float(np.linalg.norm(vector))
    return f"{f' CELL| Vector {name} [{unit}]:':29s}{x:10.3f}{y:10.3f}{z:10.3f}   |{name}| = {length:12.6f}\n"


def good(forces=FORCES_7, **cell):
    """The recorded run as if it had converged, with forces and a cell in pm."""
    text = fixture("cp2k/cp2k.out.unconverged").decode()
    text = text.replace(
        " *** WARNING in qs_scf.F:542 :: SCF run NOT converged ***",
        "  *** SCF run converged in     9 steps ***",
    )
    for name, vector in zip("abc", SI2.cell, strict=True):
        text = re.sub(rf" CELL\| Vector {name} .*\n", cell_line(vector, name, **cell), text)
    energy = ENERGY if forces is FORCES_7 else ENERGY.replace("(a.u.):", "[hartree]")
    assert text.count(ENERGY) == 1
    return text.replace(ENERGY, energy + forces).encode()


def aborted(*lines, place="qs_scf.F:606"):
    """What CP2K prints when it gives up (hand-made)."""
    art = ("[ABORT]  ", r" \___/   ", "   |     ", " O/|     ", "/| |     ")
    words = [*lines, "", "", "", "", ""]
    body = "".join(f" * {drawn}{text:^66s} *\n" for drawn, text in zip(art, words[:5], strict=True))
    stars = " " + "*" * 79 + "\n"
    box = f"{stars} *   ___   {'':67s}*\n *  /   \\  {'':67s}*\n{body} * / \\  {place:>70s} *\n{stars}"
    return f" CP2K| version string:                     CP2K version 2024.1\n{box}".encode()
