"""The user's own script as a labeler: gets a structure file, leaves a file with energy and forces."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from alfw.core.errors import DataError, DeckError, ExecutableError, InputError, MissingOutputError
from alfw.core.frame import Frame
from alfw.core.ids import sha256
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers._common import check_electrons, check_periodicity, load, refuse, refused
from alfw.labelers._exchange import file_text, is_poscar, result_output, structure_file
from alfw.labelers._judge import LOG, RETURN_CODE, checked, numbers, worker_problem
from alfw.labelers._output import step_of

FileName = Annotated[str, Field(pattern=r"^[^/\s]+$")]


class CommandLabeler(BaseModel):
    """Energy, forces, and stress (crystals) or dipole (neutral molecules) where the result has them.

    The command runs in a new folder that holds the structure and the `files`. Its exit status does not count, its
    result does: that has to be of the submitted structure (1e-4 Å, same order), complete and finite, in ASE's
    units and sign of the stress. A result that is the output of a program that alfw reads is judged as such, so
    that an unconverged OUTCAR is no label.

    Attributes
    ----------
    command : str
        Without shell syntax; ``{threads}``, ``{charge}`` and ``{multiplicity}`` are filled in. What may differ
        between machines (paths, ``mpirun``) belongs here.
    name : str
        What to call the theory; together with `version`, `settings` and the content of `files` it is the theory.
    version : str or None
        Of the program.
    settings : mapping
        Whatever else fixes the energy surface, for the record.
    files : list of paths, or {name: text}
        Scripts and input files that go into the folder; read in when the campaign is added.
    structure : str
        The file that the command finds: .extxyz, .xyz (both extended XYZ, with charge and multiplicity), POSCAR or
        .vasp, or any suffix that ASE writes.
    result : str
        The file that it has to leave; anything that ASE reads, with energy and forces.
    reads_charge : bool
        Whether the command takes charge and multiplicity of the structure file into account; where it does not,
        and has no ``{charge}`` either, charged frames and open shells are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    can_guess: ClassVar[bool] = False  # the script knows nothing of first guesses
    periodic: ClassVar[bool | None] = None
    execution_only: ClassVar[frozenset[str]] = frozenset({"command", "structure", "result", "reads_charge"})

    kind: Literal["command"] = "command"
    command: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)] | None = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    files: dict[FileName, str] | tuple[str, ...] = ()
    structure: FileName = "structure.extxyz"
    result: FileName = "result.extxyz"
    reads_charge: bool = False

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the content of `files`.

        Raises
        ------
        DataError
            A file is missing, not text, or too large.
        """
        paths = options.get("files")
        if not isinstance(paths, (list, tuple)):
            return dict(options)
        found: dict[str, str] = {}
        for path in (base / Path(str(name)).expanduser() for name in paths):
            if path.name in found:
                raise DataError(f"files: two of them are named {path.name}")
            found[path.name] = file_text(path)
        return {**options, "files": found}

    def theory(self) -> Theory:
        """Name, version, settings, and sha256 of each file."""
        texts = {name: sha256(text.encode()) for name, text in self._texts().items()}
        settings: dict[str, Any] = {"name": self.name, "settings": self.settings, "files": texts}
        return Theory("command", settings | ({"version": self.version} if self.version else {}))

    def check(self, frame: Frame) -> None:
        """Raise InputError for slabs, molecules in a POSCAR, and charges that the command would ignore."""
        check_periodicity(frame, self.kind, molecules=not is_poscar(self.structure))
        if self.reads_charge or "{charge}" in self.command:
            check_electrons(frame)
        elif frame.charge or frame.multiplicity != 1:
            what = f"frame {frame.id[:12]} (charge {frame.charge:+d}, multiplicity {frame.multiplicity})"
            raise InputError(
                f"{what}: the command would ignore them; if it does not, set `reads_charge: true`"
            )

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The structure, and the user's files."""
        texts = {name: text.encode() for name, text in self._texts().items()}
        return {**texts, self.structure: structure_file(frame, self.structure)}

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Result and log of the command.

        Raises
        ------
        ExecutableError
            The command cannot be started, or its shell did not find a program.
        OutOfDiskError, WalltimeError
        """
        if refused(self.check, frame):
            return Run(files={})
        engine = load("alfw.labelers._run", self.kind)
        values = {"threads": resources.threads, "charge": frame.charge, "multiplicity": frame.multiplicity}
        command = self.command
        for name, value in values.items():
            command = command.replace(f"{{{name}}}", str(value))
        inputs = self.inputs(frame, resources)
        run: Run = engine.run_child(
            shlex.split(command), lambda settings: inputs, (self.result,), {}, [], workdir, resources
        )
        if self.result not in run.files:
            problem = worker_problem(run)
            if problem is None and run.files.get(RETURN_CODE) in (b"126", b"127"):  # of a shell
                problem = ExecutableError(
                    f"{_last_line(run)} (on {run.host}: {run.command})", _last_line(run)
                )
            if problem is not None:
                raise problem
        return run

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label; raises a LabelError subclass when there is none."""
        refuse(self.check, frame)
        data = run.files.get(self.result)
        if data is None:
            numbers(frame, run)  # raises what the log calls for
            raise MissingOutputError(f"frame {frame.id[:12]}: the command left no {self.result}")
        step = step_of(frame, result_output(data, self.result))
        return checked(
            frame,
            run,
            total_energy=False,
            energy=step.energy,
            forces=step.forces,
            stress=step.stress if frame.periodic else None,
            dipole=step.dipole if not frame.periodic and not frame.charge else None,
            charges=step.charges,
        )

    def _texts(self) -> dict[str, str]:
        """The user's files by name."""
        if isinstance(self.files, tuple) and self.files:
            raise DeckError(f"files: {self.files[0]} was not read when the campaign was added")
        return dict(self.files)


def _last_line(run: Run) -> str:
    """What the command said last."""
    lines = run.files.get(LOG, b"").decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
