"""campaign.yaml: what may stand in it, and the objects it stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from alfw.core.errors import ConfigError, PluginError
from alfw.core.ids import content_id
from alfw.core.protocols import Labeler, Model, Sampler, Selector
from alfw.core.records import Resources
from alfw.core.registry import plugin_class

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*[a-z0-9]$", max_length=60)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
PLACEHOLDER = re.compile(r"^>>([A-Za-z_][A-Za-z0-9_]*)<<$")
UNAVAILABLE = "not available in this version"


class Section(BaseModel):
    """A part of campaign.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    walltime: Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d$")] | None = None
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
    """When the campaign is done: any of the limits, or the accuracy wanted."""

    min_rounds: Annotated[int, Field(ge=0)] = 1
    max_rounds: PositiveInt = 10
    force_rmse_eV_per_A: PositiveFloat | None = None
    max_labels: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unavailable(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "cpu_hours" in value:
            raise ValueError(f"cpu_hours is {UNAVAILABLE}")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> StopSection:
        if self.min_rounds > self.max_rounds:
            raise ValueError(f"min_rounds {self.min_rounds} is above max_rounds {self.max_rounds}")
        return self


class SelectStage(Section):
    """How many frames `select` proposes; the other keys of the section are the selector's."""

    max_frames: PositiveInt = 50
    audit_frames: Annotated[int, Field(ge=0)] = 10


class LabelStage(Section):
    """How labels are spread over Fireworks; the other keys of the section are the labeler's."""

    max_failed_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    frames_per_firework: PositiveInt = 1
    max_tries: PositiveInt = 3


class CampaignFile(Section):
    """The sections of campaign.yaml; those of plug-ins are still plain mappings."""

    schema_version: Literal[1]
    name: Name
    seed: Annotated[int, Field(ge=0)] = 0
    system: SystemSection = SystemSection()
    data: DataSection
    model: dict[str, Any]
    train: TrainSection = TrainSection()
    sample: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    select: dict[str, Any]
    label: dict[str, Any]
    resources: ResourcesSection = ResourcesSection()
    stop: StopSection = StopSection()


@dataclass(frozen=True)
class Plugins:
    """The four plug-ins of a campaign, ready to work."""

    model: Model
    samplers: tuple[Sampler, ...]
    selector: Selector
    labeler: Labeler


class CampaignConfig:
    """A validated campaign.

    Attributes
    ----------
    raw : dict
        As the user wrote it (JSON data); what is stored and compared.
    file, select, label : CampaignFile, SelectStage, LabelStage
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        """Validate; nothing is read from disk.

        Raises
        ------
        ConfigError
            One line; starts with the path of the key.
        """
        self.raw: dict[str, Any] = _plain(raw)
        self.file = _validate(CampaignFile, self.raw, "")
        own, _ = _split(self.raw["select"], SelectStage)
        self.select: SelectStage = _validate(SelectStage, own, "select")
        own, _ = _split(self.raw["label"], LabelStage)
        self.label: LabelStage = _validate(LabelStage, own, "label")
        self.plugins(None)

    @property
    def name(self) -> str:
        """Name of the campaign."""
        return self.file.name

    @property
    def id(self) -> str:
        """SHA-256 of the content."""
        return content_id("campaign", {"config": self.raw})

    def plugins(self, env: Mapping[str, Any] | None) -> Plugins:
        """The plug-ins, with every `>>name<<` replaced by the worker's own value (None: left as it is).

        Raises
        ------
        ConfigError
            A plug-in is unknown or refuses an option, or the worker's env lacks a name.
        """
        sections = {key: self.raw[key] for key in ("model", "sample", "select", "label")}
        resolved = sections if env is None else _resolve(sections, env)
        return Plugins(
            model=_plugin("alfw.models", resolved["model"], "model"),
            samplers=tuple(
                _plugin("alfw.samplers", options, f"sample.{i}")
                for i, options in enumerate(resolved["sample"])
            ),
            selector=_plugin("alfw.selectors", _split(resolved["select"], SelectStage)[1], "select"),
            labeler=_plugin("alfw.labelers", _split(resolved["label"], LabelStage)[1], "label"),
        )

    def difference(self, other: CampaignConfig) -> list[str]:
        """Paths of the keys whose values differ."""
        mine, theirs = _flat(self.raw), _flat(other.raw)
        return sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))


def _plain(value: Any) -> Any:
    """Mappings, sequences and numbers as JSON data has them (ruamel's and pymongo's own types taken off)."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return None if value is None else str(value)


def _split(section: Mapping[str, Any], stage: type[Section]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stage's own keys of a section, and the plug-in's."""
    own = {key: value for key, value in section.items() if key in stage.model_fields}
    return own, {key: value for key, value in section.items() if key not in own}


def _validate(model: type[Any], raw: Mapping[str, Any], path: str) -> Any:
    """The pydantic object, or a ConfigError of one line."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_one_line(error, path)) from None


def _one_line(error: ValidationError, path: str) -> str:
    """``path.of.key: what is wrong; …`` for up to three errors."""
    texts = []
    for item in error.errors(include_url=False)[:3]:
        where = ".".join(str(part) for part in (path, *item["loc"]) if part != "")
        what = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            what = "unknown key"
        elif item["type"] != "missing" and not isinstance(item["input"], (dict, list)):
            what += f" (got {item['input']!r})"
        texts.append(f"{where}: {what}")
    more = error.error_count() - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")


def _plugin(group: str, options: Mapping[str, Any], path: str) -> Any:
    """The plug-in object of one section."""
    kind = options.get("kind")
    if not isinstance(kind, str):
        raise ConfigError(f"{path}.kind: missing; it names the plug-in")
    try:
        cls = plugin_class(group, kind)
    except PluginError as error:
        raise ConfigError(f"{path}.kind: {error}") from None
    return _validate(cls, options, path)


def _resolve(value: Any, env: Mapping[str, Any]) -> Any:
    """`value` with every `>>name<<` replaced by ``env[name]``."""
    if isinstance(value, Mapping):
        return {key: _resolve(item, env) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, env) for item in value]
    match = PLACEHOLDER.match(value) if isinstance(value, str) else None
    if match is None:
        return value
    if match[1] not in env:
        raise ConfigError(f"{value}: the env of this worker's my_fworker.yaml has no {match[1]!r}")
    return env[match[1]]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves of nested JSON data by dotted path."""
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)  # type: ignore[assignment]
    else:
        return {path: value}
    return {k: v for key, item in items for k, v in _flat(item, f"{path}.{key}".lstrip(".")).items()}
