"""What the stages hand to one another: plain frozen records, numpy arrays, alfw's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from alfw.core.frame import Float, Frame
from alfw.core.ids import content_id

Side = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Resources:
    """What a plug-in may use on the machine where it runs; never part of an id.

    Attributes
    ----------
    device : {"cpu", "gpu"}
    threads : int
        Threads of a QM program or of BLAS; always pinned, never left to the library.
    mem_GB, walltime_s : float or None
        None = no limit known.
    scratch : Path or None
        Fast local folder; None = the working folder.
    """

    device: Literal["cpu", "gpu"] = "cpu"
    threads: int = 1
    mem_GB: float | None = None
    walltime_s: float | None = None
    scratch: Path | None = None


@dataclass(frozen=True)
class Theory:
    """All that fixes the energy surface; known without the program being installed.

    Attributes
    ----------
    code : str
        e.g. ``pyscf``; the major version, where it matters, belongs into `settings`.
    settings : mapping
        Every input that changes the energy: method, basis, dispersion, grids, thresholds …
    """

    code: str
    settings: Mapping[str, Any]

    @cached_property
    def id(self) -> str:
        """SHA-256 of code and settings."""
        return content_id("theory", {"code": self.code, "settings": dict(self.settings)})

    def __str__(self) -> str:
        return f"{self.code} " + " ".join(f"{k}={v}" for k, v in sorted(self.settings.items()))


@dataclass(frozen=True)
class Attempt:
    """What earlier attempts at a frame teach the next one.

    Attributes
    ----------
    other_guess : bool
        The last result was suspect: start the SCF from another first guess.
    restart : {name: bytes}
        What an attempt left that ran out of time; the checkpoint files among it are for the labeler to choose.
    """

    other_guess: bool = False
    restart: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """The raw output of one calculation, before anything is judged.

    Attributes
    ----------
    files : {name: bytes}
        What the program left, enough for `Labeler.parse` to decide on success and read the result.
    corrections : sequence of mapping
        One per remedy that custodian applied: {"errors": [...], "actions": [...]}.
    changes : mapping
        Settings of the theory that an allowed remedy changed, with their new values; empty = none.
    wall_s : float
    version, command, host : str
    """

    files: Mapping[str, bytes]
    corrections: Sequence[Mapping[str, Any]] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    wall_s: float = 0.0
    version: str = ""
    command: str = ""
    host: str = ""


@dataclass(frozen=True, eq=False)
class Label:
    """Reference values of one frame at one theory.

    Attributes
    ----------
    energy : float, eV
        The force-consistent one.
    forces : (n, 3) float64, eV/Å
        Raw, also on fixed atoms.
    stress : (3, 3) float64 or None, eV/Å^3
        +(1/V) dE/dε, tension positive.
    dipole : (3,) float64 or None, e·Å
        Non-periodic frames only; of charged ones about the centre of mass.
    charges : (n,) float64 or None, e
    s_squared : float or None
        ⟨S²⟩ of open shells.
    esp : (G,) float64 or None, V
        Electrostatic potential at `esp_points`.
    esp_points : (G, 3) float64 or None, Å
        In the frame's own orientation.
    confirmed : bool
        Whether a calculation from another first guess gave the same, after the first was far off what was expected.
    corrections, changes, wall_s, version, command, host
        As in `Run`.
    """

    energy: float
    forces: Float
    stress: Float | None = None
    dipole: Float | None = None
    charges: Float | None = None
    s_squared: float | None = None
    esp: Float | None = None
    esp_points: Float | None = None
    confirmed: bool = False
    corrections: Sequence[Mapping[str, Any]] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    wall_s: float = 0.0
    version: str = ""
    command: str = ""
    host: str = ""


@dataclass(frozen=True, eq=False)
class Labeled:
    """A frame with its label."""

    frame: Frame
    label: Label


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a model is trained on.

    Attributes
    ----------
    train, valid : sequence of Labeled
        `valid` may be empty.
    statistics : mapping or None
        `Model.statistics` of the lineage (JSON data): fixed at the start of a campaign, shared by all members.
    replay : sequence of Frames
        Frames on which the weights that training starts from are to go on saying what they say; see
        `alfw.models.nequix.NequixModel.replay`.
    """

    train: Sequence[Labeled]
    valid: Sequence[Labeled] = ()
    statistics: Mapping[str, Any] | None = None
    replay: Sequence[Frame] = ()


@dataclass(frozen=True, eq=False)
class Prediction:
    """What K members say of B frames.

    Attributes
    ----------
    energy : (K, B) float64, eV
    forces : B × (K, n, 3) float64, eV/Å
    stress : B × ((K, 3, 3) float64 or None), or None, eV/Å^3
        None where a frame is not periodic, or altogether where the model has no stress.
    dipole : (K, B, 3) float64 or None, e·Å
    features : B × (n, D) float32, or None
        Per-atom features, of a model that has them anyway; `HasFeatures.features` computes them where they are wanted.
    """

    energy: Float
    forces: list[Float]
    stress: list[Float | None] | None = None
    dipole: Float | None = None
    features: list[Float] | None = None
