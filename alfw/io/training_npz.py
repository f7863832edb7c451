"""Labelled data sets as padded NPZ under the usual short keys, in eV and Å, without pickle.

| key | shape | |
|---|---|---|
| R, Z, N | (M, A, 3) Å, (M, A), (M,) | positions, atomic numbers padded with 0, atoms a frame |
| E, F | (M,) eV, (M, A, 3) eV/Å | energies, forces padded with 0 |
| Dxyz, D | (M, 3) e·Å | dipoles, the same under both names; only if a frame has one, rows of NaN where one has not |
| stress, mono | (M, 3, 3) eV/Å^3, (M, A) e | stress, atomic charges; as above |
| esp, vdw_surface, n_grid | (M, G) V, (M, G, 3) Å, (M,) | potential at grid points, padded with 0; as above |
| cell, pbc | (M, 3, 3) Å, (M, 3) | |
| charge, multiplicity | (M,) | |
| fixed, moments | (M, A) | only if a frame has them |
| id, trajectory, split, theory, version | (M,) text | empty = none; `version` is that of the program |
| masses | (M, A) amu | only if a frame has others than its elements' |
| units | JSON text | {"E": "eV", "R": "Angstrom", …} |
| about | JSON text | whatever the writer has to say of the whole file |
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame
from alfw.core.records import Label
from alfw.core.units import BOHR_A, DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.io.imported import Imported, has_own_masses, parse_side, text_or_none

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
    "F": {"ev/angstrom": 1.0, "ev/å": 1.0, "hartree/bohr": HARTREE_PER_BOHR_eV_PER_A},
    "D": {"eangstrom": 1.0, "eå": 1.0, "debye": DEBYE_eA},
    "stress": {"ev/angstrom^3": 1.0, "ev/å^3": 1.0},
    "esp": {"v": 1.0, "ev/e": 1.0, "hartree/e": HARTREE_eV, "hartree": HARTREE_eV},
}
Arrays = dict[str, NDArray[Any]]


def write_training_npz(
    path: str | Path,
    items: Sequence[Imported],
    *,
    esp_unit: Literal["V", "Hartree/e"] = "V",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write labelled frames in the layout above.

    Parameters
    ----------
    esp_unit : str
        Of the potential; Hartree/e is what the files of others have.
    about : mapping, optional
        JSON data to go along.

    Raises
    ------
    DataError
        No frames, or one without a label.
    """
    if not items:
        raise DataError(f"{path}: no frames to write")
    labels: list[Label] = []
    for item in items:
        if item.label is None:
            raise DataError(
                f"{path}: frame {item.frame.id[:12]} has no label; a training set holds labelled frames"
            )
        labels.append(item.label)
    arrays = _frame_arrays([item.frame for item in items]) | _label_arrays(labels, esp_unit)
    arrays["trajectory"] = np.array([item.trajectory or "" for item in items])
    arrays["split"] = np.array([item.side or "" for item in items])
    arrays["theory"] = np.array([item.theory or "" for item in items])
    arrays["units"] = np.array(json.dumps(UNITS | {"esp": esp_unit}))
    if about is not None:
        arrays["about"] = np.array(json.dumps(about))
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _label_arrays(labels: Sequence[Label], esp_unit: str) -> Arrays:
    """The arrays that make up the labels; what no label has is left out."""
    arrays: Arrays = {"E": np.array([label.energy for label in labels])}
    arrays["F"] = _padded([label.forces for label in labels])
    if any(label.dipole is not None for label in labels):
        arrays["Dxyz"] = np.array([np.full(3, np.nan) if x.dipole is None else x.dipole for x in labels])
        arrays["D"] = arrays["Dxyz"]
    if any(label.stress is not None for label in labels):
        arrays["stress"] = np.array(
            [np.full((3, 3), np.nan) if x.stress is None else x.stress for x in labels]
        )
    if any(label.charges is not None for label in labels):
        arrays["mono"] = _padded(
            [np.full(len(x.forces), np.nan) if x.charges is None else x.charges for x in labels]
        )
    if any(label.esp is not None for label in labels):
        grids = [(np.zeros(0), np.zeros((0, 3))) if x.esp is None else (x.esp, x.esp_points) for x in labels]
        arrays["esp"] = _padded([values for values, _ in grids]) / FACTORS["esp"][esp_unit.lower()]
        arrays["vdw_surface"] = _padded([np.asarray(points) for _, points in grids])
        arrays["n_grid"] = np.array([len(values) for values, _ in grids])
    if any(label.version for label in labels):
        arrays["version"] = np.array([label.version for label in labels])
    return arrays


