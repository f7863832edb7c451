"""GFN-xTB through the xtb program, with implicit solvents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from alfw.core.errors import NotConvergedError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_elements, check_periodicity
from alfw.labelers._deck import with_decks
from alfw.labelers._handlers import Ladder, judged
from alfw.labelers._program import Program
from alfw.labelers.readers.xtb import ENGRAD, JSON, READER

# Every attempt starts from guessed charges: xtb leaves no restart file of an SCC that did not converge. Its mixer
# keeps all cycles, so that many of them take long: 1000 take 10 s for two atoms.
SCC = Ladder(
    "SCF_NOT_CONVERGED",
    judged(READER.output, NotConvergedError),
    steps=(
        {"cycles": 500},
        {"cycles": 300, "damping": 0.2},  # of Broyden's mixing; 0.4 otherwise
        {"other_guess": True},
        {"cycles": 500, "damping": 0.05},
    ),
    changes=({"electronic_temperature_K": 1000.0}, {"electronic_temperature_K": 3000.0}),
)
PROGRAM = Program(
    reader=READER,
    decks={"xtb.inp": "xtb.inp.j2", "xtb.xyz": "xtb.xyz.j2"},
    outputs=(ENGRAD, JSON),
    ladders=(SCC,),
)


class XTBLabeler(BaseModel):
    """Energy, forces, dipole and charges of molecules with GFN1-xTB or GFN2-xTB, in vacuo or in a solvent.

    Spins are filled by multiplicity, without a term for spin polarisation, as the methods define it.

    Attributes
    ----------
    method : str
        J. Chem. Theory Comput. 15, 1652 (2019), doi 10.1021/acs.jctc.8b01176, or 13, 1989 (2017),
        doi 10.1021/acs.jctc.7b00118.
    accuracy : float
        xtb's factor on its numerical thresholds; smaller is tighter.
    electronic_temperature_K : float
        Of the Fermi filling; the energy is the free one, to which the forces belong.
    solvent : str or None
        Of the ALPB model, J. Chem. Theory Comput. 17, 4250 (2021), doi 10.1021/acs.jctc.1c00471.
    version : str or None
        Major version, e.g. ``6``; another one pauses the campaign.
    decks : folder, optional
        With own ``xtb.inp.j2`` and ``xtb.xyz.j2``.
    allow_theory_changes : bool
        Whether an SCC that nothing else helps may be filled at a higher electronic temperature; such labels say so
        (`Label.changes`), and the theory is another one.
    max_iterations : int
        SCC cycles before the first remedy.
    command : str
        What starts xtb; its arguments are added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = False
    execution_only: ClassVar[frozenset[str]] = frozenset({"command", "max_iterations"})

    kind: Literal["xtb"] = "xtb"
    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    accuracy: Annotated[float, Field(ge=1e-4, le=1000.0)] = 1.0
    electronic_temperature_K: Annotated[float, Field(gt=0.0, le=10000.0)] = 300.0
    solvent: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")] | None = None
    version: str | None = None
    decks: dict[str, str] | str | None = None
    allow_theory_changes: bool = False
    max_iterations: Annotated[int, Field(ge=1, le=500)] = 250
    command: Annotated[str, Field(min_length=1)] = "xtb"

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's decks read in."""
        return with_decks(options, base, tuple(PROGRAM.decks.values()))

    def theory(self) -> Theory:
        """All options but those of execution, and the hash of the decks."""
        return _program.theory(PROGRAM, self, solvent=self.solvent and self.solvent.lower())

    def check(self, frame: Frame) -> None:
        """Raise InputError for periodic frames, elements beyond Rn, impossible electron counts."""
        check_periodicity(frame, self.kind, crystals=False)
        check_elements(frame, 86, "GFN-xTB")
        check_electrons(frame)

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The decks."""
        return _program.inputs(PROGRAM, self, frame, resources, {})

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Decks, log and results, after more cycles, other mixing or another first guess where needed."""
        command = f"{self.command} xtb.xyz --input xtb.inp --grad --acc {self.accuracy:g} --norestart"
        return _program.run(PROGRAM, self, frame, workdir, resources, attempt, command=command)

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        return _program.parse(PROGRAM, self, frame, run)
