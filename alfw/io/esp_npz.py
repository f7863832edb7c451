"""Electrostatic potentials on grids as padded NPZ (``grids_esp_*.npz``), the partner of a file of energies and forces.

| key | shape | |
|---|---|---|
| R, Z, N | (M, A, 3) Å, (M, A), (M,) | positions, atomic numbers padded with 0, atoms a frame |
| esp, vdw_surface | (M, G) Hartree/e or V, (M, G, 3) Å | potentials, and where; padded with 0 |
| n_grid | (M,) | points of each row |
| cell, pbc, charge, multiplicity, id | | as in `alfw.io.training_npz` |
| units | JSON text | {"R": "Angstrom", "esp": "Hartree/e"} |

Files of others have R, Z, N, esp, vdw_surface (or esp_grid) alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame
from alfw.io.imported import text_or_none
from alfw.io.npz_rows import (
    FACTORS,
    UNITS,
    frame_arrays,
    frame_of,
    grid_of,
    load_arrays,
    padded,
    row_of,
    row_sizes,
    unit_factors,
)


@dataclass(frozen=True, eq=False)
class EspRow:
    """One frame with the electrostatic potential around it.

    Attributes
    ----------
    frame : Frame
    esp : (G,) float64, V
        G = 0 where a file has a row without points.
    points : (G, 3) float64, Å
        In the frame's orientation.
    id : str or None
        What the file calls this row; files that alfw wrote have the frame's id.
    """

    frame: Frame
    esp: Float
    points: Float
    id: str | None = None


def write_esp_npz(
    path: str | Path, rows: Sequence[EspRow], unit: Literal["Hartree/e", "V"] = "Hartree/e"
) -> None:
    """Write potentials in the layout above; `unit` is theirs in the file.

    Raises
    ------
    DataError
        No rows, or potentials and points of one that do not fit together.
    """
    if not rows:
        raise DataError(f"{path}: no potentials to write")
    for index, row in enumerate(rows):
        if row.points.shape != (*row.esp.shape, 3):
            raise DataError(
                f"{path} row {index}: {row.esp.shape} potentials do not fit {row.points.shape} points"
            )
    arrays = frame_arrays([row.frame for row in rows])
    arrays["esp"] = padded([row.esp for row in rows]) / FACTORS["esp"][unit.lower()]
    arrays["vdw_surface"] = padded([row.points for row in rows])
    arrays["n_grid"] = np.array([len(row.esp) for row in rows])
    arrays["units"] = np.array(json.dumps({"R": UNITS["R"], "esp": unit}))
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_esp_npz(
    path: str | Path, charge: int = 0, multiplicity: int = 1, units: str | None = None
) -> list[EspRow]:
    """The rows of an ESP file, in its order; what it says wins over arguments.

    Parameters
    ----------
    charge, multiplicity : int
        Of frames whose file does not say.
    units : {"eV", "hartree"} or None
        Preset (potentials in Hartree/e, lengths in Å with both) for a file without `units`.

    Raises
    ------
    DataError
        Unreadable, pickled, keys missing, units not known, or a row that cannot be used.
    """
    path = Path(path)
    arrays = load_arrays(path)
    if "esp" not in arrays or not {"vdw_surface", "esp_grid"} & arrays.keys():
        raise DataError(
            f"{path}: no esp with its points (vdw_surface); it has {', '.join(sorted(arrays))}: is it an ESP file?"
        )
    scale = unit_factors(path, arrays, units)
    rows = []
    for index, n in enumerate(row_sizes(path, arrays)):
        row = row_of(arrays, index)
        try:
            frame = frame_of(row, n, scale, {"charge": charge, "multiplicity": multiplicity})
            esp, points = grid_of(row, scale)
        except (DataError, ValueError) as error:
            raise DataError(f"{path} row {index}: {error}") from error
        if esp is None or points is None:
            esp, points = np.zeros(0), np.zeros((0, 3))
        if not (np.isfinite(esp).all() and np.isfinite(points).all()):
            raise DataError(f"{path} row {index}: potentials or their points are not finite")
        rows.append(EspRow(frame, esp, points, text_or_none(row.get("id"))))
    return rows
