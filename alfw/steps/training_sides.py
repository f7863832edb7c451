"""The train and the valid side of a training from files, without a database."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alfw.core.errors import DataError
from alfw.core.ids import content_id, derive_seed
from alfw.core.records import Labeled
from alfw.core.split import split_note, split_sides
from alfw.io.datasets import Source, read_dataset
from alfw.io.frames import expand_paths
from alfw.io.imported import Imported
from alfw.io.pair_files import Reading
from alfw.steps.data_merge import merge

VALID_SHARE = 0.1  # of the frames, where no files are given for the valid side


@dataclass(frozen=True, eq=False)
class Sides:
    """Labelled frames to train on, and those to choose by.

    Attributes
    ----------
    train, valid : list of Labeled
    notes : list of str
        What a user should know of them, one line each.
    files : list of {"side", "path", "sha256"}
    """

    train: list[Labeled]
    valid: list[Labeled]
    notes: list[str] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """SHA-256 of frames and labels, in order: what a training depends on."""
        return content_id("sides", {"train": _digests(self.train), "valid": _digests(self.valid)})

    @property
    def n_esp(self) -> tuple[int, int]:
        """How many frames of each side have a potential."""
        train, valid = (sum(x.label.esp is not None for x in side) for side in (self.train, self.valid))
        return train, valid


def _digests(items: Sequence[Labeled]) -> list[str]:
    return [
        content_id(
            "labeled",
            {"frame": item.frame.id, "masses": item.frame.masses, **_numbers(item), "esp": _grid(item)},
        )
        for item in items
    ]


def _numbers(item: Labeled) -> dict[str, Any]:
    label = item.label
    optional = {"stress": label.stress, "dipole": label.dipole, "charges": label.charges}
    given = {key: value for key, value in optional.items() if value is not None}
    return {"energy": label.energy, "forces": label.forces, **given}


def _grid(item: Labeled) -> Any:
    label = item.label
    if label.esp is None or label.esp_points is None:
        return None
    return np.column_stack([label.esp_points, label.esp])


def sources(patterns: Sequence[str | Path]) -> list[Source]:
    """The files that these files, folders and globs name; JSON beside them is not data.

    Raises
    ------
    DataError
        Nothing there.
    """
    found = [Source(path) for path in expand_paths(patterns) if path.suffix != ".json"]
    if not found:
        raise DataError(f"{', '.join(map(str, patterns))}: no file with labelled frames there")
    return found


def read_sides(
    train: Sequence[Source],
    valid: Sequence[Source],
    reading: Reading,
    seed: int,
    partial_pbc: Literal["vacuum"] | None = None,
) -> Sides:
    """Both sides; without files for the valid side, a tenth of the frames, by trajectory.

    Sides that files state are kept: what is on the test side there is left out.

    Raises
    ------
    DataError
        A file cannot be used, frames have no label, or nothing is left to train on.
    """
    notes: list[str] = []
    given = _read(train, reading, partial_pbc, notes)
    chosen = _read(valid, reading, partial_pbc, notes) if valid else None
    tested = sum(item.side == "test" for item in given)
    if tested:
        notes.append(f"{tested} frames of the test side are left out")
        given = [item for item in given if item.side != "test"]
    if chosen is None:
        left, chosen = _split(given, seed, notes)
    else:
        left = _unseen([item for item in given if item.side != "valid"], chosen, notes)
        chosen = chosen + [item for item in given if item.side == "valid"]
    if not left:
        raise DataError(f"{', '.join(str(s.path) for s in train)}: no frame is left to train on")
    files = [(side, path) for side, some in (("train", train), ("valid", valid)) for path in _paths(some)]
    return Sides(
        [_labeled(item) for item in left],
        [_labeled(item) for item in chosen],
        notes,
        [{"side": side, "path": str(path), "sha256": file_sha256(path)} for side, path in files],
    )


def _read(
    sources: Sequence[Source], reading: Reading, partial_pbc: Literal["vacuum"] | None, notes: list[str]
) -> list[Imported]:
    """The frames of all files, each once."""
    inputs = {}
    for source in sources:
        inputs[str(source.path)], told = read_dataset(source, reading, partial_pbc)
        notes += told
    merged = merge(inputs)
    notes += merged.notes
    if merged.n_duplicates:
        notes.append(f"{merged.n_duplicates} frames were there twice, with the same label: taken once")
    return merged.items


def _split(items: list[Imported], seed: int, notes: list[str]) -> tuple[list[Imported], list[Imported]]:
    """The train and the valid side of frames without one of their own."""
    if len(items) < 2:
        return items, []
    stated = [item.side for item in items]
    share = 0.0 if "valid" in stated else VALID_SHARE
    trajectories = [item.trajectory for item in items]
    sides = split_sides(trajectories, share, 0.0, derive_seed(seed, "sides"), stated)
    note = split_note([t for t, side in zip(trajectories, stated, strict=True) if side is None], share, 0.0)
    if note:
        notes.append(note)
    chosen = {
        side: [x for x, s in zip(items, sides, strict=True) if s == side] for side in ("train", "valid")
    }
    whose = (
        "as the files say"
        if not share
        else f"{100 * VALID_SHARE:.0f} % of the frames, by trajectory where known"
    )
    notes.append(f"valid side: {len(chosen['valid'])} frames, {whose}")
    return chosen["train"], chosen["valid"]


def _unseen(items: list[Imported], valid: Sequence[Imported], notes: list[str]) -> list[Imported]:
    """The frames that are not on the valid side as well."""
    known = {item.frame.id for item in valid}
    left = [item for item in items if item.frame.id not in known]
    if len(left) < len(items):
        notes.append(f"{len(items) - len(left)} frames are on the valid side, too: not trained on")
    return left


def _labeled(item: Imported) -> Labeled:
    if item.label is None:
        raise DataError(f"frame {item.frame.id[:12]} has no label")
    return Labeled(item.frame, item.label)


def _paths(sources: Sequence[Source]) -> list[Path]:
    return [path for source in sources for path in (source.path, source.esp) if path is not None]


def file_sha256(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file of any size."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
