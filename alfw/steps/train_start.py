"""What a training from files is asked for: the model of its options, and the weights that members start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alfw.config.messages import one_line
from alfw.core.errors import ConfigError, DataError, PluginError
from alfw.core.protocols import Model, NamesFiles
from alfw.core.registry import plugin_class
from alfw.models._pickles import is_pickle
from alfw.models.ensemble import ENSEMBLE, read_ensemble
from alfw.models.mmml import is_checkpoint


@dataclass(frozen=True, eq=False)
class Start:
    """A model, and what its members start from.

    Attributes
    ----------
    model : Model
    options : mapping
        As the model was made of them (JSON data).
    weights : tuple of (Path or None)
        Of each member; None = random.
    """

    model: Model
    options: Mapping[str, Any]
    weights: tuple[Path | None, ...]


def make_start(options: Mapping[str, Any], start_from: str | None = None) -> Start:
    """The model of these options, which name its kind.

    Parameters
    ----------
    start_from : str or None
        A checkpoint (or the name of a published one) for all members, or the folder of an ensemble, whose members
        are continued one by one.

    Raises
    ------
    ConfigError
        In one line: unknown kind, unknown or wrong option, missing file, a pickle, an ensemble of another kind.
    """
    options = {**options}
    try:
        cls = plugin_class("alfw.models", str(options.get("kind")))
    except PluginError as error:
        raise ConfigError(str(error)) from None
    weights: list[Path] = []
    if start_from is not None:
        weights = _weights(Path(start_from).expanduser(), str(options["kind"]))
        if not weights and "start_from" in getattr(cls, "model_fields", {}):
            options["start_from"] = start_from
        elif not weights:
            weights = [_file(Path(start_from).expanduser())]
    model, full = _model(cls, options)
    if not weights and full.get("start_from"):
        weights = [Path(full["start_from"])]
    given = tuple(weights[k % len(weights)] if weights else None for k in range(model.members))
    return Start(model, full, given)


def _model(cls: type[Any], options: Mapping[str, Any]) -> tuple[Model, Mapping[str, Any]]:
    kind = str(options["kind"])
    try:
        full = cls.with_files(options, Path.cwd()) if isinstance(cls, NamesFiles) else dict(options)
        return cls.model_validate(full), full
    except ValidationError as error:
        raise ConfigError(one_line(error, cls, kind)) from None
    except DataError as error:
        raise ConfigError(f"{kind}: {error}") from None


def _weights(path: Path, kind: str) -> list[Path]:
    """Weights of the members of an ensemble in a folder; none where `path` is something else."""
    if is_pickle(path) or (is_checkpoint(path) and not (path / ENSEMBLE).is_file()):
        raise ConfigError(
            f"{path}: a pickle, which can run code when it is read, is never loaded as a model. alfw convert checkpoint"
            f" --trust {path} -o OUT.npz reads its arrays and plain types, to run them; its network is another than"
            " alfw's, so a training starts without it"
        )
    if not (path.is_dir() or path.name == ENSEMBLE):
        return []
    found, content = read_ensemble(path)
    if content.get("kind") != kind:
        raise ConfigError(f"{path}: an ensemble of kind {content.get('kind')}, not {kind}")
    return found


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file or ensemble to start from")
    return path
