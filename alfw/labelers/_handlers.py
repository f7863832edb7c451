"""Ladders of remedies: which error they are for, how it shows, and what is tried, one after the other.

They are data; `_run` turns them into custodian's error handlers. A remedy changes how the answer is found, never
the answer: the electronic temperature, a basis or a threshold is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ladder:
    """Remedies for one error.

    Attributes
    ----------
    error : str
        Class of the failure ledger.
    file : str
        The output file that shows the error.
    signature : str
        Regular expression that the file contains then.
    steps : tuple of mappings
        Changes of the calculation's settings; each comes on top of those before.
    """

    error: str
    file: str
    signature: str
    steps: tuple[Mapping[str, Any], ...]

    def matches(self, files: Mapping[str, bytes]) -> bool:
        """Whether the output shows this error."""
        text = files.get(self.file, b"").decode(errors="replace")
        return re.search(self.signature, text) is not None


# Broyden mixing with its default damping of 0.4 may oscillate: more cycles first, then smaller steps, then a
# start from charges of the electronegativity equilibration (1 = EEQ) instead of superposed atoms. The mixer keeps
# all cycles unless told otherwise, and then 1000 of them take half a minute for a water molecule.
TBLITE_SCF = Ladder(
    error="SCF_NOT_CONVERGED",
    file="result.json",
    signature="SCF not converged",
    steps=(
        {"max_iterations": 500, "mixer_memory": 50},
        {"mixer_damping": 0.2},
        {"guess": 1},
        {"mixer_damping": 0.05, "max_iterations": 1000},
    ),
)

# Order of the failure tables for PySCF: cycles, level shift with damping, second order, another first guess.
# `restart`: start from the orbitals of the attempt before (chkfile).
PYSCF_SCF = Ladder(
    error="SCF_NOT_CONVERGED",
    file="result.json",
    signature="SCF not converged",
    steps=(
        {"max_cycle": 200, "restart": True},
        {"level_shift": 0.3, "damp": 0.2},
        {"level_shift": None, "damp": None, "newton": True},
        {"restart": False, "init_guess": "atom"},
    ),
)
