"""Hartree-Fock, density functional and correlated calculations of molecules through ORCA 4, 5 and 6."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from alfw.core.errors import MissingOutputError, StructureError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.core.units import BOHR_A
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_periodicity
from alfw.labelers._deck import with_decks
from alfw.labelers._esp import EspGrid, check_esp, surface_points
from alfw.labelers._orca_program import PROGRAM, SERIAL
from alfw.labelers._output import MATCH_A
from alfw.labelers.readers.orca import POTENTIAL

POINTS = "orca.vpot.xyz"
# Words that the deck says itself, or whose output is not that of one geometry; in lower case.
TAKEN = (
    r"(very)?(loose|normal|tight)?opt|copt|zopt|optts|scants|goat|neb.*|irc|md|(an|num)?freq|(num|en)grad|energy|sp"
    r"|r(hf|ks)|u(hf|ks)|ro(hf|ks)|(no)?autostart|moread|keepdens|usesym|pal\d+|patom|pmodel|hueckel|hcore|fracocc"
    r"|(cpcm|smd|cosmo|alpb)\(.*|c-?pcm|xtb\d?|(native-)?gfn.*|[!*%#$].*"
)
TAKEN_BLOCKS = (
    r"^\s*[!*]|\$new_job|%\s*(maxcore|pal|moinp|base|coords|geom|md|neb|compound|sym)\b"
    r"|\b(guess|moinp|autostart|hftyp|smeartemp|fracocc)\b"
)
BASIS_WITHIN = r".*-3c|am1|pm3|mndo"  # methods that bring their basis along
CORRELATED = r"mp[2-4]|ccsd|cisd|cepa|cpf|plyp|dsd|casscf|nevpt"


class OrcaLabeler(BaseModel):
    """Energy, forces, dipole, Mulliken charges, ⟨S²⟩ of open shells; the electrostatic potential where asked for.

    Restricted for singlets, unrestricted otherwise. Correlated methods come without dipole and charges.

    Attributes
    ----------
    method, basis, dispersion : str
        ORCA's words, e.g. ``PBE0``, ``def2-TZVP``, ``D4``; composite methods (``r2SCAN-3c``) have no basis.
    keywords : str
        Further words of the simple input.
    blocks : str
        Further ``%`` blocks, as text.
    solvent : str or None
        E.g. ``CPCM(water)`` or ``SMD(water)``.
    unrestricted : bool
        Also for singlets.
    esp : EspGrid or None
        Where ``orca_vpot`` gives the potential of the SCF density.
    version : str or None
        Major version, e.g. ``6``; another one pauses the campaign.
    decks : folder, optional
        With an own ``orca.inp.j2``.
    max_cycles : int or None
        SCF cycles before the first remedy; None = ORCA's own.
    allow_theory_changes : bool
        Whether linearly dependent bases may be cut (``SThresh``).
    command : str
        ORCA finds its parallel parts only when it is called with its full path: ``/opt/orca/orca orca.inp``.
    vpot_command : str or None
        None = ``orca_vpot`` from the folder of `command`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = False
    execution_only: ClassVar[frozenset[str]] = frozenset({"command", "vpot_command", "max_cycles"})

    kind: Literal["orca"] = "orca"
    method: Annotated[str, Field(pattern=r"^\S+$")]
    basis: Annotated[str, Field(pattern=r"^\S*$")] = ""
    dispersion: Annotated[str, Field(pattern=r"^\S+$")] | None = None
    keywords: Annotated[str, Field(pattern=r"^[^\n]*$")] = "TightSCF"
    blocks: str = ""
    solvent: Annotated[str, Field(pattern=r"^(CPCM|SMD)\([^\"\n]+\)$")] | None = None
    unrestricted: bool = False
    esp: EspGrid | None = None
    version: str | None = None
    decks: dict[str, str] | str | None = None
    max_cycles: PositiveInt | None = None
    allow_theory_changes: bool = False
    command: Annotated[str, Field(min_length=1)] = "orca orca.inp"
    vpot_command: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        words = [self.method, *self.basis.split(), *(self.dispersion or "").split(), *self.keywords.split()]
        for word in words:
            if re.fullmatch(TAKEN, word.lower()):
                raise ValueError(f"{word}: the deck sees to that; leave it out (solvents: `solvent`)")
        block = re.search(TAKEN_BLOCKS, self.blocks, re.IGNORECASE | re.MULTILINE)
        if block is not None:
            raise ValueError(f"blocks: the deck sees to {block.group().strip()!r}; leave it out")
        within = re.fullmatch(BASIS_WITHIN, self.method.lower())
        if within and self.basis:
            raise ValueError(f"basis: {self.method} brings its own")
        if not within and not self.basis and not re.search(r"%\s*basis\b", self.blocks, re.IGNORECASE):
            raise ValueError(f"basis: {self.method} needs one")
        if self.esp and re.search(CORRELATED, self.method.lower()):
            raise ValueError(f"esp: orca_vpot has the SCF density alone, not that of {self.method}")
        return self

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's deck read in."""
        return with_decks(options, base, tuple(PROGRAM.decks.values()))

    def theory(self) -> Theory:
        """All options but those of execution, in lower case where ORCA does not mind, and the hash of the deck."""
        words: dict[str, Any] = {
            name: getattr(self, name) for name in ("method", "basis", "dispersion", "solvent")
        }
        words = {name: word and word.lower() for name, word in words.items()}
        words["keywords"] = " ".join(sorted(self.keywords.lower().split()))
        words["blocks"] = " ".join(self.blocks.split())
        found = _program.theory(PROGRAM, self, **words)
        left_out = {"esp"} if self.esp is None else set()
        return replace(found, settings={k: v for k, v in found.settings.items() if k not in left_out})

    def check(self, frame: Frame) -> None:
        """Raise InputError for periodic frames and for electron counts that do not fit."""
        check_periodicity(frame, self.kind, crystals=False)
        check_electrons(frame)
        check_esp(frame, self.esp)

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The deck, and the points of the potential."""
        return _program.inputs(PROGRAM, self, frame, resources, {}) | self._points(frame)

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Deck, log, ``.engrad`` and potential, after whatever remedies it took."""
        return _program.run(
            PROGRAM if resources.threads > 1 else SERIAL,
            self,
            frame,
            workdir,
            resources,
            attempt,
            command=self._command(),
            more={"split": None},
            files={} if self.esp is None else self._points(frame),
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        label = _program.parse(PROGRAM, self, frame, run)
        if self.esp is None:
            return replace(label, esp=None, esp_points=None)
        if label.esp_points is None:
            raise MissingOutputError(f"frame {frame.id[:12]}: orca_vpot has left no {POTENTIAL}", POTENTIAL)
        wanted = surface_points(frame, self.esp)
        if wanted.shape != label.esp_points.shape or np.abs(wanted - label.esp_points).max() > MATCH_A:
            raise StructureError(f"frame {frame.id[:12]}: {POTENTIAL} is of other points", POTENTIAL)
        return label

    def _command(self) -> str:
        """What is started: ORCA, and ``orca_vpot`` after it where there are points."""
        if self.esp is None:
            return self.command
        first = shlex.split(self.command)[0]
        beside = first[: -len("orca")] if first.endswith("/orca") else ""
        vpot = self.vpot_command or f"{beside}orca_vpot orca.gbw orca.scfp {POINTS} {POTENTIAL}"
        line = "; ".join(shlex.join(shlex.split(command)) for command in (self.command, vpot))
        return shlex.join(["/bin/sh", "-c", line])

    def _points(self, frame: Frame) -> dict[str, bytes]:
        """The points in Bohr, as ``orca_vpot`` wants them; nothing where there are none."""
        if self.esp is None:
            return {}
        points = surface_points(frame, self.esp) / BOHR_A
        rows = [" ".join(f"{x: .10f}" for x in point) for point in points]
        return {POINTS: "\n".join([str(len(rows)), *rows, ""]).encode()}
