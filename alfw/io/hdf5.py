"""Labelled data sets as HDF5: flat arrays with offsets, no padding; and the groups of ANI and ALF, read only.

Written and read, all in the root group; ``unit`` is an attribute of each dataset that has one:

| dataset | shape | |
|---|---|---|
| offsets | (M + 1,) | atoms of frame i are rows offsets[i] … offsets[i + 1] − 1 of what has one row an atom |
| numbers, positions | (Σn,), (Σn, 3) Å | |
| cell, pbc, charge, multiplicity, id | (M, 3, 3) Å, (M, 3), (M,) … | |
| energy, forces | (M,) eV, (Σn, 3) eV/Å | NaN where a frame has no label |
| stress, dipole, charges | (M, 3, 3) eV/Å^3, (M, 3) e·Å, (Σn,) e | only if a frame has one; NaN where one has not |
| esp, esp_points, esp_offsets | (ΣG,) V, (ΣG, 3) Å, (M + 1,) | likewise; an empty stretch where a frame has none |
| fixed, moments, masses | (Σn,) | only if a frame has them |
| trajectory, split, theory, version | (M,) text | empty = none |

Attributes of the file: ``format`` = ``alfw``, ``about`` (JSON text).

Read only: one group a composition (https://github.com/aiqm/ANI1x_datasets, https://github.com/lanl/ALF) with
``species`` or ``atomic_numbers`` (n,), ``coordinates`` (M, n, 3) Å, ``energy`` or ``energies`` (M,), ``forces``
(M, n, 3) and, if periodic, ``cell`` (M, 3, 3) Å. They state no units: eV and eV/Å, Hartree and Hartree/Bohr
("hartree"), or Hartree and Hartree/Å ("ani") has to be said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.core.registry import private
from alfw.io.imported import Imported, has_own_masses, parse_side, text_or_none
from alfw.io.npz_rows import UNITS, Arrays, unit_factors

# Datasets with a unit, and the quantity of `alfw.io.npz_rows` they are.
QUANTITIES = {
    **{"positions": "R", "cell": "R", "energy": "E", "forces": "F", "stress": "stress", "dipole": "D"},
    **{"esp": "esp", "esp_points": "R"},
}
ANI_UNITS = {"R": "Angstrom", "E": "Hartree", "F": "Hartree/Angstrom"}
PER_ATOM = ("numbers", "positions", "forces", "charges", "fixed", "moments", "masses")
PER_FRAME = (
    *("cell", "pbc", "charge", "multiplicity", "id", "energy", "stress", "dipole"),
    *("trajectory", "split", "theory", "version"),
)


def write_hdf5(path: str | Path, items: Sequence[Imported], about: Mapping[str, Any] | None = None) -> None:
    """Write frames with their labels in the layout above.

    Raises
    ------
    DataError
        No frames.
    """
    if not items:
        raise DataError(f"{path}: no frames to write")
    arrays = _frames([item.frame for item in items]) | _labels(items)
    for name in ("trajectory", "side", "theory"):
        values = [getattr(item, name) or "" for item in items]
        arrays["split" if name == "side" else name] = np.array(values, dtype=str)
    arrays["version"] = np.array([item.label.version if item.label else "" for item in items], dtype=str)
    units = {name: UNITS[quantity] for name, quantity in QUANTITIES.items()} | {"charges": "e"}
    attributes = {"format": "alfw"} | ({"about": json.dumps(about)} if about is not None else {})
    _h5().write_arrays(Path(path), arrays, units, attributes)


def _h5() -> Any:
    return private("alfw.io._hdf5", "hdf5")


def _frames(frames: Sequence[Frame]) -> Arrays:
    """The arrays that make up the frames."""
    arrays: Arrays = {
        "offsets": np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]),
        "numbers": np.concatenate([frame.numbers for frame in frames]),
        "positions": np.concatenate([frame.positions for frame in frames]),
        "cell": np.array([frame.cell for frame in frames]),
        "pbc": np.array([frame.pbc for frame in frames]),
        "charge": np.array([frame.charge for frame in frames]),
        "multiplicity": np.array([frame.multiplicity for frame in frames]),
        "id": np.array([frame.id for frame in frames]),
    }
    if any(frame.fixed is not None for frame in frames):
        arrays["fixed"] = np.concatenate([~frame.free for frame in frames])
    if any(frame.moments is not None for frame in frames):
        moments = [np.zeros(len(f)) if f.moments is None else f.moments for f in frames]
        arrays["moments"] = np.concatenate(moments)
    if any(has_own_masses(frame) for frame in frames):
        arrays["masses"] = np.concatenate([np.asarray(frame.masses) for frame in frames])
    return arrays


def _labels(items: Sequence[Imported]) -> Arrays:
    """The arrays that make up the labels; what no label has is left out."""
    shapes = {"energy": lambda n: (), "forces": lambda n: (n, 3), "charges": lambda n: (n,)}
    shapes |= {"stress": lambda n: (3, 3), "dipole": lambda n: (3,)}
    arrays: Arrays = {}
    for name, shape in shapes.items():
        values = [getattr(item.label, name, None) for item in items]
        if any(value is not None for value in values):
            filled = [
                np.full(shape(len(item.frame)), np.nan) if value is None else np.asarray(value)
                for item, value in zip(items, values, strict=True)
            ]
            arrays[name] = np.concatenate(filled) if name in PER_ATOM else np.array(filled)
    grids = [(np.zeros(0), np.zeros((0, 3)))] * len(items)
    for index, item in enumerate(items):
        if item.label is not None and item.label.esp is not None and item.label.esp_points is not None:
            grids[index] = (item.label.esp, item.label.esp_points)
    if any(len(values) for values, _ in grids):
        arrays["esp"] = np.concatenate([values for values, _ in grids])
        arrays["esp_points"] = np.concatenate([points for _, points in grids])
        arrays["esp_offsets"] = np.concatenate([[0], np.cumsum([len(values) for values, _ in grids])])
    return arrays


def read_hdf5(
    path: str | Path,
    charge: int = 0,
    multiplicity: int = 1,
    units: str | None = None,
    refused: dict[int, str] | None = None,
) -> list[Imported]:
    """The frames of an HDF5 file in one of the layouts above.

    Parameters
    ----------
    charge, multiplicity : int
        Of frames that do not say.
    units : {"eV", "hartree", "ani"} or None
        Of files without units of their own.
    refused : dict, optional
        Gets what is wrong with frames that cannot be used, by index; None: the first one is an error.

    Raises
    ------
    DataError
        Unreadable, no data set, units not known, arrays that do not fit together, or an unusable frame.
    """
    path, defaults = Path(path), {"charge": charge, "multiplicity": multiplicity}
    items: list[Imported] = []
    first, seen = 0, []
    for name, arrays, stated, attributes in _h5().read_groups(path):
        seen += [f"{name.rstrip('/')}/{key}" for key in arrays]
        if attributes.get("format") == "alfw" and name == "/":
            rows = _rows(path, arrays, _scale(path, arrays, stated, units))
        elif "coordinates" in arrays:
            rows = _group_rows(path, name, arrays, stated, units)
        else:
            continue
        for index, row in enumerate(rows, first):
            try:
                items.append(_imported(defaults | row))
            except (DataError, ValueError) as error:
                if refused is None:
                    raise DataError(f"{path} frame {index}: {error}") from error
                refused[index] = str(error)
        first += len(rows)
    if first == 0:
        what = ", ".join(seen[:6]) or "nothing"
        raise DataError(
            f"{path}: no frames; neither alfw's layout nor groups with `coordinates`: it has {what}"
        )
    return items


def stated(path: str | Path) -> dict[str, str]:
    """The units that a file states of energy (E), forces (F) and others, as `alfw.io.npz_rows` names them.

    Raises
    ------
    DataError
        Not HDF5.
    """
    found: dict[str, str] = {}
    for _, _, units, _ in _h5().read_groups(Path(path)):
        found |= {QUANTITIES[name]: unit for name, unit in units.items() if name in QUANTITIES}
    return found


def _scale(path: Path, arrays: Arrays, stated: Mapping[str, str], units: str | None) -> dict[str, float]:
    """What one unit of each quantity is in alfw's units."""
    known = {quantity: stated[name] for name, quantity in QUANTITIES.items() if name in stated}
    if not known and units == "ani":
        known = dict(ANI_UNITS)
    present = {quantity: arrays[name] for name, quantity in QUANTITIES.items() if name in arrays}
    content = present | ({"units": np.array(json.dumps(known))} if known else {})
    return unit_factors(path, content, units)


