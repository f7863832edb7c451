"""Frames of event files, and of others, out to where they are labelled."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alfw.core.errors import ConfigError
from alfw.io.files import replacing
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.steps.frame_candidates import Candidate, Wanted, choose
from alfw.steps.frame_files import Found
from alfw.steps.frame_listing import about, finite

OURS = re.compile(r"structure_\d{4,}\.(xyz|json)")


def check_target(output: Path, force: bool) -> None:
    """Raise ConfigError where something is there that must not be replaced."""
    if output.suffix in (".xyz", ".extxyz"):
        if os.path.lexists(output) and not force:
            raise ConfigError(f"{output} is there already: choose another name, or --force replaces it")
        return
    if output.suffix and not output.is_dir():
        raise ConfigError(f"{output}: a folder, or a file whose name ends in .extxyz or .xyz")
    strange = (
        [path.name for path in output.iterdir() if not OURS.fullmatch(path.name)] if output.is_dir() else []
    )
    if strange:
        raise ConfigError(f"{output} holds other files ({min(strange)}): choose another folder")
    if output.is_dir() and any(output.iterdir()) and not force:
        raise ConfigError(
            f"{output} holds structures already: choose another folder, or --force replaces them"
        )


def export(found: Found, wanted: Wanted, output: Path, force: bool = False) -> dict[str, Any]:
    """Write the frames chosen, all or none; what --json says.

    A folder gets ``structure_0000.xyz`` with ``structure_0000.json`` and so on, a file all frames.

    Raises
    ------
    ConfigError
        There is something in the way.
    """
    check_target(output, force)
    chosen = choose(found, wanted)
    if chosen.candidates:
        with replacing(output) as temporary:
            _write(temporary, chosen.candidates, single=bool(output.suffix))
    names = [
        output.name if output.suffix else f"structure_{i:04d}.xyz" for i in range(len(chosen.candidates))
    ]
    return {
        "output": str(output) if chosen.candidates else None,
        "n_found": found.n_frames,
        "n_exported": len(chosen.candidates),
        "structures": [
            {"file": name, **_metadata(c)} for name, c in zip(names, chosen.candidates, strict=True)
        ],
        "excluded": [{"source": name, "why": why} for name, why in chosen.excluded.items()],
        "merged": [{"kept": name, "merged": names} for name, names in chosen.merged.items()],
        "max_force_eV_per_A": chosen.cap,
        "unreadable": [vars(each) for each in found.unreadable],
        "notes": found.notes + chosen.notes,
    }


def _write(path: Path, candidates: Sequence[Candidate], single: bool) -> None:
    """Write one file of all, or a folder with two files for each."""
    items = [Imported(candidate.frame) for candidate in candidates]
    keys = [_comment(candidate) for candidate in candidates]
    if single:
        write_extxyz(path, items, keys)
        return
    path.mkdir()
    for index, (candidate, item, key) in enumerate(zip(candidates, items, keys, strict=True)):
        write_extxyz(path / f"structure_{index:04d}.xyz", [item], [key])
        text = json.dumps(_metadata(candidate), indent=2, ensure_ascii=False)
        (path / f"structure_{index:04d}.json").write_text(text + "\n", encoding="utf-8")


def _comment(candidate: Candidate) -> dict[str, Any]:
    """What goes into the comment line of a structure."""
    data = _metadata(candidate)
    return {key: data[key] for key in ("source", "max_force", "reason")}


def _metadata(candidate: Candidate) -> dict[str, Any]:
    """What goes into the JSON file beside a structure: of the frame itself, and of the event."""
    event, predicted = candidate.event, candidate.predicted
    data = {"source": candidate.name, "reason": "frame"} if event is None else about(event)
    own = {
        "max_force": predicted.max_force,
        "model_energy": predicted.energy if event is not None else None,
        "frame": "bad" if candidate.wreck else "good",
        "event_max_force": candidate.severity,
        "force_std": predicted.force_std,
        "id": candidate.frame.id,
        "charge": candidate.frame.charge,
        "multiplicity": candidate.frame.multiplicity,
    }
    return data | {key: finite(value) for key, value in own.items()}
