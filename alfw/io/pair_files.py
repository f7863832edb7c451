"""A pair of files, energies with forces and dipoles (EFD) and electrostatic potentials (ESP), read as one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from alfw.core.errors import DataError
from alfw.io.esp_npz import EspRow, read_esp_npz
from alfw.io.imported import Imported
from alfw.io.npz_rows import FACTORS, PRESETS, unit_name
from alfw.io.pairs import Pairs, pair
from alfw.io.plausible import check_plausible
from alfw.io.training_npz import read_training_npz

Origin = Literal["file", "centre", "auto"]
OFF_A = 1.0  # beyond the outermost atom: so far off, points are not around their molecule


@dataclass(frozen=True)
class Reading:
    """How files that do not say everything are read.

    Attributes
    ----------
    charge, multiplicity : int
        Of frames whose file does not say.
    units : {"eV", "hartree"} or None
        Of files without `units`; None refuses those.
    assumed : bool
        Whether `units` is only a convention: a file that says others is read by its own. Otherwise that is refused.
    origin : {"file", "centre", "auto"}
        Where points of potentials are: as the file has them; moved so that their mean is that of the atoms, as the
        seed's trainer does; or "auto": the latter for files without ids.
    """

    charge: int = 0
    multiplicity: int = 1
    units: str | None = None
    assumed: bool = False
    origin: Origin = "file"


def read_pair(efd: Path, esp: Path | None, reading: Reading | None = None) -> tuple[Pairs, list[str]]:
    """The paired rows, and what a user should know of how they were read, one line each.

    Raises
    ------
    DataError
        A file cannot be used, their units contradict each other, or rows do not pair.
    """
    how = reading or Reading()
    if esp is not None:
        _check_units([efd, esp])
    items = read_efd(efd, how)
    if esp is None:
        return Pairs(
            items, sum(item.label is not None and item.label.esp is not None for item in items), 0
        ), []
    check_given(esp, how)
    rows = read_esp_npz(esp, how.charge, how.multiplicity, how.units)
    notes = []
    if how.origin == "centre" or (how.origin == "auto" and all(row.id is None for row in rows)):
        rows, shift = centred(rows)
        if shift > 1e-3:
            notes.append(
                f"{esp}: points of potentials moved by up to {shift:.2f} Å, so that their mean is that of the atoms"
                " (--esp-origin file leaves them where they are)"
            )
    else:
        _check_around(rows, esp)
    return pair(items, rows, efd, esp), notes


def read_efd(path: Path, reading: Reading) -> list[Imported]:
    """The labelled rows of an EFD file.

    Raises
    ------
    DataError
        It has no R, Z, E or F, units that contradict `reading` or the numbers, or rows that do not fit together.
    """
    found = _keys(path)
    if not {"R", "Z"} <= found:
        raise DataError(
            f"{path}: no key {' or '.join(k for k in 'RZ' if k not in found)}, without which its rows are not known:"
            " add R (Å) and Z, padded with 0, from where the file was made"
        )
    if not {"E", "F"} <= found:
        raise DataError(
            f"{path}: no key {' or '.join(k for k in 'EF' if k not in found)}: training needs energies (E) and forces"
            f" (F); it has {', '.join(sorted(found))}"
        )
    check_given(path, reading)
    items = read_training_npz(path, reading.charge, reading.multiplicity, reading.units)
    if any(item.label is None for item in items):
        raise DataError(f"{path}: E or F are pickled objects, which alfw never reads: write plain arrays")
    check_plausible(items, str(path))
    return items


def _keys(path: Path) -> set[str]:
    """Names of the arrays in an NPZ file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as file:
            return {name.removesuffix(".npy") for name in file.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as NPZ ({error})") from error


def stated_units(path: Path) -> Mapping[str, str]:
    """What the `units` of an NPZ file say of the arrays it has; empty where it does not say."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if "units" not in file.files:
                return {}
            stated, keys = json.loads(str(file["units"])), {*file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}  # whoever reads the file says what is wrong with it
    if not isinstance(stated, dict):
        return {}
    if "Dxyz" in keys:
        keys.add("D")
    return {key: str(name) for key, name in stated.items() if key in keys & FACTORS.keys()}


def check_given(path: Path, reading: Reading) -> None:
    """Raise DataError where a file says other units than the user."""
    if reading.units not in PRESETS or reading.assumed or path.suffix != ".npz":
        return
    given = PRESETS[str(reading.units)]
    for key, name in stated_units(path).items():
        if key != "esp" and _factor(key, name) != _factor(key, given[key]):
            raise DataError(
                f"{path}: mixed units: it says {key} is in {name}, --units {reading.units} says {given[key]}: leave"
                " --units out, or correct the file"
            )


def _check_units(paths: Sequence[Path]) -> None:
    """Raise DataError where two files of a pair have the same array in different units."""
    one, two = (stated_units(path) for path in paths)
    for key in sorted(one.keys() & two.keys() - {"esp"}):
        if _factor(key, one[key]) != _factor(key, two[key]):
            raise DataError(
                f"{paths[0]} and {paths[1]}: mixed units: {key} is in {one[key]} in one, in {two[key]} in the other:"
                " write both with the same"
            )


def _factor(key: str, name: str) -> float | None:
    return FACTORS[key].get(unit_name(name))


def centred(rows: Sequence[EspRow]) -> tuple[list[EspRow], float]:
    """The rows with the mean of their points at the mean of their atoms, and the largest shift (Å).

    Source: the seed's trainer, whose files may have both in different frames. Where they do not, this puts the points
    of a molecule without a centre of symmetry off by some tenths of an Å.
    """
    shifts = [_offset(row) for row in rows]
    moved = [replace(row, points=row.points - shift) for row, shift in zip(rows, shifts, strict=True)]
    return moved, max((float(np.linalg.norm(shift)) for shift in shifts), default=0.0)


def _offset(row: EspRow) -> np.ndarray:
    """(3,) Å: mean of the points less mean of the atoms."""
    if len(row.points) == 0:
        return np.zeros(3)
    return np.asarray(row.points.mean(0) - row.frame.positions.mean(0))


def _check_around(rows: Sequence[EspRow], path: Path) -> None:
    """Raise DataError where points are not around their molecule."""
    for index, row in enumerate(rows):
        centre = row.frame.positions.mean(0)
        size = float(np.linalg.norm(row.frame.positions - centre, axis=1).max())
        off = float(np.linalg.norm(_offset(row)))
        if off > size + OFF_A:
            raise DataError(
                f"{path} row {index}: the centre of its points is {off:.1f} Å off that of its atoms, so they are in"
                " another frame: --esp-origin centre moves them there, as the seed's trainer does"
            )
