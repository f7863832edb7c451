"""A campaign's configuration: validated once, and the plug-ins it stands for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from alfw.config.messages import one_line
from alfw.config.prescreen import check_prescreen
from alfw.config.sections import CampaignFile, LabelStage, Section, SelectStage
from alfw.config.spread import check_error_band, check_spread
from alfw.config.stress import check_stress
from alfw.core.errors import ConfigError, PluginError
from alfw.core.ids import content_id
from alfw.core.protocols import Labeler, Model, Sampler, Selector
from alfw.core.registry import plugin_class

SECTIONS = ("model", "sample", "select", "label")  # of plug-ins
PLACEHOLDER = re.compile(r">>([A-Za-z_][A-Za-z0-9_]*)<<")


@dataclass(frozen=True)
class Plugins:
    """The plug-ins of a campaign, ready to work.

    `prescreen`: the cheap labeler that looks at what the selector picks, where the campaign has one.
    """

    model: Model
    samplers: tuple[Sampler, ...]
    selector: Selector
    labeler: Labeler
    prescreen: Labeler | None = None


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
        plugins = self.plugins(None)
        samplers = {f"sample.{i}": sampler for i, sampler in enumerate(plugins.samplers)}
        check_spread(plugins.model, samplers | {"select": plugins.selector})
        check_stress(plugins.model, plugins.labeler, samplers)
        check_error_band(plugins.model, plugins.selector, self.raw["select"], self.select.audit_frames)
        check_prescreen(plugins.labeler, plugins.prescreen)

    @property
    def name(self) -> str:
        """Name of the campaign."""
        return self.file.name

    @property
    def id(self) -> str:
        """SHA-256 of the content."""
        return content_id("campaign", {"config": self.raw})

    def plugins(self, env: Mapping[str, Any] | None, resolve: Collection[str] = SECTIONS) -> Plugins:
        """The plug-ins, with every `>>name<<` replaced by the worker's own value (None: left as it is).

        Parameters
        ----------
        resolve : collection of str
            The sections to replace them in: a worker has the values for its own work only.

        Raises
        ------
        ConfigError
            A plug-in is unknown or refuses an option, or the worker's env lacks a name.
        """
        resolved = {key: self.raw[key] for key in SECTIONS}
        if env is not None:
            resolved |= {key: _resolve(self.raw[key], env) for key in resolve}
        own, selector = _split(resolved["select"], SelectStage)
        cheap = (own.get("prescreen") or {}).get("labeler")
        return Plugins(
            model=_plugin("alfw.models", resolved["model"], "model"),
            samplers=tuple(
                _plugin("alfw.samplers", options, f"sample.{i}")
                for i, options in enumerate(resolved["sample"])
            ),
            selector=_plugin("alfw.selectors", selector, "select"),
            labeler=_plugin("alfw.labelers", _split(resolved["label"], LabelStage)[1], "label"),
            prescreen=_plugin("alfw.labelers", cheap, "select.prescreen.labeler")
            if cheap is not None
            else None,
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
        raise ConfigError(one_line(error, model, path)) from None


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
    """`value` with every `>>name<<` replaced by ``env[name]``, of whatever type where it is the whole value."""
    if isinstance(value, Mapping):
        return {key: _resolve(item, env) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, env) for item in value]
    if not isinstance(value, str):
        return value
    for name in PLACEHOLDER.findall(value):
        if name not in env:
            raise ConfigError(f"{value}: the env of this worker's my_fworker.yaml has no {name!r}")
    whole = PLACEHOLDER.fullmatch(value)
    return env[whole[1]] if whole else PLACEHOLDER.sub(lambda match: str(env[match[1]]), value)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves of nested JSON data by dotted path."""
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)  # type: ignore[assignment]
    else:
        return {path: value}
    return {k: v for key, item in items for k, v in _flat(item, f"{path}.{key}".lstrip(".")).items()}
