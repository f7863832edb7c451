"""What the NPZ files of this package have in common: padded rows, units, frames and grids; never a pickle."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame
from alfw.core.units import BOHR_A, DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.io.imported import has_own_masses

UNITS = {
    **{"R": "Angstrom", "E": "eV", "F": "eV/Angstrom", "D": "e*Angstrom", "stress": "eV/Angstrom^3"},
    **{"esp": "V"},
}
# The two conventions in use under the same keys, for files that do not say.
PRESETS: Mapping[str, Mapping[str, str]] = {
    "eV": UNITS | {"esp": "Hartree/e"},
    "hartree": UNITS | {"E": "Hartree", "F": "Hartree/Bohr", "D": "Debye", "esp": "Hartree/e"},
}
# What one unit is in alfw's; names are compared in lower case, without "*" and blanks.
FACTORS: Mapping[str, Mapping[str, float]] = {
    "R": {"angstrom": 1.0, "å": 1.0, "bohr": BOHR_A},
    "E": {"ev": 1.0, "hartree": HARTREE_eV},
    "F": {
        **{"ev/angstrom": 1.0, "ev/å": 1.0},
        **{"hartree/bohr": HARTREE_PER_BOHR_eV_PER_A, "hartree/angstrom": HARTREE_eV},
    },
    "D": {"eangstrom": 1.0, "eå": 1.0, "debye": DEBYE_eA},
    "stress": {"ev/angstrom^3": 1.0, "ev/å^3": 1.0},
    "esp": {"v": 1.0, "ev/e": 1.0, "hartree/e": HARTREE_eV, "hartree": HARTREE_eV},
}
# Arrays of one entry a frame; others may be about the whole file.
PER_ROW = frozenset({"R", "Z", "N", "E", "F", "D", "Dxyz", "esp", "vdw_surface", "esp_grid", "n_grid", "id"})
Arrays = dict[str, NDArray[Any]]


def frame_arrays(frames: Sequence[Frame]) -> Arrays:
    """The arrays that make up the frames."""
    arrays: Arrays = {
        "R": padded([frame.positions for frame in frames]),
        "Z": padded([frame.numbers for frame in frames]),
        "N": np.array([len(frame) for frame in frames]),
        "cell": np.array([frame.cell for frame in frames]),
        "pbc": np.array([frame.pbc for frame in frames]),
        "charge": np.array([frame.charge for frame in frames]),
        "multiplicity": np.array([frame.multiplicity for frame in frames]),
        "id": np.array([frame.id for frame in frames]),
    }
    if any(frame.fixed is not None for frame in frames):
        arrays["fixed"] = padded([~frame.free for frame in frames])
    if any(frame.moments is not None for frame in frames):
        arrays["moments"] = padded([np.zeros(len(f)) if f.moments is None else f.moments for f in frames])
    if any(has_own_masses(frame) for frame in frames):
        arrays["masses"] = padded([np.asarray(frame.masses) for frame in frames])
    return arrays


def padded(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(M, A, …): arrays of different length, padded with 0 to the longest."""
    rows = np.zeros((len(parts), max(len(p) for p in parts), *parts[0].shape[1:]), parts[0].dtype)
    for row, part in zip(rows, parts, strict=True):
        row[: len(part)] = part
    return rows


def load_arrays(path: Path) -> Arrays:
    """The plain arrays of an NPZ file; pickled ones (metadata of other programs) are left out."""
    arrays: Arrays = {}
    pickled = []
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                try:
                    arrays[key] = file[key]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    pickled.append(key)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as NPZ ({error})") from error
    missing = [key for key in ("R", "Z") if key not in arrays]
    if missing:
        unread = f" (pickled, which alfw never reads: {', '.join(pickled)})" if pickled else ""
        raise DataError(
            f"{path}: no key {' or '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing plain'}{unread}"
        )
    if arrays["R"].shape != (*arrays["Z"].shape, 3):
        raise DataError(f"{path}: R {arrays['R'].shape} and Z {arrays['Z'].shape} do not fit together")
    return arrays


