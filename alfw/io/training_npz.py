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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame
from alfw.core.records import Label
from alfw.io.imported import Imported, parse_side, text_or_none
from alfw.io.npz_rows import (
    FACTORS,
    UNITS,
    Arrays,
    frame_arrays,
    frame_of,
    grid_of,
    load_arrays,
    padded,
    row_of,
    row_sizes,
    unit_factors,
)


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
    arrays = frame_arrays([item.frame for item in items]) | _label_arrays(labels, esp_unit)
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
    arrays["F"] = padded([label.forces for label in labels])
    if any(label.dipole is not None for label in labels):
        arrays["Dxyz"] = np.array([np.full(3, np.nan) if x.dipole is None else x.dipole for x in labels])
        arrays["D"] = arrays["Dxyz"]
    if any(label.stress is not None for label in labels):
        arrays["stress"] = np.array(
            [np.full((3, 3), np.nan) if x.stress is None else x.stress for x in labels]
        )
    if any(label.charges is not None for label in labels):
        arrays["mono"] = padded(
            [np.full(len(x.forces), np.nan) if x.charges is None else x.charges for x in labels]
        )
    if any(label.esp is not None for label in labels):
        grids = [(np.zeros(0), np.zeros((0, 3))) if x.esp is None else (x.esp, x.esp_points) for x in labels]
        arrays["esp"] = padded([values for values, _ in grids]) / FACTORS["esp"][esp_unit.lower()]
        arrays["vdw_surface"] = padded([np.asarray(points) for _, points in grids])
        arrays["n_grid"] = np.array([len(values) for values, _ in grids])
    if any(label.version for label in labels):
        arrays["version"] = np.array([label.version for label in labels])
    return arrays


def read_training_npz(
    path: str | Path,
    charge: int = 0,
    multiplicity: int = 1,
    units: str | None = None,
    refused: dict[int, str] | None = None,
) -> list[Imported]:
    """The frames of an NPZ file, labelled where it has E and F; what it says wins over arguments.

    `refused`, if given, gets what is wrong with frames that cannot be used, by index; else the first one is an error.

    Raises
    ------
    DataError
        Unreadable, pickled, keys missing, units not known, or a frame that cannot be used.
    """
    arrays = load_arrays(Path(path))
    scale = unit_factors(Path(path), arrays, units)
    if "D" in arrays and "Dxyz" not in arrays:
        arrays["Dxyz"] = arrays["D"]
    items = []
    for index, n in enumerate(row_sizes(Path(path), arrays)):
        row = row_of(arrays, index)
        try:
            frame = frame_of(row, n, scale, {"charge": charge, "multiplicity": multiplicity})
            items.append(_imported(frame, row, scale))
        except (DataError, ValueError) as error:
            if refused is None:
                raise DataError(f"{path} frame {index}: {error}") from error
            refused[index] = str(error)
    return items


def _imported(frame: Frame, row: Mapping[str, Any], scale: Mapping[str, float]) -> Imported:
    """The frame with its label and what else its row says."""
    label = None
    if "E" in row and "F" in row:
        n = len(frame)
        esp, points = grid_of(row, scale)
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
        for name in ("stress", "dipole", "charges", "esp", "esp_points"):
            if (value := getattr(label, name)) is not None and not np.isfinite(value).all():
                raise DataError(f"{name} is not finite")
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
