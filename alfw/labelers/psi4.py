"""Hartree-Fock, density functional and correlated calculations of molecules through Psi4 (1.3 and later)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from alfw.core.errors import (
    LinearDependencyError,
    MissingOutputError,
    NotConvergedError,
    OutOfMemoryLabelError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_elements, check_periodicity
from alfw.labelers._deck import with_decks
from alfw.labelers._esp import EspGrid, check_esp, surface_points
from alfw.labelers._handlers import Ladder, judged
from alfw.labelers._judge import RESULT
from alfw.labelers._output import MATCH_A
from alfw.labelers.readers.psi4 import READER

POINTS = "grid.dat"
# Options that the deck sets itself, or that make an output one that cannot be judged.
TAKEN = (
    r"basis|scf_type|reference|[ed]_convergence|maxiter|fail_on_maxiter|guess|soscf|damping_percentage"
    r"|level_shift|units|print|perturb_\w+|external_potential\w*|pcm\w*|ddx\w*|pe\w*|properties_origin"
)

# Psi4 keeps no orbitals from which a stopped SCF could go on: each remedy starts anew.
SCF = Ladder(
    error="SCF_NOT_CONVERGED",
    shows=judged(READER.output, NotConvergedError),
    steps=(
        {"maxiter": 300},
        {"damping": 40.0, "level_shift": 0.5},
        {"damping": None, "level_shift": None, "second_order": True},
        {"swap_guess": True},
    ),
)
# A limit by which Psi4 chooses its algorithms, not an allocation: more is asked for than there is, if need be.
MEMORY = Ladder(
    error="OUT_OF_MEMORY",
    shows=lambda files: (
        files.get("returncode") != b"-9" and judged(READER.output, OutOfMemoryLabelError)(files)
    ),
    steps=({"memory_scale": 1.2}, {"memory_scale": 4.0}),
)
KILLED = Ladder(
    error="OUT_OF_MEMORY",
    shows=lambda files: files.get("returncode") == b"-9",
    steps=({"memory_scale": 0.5},),
)
DEPENDENCY = Ladder(
    error="LINEAR_DEPENDENCY",
    shows=judged(READER.output, LinearDependencyError),
    steps=(),
    changes=({"remove_dependent": True},),
)
PROGRAM = _program.Program(
    reader=READER,
    decks={"psi4.in": "psi4.in.j2"},
    outputs=(RESULT,),
    ladders=(SCF, MEMORY, KILLED, DEPENDENCY),
    # Psi4 brings a Python of its own, which must not find our packages.
    unset=("PYTHONPATH", "PYTHONHOME"),
)


class Psi4Labeler(BaseModel):
    """Energy and forces; of Hartree-Fock and functionals also dipole, Mulliken charges, ⟨S²⟩, electrostatic potential.

    Restricted for singlets, unrestricted otherwise. Needs analytic gradients. Where Psi4 leaves out linearly dependent
    combinations of basis functions there is no label, unless `allow_theory_changes`: their number changes along a
    trajectory, and with it the energy jumps.

    Attributes
    ----------
    method : str
        Psi4's name, dispersion included: ``hf``, ``pbe0``, ``pbe0-d3bj``, ``wb97x-d``, ``mp2``.
    basis : str
    scf_type : str
        ``df`` (density fitting), ``pk``, ``direct`` …
    e_convergence, d_convergence : float, Hartree
    keywords : mapping
        Further Psi4 options, e.g. ``{dft_spherical_points: 590, dft_radial_points: 99}``.
    esp : EspGrid or None
        Points at which the electrostatic potential is wanted; ``{}`` = those of Merz and Kollman.
    version : str or None
        e.g. ``1.3``; another one pauses the campaign.
    decks : folder, optional
        With an own ``psi4.in.j2``.
    max_iterations : int
        SCF cycles before the first remedy.
    allow_theory_changes : bool
        Whether linearly dependent combinations may be left out; such labels say so (`Label.changes`).
    command : str
        It is started without PYTHONPATH and PYTHONHOME.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = False
    execution_only: ClassVar[frozenset[str]] = frozenset({"command", "max_iterations"})

    kind: Literal["psi4"] = "psi4"
    method: Annotated[str, Field(pattern=r"^[\w()+*.-]+$")]
    basis: Annotated[str, Field(pattern=r"^[\w()+*,.-]+$")]
    scf_type: Annotated[str, Field(pattern=r"^\w+$")] = "df"
    e_convergence: Annotated[float, Field(gt=0.0, le=1e-5)] = 1e-8
    d_convergence: Annotated[float, Field(gt=0.0, le=1e-5)] = 1e-8
    keywords: dict[str, bool | int | float | str] = {}
    esp: EspGrid | None = None
    version: str | None = None
    decks: dict[str, str] | str | None = None
    max_iterations: PositiveInt = 100
    allow_theory_changes: bool = False
    command: Annotated[str, Field(min_length=1)] = "psi4 -i psi4.in -o psi4.out -n {threads}"

    @field_validator("keywords")
    @classmethod
    def _free(cls, keywords: dict[str, Any]) -> dict[str, Any]:
        for name, value in keywords.items():
            if re.fullmatch(r"[a-zA-Z]\w*", name) is None or re.search(r"[\n{}]", str(value)):
                raise ValueError(f"{name}: not an option of Psi4")
            if re.fullmatch(TAKEN, name.lower()):
                raise ValueError(f"{name}: the deck sees to that, or it makes no label; leave it out")
        return {name.lower(): value for name, value in keywords.items()}

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's deck read in."""
        return with_decks(options, base, tuple(PROGRAM.decks.values()))

    def theory(self) -> Theory:
        """All options but those of execution, in lower case, and the hash of the deck."""
        words = {name: getattr(self, name).lower() for name in ("method", "basis", "scf_type")}
        found = _program.theory(PROGRAM, self, **words)
        left_out = {"esp"} if self.esp is None else set()
        return replace(found, settings={k: v for k, v in found.settings.items() if k not in left_out})

    def check(self, frame: Frame) -> None:
        """Raise InputError for periodic frames, impossible electron counts, elements beyond Og or without a radius."""
        check_periodicity(frame, self.kind, crystals=False)
        check_elements(frame, 118, "Psi4")
        check_electrons(frame)
        check_esp(frame, self.esp)

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The deck, and the points of the potential."""
        return _program.inputs(PROGRAM, self, frame, resources, {}) | self._points(frame)

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Deck, output, ``result.json`` and log, after whatever remedies it took."""
        points = self._points(frame)
        return _program.run(
            PROGRAM, self, frame, workdir, resources, attempt, command=self.command, files=points
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        label = _program.parse(PROGRAM, self, frame, run)
        if self.esp is None:
            return replace(label, esp=None, esp_points=None)
        wanted, found = surface_points(frame, self.esp), label.esp_points
        if found is None or found.shape != wanted.shape or np.abs(found - wanted).max() > MATCH_A:
            raise MissingOutputError(
                f"frame {frame.id[:12]}: no potential at the points of `esp`", "esp_points_A"
            )
        return label

    def _points(self, frame: Frame) -> dict[str, bytes]:
        """The points in Å, the unit of the deck's molecule; nothing where there are none."""
        if self.esp is None:
            return {}
        rows = [" ".join(f"{x: .10f}" for x in point) for point in surface_points(frame, self.esp)]
        return {POINTS: ("\n".join(rows) + "\n").encode()}
