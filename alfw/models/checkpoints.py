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
    """The model's options; `start_from` an absolute path and `start_sha256` its content, where there is one.

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
    found, stated = sha256(path.read_bytes()), options.get("start_sha256")
    if stated not in (None, found):
        raise DataError(
            f"start_from: {path} has SHA-256 {found[:12]}…, but start_sha256 says {str(stated)[:12]}…"
        )
    return {**options, "start_from": str(path), "start_sha256": found}


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
