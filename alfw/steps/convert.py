"""Weights from one format to another: Nequix for JAX or torch, and the pickled checkpoints of the mmml project."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alfw.core.errors import ConfigError, TrainingError
from alfw.core.ids import sha256
from alfw.core.registry import private
from alfw.io.files import replacing
from alfw.models import mmml
from alfw.models._pickles import is_pickle, refuse_pickle
from alfw.models.ensemble import ENSEMBLE, read_ensemble, write_ensemble

OTHER = {".nqx": ".pt", ".pt": ".nqx"}  # Nequix's files for JAX and for torch


def convert_checkpoint(
    source: Path, target: Path, trust: bool = False, force: bool = False
) -> dict[str, Any]:
    """What was written (JSON data: source, files, format, n_members, sha256).

    Parameters
    ----------
    source : Path
        A ``.nqx`` or ``.pt``, an ensemble of these, or, with `trust`, a pickled checkpoint of the mmml project.
    target : Path
        A file of the other of the two formats; a folder for an ensemble; an ``.npz`` for a pickle.
    trust : bool
        Whether pickles are read: arrays and plain types of them, nothing else.
    force : bool
        Whether files that are there already are replaced.

    Raises
    ------
    ConfigError
        The target does not fit the source, or is there already.
    TrainingError
        The source is missing, damaged or cannot be converted, or is a pickle that is not trusted.
    """
    pickled = mmml.is_checkpoint(source) or is_pickle(source)
    if source.name == ENSEMBLE or (source / ENSEMBLE).is_file():
        convert: Callable[[Path, Path], Sequence[Path]] = _ensemble
        files = [target]
    elif pickled:
        if not trust:
            refuse_pickle(source / mmml.PARAMS if source.is_dir() else source)
        _must_end(target, ".npz", "the arrays of a pickle")
        convert, files = _pickled, mmml.outputs(target)
    elif source.suffix in OTHER:
        _must_end(target, OTHER[source.suffix], f"what a {source.suffix} is converted to")
        convert, files = _nequix, [target]
    else:
        raise ConfigError(
            f"{source}: not a checkpoint; {', '.join(OTHER)}, a folder with {ENSEMBLE} or with {mmml.PARAMS} are"
        )
    there = [path for path in files if path.exists()]
    if there and not force:
        raise ConfigError(f"{there[0]} exists: choose another name, or replace it with --force")
    written = convert(source, target)
    weights = [path for path in written if path.suffix in (*OTHER, ".npz")]
    return {
        "source": str(source),
        "format": {".nqx": "nequix", ".pt": "nequix torch", ".npz": mmml.FORMAT}[weights[0].suffix],
        "n_members": len(weights),
        "files": [str(path) for path in written],
        "sha256": [sha256(path.read_bytes()) for path in weights],
    }


def _must_end(path: Path, suffix: str, what: str) -> None:
    if path.suffix != suffix:
        raise ConfigError(f"{path}: {what}: its name must end in {suffix}")


def _nequix(source: Path, target: Path) -> list[Path]:
    """One file of weights."""
    network = private("alfw.models._nequix_network", "nequix")
    found = network.load(source)
    weights = network.program(found.spec).network(found.params)
    with replacing(target) as temporary:
        try:
            network.save(temporary, found.spec, weights, found.reference, found.heads)
        except TrainingError as error:
            raise TrainingError(f"{source}: {error}") from None
    return [target]


def _ensemble(source: Path, target: Path) -> list[Path]:
    """All members, to the other format, or to ``.nqx`` where they have both; what is known of them is kept."""
    members, content = read_ensemble(source)
    suffixes = {path.suffix for path in members}
    if not suffixes <= set(OTHER):
        raise ConfigError(
            f"{source}: its members are {', '.join(sorted(suffixes))} files: nothing to convert"
        )
    to = OTHER[suffixes.pop()] if len(suffixes) == 1 else ".nqx"
    with tempfile.TemporaryDirectory() as folder, replacing(target) as temporary:
        converted = [Path(folder) / f"{path.stem}{to}" for path in members]
        for path, new in zip(members, converted, strict=True):
            _nequix(path, new)
        write_ensemble(
            temporary, converted, content["members"], content.get("provenance"), content.get("model")
        )
    return [target / f"member_{k}{to}" for k in range(len(members))] + [target / ENSEMBLE]


def _pickled(source: Path, target: Path) -> list[Path]:
    """A checkpoint of mmml's trainer."""
    return mmml.write(target, mmml.read(source))
