"""Foundation checkpoints: found by path or published name, pinned by content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alfw.core.errors import DataError
from alfw.core.ids import sha256
from alfw.core.registry import private
from alfw.models._pickles import refuse_pickle

CACHE = Path("~/.cache/nequix/models")  # Nequix's own


def pinned(options: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The model's options; `start_from` and `replay` absolute paths, pinned by their content, where there are any.

    Raises
    ------
    DataError
        The file is missing or has other content than `start_sha256`; a published name that cannot be downloaded.
    TrainingError
        It is a pickle.
    """
    named = options.get("start_from")
    if not isinstance(named, str):
        return dict(options)
    path = base / Path(named).expanduser()
    if not path.is_file():
        path = _published(named, path)
    refuse_pickle(path)
    return {**options, "start_from": str(path), "start_sha256": _content(options, "start", path)} | _replay(
        options, base
    )


def _replay(options: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The file of frames that are replayed, made absolute and pinned; nothing where there is none."""
    named = options.get("replay")
    if not isinstance(named, str):
        return {}
    path = base / Path(named).expanduser()
    if not path.is_file():
        raise DataError(f"replay: {path} is not there")
    return {"replay": str(path), "replay_sha256": _content(options, "replay", path)}


def _content(options: Mapping[str, Any], key: str, path: Path) -> str:
    """SHA-256 of the file, which must be the one that the options state, if they do."""
    found, stated = sha256(path.read_bytes()), options.get(f"{key}_sha256")
    if stated not in (None, found):
        raise DataError(f"{path} has SHA-256 {found[:12]}…, but {key}_sha256 says {str(stated)[:12]}…")
    return found


def _published(name: str, path: Path) -> Path:
    """A published checkpoint in Nequix's own cache, downloaded if need be."""
    if "/" in name or name.endswith((".nqx", ".pt")):
        raise DataError(f"start_from: {path} is not there")
    cached = CACHE.expanduser() / f"{name}.nqx"
    return (
        cached
        if cached.is_file()
        else private("alfw.models._nequix_published", "nequix").download(name, cached)
    )
