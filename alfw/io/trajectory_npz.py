"""Trajectories of molecular dynamics as NPZ, in the keys of the older system: written, and read back.

| key | shape, unit |
|---|---|
| trajectory | (S, n, 3) Å |
| velocities | (S, n, 3) Å/fs |
| times | (S,) fs |
| energies | (S,) eV, potential and kinetic |
| temperatures | (S,) K, of the motion about the centre of mass |
| dipoles_physnet, dipoles_dcmnet | (S, 3) e·Å, about the centre of mass: of atomic charges, of distributed ones |
| timestep | fs |
| atomic_numbers, masses | (n,), amu |

Added: steps (S,), potential_energies (S,) eV, max_forces (S,) eV/Å, walker, charge, multiplicity, units (JSON text),
and of periodic systems cells (S, 3, 3) Å and pbc. What is not known is left out: velocities, energies and temperatures
without dynamics, dipoles of a potential without charges. One file holds one walker.

Units are true ones; those of the older system's own files are not (its times are a hundred times too short).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame
from alfw.core.units import AMU_A2_PER_FS2_eV, KB_eV_PER_K
from alfw.io.files import write_file

UNITS = {
    **{"trajectory": "Angstrom", "cells": "Angstrom", "velocities": "A/fs", "times": "fs"},
    **{"timestep": "fs", "energies": "eV", "potential_energies": "eV", "max_forces": "eV/Angstrom"},
    **{"temperatures": "K", "dipoles": "e*Angstrom", "masses": "amu"},
}
DIPOLES = ("dipoles_physnet", "dipoles_dcmnet", "dipoles")


@dataclass(frozen=True, eq=False)
class Track:
    """The trajectory of one walker, S frames of the same n atoms.

    Attributes
    ----------
    first : Frame
        Its atoms, as they were in the first frame.
    walker : int
    dt_fs : float
        Time step; NaN without dynamics.
    step : (S,) int64
    time_fs : (S,) float64
    positions : (S, n, 3) float64, Å
    cells : (S, 3, 3) float64 or None, Å
        None where not periodic.
    potential_eV, max_force_eV_per_A : (S,) float64
        Of what drove the run.
    velocities : (S, n, 3) float32 or None, Å/fs
    dipoles : {"dipoles_physnet", "dipoles_dcmnet", "dipoles": (S, 3) float64}, e·Å
    """

    first: Frame
    walker: int
    dt_fs: float
    step: NDArray[np.int64]
    time_fs: Float
    positions: Float
    cells: Float | None
    potential_eV: Float
    max_force_eV_per_A: Float
    velocities: NDArray[np.float32] | None = None
    dipoles: Mapping[str, Float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.step)

    @property
    def kinetic_eV(self) -> Float | None:
        """(S,) float64: kinetic energy."""
        if self.velocities is None:
            return None
        masses = np.asarray(self.first.masses)[:, None]
        return 0.5 * AMU_A2_PER_FS2_eV * (masses * self.velocities.astype(np.float64) ** 2).sum((1, 2))

    @property
    def total_eV(self) -> Float | None:
        """(S,) float64: what constant-energy dynamics keeps."""
        kinetic = self.kinetic_eV
        return None if kinetic is None else self.potential_eV + kinetic

    @property
    def temperature_K(self) -> Float | None:
        """(S,) float64: of the motion about the centre of mass, 3n − 3 degrees of freedom (3n_free with fixed atoms).

        The centre of mass of an isolated molecule may stand still or drift; neither says anything about temperature.
        """
        kinetic = self.kinetic_eV
        if kinetic is None or self.velocities is None:
            return None
        n, masses = len(self.first), np.asarray(self.first.masses)
        free = 3 * int(self.first.free.sum())
        if self.first.fixed is None and n > 1:
            drift = np.einsum("a,sak->sk", masses, self.velocities.astype(np.float64))
            kinetic = kinetic - 0.5 * AMU_A2_PER_FS2_eV * (drift**2).sum(1) / masses.sum()
            free = 3 * n - 3
        return 2 * kinetic / (free * KB_eV_PER_K)

    def frame(self, index: int) -> Frame:
        """One of its frames."""
        return self.first.moved(self.positions[index], None if self.cells is None else self.cells[index])


def arrays_of(track: Track) -> dict[str, Any]:
    """The trajectory by the keys of the file, but for its units."""
    first = track.first
    arrays: dict[str, Any] = {
        "trajectory": track.positions,
        "times": track.time_fs,
        "steps": track.step,
        "potential_energies": track.potential_eV,
        "max_forces": track.max_force_eV_per_A,
        "timestep": track.dt_fs,
        "atomic_numbers": first.numbers,
        "masses": first.masses,
        **{"walker": track.walker, "charge": first.charge, "multiplicity": first.multiplicity},
        **track.dipoles,
    }
    if track.velocities is not None:
        arrays |= {"velocities": track.velocities, "energies": track.total_eV}
        arrays["temperatures"] = track.temperature_K
    if track.cells is not None:
        arrays |= {"cells": track.cells, "pbc": first.pbc}
    if first.fixed is not None:
        arrays["fixed"] = first.fixed
    return arrays


def write_trajectory(path: Path, track: Track) -> None:
    """Write one walker's trajectory; the file appears complete or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays_of(track), units=json.dumps(UNITS))
    write_file(path, buffer.getvalue())


def read_trajectory(path: Path) -> Track:
    """The trajectory in a file of `write_trajectory`.

    Raises
    ------
    DataError
        Missing, damaged, with Python objects, without units (the older system's own) or of other shapes.
    """
    arrays = load_arrays(path)
    needed = ("trajectory", "times", "steps", "atomic_numbers", "masses", "timestep", "units")
    missing = [key for key in (*needed, "potential_energies", "max_forces", "walker") if key not in arrays]
    if missing:
        raise DataError(f"{path}: no trajectory that alfw wrote: {', '.join(missing)} missing")
    x, n = arrays["trajectory"], len(arrays["atomic_numbers"])
    if x.ndim != 3 or x.shape[1:] != (n, 3) or len(x) != len(arrays["times"]) or not len(x):
        raise DataError(
            f"{path}: trajectory of shape {x.shape} for {n} atoms and {len(arrays['times'])} times"
        )
    cells = arrays.get("cells")
    first = Frame(
        arrays["atomic_numbers"],
        x[0],
        np.zeros((3, 3)) if cells is None else cells[0],
        arrays.get("pbc", np.zeros(3, bool)),
        int(arrays.get("charge", 0)),
        int(arrays.get("multiplicity", 1)),
        arrays.get("fixed"),
        masses=arrays["masses"],
    )
    return Track(
        first,
        int(arrays["walker"]),
        float(arrays["timestep"]),
        *(arrays["steps"], arrays["times"], x, cells, arrays["potential_energies"], arrays["max_forces"]),
        velocities=arrays.get("velocities"),
        dipoles={key: arrays[key] for key in DIPOLES if key in arrays},
    )


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an NPZ; never a Python object.

    Raises
    ------
    DataError
        Missing, damaged, or with Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        words = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: not a trajectory as NPZ ({words})") from None
