"""Any ASE calculator as a labeler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from alfw.core.errors import InputError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers._common import check_electrons, load, pinned_threads, refuse, refused
from alfw.labelers._judge import checked, numbers, worker_problem


class ASELabeler(BaseModel):
    """Energy, raw forces, charges, and stress (periodic) or dipole (neutral molecules) where the calculator has them.

    In-process, without remedies of its own; the calculator is made once per process. Its numbers are taken as
    they are: ASE's units and its sign of the stress are those of alfw.

    Attributes
    ----------
    calculator : str
        ``module:callable``, e.g. ``ase.calculators.emt:EMT``; only trusted code, it runs on every worker.
    kwargs : mapping
        Options that the callable gets and that belong to the theory. A model file is known by its name only: put
        its version into `name`.
    execution_kwargs : mapping
        More options, of execution only: device, threads, command.
    name : str or None
        What to call this theory; part of its identity.
    reads_charge : bool
        Whether the calculator takes ``atoms.info["charge"]`` and ``["multiplicity"]`` into account; where it
        does not, charged frames and open shells are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = True
    periodic: ClassVar[bool | None] = None
    execution_only: ClassVar[frozenset[str]] = frozenset({"execution_kwargs", "reads_charge"})

    kind: Literal["ase"] = "ase"
    calculator: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    execution_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    name: Annotated[str, Field(min_length=1)] | None = None
    reads_charge: bool = False

    def theory(self) -> Theory:
        """Calculator, its options, and the name where there is one."""
        settings: dict[str, Any] = {"calculator": self.calculator, "kwargs": self.kwargs}
        return Theory("ase", settings | ({"name": self.name} if self.name else {}))

    def check(self, frame: Frame) -> None:
        """Raise InputError for charges and open shells that the calculator would ignore."""
        if self.reads_charge:
            check_electrons(frame)
        elif frame.charge or frame.multiplicity != 1:
            what = f"frame {frame.id[:12]} (charge {frame.charge:+d}, multiplicity {frame.multiplicity})"
            raise InputError(
                f"{what}: {self.calculator} would ignore them; if it does not, set `reads_charge: true`"
            )

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """The calculator's numbers, or its error.

        Raises
        ------
        ExecutableError
            The calculator cannot be made on this worker.
        OutOfDiskError
            The disk is full.
        """
        if refused(self.check, frame):
            return Run(files={})
        program = load("alfw.labelers._ase_calculators", self.kind, resources.threads)
        engine = load("alfw.labelers._run", self.kind)
        options = json.dumps({**self.kwargs, **self.execution_kwargs}, sort_keys=True)
        with pinned_threads(resources.threads):
            calc = program.calculator(self.calculator, options)
        version = program.version(self.calculator)
        run: Run = engine.run_here(lambda _: program.compute(calc, frame, workdir), {}, [], workdir, version)
        problem = worker_problem(run)
        if problem is not None:
            raise problem
        return run

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label; raises a LabelError subclass when there is none."""
        refuse(self.check, frame)
        raw = numbers(frame, run, "energy", "forces")
        optional = {name: raw.get(name) for name in ("stress", "dipole", "charges")}
        return checked(frame, run, total_energy=False, energy=raw["energy"], forces=raw["forces"], **optional)
