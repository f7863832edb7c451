"""Plane-wave density functional theory of crystals through VASP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from alfw.core.errors import (
    DeckError,
    InputError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfMemoryLabelError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_periodicity, load, refused
from alfw.labelers._deck import with_decks
from alfw.labelers._handlers import Ladder, judged, printed
from alfw.labelers._judge import LOG
from alfw.labelers._kpoints import KPoints
from alfw.labelers._program import Program
from alfw.labelers._pseudos import Element, Pseudopotentials, check_pseudos, pinned, stated
from alfw.labelers._vasp_input import (
    DEFAULTS,
    EXECUTION_TAGS,
    OTHER_GUESS,
    REMEDIES,
    THEORY_TAGS,
    Hubbard,
    hubbard_tags,
    normalised,
    poscar,
    potcar_files,
    potcars,
    spin_tags,
    valence,
    written,
)
from alfw.labelers.readers.vasp import READER, SYMMETRY, XML, both

# Without pymatgen, which custodian's own handlers for VASP need (`pip install 'alfw[vasp]'`).
LADDERS = (
    Ladder(
        "INPUT_ERROR",
        lambda files: judged(READER.output, InputError, DeckError)(files) and printed(LOG, SYMMETRY)(files),
        steps=({"ISYM": 0},),
    ),
    Ladder(
        "SCF_NOT_CONVERGED",
        judged(READER.output, NotConvergedError),
        # More cycles with blocked Davidson, then linear mixing in small steps, then a direct minimisation.
        steps=(
            {"NELM": 200, "ALGO": "NORMAL"},
            {"AMIX": 0.2, "BMIX": 0.0001, "AMIX_MAG": 0.8, "BMIX_MAG": 0.0001},
            {"AMIX": None, "BMIX": None, "AMIX_MAG": None, "BMIX_MAG": None, "ALGO": "ALL"},
        ),
    ),
    Ladder("OUT_OF_MEMORY", judged(READER.output, OutOfMemoryLabelError), ({"KPAR": 1},)),
    Ladder("MPI_ABORT", judged(READER.output, MPIAbortError), ({"again": 1},)),
)
PROGRAM = Program(
    reader=READER,
    decks={"INCAR": "vasp.INCAR.j2", "KPOINTS": "vasp.KPOINTS.j2"},
    outputs=(XML,),
    ladders=LADDERS,
    mpi=True,
)


class VASPLabeler(BaseModel):
    """Energy, forces and stress of crystals; the energy is the free energy TOTEN, whose derivative the forces are.

    OUTCAR and vasprun.xml have to agree. The POSCAR has the atoms of each element together; labels are in the frame's
    own order. custodian's own handlers for VASP correct failures where pymatgen is installed, a few remedies of our
    own do where it is not.

    Attributes
    ----------
    incar : mapping
        The INCAR's tags that make the theory: ENCUT, GGA, ISMEAR, SIGMA, PREC, EDIFF, LREAL, IVDW …
    kpoints : KPoints
        ``{spacing: 0.25}`` (1/Å) or ``{grid: [4, 4, 4]}``.
    pseudopotentials : {element: file}
        POTCARs in `pseudo_dir`: ``{Si: Si, O: O_s}`` for ``Si/POTCAR`` and ``O_s/POTCAR``, or file names; pinned by
        sha256 when the campaign is added.
    spin : bool or None
        Whether ISPIN = 2; None: for frames with magnetic moments or a multiplicity > 1, or where `moments` has one of
        their elements. A multiplicity > 1 fixes the total moment (NUPDOWN), moments alone do not.
    moments : {element: μ_B}
        Initial moments of frames that have none of their own.
    hubbard : {element: Hubbard}
        e.g. ``{Fe: {l: 2, U_eV: 4.0}}``; LDAUTYPE of `incar`, else 2 (Dudarev).
    version : str or None
        Major version; another one pauses the campaign.
    decks : folder, optional
        With an own ``vasp.INCAR.j2`` or ``vasp.KPOINTS.j2``.
    allow_theory_changes : bool
        Whether custodian's handlers may change tags of `incar` or the k-points for a frame; its label then says so.
    incar_execution : mapping
        Further tags that leave the answer as it is: NCORE, KPAR, ALGO, NELM, ISYM, LWAVE …
    pseudo_dir : str
        Where the POTCARs are on a worker; may be ``>>pseudo_dir<<``.
    command : str
        ``vasp_std``, ``vasp_gam`` or ``vasp_ncl``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = True
    execution_only: ClassVar[frozenset[str]] = frozenset({"command", "pseudo_dir", "incar_execution"})

    kind: Literal["vasp"] = "vasp"
    incar: dict[str, JsonValue]
    kpoints: KPoints
    pseudopotentials: Pseudopotentials
    spin: bool | None = None
    moments: dict[Element, float] = Field(default_factory=dict)
    hubbard: dict[Element, Hubbard] = Field(default_factory=dict)
    version: str | None = "6"
    decks: dict[str, str] | str | None = None
    allow_theory_changes: bool = False
    incar_execution: dict[str, JsonValue] = Field(default_factory=dict)
    pseudo_dir: str | None = None
    command: Annotated[str, Field(min_length=1)] = "mpirun -np {threads} vasp_std"

    @field_validator("incar")
    @classmethod
    def _theory_tags(cls, tags: dict[str, Any]) -> dict[str, Any]:
        found = normalised(tags, THEORY_TAGS)
        if "ENCUT" not in found:
            raise ValueError("ENCUT is missing: VASP's own would differ from one composition to the next")
        return found

    @field_validator("incar_execution")
    @classmethod
    def _execution_tags(cls, tags: dict[str, Any]) -> dict[str, Any]:
        return normalised(tags, EXECUTION_TAGS)

    @field_validator("pseudopotentials", mode="before")
    @classmethod
    def _potcars(cls, entries: Any) -> Any:
        return potcar_files(entries)

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's decks read in and the POTCARs pinned by sha256."""
        options = with_decks(options, base, tuple(PROGRAM.decks.values()))
        if "pseudopotentials" in options:
            options["pseudopotentials"] = potcar_files(options["pseudopotentials"])
        return pinned(options, base)

    def theory(self) -> Theory:
        """All options but those of execution, file and sha256 of the POTCARs, and the hashes of the decks."""
        return _program.theory(PROGRAM, self, pseudopotentials=stated(self.pseudopotentials))

    def check(self, frame: Frame) -> None:
        """Raise for molecules, slabs, left-handed cells, spins that are switched off; BasisError without a POTCAR."""
        check_periodicity(frame, self.kind, molecules=False)
        check_pseudos(frame, self.pseudopotentials)
        what = f"frame {frame.id[:12]}"
        if np.linalg.det(frame.cell) < 0:
            raise InputError(f"{what}: VASP refuses left-handed cells; exchange two lattice vectors")
        if frame.multiplicity > 1:
            check_electrons(frame)
        if self.spin is False and (frame.multiplicity > 1 or frame.moments is not None):
            raise InputError(f"{what} has multiplicity {frame.multiplicity} or moments, but `spin` is false")

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """INCAR, KPOINTS, POSCAR, and the POTCAR where `pseudo_dir` is here."""
        files = {"POSCAR": poscar(frame)}
        if self.pseudo_dir is not None and Path(self.pseudo_dir).expanduser().is_dir():
            files["POTCAR"] = self._potcar(frame)
        return _program.inputs(PROGRAM, self, frame, resources, self._variables(frame)) | files

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """INCAR, KPOINTS, OUTCAR, vasprun.xml and log, after whatever remedies it took."""
        if refused(self.check, frame):
            return Run(files={})
        more = self._variables(frame, OTHER_GUESS if attempt.other_guess else 1.0)
        files = {"POSCAR": poscar(frame), "POTCAR": self._potcar(frame)}
        program = self._recovering()
        return _program.run(
            program, self, frame, workdir, resources, attempt, command=self.command, more=more, files=files
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        label = _program.parse(PROGRAM, self, frame, run)
        if run.command and not both(run.files):
            raise MissingOutputError(
                f"frame {frame.id[:12]}: OUTCAR and {XML} have to be there both", "one file"
            )
        return label

    def _recovering(self) -> Program:
        """How VASP is run: with custodian's own handlers for it, if pymatgen is here."""
        if find_spec("pymatgen") is None:
            return PROGRAM

        def handlers(folder: Path) -> list[Any]:
            return [load("alfw.labelers._vasp_recovery", self.kind).Recovery(self.allow_theory_changes)]

        return replace(PROGRAM, ladders=(), more_handlers=handlers)

    def _potcar(self, frame: Frame) -> bytes:
        """The POTCAR, as the campaign pins it."""
        return b"".join(potcars(self.pseudopotentials, self.pseudo_dir, frame).values())

    def _variables(self, frame: Frame, moments: float = 1.0) -> dict[str, Any]:
        """What the decks need beside the options; initial moments are multiplied by `moments`."""
        tags = spin_tags(frame, self.spin, self.moments, moments)
        tags |= hubbard_tags(frame, self.hubbard, self.incar.get("LDAUTYPE", 2))
        if frame.charge:
            neutral = valence(potcars(self.pseudopotentials, self.pseudo_dir, frame), frame)
            tags["NELECT"] = neutral - frame.charge
        return {
            "theory_tags": written({k: v for k, v in self.incar.items() if k not in tags}),
            "frame_tags": written(tags),
            "execution_tags": written(
                {k: v for k, v in (DEFAULTS | self.incar_execution).items() if k not in tags}
            ),
            "spin_polarised": tags["ISPIN"] == 2,
            **dict.fromkeys(REMEDIES),
            "mesh": self.kpoints.mesh(frame.cell),
        }