def row_sizes(path: Path, arrays: Arrays) -> list[int]:
    """(M,): atoms of each row, of `N` or of the atomic numbers above 0.

    Raises
    ------
    DataError
        No rows, an array with another number of them, or forces of another number of atoms.
    """
    z = arrays["Z"]
    if len(z) == 0:
        raise DataError(f"{path}: no frames")
    for key in PER_ROW & arrays.keys():
        if arrays[key].ndim and len(arrays[key]) != len(z):
            raise DataError(
                f"{path}: {key} has {len(arrays[key])} rows, but R and Z have {len(z)}: write all of them from one list"
            )
    if "F" in arrays and arrays["F"].shape != (*z.shape, 3):
        raise DataError(
            f"{path}: F is {arrays['F'].shape}, but {z.shape[1]} atoms a row need {(*z.shape, 3)}: pad all with 0 alike"
        )
    sizes = np.ravel(arrays["N"]).astype(int) if "N" in arrays else (z > 0).sum(1)
    for index, n in enumerate(sizes):
        if not 0 < n <= z.shape[1] or (z[index, :n] <= 0).any() or (z[index, n:] > 0).any():
            raise DataError(
                f"{path} frame {index}: {n} atoms by N, {(z[index] > 0).sum()} by Z; correct one of them"
            )
    return [int(n) for n in sizes]


def row_of(arrays: Arrays, index: int) -> dict[str, Any]:
    """What the arrays say of one row."""
    rows = len(arrays["Z"])
    return {key: value[index] for key, value in arrays.items() if value.ndim and len(value) == rows}


def unit_factors(path: Path, arrays: Arrays, units: str | None) -> dict[str, float]:
    """What one unit of each key is in alfw's units."""
    stated: dict[str, str] = {}
    if "units" in arrays:
        try:
            stated = dict(json.loads(str(arrays["units"])))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: `units` is not a JSON mapping") from error
        if "Dxyz" in stated:
            stated.setdefault("D", stated["Dxyz"])
        if "esp" in arrays and "esp" not in stated:
            raise DataError(f"{path}: `units` says nothing of esp; add V or Hartree/e")
    elif units is not None and units in PRESETS:
        stated = dict(PRESETS[units])
    elif units is not None or {"E", "F", "esp"} & arrays.keys():
        raise DataError(
            f"{path}: energies, forces or potentials without `units`; say whether they are {' or '.join(PRESETS)}"
            " (units, --units)"
        )
    factors = {}
    for key, known in FACTORS.items():
        name = unit_name(stated.get(key, UNITS[key]))
        if name not in known:
            raise DataError(f"{path}: unit {stated[key]!r} of {key} is not known; known: {', '.join(known)}")
        factors[key] = known[name]
    return factors


def unit_name(name: str) -> str:
    """As it is compared with those of `FACTORS`."""
    return name.lower().replace("*", "").replace(" ", "")


def frame_of(
    row: Mapping[str, Any], n: int, scale: Mapping[str, float], defaults: Mapping[str, int]
) -> Frame:
    """One frame of its padded row."""
    cell = row.get("cell", row.get("Cell", np.zeros((3, 3))))
    return Frame(
        numbers=row["Z"][:n],
        positions=row["R"][:n] * scale["R"],
        cell=cell * scale["R"],
        pbc=row.get("pbc", np.full(3, bool(np.any(cell)))),
        charge=int(row.get("charge", defaults["charge"])),
        multiplicity=int(row.get("multiplicity", defaults["multiplicity"])),
        fixed=row["fixed"][:n] if "fixed" in row else None,
        moments=row["moments"][:n] if "moments" in row else None,
        masses=row["masses"][:n] if "masses" in row else None,
    )


def grid_of(row: Mapping[str, Any], scale: Mapping[str, float]) -> tuple[Float, Float] | tuple[None, None]:
    """(G,) V and (G, 3) Å of a row; without `n_grid`, points of zeros at the end are padding."""
    points = row.get("vdw_surface", row.get("esp_grid"))
    if "esp" not in row or points is None:
        return None, None
    esp = np.asarray(row["esp"], np.float64)
    if points.shape != (*esp.shape, 3):
        raise DataError(f"esp {esp.shape} and its points {points.shape} do not fit together")
    used = np.flatnonzero((esp != 0.0) | (points != 0.0).any(1))
    n = int(row["n_grid"]) if "n_grid" in row else int(used[-1]) + 1 if len(used) else 0
    if n == 0:
        return None, None
    return esp[:n] * scale["esp"], np.asarray(points[:n] * scale["R"], np.float64)