def _rows(path: Path, arrays: Arrays, scale: Mapping[str, float]) -> list[dict[str, Any]]:
    """What alfw's layout says of each frame, in alfw's units."""
    missing = [name for name in ("offsets", "numbers", "positions") if name not in arrays]
    if missing:
        raise DataError(f"{path}: no dataset {' or '.join(missing)}; it has {', '.join(sorted(arrays))}")
    grids = ("esp", "esp_points")
    bounds = _bounds(path, arrays, "offsets", "numbers")
    points = _bounds(path, arrays, "esp_offsets", "esp") if "esp" in arrays else None
    arrays = {name: array for name, array in arrays.items() if name in (*PER_ATOM, *PER_FRAME, *grids)}
    for name, array in arrays.items():
        rows = bounds[-1] if name in PER_ATOM else len(bounds) - 1
        rows = points[-1] if points is not None and name in grids else rows
        if array.ndim == 0 or len(array) != rows:
            raise DataError(f"{path}: {name} is {array.shape}, {rows} rows are needed: damaged")
    arrays = {n: a * scale[QUANTITIES[n]] if n in QUANTITIES else a for n, a in arrays.items()}
    found = []
    for i in range(len(bounds) - 1):
        row = {}
        for name in arrays:
            if name in grids and points is not None:
                row[name] = arrays[name][points[i] : points[i + 1]]
            else:
                mine = slice(bounds[i], bounds[i + 1]) if name in PER_ATOM else i
                row[name] = arrays[name][mine]
        found.append(row)
    return found


