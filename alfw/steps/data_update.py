"""New reference calculations into a data set that grows: what a folder of results holds, and what of it is new.

A data set that is a folder is all the data files in it together: each update adds one more (``update_0001.extxyz``)
that holds the new labels alone. A data set that is a file gets its next version beside it (``data_v2.extxyz``), which
holds all labels; an older version stands for the newest one. Nothing is changed or removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import ConfigError, DataError
from alfw.core.records import Label
from alfw.io.datasets import IN_FOLDERS, Source, check_suffix, lost, read_dataset, write_dataset
from alfw.io.imported import Imported
from alfw.io.pair_files import Reading
from alfw.io.versions import newest_version, write_new
from alfw.labelers.outputs import outputs_in
from alfw.steps import qm_read
from alfw.steps.data_merge import difference, merge
from alfw.steps.qm_folder import MANIFEST, Refused

BESIDE = ("_log", "_CONTCAR")  # what lies beside NAME_OUTCAR


@dataclass
class Results:
    """The labels in a folder of results, and what in it is none.

    Attributes
    ----------
    items : {file: frames}
    refused : list of Refused
    """

    items: dict[str, list[Imported]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


def read_results(folder: Path, reading: Reading) -> Results:
    """The labels of good outputs of QM programs and of structure files, in a folder and the folders in it.

    Raises
    ------
    DataError
        No such folder, nothing in it, outputs of two theories, or a structure file that cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    results = Results(refused=list(_unfinished(folder)))
    sources = list(_sources(folder))
    collected = qm_read.collect(sources, charge=reading.charge)
    results.refused += collected.refused
    if collected.items:
        results.items[str(folder)] = _with_short_names(collected.items, {source.name for source in sources})
    for path in _files(folder):
        if path.suffix in IN_FOLDERS and not (path.parent / MANIFEST).is_file():
            items, refused = _structures(path, reading)
            results.refused += refused
            if items:
                results.items[str(path)] = items
    if not results.items and not results.refused:
        raise DataError(f"{folder}: no outputs of QM programs and no labelled structures in it")
    return results


