"""Frames of many files, each with a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from alfw.core.errors import DataError
from alfw.io.frames import expand_paths, read_frames
from alfw.io.imported import Imported


def named_frames(
    patterns: Iterable[str | Path],
    charge: int = 0,
    multiplicity: int = 1,
    partial_pbc: Literal["vacuum"] | None = None,
) -> dict[str, tuple[Imported, Path | None]]:
    """Frames of files, folders and globs by stem, with the JSON file beside each where there is one.

    The stem is the file's name without suffix; frames of a file with several have ``_0000`` … added.

    Raises
    ------
    DataError
        Nothing there, a file that cannot be used, or two frames of one stem.
    """
    found: dict[str, tuple[Imported, Path | None]] = {}
    origin: dict[str, Path] = {}
    for path in _without_sidecars(expand_paths(patterns)):
        items = read_frames(path, charge, multiplicity, partial_pbc)
        sidecar = path.with_suffix(".json")
        several = len(items) > 1
        for index, item in enumerate(items):
            stem = f"{path.stem}_{index:04d}" if several else path.stem
            if stem in found:
                raise DataError(
                    f"{path} and {origin[stem]} have frames of the same name {stem!r}: rename one of them"
                )
            beside = sidecar if sidecar.is_file() and not several and sidecar != path else None
            found[stem], origin[stem] = (item, beside), path
    return found


def _without_sidecars(paths: Sequence[Path]) -> list[Path]:
    """The files that hold structures: not the JSON beside one of the same stem."""
    stems = {path.with_suffix("") for path in paths if path.suffix != ".json"}
    return [path for path in paths if path.suffix != ".json" or path.with_suffix("") not in stems]