def _frame_arrays(frames: Sequence[Frame]) -> Arrays:
    """The arrays that make up the frames."""
    arrays: Arrays = {
        "R": _padded([frame.positions for frame in frames]),
        "Z": _padded([frame.numbers for frame in frames]),
        "N": np.array([len(frame) for frame in frames]),
        "cell": np.array([frame.cell for frame in frames]),
        "pbc": np.array([frame.pbc for frame in frames]),
        "charge": np.array([frame.charge for frame in frames]),
        "multiplicity": np.array([frame.multiplicity for frame in frames]),
        "id": np.array([frame.id for frame in frames]),
    }
    if any(frame.fixed is not None for frame in frames):
        arrays["fixed"] = _padded([~frame.free for frame in frames])
    if any(frame.moments is not None for frame in frames):
        arrays["moments"] = _padded([np.zeros(len(f)) if f.moments is None else f.moments for f in frames])
    if any(has_own_masses(frame) for frame in frames):
        arrays["masses"] = _padded([np.asarray(frame.masses) for frame in frames])
    return arrays


def _padded(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(M, A, …): arrays of different length, padded with 0 to the longest."""
    padded = np.zeros((len(parts), max(len(p) for p in parts), *parts[0].shape[1:]), parts[0].dtype)
    for row, part in zip(padded, parts, strict=True):
        row[: len(part)] = part
    return padded


def read_training_npz(
    path: str | Path, charge: int = 0, multiplicity: int = 1, units: str | None = None
) -> list[Imported]:
    """The frames of an NPZ file, labelled where it has E and F; what it says wins over arguments.

    Raises
    ------
    DataError
        Unreadable, pickled, keys missing, units not known, or a frame that cannot be used.
    """
    arrays = _load(Path(path))
    scale = _factors(Path(path), arrays, units)
    if "D" in arrays and "Dxyz" not in arrays:
        arrays["Dxyz"] = arrays["D"]
    sizes = arrays["N"].astype(int) if "N" in arrays else (arrays["Z"] > 0).sum(1)
    if len(sizes) == 0:
        raise DataError(f"{path}: no frames")
    items = []
    for index, n in enumerate(sizes.ravel()):
        row = {key: value[index] for key, value in arrays.items() if value.ndim and len(value) == len(sizes)}
        try:
            frame = _frame(row, int(n), scale, {"charge": charge, "multiplicity": multiplicity})
            items.append(_imported(frame, row, scale))
        except (DataError, ValueError) as error:
            raise DataError(f"{path} frame {index}: {error}") from error
    return items


def _load(path: Path) -> Arrays:
    """The plain arrays of an NPZ file; pickled ones (metadata of other programs) are left out."""
    arrays: Arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                try:
                    arrays[key] = file[key]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as NPZ ({error})") from error
    missing = [key for key in ("R", "Z") if key not in arrays]
    if missing:
        raise DataError(
            f"{path}: no key {' or '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing plain'}"
        )
    if arrays["R"].shape != (*arrays["Z"].shape, 3):
        raise DataError(f"{path}: R {arrays['R'].shape} and Z {arrays['Z'].shape} do not fit together")
    return arrays


def _factors(path: Path, arrays: Arrays, units: str | None) -> dict[str, float]:
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
        )
    factors = {}
    for key, known in FACTORS.items():
        name = stated.get(key, UNITS[key]).lower().replace("*", "").replace(" ", "")
        if name not in known:
            raise DataError(f"{path}: unit {stated[key]!r} of {key} is not known; known: {', '.join(known)}")
        factors[key] = known[name]
    return factors


def _frame(row: Mapping[str, Any], n: int, scale: Mapping[str, float], defaults: Mapping[str, int]) -> Frame:
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


def _imported(frame: Frame, row: Mapping[str, Any], scale: Mapping[str, float]) -> Imported:
    """The frame with its label and what else its row says."""
    label = None
    if "E" in row and "F" in row:
        n = len(frame)
        esp, points = _grid(row, scale)
        label = Label(
            energy=float(np.ravel(row["E"])[0]) * scale["E"],
            forces=np.asarray(row["F"][:n], np.float64) * scale["F"],
            stress=_present(row.get("stress"), scale["stress"]),
            dipole=None if frame.periodic else _present(row.get("Dxyz"), scale["D"]),
            charges=_present(row["mono"][:n], 1.0) if "mono" in row else None,
            esp=esp,
            esp_points=points,
            version=str(row.get("version", "")),
        )
        if not np.isfinite(label.energy) or not np.isfinite(label.forces).all():
            raise DataError("energy or forces are not finite")
    return Imported(
        frame=frame,
        label=label,
        trajectory=text_or_none(row.get("trajectory")),
        side=parse_side(row.get("split")),
        theory=text_or_none(row.get("theory")),
    )


def _present(value: NDArray[Any] | None, factor: float) -> Float | None:
    """An optional array in alfw's unit; None where its row says so by NaN."""
    return None if value is None or np.isnan(value).all() else np.asarray(value * factor, np.float64)


def _grid(row: Mapping[str, Any], scale: Mapping[str, float]) -> tuple[Float, Float] | tuple[None, None]:
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