def _files(folder: Path) -> list[Path]:
    """Files in a folder and in those below, without hidden ones; those of a job come together."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]


def _sources(folder: Path) -> Iterator[qm_read.Source]:
    """Outputs of QM programs; a main output of VASP counts as one whatever is in it."""
    for place in [folder, *dict.fromkeys(path.parent for path in _files(folder) if path.parent != folder)]:
        if (place / MANIFEST).is_file():
            yield from qm_read.find_sources([place])
            continue
        files = {p.name.removesuffix(".gz"): p for p in sorted(place.iterdir()) if p.is_file()}
        mains = [path for name, path in files.items() if name.endswith("OUTCAR")]
        if not mains and "vasprun.xml" in files:
            mains = [files["vasprun.xml"]]
        skip = {path.name.partition("OUTCAR")[0] + "vasprun.xml" for path in mains}
        others = [path for path in outputs_in(place) if path.name not in skip and path not in mains]
        yield from (qm_read.Source(str(path), path) for path in sorted([*mains, *others]))


def _unfinished(folder: Path) -> Iterator[Refused]:
    """What a job of VASP left that has no OUTCAR."""
    left: dict[Path, str] = {}
    for path in _files(folder):
        for ending in BESIDE:
            stem = path.name.removesuffix(ending)
            outputs = (path.parent / f"{stem}_OUTCAR{packed}" for packed in ("", ".gz"))
            if stem != path.name and not any(output.is_file() for output in outputs):
                left.setdefault(path.parent / stem, path.name)
    for job, name in left.items():
        what = f"{name}, but no {job.name}_OUTCAR"
        yield Refused(str(job), "MISSING_OUTPUT", what, what)


def _with_short_names(items: Sequence[Imported], outputs: Container[str]) -> list[Imported]:
    """The frames, with trajectories that were only paths of outputs named so that no later round repeats them."""
    first: dict[str, str] = {}
    for item in items:
        if item.trajectory is not None and item.trajectory in outputs:
            first.setdefault(item.trajectory, f"{Path(item.trajectory).name} {item.frame.id[:8]}")
    return [replace(i, trajectory=first.get(i.trajectory or "", i.trajectory)) for i in items]


def _structures(path: Path, reading: Reading) -> tuple[list[Imported], list[Refused]]:
    """The labelled frames of a file, and those without label; a JSON file beside it may hold that of a single one."""
    items, _ = read_dataset(Source(path), reading)
    beside = next(
        (p for p in (path.with_name(f"{path.name}.json"), path.with_suffix(".json")) if p.is_file()), None
    )
    told = _json(beside) if beside is not None and len(items) == 1 else {}
    if told.get("parsed") is False:
        return [], [
            Refused(str(path), "MISSING_OUTPUT", "parsed: false", f"{beside} says that it was not parsed")
        ]
    if len(items) == 1 and items[0].label is None and told.get("forces") is not None:
        items = [replace(items[0], label=_label(told, len(items[0].frame), f"{beside}"))]
    bare = [i for i, item in enumerate(items) if item.label is None]
    what = "no energy with forces"
    refused = [Refused(f"{path} frame {i}", "MISSING_OUTPUT", what, what) for i in bare]
    return [item for item in items if item.label is not None], refused


def _json(path: Path) -> dict[str, Any]:
    """A JSON file beside a structure; nothing where it is none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _label(told: dict[str, Any], n: int, where: str) -> Label | None:
    """The label in a JSON file: energy (eV) and forces (eV/Å).

    Raises
    ------
    DataError
        They are not numbers, or not of these atoms.
    """
    try:
        energy, forces = float(told["energy"]), np.array(told["forces"], np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    if forces.shape != (n, 3) or not np.isfinite(forces).all() or not np.isfinite(energy):
        raise DataError(f"{where}: forces {forces.shape} of {n} atoms, or numbers that are not finite")
    return Label(energy, forces)


def update(dataset: Path, new: Path, reading: Reading | None = None) -> dict[str, Any]:
    """Add the labels in a folder to a data set that is a folder or a file; what was done, as JSON data.

    Raises
    ------
    ConfigError, DataError
        Something cannot be read or written, or the new labels are of another theory than the data set.
    """
    reading = reading or Reading(units="eV", assumed=True)
    as_folder = dataset.is_dir() or (not dataset.exists() and dataset.suffix == "")
    if not as_folder:
        check_suffix(dataset)
    results = read_results(new, reading)
    old, notes = _old(dataset, as_folder, reading)
    merged = merge(old | _renamed(results.items, old), keep="first")
    clashes = [Refused(two.where, "SUSPECT", "", difference(one, two)) for one, two in merged.conflicts]
    fresh = [row.item for row in merged.rows if row.file not in old]
    report: dict[str, Any] = {
        "n_new": len(fresh),
        "n_known": merged.n_duplicates - len(clashes),
        "n_frames": len(merged.rows),
        "n_left_out": merged.n_left_out,
        "file": None,
        "refused": results.refused + clashes,
        "notes": notes + [note for note in merged.notes if "has two labels" not in note],
    }
    if fresh:
        items = fresh if as_folder else merged.items
        wanted = _next_update(dataset) if as_folder else dataset
        [path] = write_new((wanted, lambda temporary: write_dataset(temporary, items)))
        report["file"] = str(path)
        report["notes"] += lost(path, items)
    return report


def _renamed(items: dict[str, list[Imported]], taken: Iterable[str]) -> dict[str, list[Imported]]:
    """The new files; one that belongs to the data set already is no news."""
    return {name: frames for name, frames in items.items() if name not in taken}


def _old(dataset: Path, as_folder: bool, reading: Reading) -> tuple[dict[str, list[Imported]], list[str]]:
    """The labelled frames of a data set by file, and what a user should know of how they were read.

    Raises
    ------
    ConfigError
        There is a folder, but no data in it that could be read.
    """
    if as_folder:
        files = [
            p for p in sorted(dataset.glob("*")) if p.suffix in IN_FOLDERS and not p.name.startswith(".")
        ]
    else:
        files = [path for path in [newest_version(dataset)] if os.path.lexists(path)]
    notes = [f"{dataset}: new data set"] if not files else []
    if not as_folder and files and files[0] != dataset:
        notes.append(f"{dataset}: its newest version {files[0].name} is taken")
    found: dict[str, list[Imported]] = {}
    for path in files:
        items, told = read_dataset(Source(path), reading)
        notes += told
        found[str(path)] = [item for item in items if item.label is not None]
        if bare := len(items) - len(found[str(path)]):
            notes.append(f"{path}: {bare} frames have no label")
    return found, notes


def _next_update(folder: Path) -> Path:
    """The name of the next file of new labels in a folder."""
    if folder.exists() and not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder}: no permission to write there")
    numbers = [int(p.stem.rpartition("_")[2]) for p in folder.glob("update_[0-9][0-9][0-9][0-9].extxyz")]
    return folder / f"update_{max(numbers, default=0) + 1:04d}.extxyz"
