"""The sections of campaign.yaml: which keys there are, and what they may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from alfw.core.records import Resources


def _shaped(pattern: str, words: str) -> AfterValidator:
    """A validator of text that says in words what a regular expression only shows."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


NAME_RULE = "must be 2 to 60 lower-case letters (a-z), digits and hyphens, a letter first and no hyphen last"
# FireWorks and file names have to bear it, and it must not look like a date.
Name = Annotated[str, _shaped(r"[a-z][a-z0-9-]{0,58}[a-z0-9]", NAME_RULE)]
Walltime = Annotated[str, _shaped(r"\d+:[0-5]\d:[0-5]\d", "must be HH:MM:SS, in quotes")]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
_End = Annotated[float, Field(ge=0.0)] | None


def _rising(band: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = band
    if low is not None and high is not None and low >= high:
        raise ValueError(f"the lower end {low} must be below the upper end {high}")
    return band


ErrorBand = Annotated[tuple[_End, _End], AfterValidator(_rising)]  # null = open
UNAVAILABLE = "not available in this version"


class Section(BaseModel):
    """A part of campaign.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SystemSection(Section):
    """Defaults of the frames; a frame's own values win."""

    charge: int = 0
    multiplicity: PositiveInt = 1
    partial_pbc: Literal["vacuum"] | None = None


class InitialData(Section):
    """One file (or glob) of initial frames, and what its energies and forces are worth."""

    path: str
    theory: str | None = None


class SplitSection(Section):
    """Which share of the labels goes to the valid side, and of the initial ones to the test side."""

    valid: Fraction = 0.1
    test: Fraction = 0.2


class DataSection(Section):
    """Where the first frames come from."""

    initial: Annotated[tuple[InitialData, ...], Field(min_length=1)]
    test: dict[Name, str | InitialData] | None = None
    split: SplitSection = SplitSection()

    @model_validator(mode="before")
    @classmethod
    def _refuse_unavailable(cls, value: Any) -> Any:
        for entry in value.get("initial") or () if isinstance(value, Mapping) else ():
            if isinstance(entry, Mapping) and "from_campaign" in entry:
                raise ValueError(f"from_campaign is {UNAVAILABLE}")
        return value


class TrainSection(Section):
    """How training is spread: all members in one Firework, or one each."""

    firework_per_member: bool = False


class StageResources(Section):
    """What the Fireworks of one stage ask for; never part of an id."""

    category: Name | None = None
    queue: str | None = None
    walltime: Walltime | None = None
    nodes: PositiveInt | None = None
    ntasks: PositiveInt = 1
    mem_GB: PositiveFloat | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    scratch: Path | None = None

    @property
    def walltime_s(self) -> float | None:
        """The walltime in seconds."""
        if self.walltime is None:
            return None
        hours, minutes, seconds = map(int, self.walltime.split(":"))
        return 3600.0 * hours + 60.0 * minutes + seconds

    def resources(self) -> Resources:
        """What a plug-in gets to see of it."""
        return Resources(
            device="gpu" if self.gpus else "cpu",
            threads=self.ntasks,
            mem_GB=self.mem_GB,
            walltime_s=self.walltime_s,
            scratch=self.scratch,
        )

    def queue_adapter(self) -> dict[str, Any]:
        """What `_queueadapter` overrides in my_qadapter.yaml (acts with `qlaunch -r` only)."""
        wanted: dict[str, Any] = {
            "queue": self.queue,
            "walltime": self.walltime,
            "nodes": self.nodes,
            "ntasks": self.ntasks if self.ntasks > 1 else None,
            "mem": f"{round(1024 * self.mem_GB)}M" if self.mem_GB else None,
            "gres": f"gpu:{self.gpus}" if self.gpus else None,
        }
        return {key: value for key, value in wanted.items() if value is not None}


class ResourcesSection(Section):
    """Resources by stage; the categories of the design's table by default."""

    control: StageResources = StageResources(category="control")
    sample: StageResources = StageResources(category="md")
    train: StageResources = StageResources(category="train")
    label: StageResources = StageResources(category="qm")


class StopSection(Section):
    """When the campaign is done.

    Each budget (max_rounds, max_labels, cpu_hours, gpu_hours) ends it by itself. Of the others (force_rmse_eV_per_A,
    min_gain_percent, max_failures_per_ns) all that are given have to be met, after min_rounds.
    """

    min_rounds: Annotated[int, Field(ge=0)] = 1
    max_rounds: PositiveInt = 10
    max_labels: PositiveInt | None = None
    cpu_hours: Annotated[float, Field(ge=0.0)] | None = None
    gpu_hours: Annotated[float, Field(ge=0.0)] | None = None
    force_rmse_eV_per_A: PositiveFloat | None = None
    min_gain_percent: Annotated[float, Field(gt=0.0, lt=100.0)] | None = None
    max_failures_per_ns: PositiveFloat | None = None

    @model_validator(mode="after")
    def _ordered(self) -> StopSection:
        if self.min_rounds > self.max_rounds:
            raise ValueError(f"min_rounds {self.min_rounds} is above max_rounds {self.max_rounds}")
        return self


class CalibrationSection(Section):
    """What error bars promise: the share of new frames whose largest force error is to stay below them."""

    coverage: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.9


class PreScreen(Section):
    """A cheap labeler looks at what the selector picks, before costly labels are computed.

    Attributes
    ----------
    labeler : mapping
        Kind and options of a labeler; its labels are never stored as labels.
    max_force_eV_per_A : float or None
        Cheap forces beyond are unphysical; None = not looked at.
    energy_window_eV_per_atom : float or None
        Cheap energies farther than this from the median of the labelled frames of the same composition are; None = not
        looked at.
    oversample : float
        So many times `max_frames` the selector picks, so that others take the place of what is rejected.
    """

    labeler: dict[str, Any]
    max_force_eV_per_A: PositiveFloat | None = 30.0
    energy_window_eV_per_atom: PositiveFloat | None = 1.0
    oversample: Annotated[float, Field(ge=1.0, le=10.0)] = 1.5


class SelectStage(Section):
    """How many frames `select` proposes; the other keys of the section are the selector's."""

    max_frames: PositiveInt = 50
    audit_frames: Annotated[int, Field(ge=0)] = 10
    # The band of the selector as errors to expect, in place of values of force_std; see `alfw.steps.calibrate`.
    band_error_eV_per_A: ErrorBand | None = None
    # What the labels of a round may cost, by a model learnt from finished ones; see `alfw.steps.label_cost`.
    budget_cpu_hours: Annotated[float, Field(ge=0.0)] | None = None
    prescreen: PreScreen | None = None


class LabelStage(Section):
    """How labels are spread over Fireworks; the other keys of the section are the labeler's."""

    max_failed_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    frames_per_firework: PositiveInt = 1
    max_tries: PositiveInt = 3


class CampaignFile(Section):
    """The sections of campaign.yaml; those of plug-ins are still plain mappings."""

    schema_version: Literal[1]
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    system: SystemSection = SystemSection()
    data: DataSection
    model: dict[str, Any]
    train: TrainSection = TrainSection()
    sample: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    select: dict[str, Any]
    label: dict[str, Any]
    resources: ResourcesSection = ResourcesSection()
    calibration: CalibrationSection = CalibrationSection()
    stop: StopSection = StopSection()
