"""Molecular calculations with Gaussian 09 or 16."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from alfw.core.errors import InputError, MPIAbortError, NotConvergedError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_elements, check_periodicity
from alfw.labelers._deck import with_decks
from alfw.labelers._handlers import Files, Ladder, judged
from alfw.labelers._program import Program
from alfw.labelers.readers._gaussian_failures import MEMORY_TOO_LARGE, MEMORY_TOO_SMALL
from alfw.labelers.readers._molecular import everything
from alfw.labelers.readers.gaussian import MAIN, READER

# Names that other programs use → Gaussian's; any other name goes to Gaussian as it is.
FUNCTIONALS = {
    "pbe": "PBEPBE",
    "pbe0": "PBE1PBE",
    "revpbe": "RevPBEPBE",
    "tpss": "TPSSTPSS",
    "bpbe": "BPBE",
    "svwn": "SVWN",
    "lda": "SVWN",
    "hse06": "HSEH1PBE",
    "b97-d": "B97D",
    "b97-d3": "B97D3",
    "wb97x-d": "wB97XD",
    "lc-wpbe": "LC-wPBE",
    "m05-2x": "M052X",
    "m06-l": "M06L",
    "m06-2x": "M062X",
    "m06-hf": "M06HF",
    "mn12-l": "MN12L",
    "mn15-l": "MN15L",
}
DISPERSION = {"d2": "GD2", "d3": "GD3", "d3zero": "GD3", "d3bj": "GD3BJ", "d3(bj)": "GD3BJ", "pfd": "PFD"}
DEFAULT_MB = 1000  # Gaussian 16 takes 800 MB by itself, Gaussian 09 256 MB
HEADROOM_MB = 1024  # that Gaussian takes beyond %mem


def wanted_memory(files: Files) -> dict[str, Any]:
    """The memory that Gaussian asks for (megawords of 8 bytes), and a fifth more for the links that follow."""
    asked = re.search(r"Use %mem=(\d+)MW to provide the minimum", everything(files, MAIN))
    return {"needed_MB": round(1.2 * 8 * int(asked[1])) if asked else None}


def _says(signature: str) -> Any:
    return lambda files: re.search(signature, everything(files, MAIN)) is not None


# The order of custodian's GaussianErrorHandler (cycles, quadratic convergence, better guess), with a level shift
# before the second. Its own class is not used: it keeps state in the class, from one calculation to the next in a
# process, configures the logging of the whole process, needs pymatgen, and looks for a better guess at another
# level of theory in the very files of the calculation.
LADDERS = (
    Ladder(
        "SCF_NOT_CONVERGED",
        judged(READER.output, NotConvergedError),
        steps=(
            {"max_cycles": 512, "reuse_orbitals": True},
            {"level_shift": 300},
            {"level_shift": None, "quadratic": "XQC"},
            {"quadratic": "YQC", "first_guess": "Huckel"},
        ),
    ),
    Ladder(
        "OUT_OF_MEMORY",
        _says(MEMORY_TOO_SMALL),
        steps=({"more_memory": 2, "needed_MB": None}, {"more_memory": 4, "needed_MB": None}),
        advice=wanted_memory,
    ),
    Ladder("OUT_OF_MEMORY", _says(MEMORY_TOO_LARGE), ({"more_memory": 0.5}, {"more_memory": 0.25})),
    Ladder("INPUT_ERROR", judged(READER.output, InputError), ({"fresh_guess": True},)),  # bad checkpoint file
    Ladder("MPI_ABORT", judged(READER.output, MPIAbortError), ({"again": 1},)),
)
PROGRAM = Program(
    reader=READER,
    decks={"gaussian.com": "gaussian.com.j2"},
    checkpoints=("gaussian.chk",),
    ladders=LADDERS,
)


class GaussianLabeler(BaseModel):
    """Energy, forces, dipole and Mulliken charges, ⟨S²⟩ of open shells; singlets are restricted, others unrestricted.

    Forces have 9 decimals in Hartree/Bohr; the dipole of methods of second order is the relaxed one, and they have no
    charges. Methods beyond (coupled cluster, excited states, ONIOM) are refused.

    Attributes
    ----------
    method : str
        ``HF``, ``MP2`` or a functional, by the name that other programs give it (`FUNCTIONALS`) or Gaussian's own;
        with the prefix U or RO as it is.
    basis : str or None
        ``def2-TZVP``, ``6-311G**``, … or Gaussian's own name; ``Gen`` with the basis in `sections`; None where the
        method says all.
    dispersion : str or None
        ``D2``, ``D3``, ``D3BJ`` or Gaussian's own name.
    solvent : str or None
        Gaussian's name, e.g. ``Water``.
    solvation : {"IEFPCM", "CPCM", "SMD"}
    grid : str
        Of the functional; Gaussian's name.
    scf_convergence : int
        Decimals of the density matrix.
    keywords : str
        Further words of the route.
    sections : str
        Further input after the geometry, e.g. a basis set.
    version : {"09", "16"} or None
        Another one pauses the campaign.
    decks : folder, optional
        With an own ``gaussian.com.j2``.
    command : str
        ``g16 gaussian.com`` leaves ``gaussian.log``; ``g09 < gaussian.com`` is as good.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = False
    execution_only: ClassVar[frozenset[str]] = frozenset({"command"})

    kind: Literal["gaussian"] = "gaussian"
    method: Annotated[str, Field(min_length=1)]
    basis: Annotated[str, Field(min_length=1)] | None
    dispersion: Annotated[str, Field(min_length=1)] | None = None
    solvent: Annotated[str, Field(min_length=1)] | None = None
    solvation: Literal["IEFPCM", "CPCM", "SMD"] = "IEFPCM"
    grid: Annotated[str, Field(min_length=1)] = "UltraFine"
    scf_convergence: Annotated[int, Field(ge=6, le=12)] = 8
    keywords: str = ""
    sections: str = ""
    version: Literal["09", "16"] | None = None
    decks: dict[str, str] | str | None = None
    command: Annotated[str, Field(min_length=1)] = "g16 gaussian.com"

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's deck read in."""
        return with_decks(options, base, tuple(PROGRAM.decks.values()))

    def theory(self) -> Theory:
        """All options but those of execution, in Gaussian's words and lower case, and the hash of the deck."""
        words = {"method": self._functional(), "basis": self._basis(), "dispersion": self._dispersion()}
        words |= {"solvent": self.solvent, "grid": self.grid, "keywords": " ".join(self.keywords.split())}
        lower = {name: word.lower() if word else word for name, word in words.items()}
        return _program.theory(PROGRAM, self, **lower, solvation=self.solvation if self.solvent else None)

    def check(self, frame: Frame) -> None:
        """Raise InputError for periodic frames, impossible electron counts, elements beyond Og."""
        check_periodicity(frame, self.kind, crystals=False)
        check_elements(frame, 118, "Gaussian")
        check_electrons(frame)

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The deck."""
        return _program.inputs(PROGRAM, self, frame, resources, self._variables(frame, resources))

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Deck and log, after more cycles, level shift, second order, another guess, or other memory where needed."""
        more = self._variables(frame, resources)
        command = (
            shlex.join(["sh", "-c", self.command]) if re.search("[<>|&;]", self.command) else self.command
        )
        return _program.run(PROGRAM, self, frame, workdir, resources, attempt, command=command, more=more)

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        return _program.parse(PROGRAM, self, frame, run)

    def _functional(self) -> str:
        return FUNCTIONALS.get(self.method.lower(), self.method)

    def _basis(self) -> str | None:
        """Gaussian writes def2-TZVP as Def2TZVP."""
        return re.sub(r"(?i)^def2-", "Def2", self.basis) if self.basis else None

    def _dispersion(self) -> str | None:
        return DISPERSION.get(self.dispersion.lower(), self.dispersion) if self.dispersion else None

    def _variables(self, frame: Frame, resources: Resources) -> dict[str, Any]:
        """What the deck needs beside the options."""
        functional = self._functional()
        plain = frame.multiplicity == 1 or re.match(r"(?i)U|RO", functional)
        memory_MB = None if resources.mem_GB is None else 1024 * resources.mem_GB
        return {
            "functional": functional if plain else f"U{functional}",
            "basis_set": self._basis(),
            "dispersion_name": self._dispersion(),
            "planned_MB": max(memory_MB / 2, memory_MB - max(HEADROOM_MB, memory_MB / 5))
            if memory_MB
            else DEFAULT_MB,
            "most_MB": 0.95 * memory_MB if memory_MB else float("inf"),
        }
