"""From the arrays of an event file to what they mean; see `alfw.io.event_files`."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame
from alfw.io.velocity_units import UNIT_FS, AmbiguousUnitError, VelocityUnit, velocity_unit

PER_ATOM = ("positions", "velocities", "forces", "good_positions", "good_forces")
DIPOLES = ("dipole_physnet", "dipole_dcmnet")
NUMBERS = (
    *("energy", "step", "time_fs", "timestep", "max_force", "max_velocity", "max_position", "temperature"),
    *("good_energy", "good_max_force", "force_std", "good_force_std", "limit_value"),
    *("charge", "multiplicity", "walker"),
)
SHAPES: dict[str, tuple[int, ...]] = {"cell": (3, 3), "good_cell": (3, 3), "pbc": (3,)}
SHAPES |= {prefix + key: (3,) for key in DIPOLES for prefix in ("", "good_")}
TEXTS = ("ensemble", "reason", "instability_type", "uuid", "model", "units")
PER_ATOM_SCALAR = ("atomic_numbers", "fixed", "moments", "masses")
# What makes positions and atomic numbers an event file and not something else.
MARKS = {"reason", "instability_type", "max_force", "step", "forces"}
KNOWN = {*PER_ATOM, *NUMBERS, *SHAPES, *TEXTS, *PER_ATOM_SCALAR}

Arrays = dict[str, NDArray[Any]]


def load_plain(path: Path) -> Arrays:
    """The arrays of an NPZ file.

    Raises
    ------
    DataError
        Not an NPZ file, or one with pickled objects.
    """
    key = ""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {}
            for key in file.files:
                arrays[key] = file[key]
            return arrays
    except (
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        TypeError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        if "allow_pickle" in str(error):
            what = f"{key} is a pickled object" if key else "no NPZ file but damaged or a pickle"
            raise DataError(f"{path}: {what}, which alfw never reads") from None
        raise DataError(f"{path}: cannot be read as NPZ ({' '.join(str(error).split())[:120]})") from None


def npz_keys(path: Path) -> set[str]:
    """The keys of an NPZ file; none of what is not one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


def check_arrays(path: Path, arrays: Arrays) -> None:
    """Raise DataError where a key is missing, or is not what it should be."""
    missing = [key for key in ("positions", "atomic_numbers") if key not in arrays]
    if missing:
        has = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path}: no key {' or '.join(missing)}, so it is no event file; it has {has[:120]}")
    n = arrays["atomic_numbers"].size
    for key, array in arrays.items():
        shape = (n, 3) if key in PER_ATOM else (n,) if key in PER_ATOM_SCALAR else SHAPES.get(key)
        if shape is not None and array.shape != shape:
            raise DataError(f"{path}: {key} has the shape {array.shape}, and should have {shape}")
        if key in KNOWN and key not in TEXTS and array.dtype.kind not in "fiub":
            raise DataError(f"{path}: {key} is no number but {array.dtype}")
        if key in (*NUMBERS, *TEXTS) and array.size != 1:
            raise DataError(f"{path}: {key} has the shape {array.shape}, and should be a single value")
    numbers = arrays["atomic_numbers"]
    if n == 0 or (numbers < 1).any() or (numbers > 118).any() or (numbers != np.round(numbers)).any():
        raise DataError(f"{path}: atomic_numbers are not those of elements")


def number(arrays: Arrays, key: str) -> float:
    """A number of the file; NaN where it has none."""
    return float(np.ravel(arrays[key])[0]) if key in arrays else float("nan")


def whole(arrays: Arrays, key: str) -> int | None:
    """A whole number of the file; None where it has none."""
    value = number(arrays, key)
    return int(value) if np.isfinite(value) else None


def text(arrays: Arrays, key: str, default: str) -> str:
    """A text of the file."""
    return str(np.ravel(arrays[key])[0]) if key in arrays else default


def frame_of(path: Path, arrays: Arrays, positions: str, cell: str, charge: int, multiplicity: int) -> Frame:
    """The frame with these positions; what the file says of charge and multiplicity wins.

    Raises
    ------
    DataError
        Coordinates that are not finite.
    """
    vectors = arrays.get(cell, arrays.get("cell", np.zeros((3, 3))))
    own = {key: whole(arrays, key) for key in ("charge", "multiplicity")}
    try:
        return Frame(
            numbers=arrays["atomic_numbers"],
            positions=arrays[positions],
            cell=vectors,
            pbc=arrays.get("pbc", np.full(3, bool(np.any(vectors)))),
            charge=charge if own["charge"] is None else own["charge"],
            multiplicity=multiplicity if own["multiplicity"] is None else own["multiplicity"],
            fixed=arrays.get("fixed"),
            moments=arrays.get("moments"),
            masses=arrays.get("masses"),
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def stated_unit(path: Path, arrays: Arrays, expected: dict[str, str]) -> VelocityUnit | None:
    """The unit of velocities that the file states itself; None = it does not.

    Raises
    ------
    DataError
        `units` is no JSON mapping, or states others than alfw's.
    """
    if "units" not in arrays:
        return None
    try:
        stated = dict(json.loads(text(arrays, "units", "")))
    except (ValueError, TypeError):
        raise DataError(f"{path}: `units` is no JSON mapping") from None
    for key, unit in expected.items():
        if key in stated and stated[key] != unit:
            raise DataError(f"{path}: its {key} are in {stated[key]!r}; alfw reads {unit}")
    return "A/fs" if "velocities" in stated else None


def find_unit(path: Path, velocities: Float | None, masses: Float, target_K: float) -> VelocityUnit | None:
    """The unit that the kinetic temperature gives away; None where there are no velocities to go by.

    Raises
    ------
    AmbiguousUnitError
        There are, and they are credible in neither unit.
    """
    if velocities is None or not np.isfinite(velocities).all() or not np.any(velocities):
        return None
    found = velocity_unit(velocities, masses, target_K)
    if found is None:
        target = f"the thermostat's {target_K:g} K" if np.isfinite(target_K) else "any temperature"
        raise AmbiguousUnitError(
            f"{path}: ambiguous: neither in Å/fs nor in Å/(100 fs) do its velocities belong to {target}; "
            f"say it: --velocity-unit {' or '.join(UNIT_FS)}"
        )
    return found
