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
from alfw.labelers._handlers import PYSCF_SCF
from alfw.labelers._judge import RESULT, checked, numbers, worker_problem

MODULE = "alfw.labelers._pyscf_main"


class PySCFLabeler(BaseModel):
    """Energy, forces and dipole of molecules; restricted for singlets, unrestricted otherwise.

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
    max_cycle : int
        SCF cycles before the first remedy.
    level_shift : float or None, Hartree
        From the first attempt on; the converged energy is the same.
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
    max_cycle: PositiveInt = 100
    level_shift: PositiveFloat | None = None
    command: Annotated[str, Field(min_length=1)] | None = None

    def theory(self) -> Theory:
        """Method and basis in lower case, density fitting, convergence, and the grid of a functional."""
        settings = self.model_dump(exclude={"kind", *self.execution_only})
        settings.update(method=self.method.lower(), basis=self.basis.lower(), spin="restricted singlets")
        if self.method.lower() == "hf":
            del settings["grid_level"], settings["grid_response"]
        return Theory("pyscf", settings)

    def check(self, frame: Frame) -> None:
        """Raise InputError for periodic frames, impossible electron counts, elements beyond Og."""
        check_periodicity(frame, self.kind, crystals=False)
        check_elements(frame, 118, "PySCF")
        check_electrons(frame)

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Input, result and log of PySCF, after more cycles, level shift, second order or another guess.

        Raises
        ------
        ExecutableError
            `command` cannot be started, or PySCF or pyscf-dispersion is not installed.
        OutOfDiskError, WalltimeError
        """
        if refused(self.check, frame):
            return Run(files={})
        engine = load("alfw.labelers._run", self.kind)
        start = shlex.split(self.command) if self.command else [sys.executable]
        geometry = self._geometry(frame, resources)

        def render(settings: Mapping[str, Any]) -> dict[str, bytes]:
            return {"input.json": json.dumps({**geometry, **settings}).encode()}

        settings = self.model_dump(exclude={"kind", "command"}) | {"method": self.method.lower()}
        run = engine.run_child(
            [*start, "-m", MODULE], render, [RESULT], settings, [PYSCF_SCF], workdir, resources
        )
        problem = worker_problem(run)
        if problem is not None:
            raise problem
        return replace(run, version=_version(run))

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        refuse(self.check, frame)
        raw = numbers(frame, run, "energy_hartree", "gradient_hartree_per_bohr", "dipole_e_bohr")
        return checked(
            frame,
            run,
            total_energy=True,
            energy=raw["energy_hartree"] * HARTREE_eV,
            forces=-np.array(raw["gradient_hartree_per_bohr"]) * HARTREE_PER_BOHR_eV_PER_A,
            dipole=about_mass_centre(np.array(raw["dipole_e_bohr"]) * BOHR_A, frame),
        )

    @staticmethod
    def _geometry(frame: Frame, resources: Resources) -> dict[str, Any]:
        """What the child needs to know of frame and machine (JSON data)."""
        return {
            "numbers": frame.numbers.tolist(),
            "positions_bohr": (frame.positions / BOHR_A).tolist(),
            "charge": frame.charge,
            "unpaired": frame.multiplicity - 1,
            # PySCF plans its large arrays by this number and needs some more beside them.
            "max_memory_MB": None if resources.mem_GB is None else round(800 * resources.mem_GB),
        }


def _version(run: Run) -> str:
    """``pyscf 2.14.0``; empty where no result tells."""
    try:
        return f"pyscf {json.loads(run.files[RESULT])['version']}"
    except (KeyError, ValueError):
        return ""
