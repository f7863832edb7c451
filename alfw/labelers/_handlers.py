"""Ladders of remedies: which error they are for, how it shows, and what is tried, one after the other.

They are data; `_run` turns them into custodian's error handlers. A remedy changes how the answer is found, never
the answer: what touches the energy surface (electronic temperature, smearing, thresholds) stands in `changes`, and
is tried only where the user allows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from alfw.core.errors import LabelError

Files = Mapping[str, bytes]


def no_advice(files: Files) -> Mapping[str, Any]:
    """Nothing: most outputs do not say what would help."""
    return {}


@dataclass(frozen=True)
class Ladder:
    """Remedies for one error.

    Attributes
    ----------
    error : str
        Class of the failure ledger.
    shows : callable
        Whether the output shows this error.
    steps : tuple of mappings
        Changes of the calculation's settings; each comes on top of those before.
    changes : tuple of mappings
        More of them, after the others, which change the theory; see `allowing`.
    advice : callable
        From the output to settings that it recommends itself (so much memory), on top of each step; keys are those
        of the steps.
    """

    error: str
    shows: Callable[[Files], bool]
    steps: tuple[Mapping[str, Any], ...]
    changes: tuple[Mapping[str, Any], ...] = ()
    advice: Callable[[Files], Mapping[str, Any]] = no_advice

    def allowing(self, changes: bool) -> Ladder:
        """The same ladder; without the remedies that change the theory unless they are allowed."""
        return self if changes else replace(self, changes=())


def printed(file: str, signature: str) -> Callable[[Files], bool]:
    """Whether this output file matches the regular expression `signature`."""

    def shows(files: Files) -> bool:
        return re.search(signature, files.get(file, b"").decode(errors="replace")) is not None

    return shows


def judged(read: Callable[[Files], Any], *errors: type[LabelError]) -> Callable[[Files], bool]:
    """Whether a reader refuses the output with one of these errors (exactly, not a subclass)."""

    def shows(files: Files) -> bool:
        try:
            read(files)
        except LabelError as error:
            return type(error) in errors
        return False

    return shows


# Broyden mixing with its default damping of 0.4 may oscillate: more cycles first, then smaller steps, then a
# start from charges of the electronegativity equilibration (1 = EEQ) instead of superposed atoms. The mixer keeps
# all cycles unless told otherwise, and then 1000 of them take half a minute for a water molecule.
TBLITE_SCF = Ladder(
    error="SCF_NOT_CONVERGED",
    shows=printed("result.json", "SCF not converged"),
    steps=(
        {"max_iterations": 500, "mixer_memory": 50},
        {"mixer_damping": 0.2},
        {"guess": 1},
        {"mixer_damping": 0.05, "max_iterations": 1000},
    ),
    changes=({"electronic_temperature_K": 1000.0}, {"electronic_temperature_K": 3000.0}),
)

# Order of the failure tables for PySCF: cycles, level shift with damping, second order, another first guess.
# `restart`: start from the orbitals of the attempt before (chkfile).
PYSCF_SCF = Ladder(
    error="SCF_NOT_CONVERGED",
    shows=printed("result.json", "SCF not converged"),
    steps=(
        {"max_cycle": 200, "restart": True},
        {"level_shift": 0.3, "damp": 0.2},
        {"level_shift": None, "damp": None, "newton": True},
        {"restart": False, "init_guess": "atom"},
    ),
)

# PySCF plans by a share of the memory: with less of it, integrals are calculated when needed instead of stored.
PYSCF_MEMORY = Ladder(
    error="OUT_OF_MEMORY",
    shows=lambda files: files.get("returncode") == b"-9" or printed("result.json", "MemoryError")(files),
    steps=({"memory_share": 0.3},),
)

# Leaving out combinations of basis functions changes the energy surface.
PYSCF_DEPENDENCY = Ladder(
    error="LINEAR_DEPENDENCY",
    shows=printed("result.json", "linear dependency"),
    steps=(),
    changes=({"remove_linear_dependency": True},),
)

PYSCF_LADDERS = (PYSCF_SCF, PYSCF_MEMORY, PYSCF_DEPENDENCY)
