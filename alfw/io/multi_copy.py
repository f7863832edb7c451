"""Trajectories of several copies of one molecule in two files of the older system, written and read.

``multi_copy_traj_{R}x.npz`` has positions (steps, R, n, 3) Å; ``multi_copy_metadata.npz`` beside it atomic_numbers,
masses (amu), num_replicas, cutoff (Å), timestep_fs, temperature (K), translation (Å), multi_ensemble, total_energy,
thermostat_invariant, energies (steps, R) eV. Here the rows of a copy that has stopped are NaN, and save_interval says
how many steps lie between two rows (the older system kept every step).
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.io.files import write_file
from alfw.io.imported import Imported
from alfw.io.trajectory_npz import Track, load_arrays

METADATA = "multi_copy_metadata.npz"
WHOLE = {"positions", "atomic_numbers", "masses"}  # of several copies, with what is beside it put in

logger = logging.getLogger("alfw")


def multi_copy(tracks: Sequence[Track], copies: int, about: Mapping[str, Any]) -> dict[str, bytes]:
    """The two files of these walkers by name.

    Parameters
    ----------
    tracks : sequence of Track
        At least one; of the same atoms.
    copies : int
        R; walkers that kept no frame have NaN everywhere.
    about : mapping
        Further entries of the metadata: temperature, multi_ensemble, save_interval …
    """
    first = max(tracks, key=len)
    n = len(first.first)
    positions = np.full((len(first), copies, n, 3), np.nan)
    energies = np.full((len(first), copies), np.nan)
    for track in tracks:
        positions[: len(track), track.walker] = track.positions
        energies[: len(track), track.walker] = track.potential_eV
    metadata: dict[str, Any] = {
        "atomic_numbers": first.first.numbers.astype(np.int32),
        "masses": np.asarray(first.first.masses, np.float32),
        "num_replicas": copies,
        "timestep_fs": first.dt_fs,
        "total_energy": float(np.nansum(energies[-1])),
        "energies": energies,
        **about,
    }
    return {f"multi_copy_traj_{copies}x.npz": _npz({"positions": positions}), METADATA: _npz(metadata)}


def write_multi_copy(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write them."""
    for name, content in files.items():
        write_file(folder / name, content)


def is_md_file(path: Path) -> bool:
    """Whether an NPZ is a trajectory of dynamics, by its keys: ours, or one of the older system's two kinds."""
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = set(file.files)
            return {"trajectory", "times", "atomic_numbers"} <= keys or {"positions"} <= keys <= WHOLE
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # who reads it says what is wrong


def read_md(path: Path, charge: int = 0, multiplicity: int = 1) -> list[Imported]:
    """The frames of a trajectory, each with the name of its walker's; no labels, what is in it is predicted.

    Rows of zeros at the end, which the older system leaves where a run stopped early, and rows that are not finite are
    left out.

    Raises
    ------
    DataError
        Unreadable, atoms and positions that do not fit together, or the metadata of several copies missing.
    """
    arrays = load_arrays(path)
    if "trajectory" in arrays:
        positions, about = np.expand_dims(arrays["trajectory"], 1 if arrays["trajectory"].ndim else 0), arrays
        names = [str(int(arrays["walker"]))] if "walker" in arrays else ["0"]
    else:
        about = arrays if "atomic_numbers" in arrays else load_arrays(path.with_name(METADATA))
        positions = arrays["positions"]
        names = [str(copy) for copy in range(np.shape(positions)[1] if np.ndim(positions) == 4 else 0)]
    numbers = about.get("atomic_numbers", np.zeros(0, np.int64))
    if positions.ndim != 4 or positions.shape[2:] != (len(numbers), 3) or positions.dtype.kind != "f":
        raise DataError(f"{path}: positions of shape {positions.shape} for {len(numbers)} atoms")
    cells, pbc = about.get("cells"), about.get("pbc", np.zeros(3, bool))
    found = []
    for copy, name in enumerate(names):
        own = positions[:, copy]
        there = np.isfinite(own).all((1, 2)) & (own != 0).any((1, 2))
        if not there.all():
            logger.warning(
                "%s: %d rows of copy %s hold no frame and are left out", path, (~there).sum(), name
            )
        for i in np.flatnonzero(there).tolist():
            frame = Frame(
                numbers,
                own[i],
                np.zeros((3, 3)) if cells is None else cells[i],
                pbc,
                int(about.get("charge", charge)),
                int(about.get("multiplicity", multiplicity)),
                masses=about.get("masses"),
            )
            found.append(Imported(frame, None, f"{path.stem}/w{name}"))
    if not found:
        raise DataError(f"{path}: no frames")
    return found


def self_contained(path: Path) -> bytes | None:
    """The bytes of a file of several copies with its atoms put in, for places without the other file; None of others.

    Raises
    ------
    DataError
        The other file is missing.
    """
    if not is_md_file(path):
        return None
    arrays = load_arrays(path)
    if arrays.keys() != {"positions"}:
        return None
    about = load_arrays(path.with_name(METADATA))
    return _npz({key: (arrays | about)[key] for key in sorted(WHOLE & (arrays | about).keys())})


def _npz(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
