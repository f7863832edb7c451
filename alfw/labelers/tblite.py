"""GFN-xTB through tblite: the cheap stand-in for a QM program."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

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
from alfw.labelers._handlers import TBLITE_SCF
from alfw.labelers._judge import checked, numbers

OTHER_GUESS = {"guess": 1}  # charges of the electronegativity equilibration; 0 = superposed atoms


class TBLiteLabeler(BaseModel):
    """Energy, forces, charges, and stress (periodic) or dipole (molecules) of GFN1-xTB or GFN2-xTB.

    In-process: a label costs milliseconds. `Resources.threads` of the first label holds for the process, and a
    time limit is not watched. Spins are filled by multiplicity, without a term for spin polarisation, as the
    methods define it. Periodic frames have the Γ point only: their cells must be large.

    Attributes
    ----------
    method : str
        J. Chem. Theory Comput. 15, 1652 (2019), doi 10.1021/acs.jctc.8b01176, or 13, 1989 (2017),
        doi 10.1021/acs.jctc.7b00118.
    accuracy : float
        tblite's factor on its numerical thresholds; smaller is tighter.
    electronic_temperature_K : float
        Of the Fermi filling; the energy is the free one, to which the forces belong.
    max_iterations : int
        SCF cycles before the first remedy.
    allow_theory_changes : bool
        Whether an SCF that nothing else helps may be filled at a higher electronic temperature; such labels say so
        (`Label.changes`), and the theory is another one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = True
    periodic: ClassVar[bool | None] = None
    execution_only: ClassVar[frozenset[str]] = frozenset({"max_iterations"})

    kind: Literal["tblite"] = "tblite"
    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    accuracy: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0
    electronic_temperature_K: Annotated[float, Field(gt=0.0, le=10000.0)] = 300.0
    max_iterations: Annotated[int, Field(ge=1, le=500)] = 250
    allow_theory_changes: bool = False

    def theory(self) -> Theory:
        """Method, accuracy and electronic temperature; the temperatures that remedies may try where allowed."""
        settings = self.model_dump(exclude={"kind", "allow_theory_changes", *self.execution_only})
        if self.allow_theory_changes:
            settings["allowed_changes"] = [dict(step) for step in TBLITE_SCF.changes]
        return Theory("tblite", settings)

    def check(self, frame: Frame) -> None:
        """Raise InputError for elements beyond Rn, impossible electron counts, partly periodic frames."""
        check_elements(frame, 86, "GFN-xTB")
        check_electrons(frame)
        check_periodicity(frame, self.kind)

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """The library's numbers, with more iterations, other mixing or another first guess where needed.

        Raises
        ------
        ExecutableError
            tblite is not installed.
        OutOfDiskError
            `workdir` is full.
        """
        if refused(self.check, frame):
            return Run(files={})
        program = load("alfw.labelers._tblite", self.kind, resources.threads)
        engine = load("alfw.labelers._run", self.kind)
        compute = partial(program.compute, frame)
        settings = self.model_dump(exclude={"kind", "allow_theory_changes"})
        if attempt.other_guess:
            settings |= OTHER_GUESS
        ladder = TBLITE_SCF.allowing(self.allow_theory_changes)
        return engine.run_here(compute, settings, [ladder], workdir, f"tblite {program.version()}")  # type: ignore[no-any-return]

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units.

        Stress is virial / V: tblite's virial is dE/dε. Raises a LabelError subclass when there is no label.
        """
        refuse(self.check, frame)
        moment = "virial_hartree" if frame.periodic else "dipole_e_bohr"
        raw = numbers(frame, run, "energy_hartree", "gradient_hartree_per_bohr", "charges_e", moment)
        stress = dipole = None
        if frame.periodic:
            stress = np.array(raw["virial_hartree"]) * HARTREE_eV / abs(np.linalg.det(frame.cell))
        else:
            dipole = about_mass_centre(np.array(raw["dipole_e_bohr"]) * BOHR_A, frame)
        return checked(
            frame,
            run,
            total_energy=True,
            energy=raw["energy_hartree"] * HARTREE_eV,
            forces=-np.array(raw["gradient_hartree_per_bohr"]) * HARTREE_PER_BOHR_eV_PER_A,
            stress=stress,
            dipole=dipole,
            charges=raw["charges_e"],
        )
