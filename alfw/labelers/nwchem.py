"""Molecular Hartree-Fock and density functional theory through NWChem."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from ase.data import atomic_numbers, chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from alfw.core.errors import InputError, MPIAbortError, NotConvergedError, OutOfMemoryLabelError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_elements, check_periodicity
from alfw.labelers._deck import with_decks
from alfw.labelers._handlers import Ladder, judged, printed
from alfw.labelers._judge import LOG
from alfw.labelers._program import Program
from alfw.labelers.readers.nwchem import READER

# Names that other programs use → NWChem's; any other name goes to NWChem as it is.
# Energies of water agree with PySCF's functionals of these names to 1e-6 Hartree.
FUNCTIONALS = {
    "hf": "hfexch",
    "svwn": "slater vwn_5",
    "pbe": "xpbe96 cpbe96",
    "revpbe": "revpbe cpbe96",
    "rpbe": "rpbe cpbe96",
    "blyp": "becke88 lyp",
    "bp86": "becke88 perdew86",
    "tpss": "xtpss03 ctpss03",
    "tpssh": "xctpssh",
    "bhandhlyp": "bhlyp",
    "cam-b3lyp": "xcamb88 1.00 lyp 0.81 vwn_5 0.19 hfexch 1.00\n  cam 0.33 cam_alpha 0.19 cam_beta 0.46",
}
VALENCE_BASIS = (
    r"def2|dhf|-pp|ecp|lanl|stuttgart|crenb|sbkjc|sdb|hay-wadt"  # made for effective core potentials
)
DEFAULT_MB = 1000  # of memory for one process; what NWChem was built with is often too little
LADDERS = (
    Ladder(
        "SCF_NOT_CONVERGED",
        judged(READER.output, NotConvergedError),
        steps=(
            {"more_cycles": 4, "restart": True},  # `restart` from the orbitals of the attempt before
            {"damping": 50, "restart": False},
            {"damping": None, "second_order": True},
            {"other_guess": True},
        ),
    ),
    Ladder(
        "OUT_OF_MEMORY",
        judged(READER.output, OutOfMemoryLabelError),
        ({"more_memory": 2}, {"more_memory": 4}),
    ),
    Ladder(
        "UNKNOWN", printed(LOG, r"movecs_\w+: error|corrupt MO|vectors file corrupt"), ({"restart": False},)
    ),
    Ladder("MPI_ABORT", judged(READER.output, MPIAbortError), ({"again": 1},)),
)
PROGRAM = Program(
    reader=READER,
    decks={"nwchem.nw": "nwchem.nw.j2"},
    checkpoints=("alfw.movecs",),
    ladders=LADDERS,
    mpi=True,
)


class NWChemLabeler(BaseModel):
    """Energy, forces, dipole, and ⟨S²⟩ of open shells; restricted for singlets, unrestricted otherwise.

    Forces have 6 decimals in Hartree/Bohr, i.e. 3e-5 eV/Å, the dipole 6 in e·Bohr.

    Attributes
    ----------
    method : str
        ``HF`` or a functional, by the name that other programs give it (`FUNCTIONALS`) or NWChem's own.
    basis : str
        Of NWChem's library.
    ecp : {element: library}
        Effective core potentials; those of def2 bases (beyond Kr) come by themselves.
    spherical : bool
        Whether d functions are five; NWChem's own default is six.
    dispersion : {"D2", "D3", "D3BJ"} or None
    grid : str
        NWChem's name.
    conv_tol : float, Hartree
    keywords : str
        Further lines for the ``dft`` block.
    blocks : str
        Further input, before the task, e.g. a ``cosmo`` block.
    version : str or None
        Major version, e.g. ``7``; another one pauses the campaign.
    decks : folder, optional
        With an own ``nwchem.nw.j2``.
    max_iterations : int
        SCF cycles before the first remedy.
    command : str
        E.g. ``mpirun -np {threads} nwchem nwchem.nw``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = False
    execution_only: ClassVar[frozenset[str]] = frozenset({"command", "max_iterations"})

    kind: Literal["nwchem"] = "nwchem"
    method: Annotated[str, Field(min_length=1)]
    basis: Annotated[str, Field(min_length=1)]
    ecp: dict[str, str] = {}
    spherical: bool = True
    dispersion: Literal["D2", "D3", "D3BJ"] | None = None
    grid: Literal["coarse", "medium", "fine", "xfine", "huge"] = "fine"
    conv_tol: Annotated[float, Field(gt=0.0, le=1e-5)] = 1e-8
    keywords: str = ""
    blocks: str = ""
    version: str | None = None
    decks: dict[str, str] | str | None = None
    max_iterations: PositiveInt = 50
    command: Annotated[str, Field(min_length=1)] = "nwchem nwchem.nw"

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's deck read in."""
        return with_decks(options, base, tuple(PROGRAM.decks.values()))

    def theory(self) -> Theory:
        """All options but those of execution, the functional in NWChem's words, and the hash of the deck."""
        return _program.theory(PROGRAM, self, method=self._functional(), basis=self.basis.lower())

    def check(self, frame: Frame) -> None:
        """Raise InputError for periodic frames, impossible electron counts, elements without their core potential."""
        check_periodicity(frame, self.kind, crystals=False)
        check_elements(frame, 118, "NWChem")
        check_electrons(frame)
        if not re.search(VALENCE_BASIS, self.basis.lower()):
            return
        bare = {z for z in frame.numbers if z > (36 if self._def2 else 10)} - {
            atomic_numbers[element] for element in self._core_potentials(frame)
        }
        if bare:
            element = chemical_symbols[min(bare)]
            what = f"frame {frame.id[:12]}: basis {self.basis} is made for effective core potentials"
            raise InputError(f"{what}; say which one {element} has, e.g. `ecp: {{{element}: lanl2dz_ecp}}`")

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The deck."""
        return _program.inputs(PROGRAM, self, frame, resources, self._variables(frame, resources))

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Deck and log, after more cycles, damping, second order, another guess or more memory where needed."""
        more = self._variables(frame, resources)
        return _program.run(
            PROGRAM, self, frame, workdir, resources, attempt, command=self.command, more=more
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        return _program.parse(PROGRAM, self, frame, run)

    @property
    def _def2(self) -> bool:
        return self.basis.lower().startswith("def2")

    def _functional(self) -> str:
        """What follows ``xc``."""
        return FUNCTIONALS.get(self.method.lower(), self.method.lower())

    def _core_potentials(self, frame: Frame) -> dict[str, str]:
        """Library of the core potential of each element of the frame that has one."""
        def2 = {z: "def2-ecp" for z in frame.numbers if self._def2 and 36 < z <= 86}
        found = {chemical_symbols[z]: library for z, library in sorted(def2.items())} | self.ecp
        return {element: name for element, name in found.items() if atomic_numbers[element] in frame.numbers}

    def _variables(self, frame: Frame, resources: Resources) -> dict[str, Any]:
        """What the deck needs beside the options."""
        processes = resources.threads if "{threads}" in self.command else 1
        total_MB = DEFAULT_MB * processes if resources.mem_GB is None else 1024 * resources.mem_GB
        return {
            "xc": self._functional(),
            "ecps": self._core_potentials(frame),
            "memory_MB": round(0.8 * total_MB / processes),
        }
