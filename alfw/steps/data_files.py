"""Labelled data sets from files to files: read with what belongs to them, written under a name that was free."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from alfw.core.errors import ConfigError, DataError
from alfw.io.datasets import EspUnit, Source, check_suffix, lost, read_dataset, write_dataset
from alfw.io.esp_npz import EspRow, write_esp_npz
from alfw.io.files import replacing
from alfw.io.imported import Imported
from alfw.io.npz_rows import UNITS
from alfw.io.pair_files import Reading
from alfw.io.versions import free_names, write_new
from alfw.steps.data_merge import Keep, merge

Write = tuple[Path, Callable[[Path], object]]


def merge_files(
    sources: Sequence[Source],
    output: Path,
    reading: Reading,
    *,
    keep: Keep | None = None,
    allow_theories: bool = False,
    esp_output: Path | None = None,
    esp_unit: EspUnit = "V",
    partial_pbc: Literal["vacuum"] | None = None,
) -> dict[str, Any]:
    """Merge data sets into a new file, see `alfw.steps.data_merge.merge`; what --json says.

    Where `output` exists, the next version is written beside it (``data_v2.npz``).

    Raises
    ------
    ConfigError, DataError
        A file cannot be used or written, or the data sets do not go together.
    """
    _check_outputs(output, esp_output)
    inputs: dict[str, list[Imported]] = {}
    notes: list[str] = []
    for source in sources:
        items, told = read_dataset(source, reading, partial_pbc)
        if str(source.path) in inputs:
            raise ConfigError(f"{source.path} is given twice")
        inputs[str(source.path)] = items
        notes += told
    merged = merge(inputs, keep, allow_theories)
    report = merged.as_json()
    writes, more = _writes(merged.items, output, esp_output, esp_unit, {"merged": report["inputs"]})
    names = write_new(*writes)
    return _report(names, merged.items, esp_unit) | report | {"notes": notes + merged.notes + more}


def convert_file(
    source: Source,
    output: Path,
    reading: Reading,
    *,
    force: bool = False,
    esp_output: Path | None = None,
    esp_unit: EspUnit = "V",
    partial_pbc: Literal["vacuum"] | None = None,
) -> dict[str, Any]:
    """Write a data set in the format of another suffix; what --json says.

    Raises
    ------
    ConfigError
        An output exists and `force` is not set.
    DataError
        The file cannot be used or written.
    """
    _check_outputs(output, esp_output)
    for path in (output, esp_output):
        if path is not None and os.path.lexists(path) and not force:
            raise ConfigError(f"{path} is there already: choose another name, or --force replaces it")
    items, notes = read_dataset(source, reading, partial_pbc)
    bare = [index for index, item in enumerate(items) if item.label is None]
    if bare and output.suffix == ".npz":
        raise DataError(
            f"{source.path} frame {bare[0]} has no energy with forces ({len(bare)} frames in all): an NPZ file holds"
            " labelled frames; write .extxyz, .h5 or .db"
        )
    if bare:
        notes = [*notes, f"{source.path}: {len(bare)} of {len(items)} frames have no label"]
    writes, more = _writes(items, output, esp_output, esp_unit, {"converted": str(source.path)})
    for path, write in writes:
        with replacing(path) as temporary:
            write(temporary)
    names = [path for path, _ in writes]
    return _report(names, items, esp_unit) | {"n_frames": len(items), "notes": notes + more}


def _check_outputs(output: Path, esp_output: Path | None) -> None:
    """Refuse names that nothing is written to, before anything is read."""
    check_suffix(output)
    if esp_output is not None and esp_output.suffix != ".npz":
        raise ConfigError(f"{esp_output}: potentials are written as .npz, its name must end so")
    if esp_output is not None and esp_output == output:
        raise ConfigError(f"{output}: energies and potentials need two names")


def _writes(
    items: Sequence[Imported],
    output: Path,
    esp_output: Path | None,
    esp_unit: EspUnit,
    about: Mapping[str, Any],
) -> tuple[list[Write], list[str]]:
    """The files to write, and what gets lost on the way; with a file for potentials, they go there alone."""
    if esp_output is None:
        return [(output, lambda path: write_dataset(path, items, esp_unit, about))], lost(output, items)
    rows, bare = [], []
    for item in items:
        label = item.label
        if label is not None and label.esp is not None and label.esp_points is not None:
            rows.append(EspRow(item.frame, label.esp, label.esp_points, item.frame.id))
            item = replace(item, label=replace(label, esp=None, esp_points=None))
        bare.append(item)
    if not rows:
        raise DataError(f"{esp_output}: no frame has a potential; leave it out")
    potentials: Write = (esp_output, lambda path: write_esp_npz(path, rows, esp_unit))
    return [(output, lambda path: write_dataset(path, bare, esp_unit, about)), potentials], []


def _report(names: Sequence[Path], items: Sequence[Imported], esp_unit: EspUnit) -> dict[str, Any]:
    """Where the data went, in which units, and what they carry."""
    files = {"file": str(names[0]), "esp_file": str(names[1]) if len(names) > 1 else None}
    found = properties(items)
    if lost(names[0], items) and len(names) == 1:
        del found["esp"]
    return files | {"units": units_written(names, esp_unit), "properties": found}


def units_written(names: Sequence[Path], esp_unit: EspUnit) -> dict[str, str]:
    """The units of what is in these files."""
    return UNITS | {"esp": esp_unit if names[-1].suffix == ".npz" else "V"}


def properties(items: Sequence[Imported]) -> dict[str, int]:
    """How many labels carry each property."""
    names = ("energy", "forces", "stress", "dipole", "charges", "esp")
    counts = {n: sum(getattr(item.label, n, None) is not None for item in items) for n in names}
    return {name: count for name, count in counts.items() if count}


def next_name(path: Path) -> Path:
    """A name that is free: that of the next version."""
    return free_names([path])[0]
