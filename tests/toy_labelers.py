"""A labeler of a plug-in package as others may write it: EMT that ends in a wrong state, fails, or runs out of time."""

from __future__ import annotations

import json
import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest
from ase.calculators.emt import EMT
from pydantic import BaseModel, ConfigDict, Field

from alfw.core import errors, registry
from alfw.core.errors import WalltimeError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory

HERE = Path(__file__).resolve().parent
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def register(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the package of this plug-in in `folder`, for this process and those it starts."""
    info = folder / "toy_labelers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-labelers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[alfw.labelers]\ntoy = toy_labelers:ToyLabeler\n")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{HERE}")
    entry = EntryPoint(name="toy", value="toy_labelers:ToyLabeler", group="alfw.labelers")
    others = registry.known("alfw.labelers")
    known = {group: registry.known(group) for group in registry.GROUPS} | {
        entry.group: {**others, "toy": entry}
    }
    monkeypatch.setattr(registry, "known", known.__getitem__)


def number(frame: Frame) -> float:
    """A number in [0, 1) that belongs to a frame."""
    return int(np.abs(frame.positions * 1e6).round().sum()) % 1000 / 1000


def mourn() -> None:
    """Where a worker may be killed that computes the frame $CURSED."""


class ToyLabeler(BaseModel):
    """EMT with moods.

    Attributes
    ----------
    wrong, shift_eV : float
        Share of frames whose SCF ends in a state that much higher, with other forces.
    second : str
        Where another first guess takes them: to the ground state, to the same state, or still higher.
    fails : str or None
        Error of the share `failing` of frames, in `where`, as long as `file` exists.
    smears : float
        Share of frames that need a remedy which changes the theory.
    log : str or None
        A line of JSON is added for each run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    periodic: ClassVar[bool | None] = None
    execution_only: ClassVar[frozenset[str]] = frozenset(
        {"fails", "failing", "where", "file", "log", "command"}
    )

    kind: Literal["toy"] = "toy"
    in_process: bool = False
    wrong: Share = 0.0
    shift_eV: float = 2.0
    second: Literal["right", "same", "higher"] = "right"
    smears: Share = 0.0
    fails: str | None = None
    failing: Share = 1.0
    where: Literal["run", "parse"] = "parse"
    file: str = "/"
    log: str | None = None
    command: str = "toy"

    def theory(self) -> Theory:
        """What changes the energies."""
        return Theory("toy", self.model_dump(include={"wrong", "shift_eV", "second", "smears"}))

    def check(self, frame: Frame) -> None:
        """Everything can be labelled."""

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Energy and forces as JSON, or the error that is wanted."""
        if self.log:
            line = {
                "frame": frame.id,
                "other_guess": attempt.other_guess,
                "restart": {name: data.decode() for name, data in attempt.restart.items()},
                "walltime_s": resources.walltime_s,
            }
            with open(self.log, "a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        if frame.id == os.environ.get("CURSED"):
            mourn()
        about = {"command": self.command, "host": "here"}
        if self._fails(frame) and self.where == "run":
            error = getattr(errors, str(self.fails))(f"{self.fails} wanted", "the literal line")
            if isinstance(error, WalltimeError):
                error.partial = Run({"out": b"cycle 1", "chk": b"orbitals"}, **about)
            raise error
        atoms = frame.to_atoms()
        atoms.calc = EMT(asap_cutoff=False)
        state = self._state(frame, attempt)
        energy = atoms.get_potential_energy() + state * self.shift_eV
        forces = atoms.get_forces(apply_constraint=False) * (1 + 0.5 * state)
        result = {"energy": energy, "forces": forces.tolist()}
        changes = {"smearing_eV": 0.1} if number(frame) < self.smears else {}
        return Run(
            {"result.json": json.dumps(result).encode(), "out": b"converged"}, changes=changes, **about
        )

    def _state(self, frame: Frame, attempt: Attempt) -> int:
        """Number of the electronic state."""
        if number(frame) >= self.wrong:
            return 0
        return {"right": 0, "same": 1, "higher": 2}[self.second] if attempt.other_guess else 1

    def _fails(self, frame: Frame) -> bool:
        return self.fails is not None and number(frame) < self.failing and Path(self.file).exists()

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label."""
        if self._fails(frame) and self.where == "parse":
            raise getattr(errors, str(self.fails))(
                f"frame {frame.id[:12]}: {self.fails} wanted", "the literal line"
            )
        result: dict[str, Any] = json.loads(run.files["result.json"])
        about = {"command": run.command, "host": run.host, "changes": run.changes}
        return Label(result["energy"], np.array(result["forces"]), **about)
