"""Density functional theory of periodic systems through pw.x of Quantum ESPRESSO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from alfw.core.errors import MPIAbortError, NotConvergedError, OutOfMemoryLabelError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_periodicity
from alfw.labelers._deck import with_decks
from alfw.labelers._espresso import automatic, check_labels, namelists, species
from alfw.labelers._handlers import Ladder, judged, printed
from alfw.labelers._judge import LOG
from alfw.labelers._kinds import initial_moments, labels
from alfw.labelers._kpoints import KPoints
from alfw.labelers._program import Program
from alfw.labelers._pseudos import Element, Pseudopotentials, check_pseudos, pinned, stated, verified
from alfw.labelers.readers.espresso import READER

# What the deck sets itself; `keywords` are for everything else.
OWN = {
    "control": "calculation prefix outdir pseudo_dir tprnfor tstress disk_io max_seconds restart_mode verbosity",
    "system": "ibrav celldm nat ntyp tot_charge ecutwfc ecutrho input_dft vdw_corr occupations smearing degauss nspin"
    " tot_magnetization starting_magnetization nosym",
    "electrons": "conv_thr electron_maxstep mixing_beta mixing_mode mixing_ndim diagonalization startingpot"
    " startingwfc scf_must_converge",
}
SLOW = printed(LOG, r"convergence NOT achieved after")
SCF = judged(READER.output, NotConvergedError)
# As aiida-quantumespresso's handlers have it: diagonalization david → cg → ppcg, gentler mixing. custodian has nothing
# for Quantum ESPRESSO.
LADDERS = (
    Ladder(
        "SCF_NOT_CONVERGED",
        SLOW,
        steps=(
            # from the density of the attempt before
            {"more_steps": 3, "less_mixing": 0.7, "restart": True},
            {"diagonalization": "cg"},
            {"mixing_mode": "local-TF", "mixing_ndim": 16, "less_mixing": 0.3},
            {"restart": False, "other_guess": True},
        ),
        changes=({"smearing": "marzari-vanderbilt", "degauss_Ry": 0.01},),
    ),
    Ladder(  # diagonalization broke down
        "SCF_NOT_CONVERGED",
        lambda files: SCF(files) and not SLOW(files),
        (
            {"diagonalization": "cg"},
            {"diagonalization": "ppcg"},
            {"other_guess": True, "less_mixing": 0.5},
        ),
    ),
    Ladder(  # nearly symmetric frames
        "UNKNOWN",
        printed(
            LOG,
            r"Error in routine +(checkallsym|multable|inverse_s|sgam_at|sym_rho\w*|irreducible_BZ|divide_class)"
            r"|lone vector",
        ),
        ({"nosym": True},),
    ),
    Ladder(
        "OUT_OF_MEMORY",
        judged(READER.output, OutOfMemoryLabelError),
        ({"diagonalization": "cg", "mixing_ndim": 4},),
    ),
    Ladder("MPI_ABORT", judged(READER.output, MPIAbortError), ({"again": 1},)),
)
PROGRAM = Program(
    reader=READER,
    decks={"espresso.pwi": "espresso.pwi.j2"},
    checkpoints=("alfw.save/charge-density.dat", "alfw.save/charge-density.hdf5"),
    ladders=LADDERS,
)
Value = bool | int | float | str


class EspressoLabeler(BaseModel):
    """Energy (with smearing the free energy), forces and stress.

    No stress for hybrid functionals: what pw.x prints is no derivative of the energy.
    Spins are polarised where a frame has moments or a multiplicity above 1.

    Attributes
    ----------
    pseudopotentials : {element: file}
        Pinned by sha256; ``{file: …, sha256: …}`` where `pseudo_dir` is known to the workers only.
    pseudo_dir : str
        Where a worker has them, e.g. ``>>pseudo_dir<<``.
    ecutwfc_Ry, ecutrho_Ry : float, Ry
        Without the second pw.x takes four times the first, which is too little for ultrasoft pseudopotentials.
    kpoints : {grid: [4, 4, 4]} or {spacing: 0.25}
        See `KPoints`; shifts are 0 or 0.5.
    input_dft : str, optional
        Overrides the functional of the pseudopotentials.
    dispersion : {"grimme-d2", "dft-d3"} or None
        pw.x's ``vdw_corr``; forces and stress of its ``ts-vdw`` are 1 % off the derivatives of the energy.
    smearing : str or None
        None = fixed occupations, for insulators.
    degauss_Ry : float, Ry
    moments : {element: μ_B}
        Initial moments of frames that have none of their own.
    conv_thr_Ry : float, Ry
        Of the total energy.
    stress : bool
        False for functionals whose stress pw.x does not have.
    keywords : {"control" | "system" | "electrons": {keyword: value}}
        Whatever else is to stand in the namelists.
    cards : str
        Further cards, e.g. ``HUBBARD``.
    version : str or None
        E.g. ``7.2``; another one pauses the campaign.
    decks : folder, optional
        With an own ``espresso.pwi.j2``.
    allow_theory_changes : bool
        Whether a frame whose SCF nothing else helps may be smeared by 0.01 Ry.
    electron_maxstep, mixing_beta
        Before the first remedy.
    command : str
        E.g. ``mpirun -np {threads} pw.x -in espresso.pwi``; without ``{threads}`` OpenMP has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = True
    execution_only: ClassVar[frozenset[str]] = frozenset(
        {"command", "pseudo_dir", "electron_maxstep", "mixing_beta"}
    )

    kind: Literal["espresso"] = "espresso"
    pseudopotentials: Pseudopotentials
    pseudo_dir: str | None = None
    ecutwfc_Ry: PositiveFloat
    ecutrho_Ry: PositiveFloat | None = None
    kpoints: KPoints
    input_dft: str | None = None
    dispersion: Literal["grimme-d2", "dft-d3"] | None = None
    smearing: Literal["gaussian", "methfessel-paxton", "marzari-vanderbilt", "fermi-dirac"] | None = None
    degauss_Ry: PositiveFloat | None = None
    moments: dict[Element, float] = {}
    conv_thr_Ry: Annotated[float, Field(gt=0.0, le=1e-4)] = 1e-9
    stress: bool = True
    keywords: dict[str, dict[str, Value]] = {}
    cards: str = ""
    version: str | None = None
    decks: dict[str, str] | str | None = None
    allow_theory_changes: bool = False
    electron_maxstep: PositiveInt = 100
    mixing_beta: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    command: Annotated[str, Field(min_length=1)] = "pw.x -in espresso.pwi"

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        """One way to say each thing."""
        if not set(self.kpoints.shift) <= {0.0, 0.5}:
            raise ValueError("kpoints.shift: pw.x knows 0 and 0.5")
        if (self.smearing is None) != (self.degauss_Ry is None):
            raise ValueError("smearing and degauss_Ry belong together")
        for namelist, keywords in self.keywords.items():
            if namelist not in OWN:
                raise ValueError(f"keywords: {namelist} is none of the namelists {', '.join(OWN)}")
            own = {re.split(r"\W", key)[0].lower() for key in keywords} & set(OWN[namelist].split())
            if own:
                raise ValueError(
                    f"keywords.{namelist}: {', '.join(sorted(own))} is what other options are for"
                )
        return self

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's deck read in and pseudopotentials pinned by sha256."""
        return pinned(with_decks(options, base, tuple(PROGRAM.decks.values())), base)

    @property
    def has_stress(self) -> bool:
        """Whether labels have a stress; see `alfw.config.stress`."""
        return self.stress

    def theory(self) -> Theory:
        """All options but those of execution, with the sha256 of pseudopotentials and deck."""
        return _program.theory(PROGRAM, self, pseudopotentials=stated(self.pseudopotentials))

    def check(self, frame: Frame) -> None:
        """Raise InputError for molecules and impossible electron counts, BasisError for elements without a file."""
        check_periodicity(frame, self.kind, molecules=False)
        check_pseudos(frame, self.pseudopotentials)
        if self._fixed_spin(frame):
            check_electrons(frame)
        check_labels(frame, self.moments)

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The deck."""
        files = {element: pseudo.file for element, pseudo in self.pseudopotentials.items()}
        kinds = labels(frame, self.moments)[1]
        contents = self._contents(frame) if any(moment for _, moment in kinds.values()) else {}
        more = self._variables(frame) | {"species": species(kinds, files, contents)}
        return _program.inputs(PROGRAM, self, frame, resources, more)

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Deck and output, after whatever it took of more iterations, other mixing, diagonalization or guess."""
        contents = self._contents(frame)
        files = {element: self._copy(element) for element in contents}
        kinds = labels(frame, self.moments)[1]
        more = self._variables(frame) | {"species": species(kinds, files, contents), "pseudo_dir": "./"}
        return _program.run(
            replace(PROGRAM, mpi="{threads}" in self.command),
            self,
            frame,
            workdir,
            resources,
            attempt,
            command=self.command,
            more=more,
            files={files[element]: data for element, data in contents.items()},
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        return _program.parse(PROGRAM, self, frame, run)

    def _contents(self, frame: Frame) -> dict[str, bytes]:
        """What is in the pseudopotential of each element of the frame."""
        elements = [chemical_symbols[z] for z in frame.numbers]
        return verified(self.pseudopotentials, self.pseudo_dir, elements)

    def _copy(self, element: str) -> str:
        """The name of a pseudopotential in the working folder; pw.x goes by the ending, but not by ``.gz``."""
        return f"{element}.{Path(self.pseudopotentials[element].file).name.removesuffix('.gz')}"

    def _fixed_spin(self, frame: Frame) -> bool:
        """Whether the multiplicity holds; moments of a metal are only where its SCF starts."""
        return self.smearing is None or frame.multiplicity > 1

    def _variables(self, frame: Frame) -> dict[str, Any]:
        """What the deck needs beside the options."""
        moments = initial_moments(frame, self.moments)
        return {
            "labels": labels(frame, self.moments)[0],
            "automatic": automatic(self.kpoints.mesh(frame.cell), self.kpoints),
            "spins": moments is not None or frame.multiplicity > 1,
            "fixed_spin": self._fixed_spin(frame),
            "namelists": namelists(self.keywords, tuple(OWN)),
        }
