"""Density functional theory of periodic systems through CP2K (Quickstep, Gaussians and plane waves)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from alfw.core.errors import BasisError, LinearDependencyError, MPIAbortError, NotConvergedError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_periodicity
from alfw.labelers._deck import with_decks
from alfw.labelers._handlers import Ladder, judged
from alfw.labelers._kinds import initial_moments, labels
from alfw.labelers._program import Program
from alfw.labelers._pseudos import Element
from alfw.labelers.readers.cp2k import READER

# Functionals with exact exchange: to CP2K these names mean the semi-local part alone, without a word of warning.
HYBRIDS = {"PBE0", "B3LYP", "X3LYP"}
# The order of custodian's handlers for CP2K. These themselves are not used: they are monitors, which make every label
# wait for their polling time, and they need pymatgen.
LADDERS = (
    Ladder(
        "SCF_NOT_CONVERGED",
        judged(READER.output, NotConvergedError),
        steps=(
            {"more_steps": 2, "restart": True},  # from the orbitals of the attempt before
            {"minimizer": "CG", "mixing_alpha": 0.1, "mixing_memory": 20},
            {"linesearch": "3PNT", "mixing_alpha": 0.05},
            {
                "linesearch": "2PNT",
                "preconditioner": "FULL_SINGLE_INVERSE",
                "algorithm": "IRAC",
                "mixing_alpha": 0.01,
            },
            {"restart": False, "other_guess": True, "stepsize": 0.05},
        ),
        changes=({"scf": "diagonalization", "smearing_K": 300.0},),
    ),
    Ladder(  # another way to orthogonalise; more exact integrals, which move energies by 1e-5 eV
        "LINEAR_DEPENDENCY",
        judged(READER.output, LinearDependencyError),
        steps=({"cholesky": "OFF"},),
        changes=({"eps_default": 1e-14},),
    ),
    Ladder("MPI_ABORT", judged(READER.output, MPIAbortError), ({"again": 1},)),
)
PROGRAM = Program(
    reader=READER,
    decks={"cp2k.inp": "cp2k.inp.j2"},
    checkpoints=("alfw-RESTART.wfn",),
    ladders=LADDERS,
)
Name = Annotated[str, Field(min_length=1)]


class CP2KLabeler(BaseModel):
    """Energy (with smearing the free energy), forces, stress, Mulliken charges, and ⟨S²⟩ where spins are polarised.

    Spins are polarised where a frame has moments or a multiplicity above 1. One k-point, Γ: cells have to be large.

    Attributes
    ----------
    method : str, optional
        A semi-local functional by CP2K's short name: PBE, BLYP, PADE, TPSS …
    xc : str, optional
        Instead of `method`: the content of the section XC, e.g. of a hybrid functional with its section HF.
    dispersion : {"D3", "D3BJ"} or None
        With `method`.
    basis_set, potential : str or {element: str}
        By their names in CP2K's files, e.g. ``DZVP-MOLOPT-SR-GTH`` and ``GTH-PBE``.
    basis_set_files, potential_file : names of CP2K's files
    cutoff_Ry, rel_cutoff_Ry : float, Ry
        Of the grid, and of what a Gaussian is mapped onto.
    eps_scf, eps_default : float
    scf : {"ot", "diagonalization"}
        The former for systems with a gap.
    smearing_K : float or None, K
        Electronic temperature (Fermi-Dirac); needs diagonalization.
    added_mos : int
        Empty orbitals, for smearing.
    moments : {element: μ_B}
        Initial moments of frames that have none of their own.
    stress : bool
        False for what CP2K has no analytical stress of.
    dft : str
        Further lines for the section DFT.
    version : str or None
        E.g. ``2023.1``; another one pauses the campaign.
    decks : folder, optional
        With an own ``cp2k.inp.j2``.
    allow_theory_changes : bool
        Whether a frame whose SCF nothing else helps may have electrons of 300 K.
    max_scf, max_outer_scf : int
        SCF steps, and how often OT may begin anew, before the first remedy.
    data_dir : str, optional
        CP2K's data on a worker, e.g. ``>>cp2k_data<<``, where CP2K does not find them itself.
    command : str
        E.g. ``mpirun -np {threads} cp2k.psmp -i cp2k.inp -o cp2k.out``; without ``{threads}`` OpenMP has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = True
    execution_only: ClassVar[frozenset[str]] = frozenset({"command", "data_dir", "max_scf", "max_outer_scf"})

    kind: Literal["cp2k"] = "cp2k"
    method: Name | None = None
    xc: Name | None = None
    dispersion: Literal["D3", "D3BJ"] | None = None
    basis_set: Name | dict[str, Name]
    potential: Name | dict[str, Name]
    basis_set_files: tuple[Name, ...] = ("BASIS_MOLOPT",)
    potential_file: Name = "GTH_POTENTIALS"
    cutoff_Ry: PositiveFloat
    rel_cutoff_Ry: PositiveFloat = 60.0
    eps_scf: Annotated[float, Field(gt=0.0, le=1e-4)] = 1e-7
    eps_default: Annotated[float, Field(gt=0.0, le=1e-6)] = 1e-12
    scf: Literal["ot", "diagonalization"] = "ot"
    smearing_K: PositiveFloat | None = None
    added_mos: PositiveInt = 50
    moments: dict[Element, float] = {}
    stress: bool = True
    dft: str = ""
    version: str | None = None
    decks: dict[str, str] | str | None = None
    allow_theory_changes: bool = False
    max_scf: PositiveInt = 50
    max_outer_scf: PositiveInt = 5
    data_dir: str | None = None
    command: Annotated[str, Field(min_length=1)] = "cp2k.psmp -i cp2k.inp -o cp2k.out"

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        """One functional, and none that is not what its name says."""
        if (self.method is None) == (self.xc is None):
            raise ValueError("give either method, e.g. PBE, or xc, the content of the section XC")
        if (self.method or "").upper() in HYBRIDS:
            raise ValueError(
                f"method: CP2K takes {self.method} without exact exchange; give xc, with a section HF"
            )
        if self.xc is not None and self.dispersion is not None:
            raise ValueError("dispersion: put the section VDW_POTENTIAL into xc")
        if self.smearing_K is not None and self.scf == "ot":
            raise ValueError("smearing_K: needs scf: diagonalization")
        return self

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's deck read in."""
        return with_decks(options, base, tuple(PROGRAM.decks.values()))

    @property
    def has_stress(self) -> bool:
        """Whether labels have a stress; see `alfw.config.stress`."""
        return self.stress

    def theory(self) -> Theory:
        """All options but those of execution, and the hash of the deck."""
        return _program.theory(PROGRAM, self, method=self.method and self.method.upper())

    def check(self, frame: Frame) -> None:
        """Raise InputError for molecules and impossible electron counts, BasisError for elements without basis set."""
        check_periodicity(frame, self.kind, molecules=False)
        check_electrons(frame)
        for label, (element, _) in labels(frame, self.moments)[1].items():
            for what in ("basis_set", "potential"):
                if self._of(what, element) is None:
                    raise BasisError(f"no {what} for {element} ({label}): name it in `{what}`")

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The deck."""
        return _program.inputs(PROGRAM, self, frame, resources, self._variables(frame))

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Deck and output, after whatever it took of more steps, other minimizers, mixing or guess."""
        return _program.run(
            replace(PROGRAM, mpi="{threads}" in self.command),
            self,
            frame,
            workdir,
            resources,
            attempt,
            command=self.command,
            more=self._variables(frame),
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        return _program.parse(PROGRAM, self, frame, run)

    def _of(self, what: Literal["basis_set", "potential"], element: str) -> str | None:
        """Basis set or potential of an element."""
        value = self.basis_set if what == "basis_set" else self.potential
        return value if isinstance(value, str) else value.get(element)

    def _variables(self, frame: Frame) -> dict[str, Any]:
        """What the deck needs beside the options."""
        folder = f"{self.data_dir.rstrip('/')}/" if self.data_dir else ""
        named, kinds = labels(frame, self.moments)
        return {
            "labels": named,
            "kinds": [
                {
                    "label": label,
                    "element": element,
                    "basis_set": self._of("basis_set", element),
                    "potential": self._of("potential", element),
                    "moment": moment,
                }
                for label, (element, moment) in kinds.items()
            ],
            "spins": initial_moments(frame, self.moments) is not None or frame.multiplicity > 1,
            "basis_files": [folder + name for name in self.basis_set_files],
            "potential_file": folder + self.potential_file,
            "dispersion_file": f"{folder}dftd3.dat",
        }
