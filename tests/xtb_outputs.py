"""Outputs of xtb 6.5.1, made by hand after real ones: only what the reader looks at."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from alfw.core.frame import Frame
from alfw.core.units import BOHR_A

BANNER = """\
      -----------------------------------------------------------
     |                   =====================                   |
     |                           x T B                           |
     |                   =====================                   |
      -----------------------------------------------------------

   * xtb version 6.5.1 (unknown) compiled by 'nobody@nowhere' on 2022-12-09

          program call               : xtb xtb.xyz --input xtb.inp --grad
"""
UNCONVERGED = """\

   *** convergence criteria cannot be satisfied within 3 iterations ***

########################################################################
[ERROR] Program stopped due to fatal error
-3- Single point calculation terminated
-2- xtb_calculator_singlepoint: Electronic structure method terminated
-1- scf: Self consistent charge iterator did not converge
########################################################################
abnormal termination of xtb
"""
CONVERGED = """\
          :  Hamiltonian                  GFN2-xTB          :
          :  electronic temp.          300.0000000     K    :
          :  accuracy                    1.0000000          :

   *** convergence criteria satisfied after 9 iterations ***

         :: total charge {charge:23.12f} e     ::

          | TOTAL ENERGY {energy:27.12f} Eh   |
          | GRADIENT NORM {norm:26.12f} Eh/α |

normal termination of xtb
------------------------------------------------------------------------
 * finished run on 2026/11/21 at 12:40:40.636
------------------------------------------------------------------------
 total:
 * wall-time:     0 d,  0 h,  0 min,  0.019 sec
 *  cpu-time:     0 d,  0 h,  0 min,  0.017 sec
 * ratio c/w:     0.873 speedup
 SCF:
 * wall-time:     0 d,  0 h,  0 min,  0.004 sec
 *  cpu-time:     0 d,  0 h,  0 min,  0.004 sec
 * ratio c/w:     0.994 speedup
"""


def failed(text: str = UNCONVERGED) -> bytes:
    """The log of a calculation that went wrong."""
    return (BANNER + text).encode()


def good(frame: Frame, energy: float, gradient: np.ndarray) -> tuple[bytes, dict[str, bytes]]:
    """Log and files of a calculation with this energy (Hartree) and gradient (n, 3) Hartree/Bohr."""
    norm = float(np.linalg.norm(gradient))
    log = BANNER + CONVERGED.format(charge=frame.charge, energy=energy, norm=norm)
    content = {
        "total energy": round(energy, 8),
        "dipole": [0.1, 0.2, 0.3],
        "partial charges": [0.0] * len(frame),
        "number of unpaired electrons": frame.multiplicity - 1,
    }
    files = {"xtb.engrad": _engrad(frame, energy, gradient), "xtbout.json": json.dumps(content).encode()}
    return log.encode(), files


def _engrad(frame: Frame, energy: float, gradient: np.ndarray) -> bytes:
    rows = [" ".join(f"{x:13.7f}" for x in row) for row in frame.positions / BOHR_A]
    blocks: list[tuple[str, Sequence[str]]] = [
        ("Number of atoms", [f"{len(frame):10d}"]),
        ("The current total energy in Eh", [f"{energy:20.12f}"]),
        ("The current gradient in Eh/bohr", [f"{x:20.12f}" for x in np.ravel(gradient)]),
        (
            "The atomic numbers and current coordinates in Bohr",
            [f"{z:4d} {row}" for z, row in zip(frame.numbers, rows, strict=True)],
        ),
    ]
    return "".join(f"#\n# {title}\n#\n" + "\n".join(lines) + "\n" for title, lines in blocks).encode()
