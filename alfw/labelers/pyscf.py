"""Molecular Hartree-Fock and density functional theory through PySCF, in a child process."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from alfw.core.errors import StructureError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._common import (
    about_mass_centre,
    check_electrons,
    check_elements,
    check_periodicity,
    load,
    refuse,
    refused,
)
from alfw.labelers._esp import EspGrid, check_esp, surface_points
from alfw.labelers._handlers import PYSCF_LADDERS
from alfw.labelers._judge import RESULT, checked, numbers, worker_problem
from alfw.labelers._output import Output, Step, step_of

MODULE = "alfw.labelers._pyscf_main"


CHECKPOINT = "scf.chk"
CARRIED = "restart.chk"  # the same of an earlier attempt, as an input
OTHER_GUESS = {"init_guess": "huckel"}  # orbitals of an extended Hückel matrix; else PySCF superposes atoms


class PySCFLabeler(BaseModel):
    """Energy, forces, dipole, Mulliken charges, ⟨S²⟩ and electrostatic potential of molecules.

    Restricted for singlets, unrestricted otherwise. All basis functions are kept, so that the energy surface has no
    steps; where they depend on each other (an eigenvalue of the overlap matrix is below 1e-7), there is no label, or
    one without the dependent combinations where `allow_theory_changes`.

    Attributes
    ----------
    method : str
        ``HF`` or a functional by PySCF's name, dispersion included: ``pbe0``, ``wb97m-v``, ``pbe0-d4`` (with
        pyscf-dispersion).
    basis : str
        PySCF's name; the effective core potentials of def2 and the like come with it.
    density_fit : bool
        With PySCF's default auxiliary basis.
    grid_level : int
        0 (coarse) to 9.
    grid_response : bool
        Whether forces include the motion of the grid; without it they sum up to some 1e-3 eV/Å, not to zero.
    conv_tol : float, Hartree
    esp : EspGrid or None
        Points at which the electrostatic potential is wanted; ``{}`` = those of Merz and Kollman.
    max_cycle : int
        SCF cycles before the first remedy.
    level_shift : float or None, Hartree
        From the first attempt on; the converged energy is the same.
    allow_theory_changes : bool
        Whether linearly dependent combinations of basis functions may be left out; such labels say so
        (`Label.changes`), and the theory is another one.
    command : str or None
        What starts Python, e.g. ``srun -n 1 /path/to/python``; None = the one that runs alfw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = False
    execution_only: ClassVar[frozenset[str]] = frozenset({"max_cycle", "level_shift", "command"})

    kind: Literal["pyscf"] = "pyscf"
    method: Annotated[str, Field(min_length=1)]
    basis: Annotated[str, Field(min_length=1)]
    density_fit: bool = False
    grid_level: Annotated[int, Field(ge=0, le=9)] = 3
    grid_response: bool = True
    conv_tol: Annotated[float, Field(gt=0.0, le=1e-5)] = 1e-9
    esp: EspGrid | None = None
    max_cycle: PositiveInt = 100
    level_shift: PositiveFloat | None = None
    allow_theory_changes: bool = False
    command: Annotated[str, Field(min_length=1)] | None = None

    def theory(self) -> Theory:
        """Method and basis in lower case, density fitting, convergence, and the grid of a functional.

        The grid of the potential where there is one; what remedies may change where they are allowed to.
        """
        settings = self.model_dump(
            mode="json", exclude={"kind", "allow_theory_changes", *self.execution_only}
        )
        settings.update(method=self.method.lower(), basis=self.basis.lower(), spin="restricted singlets")
        if self.method.lower() == "hf":
            del settings["grid_level"], settings["grid_response"]
        if self.esp is None:
            del settings["esp"]
        if self.allow_theory_changes:
            settings["allowed_changes"] = [dict(step) for ladder in PYSCF_LADDERS for step in ladder.changes]
        return Theory("pyscf", settings)

    def check(self, frame: Frame) -> None:
        """Raise InputError for periodic frames, impossible electron counts, elements beyond Og or without a radius."""
        check_periodicity(frame, self.kind, crystals=False)
        check_elements(frame, 118, "PySCF")
        check_electrons(frame)
        check_esp(frame, self.esp)

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Input, result and log of PySCF, after more cycles, level shift, second order or another guess.

        Raises
        ------
        ExecutableError
            `command` cannot be started, or PySCF or pyscf-dispersion is not installed.
        BasisError, DeckError
            PySCF does not know the basis or the method.
        OutOfDiskError
        WalltimeError
            With the checkpoint of the SCF in `partial`, from which the next attempt starts.
        """
        if refused(self.check, frame):
            return Run(files={})
        engine = load("alfw.labelers._run", self.kind)
        start = shlex.split(self.command) if self.command else [sys.executable]
        geometry = self._geometry(frame, resources)
        checkpoint = attempt.restart.get(CHECKPOINT) or attempt.restart.get(CARRIED)
        carried = {CARRIED: checkpoint} if checkpoint else {}

        def render(settings: Mapping[str, Any]) -> dict[str, bytes]:
            return {"input.json": json.dumps({**geometry, **settings}).encode(), **carried}

        run = engine.run_child(
            [*start, "-m", MODULE],
            render,
            [RESULT],
            self._settings(attempt, bool(carried)),
            [ladder.allowing(self.allow_theory_changes) for ladder in PYSCF_LADDERS],
            workdir,
            resources,
            checkpoints=[CHECKPOINT],
        )
        problem = worker_problem(run)
        if problem is not None:
            raise problem
        kept = {name: data for name, data in run.files.items() if name != CARRIED}
        return replace(run, files=kept, version=_version(run))

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        refuse(self.check, frame)
        wanted = ("esp_hartree_per_e", "esp_points_bohr") if self.esp else ()
        raw = numbers(frame, run, "energy_hartree", "gradient_hartree_per_bohr", "dipole_e_bohr", *wanted)
        step = _step(frame, raw)
        return checked(
            frame,
            run,
            total_energy=True,
            energy=step.energy,
            forces=step.forces,
            dipole=about_mass_centre(step.dipole, frame) if step.dipole is not None else None,
            charges=step.charges,
            s_squared=step.s_squared,
            esp=step.esp,
            esp_points=step.esp_points,
        )

    def _settings(self, attempt: Attempt, restart: bool) -> dict[str, Any]:
        """What remedies change, as the first calculation has it."""
        settings = self.model_dump(exclude={"kind", "command", "esp", "allow_theory_changes"})
        settings |= {"method": self.method.lower(), "restart": restart}
        return settings | (OTHER_GUESS if attempt.other_guess and not restart else {})

    def _geometry(self, frame: Frame, resources: Resources) -> dict[str, Any]:
        """What the child needs to know of frame and machine (JSON data)."""
        points = surface_points(frame, self.esp) / BOHR_A if self.esp else np.empty((0, 3))
        return {
            "numbers": frame.numbers.tolist(),
            "positions_bohr": (frame.positions / BOHR_A).tolist(),
            "charge": frame.charge,
            "unpaired": frame.multiplicity - 1,
            "esp_points_bohr": points.tolist(),
            # PySCF plans its large arrays by this number and needs some more beside them.
            "max_memory_MB": None if resources.mem_GB is None else round(800 * resources.mem_GB),
        }


def _step(frame: Frame, raw: Mapping[str, Any]) -> Step:
    """The content of a result, which has to be of this frame.

    Results of earlier versions of alfw do not say which molecule they are of, and have no charges.
    """
    positions = np.array(raw["positions_bohr"]) * BOHR_A if "positions_bohr" in raw else frame.positions
    esp = raw.get("esp_hartree_per_e")
    step = Step(
        numbers=np.array(raw.get("numbers", frame.numbers)),
        positions=positions,
        energy=raw["energy_hartree"] * HARTREE_eV,
        forces=-np.array(raw["gradient_hartree_per_bohr"]) * HARTREE_PER_BOHR_eV_PER_A,
        dipole=np.array(raw["dipole_e_bohr"]) * BOHR_A,
        charges=raw.get("mulliken_charges_e"),
        s_squared=raw.get("s_squared") if frame.multiplicity > 1 else None,
        esp=None if esp is None else np.array(esp) * HARTREE_eV,
        esp_points=None if esp is None else np.array(raw["esp_points_bohr"]) * BOHR_A,
    )
    found = Output("pyscf", "", [step], charge=raw.get("charge"), multiplicity=raw.get("multiplicity"))
    try:
        return step_of(frame, found)
    except StructureError as error:
        raise StructureError(f"frame {frame.id[:12]}: {error}") from error


def _version(run: Run) -> str:
    """``pyscf 2.14.0``; empty where no result tells."""
    try:
        return f"pyscf {json.loads(run.files[RESULT])['version']}"
    except (KeyError, ValueError):
        return ""
