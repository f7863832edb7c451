"""Labelled data sets in any format, by the suffix of the file: .npz, .extxyz, .h5, .db."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alfw.core.errors import ConfigError, DataError
from alfw.io.asedb import write_asedb
from alfw.io.frames import expand_paths, read_frames, write_extxyz
from alfw.io.hdf5 import write_hdf5
from alfw.io.imported import Imported
from alfw.io.pair_files import Reading, read_pair, stated_units
from alfw.io.plausible import check_plausible
from alfw.io.references import ReferenceKeys
from alfw.io.training_npz import write_training_npz

SUFFIXES = (".npz", ".extxyz", ".h5", ".hdf5", ".db")
IN_FOLDERS = (*SUFFIXES, ".xyz", ".traj")  # in a folder, other files are no data
EspUnit = Literal["V", "Hartree/e"]


@dataclass(frozen=True)
class Source:
    """A data set in a file, or in a pair of NPZ files.

    Attributes
    ----------
    path : Path
    esp : Path or None
        The potentials that belong to it, see `alfw.io.esp_npz`.
    """

    path: Path
    esp: Path | None = None


def data_files(patterns: Iterable[str | Path]) -> list[Path]:
    """The files that files, folders and globs name, in the order of these; of folders the data files in them.

    Raises
    ------
    DataError
        Nothing there.
    """
    found: list[Path] = []
    for pattern in patterns:
        files = expand_paths([pattern])
        if files != [Path(pattern).expanduser()]:
            files = [path for path in files if path.suffix in IN_FOLDERS]
        if not files:
            raise DataError(f"{pattern}: no data files there; they end in {', '.join(IN_FOLDERS)}")
        found += files
    return found


def read_dataset(
    source: Source, reading: Reading, partial_pbc: Literal["vacuum"] | None = None
) -> tuple[list[Imported], list[str]]:
    """The frames of a data set, in its order, and what a user should know of how they were read.

    Raises
    ------
    DataError
        Missing, unreadable, of unknown units, with rows that cannot be used or do not pair, or with numbers that
        contradict their units.
    """
    if source.path.suffix == ".npz" and source.path.is_file():
        pairs, notes = read_pair(source.path, source.esp, reading)
        if source.esp is not None:
            notes = [*notes, f"{source.path} + {source.esp}: {pairs}"]
        return pairs.items, notes
    if source.esp is not None:
        raise DataError(f"{source.path}: only an NPZ file has its potentials in a second one")
    keys = ReferenceKeys()
    items = read_frames(
        source.path, reading.charge, reading.multiplicity, partial_pbc, reading.units, prepare=keys
    )
    check_plausible(items, str(source.path))
    return items, [
        f"{source.path}: labels of {count} frames are its {energy} and {forces}"
        for (energy, forces), count in keys.taken.items()
        if (energy, forces) != ("energy", "forces")
    ]


def units_of(path: Path) -> Mapping[str, str]:
    """The units that a file states of itself; extended XYZ and the formats of ASE are in eV and Å by convention."""
    if path.suffix == ".npz":
        return stated_units(path)
    if path.suffix in (".h5", ".hdf5"):
        from alfw.io.hdf5 import stated

        return stated(path)
    return {"E": "eV", "F": "eV/Angstrom", "R": "Angstrom"}


def check_suffix(path: Path) -> None:
    """Raise ConfigError for a file that no data set is written to."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: a data set is written as {', '.join(SUFFIXES)}, its name must end so")


def write_dataset(
    path: Path,
    items: Sequence[Imported],
    esp_unit: EspUnit = "V",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a data set; `lost` says what its format has no place for.

    Raises
    ------
    ConfigError
        Another suffix.
    DataError
        No frames, or frames without label where the format demands one.
    """
    check_suffix(path)
    if path.suffix == ".npz":
        write_training_npz(path, items, esp_unit=esp_unit, about=about)
    elif path.suffix == ".extxyz":
        write_extxyz(path, items)
    elif path.suffix == ".db":
        write_asedb(path, items, about)
    else:
        write_hdf5(path, items, about)


def lost(path: Path, items: Sequence[Imported]) -> list[str]:
    """What the format of a file has no place for, one line each."""
    grids = sum(item.label is not None and item.label.esp is not None for item in items)
    if path.suffix == ".extxyz" and grids:
        return [
            f"{path}: extended XYZ has no place for potentials on grids: those of {grids} frames are left out"
        ]
    return []