def _bounds(path: Path, arrays: Arrays, name: str, of: str) -> NDArray[np.int64]:
    """(M + 1,) int64: where the rows of each frame begin and end."""
    bounds = np.asarray(arrays.get(name, []), np.int64)
    if len(bounds) < 2 or bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] != len(arrays[of]):
        raise DataError(f"{path}: {name} does not fit the {len(arrays[of])} rows of {of}: damaged")
    return bounds


def _group_rows(
    path: Path, name: str, arrays: Arrays, stated: Mapping[str, str], units: str | None
) -> list[dict[str, Any]]:
    """What a group of ANI or ALF says of each frame, in alfw's units."""
    rename = {"coordinates": "positions", "energies": "energy", "force": "forces"}
    stated = {rename.get(key, key): unit for key, unit in stated.items()}
    arrays = {rename.get(key, key): array for key, array in arrays.items()}
    species = arrays.get("species", arrays.get("atomic_numbers"))
    if species is None:
        raise DataError(f"{path}: group {name} has coordinates, but neither species nor atomic_numbers")
    try:
        numbers = np.array(
            [atomic_numbers[_symbol(s)] if isinstance(s, str | bytes) else int(s) for s in species]
        )
    except (KeyError, ValueError, TypeError):
        raise DataError(f"{path}: group {name}: species {list(species)[:5]} are not elements") from None
    frames = arrays["positions"].reshape(-1, *arrays["positions"].shape[-2:])
    shapes = {"positions": (len(numbers), 3), "energy": (), "forces": (len(numbers), 3), "cell": (3, 3)}
    scale, columns = _scale(path, arrays, stated, units), {}
    for key in shapes.keys() & arrays.keys():
        wanted = (len(frames), *shapes[key])
        if arrays[key].size != np.prod(wanted):
            raise DataError(f"{path}: group {name}: {key} is {arrays[key].shape}, not {wanted}")
        columns[key] = np.asarray(arrays[key], np.float64).reshape(wanted) * scale[QUANTITIES[key]]
    same = {"numbers": numbers, "pbc": np.full(3, "cell" in columns)}
    return [same | {key: column[i] for key, column in columns.items()} for i in range(len(frames))]


def _symbol(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _imported(row: Mapping[str, Any]) -> Imported:
    """A frame, with its label where it has energy and forces."""
    cell = row.get("cell", np.zeros((3, 3)))
    frame = Frame(
        numbers=row["numbers"],
        positions=row["positions"],
        cell=cell,
        pbc=row.get("pbc", np.full(3, bool(np.any(cell)))),
        charge=int(row["charge"]),
        multiplicity=int(row["multiplicity"]),
        **{name: row.get(name) for name in ("fixed", "moments", "masses")},
    )
    given = {name: _present(row.get(name)) for name in ("energy", "forces", "stress", "dipole", "charges")}
    label = None
    if given["energy"] is not None and given["forces"] is not None:
        grid = {n: row[n] for n in ("esp", "esp_points") if len(row.get("esp", ()))}
        for name, value in (given | grid).items():
            if value is not None and not np.isfinite(value).all():
                raise DataError(f"{name} is not finite")
        given["energy"] = float(given["energy"])
        label = Label(**given, **grid, version=str(row.get("version", "")))
    return Imported(
        frame=frame,
        label=label,
        trajectory=text_or_none(row.get("trajectory")),
        side=parse_side(row.get("split")),
        theory=text_or_none(row.get("theory")),
    )


def _present(value: Any) -> Any:
    """An optional array; None where its row says so by NaN."""
    return None if value is None or np.isnan(value).all() else np.asarray(value, np.float64)
