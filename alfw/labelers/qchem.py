"""Molecular calculations with Q-Chem 4 to 6."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from alfw.core.errors import LinearDependencyError, MPIAbortError, NotConvergedError, OutOfMemoryLabelError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_elements, check_periodicity
from alfw.labelers._deck import with_decks
from alfw.labelers._handlers import Ladder, judged
from alfw.labelers._program import Program
from alfw.labelers.readers.qchem import READER

DISPERSION = {
    "d2": "empirical_grimme",
    "d3": "d3_zero",
    "d3zero": "d3_zero",
    "d3bj": "d3_bj",
    "d3(bj)": "d3_bj",
    "d4": "d4",
}
DEFAULT_MB = 2000  # Q-Chem's own

# The order of custodian's QChemErrorHandler (tighter overlaps and more cycles, then geometric direct minimisation),
# and two other first guesses. Its own class is not used: it packs the files of each attempt into the current folder
# of the process, needs pymatgen, and most of it repairs optimisations and frequencies.
LADDERS = (
    Ladder(
        "SCF_NOT_CONVERGED",
        judged(READER.output, NotConvergedError),
        steps=(
            {"max_cycles": 400, "s2thresh": 16},
            {"scf_algorithm": "gdm", "max_cycles": 500},
            {"scf_algorithm": "diis_gdm", "scf_guess": "gwh"},
            {"scf_algorithm": "rca_diis", "scf_guess": "core"},
        ),
    ),
    Ladder("LINEAR_DEPENDENCY", judged(READER.output, LinearDependencyError), ({"s2thresh": 16},)),
    Ladder(
        "OUT_OF_MEMORY",
        judged(READER.output, OutOfMemoryLabelError),
        ({"more_memory": 2}, {"more_memory": 4}),
    ),
    Ladder("MPI_ABORT", judged(READER.output, MPIAbortError), ({"again": 1},)),
)
PROGRAM = Program(reader=READER, decks={"qchem.in": "qchem.in.j2"}, ladders=LADDERS)


class QChemLabeler(BaseModel):
    """Energy, forces, dipole and Mulliken charges, ⟨S²⟩ of open shells; singlets are restricted, others unrestricted.

    Forces have 7 decimals in Hartree/Bohr, 6 with a solvent. Methods beyond Hartree-Fock and functionals are refused.
    Q-Chem leaves nothing from which a calculation out of time could go on.

    Attributes
    ----------
    method, basis : str
        Q-Chem's names.
    dft_d : str or None
        ``D2``, ``D3``, ``D3BJ``, ``D4`` or Q-Chem's own name.
    solvent : str, float or None
        A name: SMD; a dielectric constant: C-PCM.
    grid : str or None
        Q-Chem's ``xc_grid``, e.g. ``3`` or ``000099000590``; None = what it has for the functional.
    scf_convergence, thresh : int
        Negative decimal exponents of the errors of SCF and integrals.
    keywords : str
        Further lines for ``$rem``.
    sections : str
        Further input after ``$rem``, e.g. a basis set.
    version : str or None
        e.g. ``5`` or ``5.4``; another one pauses the campaign.
    decks : folder, optional
        With an own ``qchem.in.j2``.
    command : str
        It has to leave ``qchem.out`` or print.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = False
    execution_only: ClassVar[frozenset[str]] = frozenset({"command"})

    kind: Literal["qchem"] = "qchem"
    method: Annotated[str, Field(min_length=1)]
    basis: Annotated[str, Field(min_length=1)]
    dft_d: Annotated[str, Field(min_length=1)] | None = None
    solvent: Annotated[float, Field(gt=1.0)] | Annotated[str, Field(min_length=1)] | None = None
    grid: Annotated[str, Field(min_length=1)] | None = None
    scf_convergence: Annotated[int, Field(ge=6, le=12)] = 8
    thresh: Annotated[int, Field(ge=10, le=16)] = 14
    keywords: str = ""
    sections: str = ""
    version: str | None = None
    decks: dict[str, str] | str | None = None
    command: Annotated[str, Field(min_length=1)] = "qchem -nt {threads} qchem.in qchem.out"

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's deck read in."""
        return with_decks(options, base, tuple(PROGRAM.decks.values()))

    def theory(self) -> Theory:
        """All options but those of execution, in lower case, and the hash of the deck."""
        words: dict[str, Any] = {
            "method": self.method,
            "basis": self.basis,
            "dft_d": self._dispersion(),
            "grid": self.grid,
        }
        words["solvent"] = self.solvent
        lower = {name: word.lower() if isinstance(word, str) else word for name, word in words.items()}
        lines = [" ".join(line.lower().split()) for line in self.keywords.splitlines()]
        return _program.theory(PROGRAM, self, **lower, keywords="\n".join(filter(None, lines)))

    def check(self, frame: Frame) -> None:
        """Raise InputError for periodic frames, impossible electron counts, elements beyond Og."""
        check_periodicity(frame, self.kind, crystals=False)
        check_elements(frame, 118, "Q-Chem")
        check_electrons(frame)

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The deck."""
        return _program.inputs(PROGRAM, self, frame, resources, self._variables(resources))

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Deck and output, after more cycles, another algorithm, another guess or more memory where needed."""
        more = self._variables(resources)
        return _program.run(
            PROGRAM, self, frame, workdir, resources, attempt, command=self.command, more=more
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        return _program.parse(PROGRAM, self, frame, run)

    def _dispersion(self) -> str | None:
        return DISPERSION.get(self.dft_d.lower(), self.dft_d) if self.dft_d else None

    def _variables(self, resources: Resources) -> dict[str, Any]:
        """What the deck needs beside the options."""
        memory_MB = None if resources.mem_GB is None else 1024 * resources.mem_GB
        return {
            "dispersion_name": self._dispersion(),
            "dielectric": self.solvent if isinstance(self.solvent, float) else None,
            "named": [line.split()[0].lower() for line in self.keywords.splitlines() if line.strip()],
            "planned_MB": 0.8 * memory_MB if memory_MB else DEFAULT_MB,
            "most_MB": 0.95 * memory_MB if memory_MB else float("inf"),
        }
