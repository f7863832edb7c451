"""Event files: one NPZ for each explosion, high force or disagreement that molecular dynamics met; never a pickle.

The keys are those of the older PhysNet/DCMNet system, in true units, with ours below the line. In its files the unit of
velocities and times is another one, see `alfw.io.velocity_units`.

| key | |
|---|---|
| positions, atomic_numbers | (n, 3) Å, (n,): of an explosion the first frame beyond the limit, or the last finite one |
| velocities | (n, 3) Å/fs, of the last step before the limit was passed; only where they are known |
| forces, energy | (n, 3) eV/Å, eV: predicted, mean of the members |
| dipole_physnet, dipole_dcmnet | (3,) e·Å, predicted; only of models with charges |
| step, time_fs, timestep | int, fs, fs |
| max_force, max_velocity, max_position | eV/Å, Å/fs, Å: largest absolute *component*, of positions from the origin |
| temperature, ensemble | K, the target (only where there is one); nvt, nve … |
| reason | explosion, high_force; uncertain, where the members of the ensemble disagree |
| instability_type | force, velocity, position, nan, distance; warning (of a high force); uncertain |
| --- | |
| good_positions, good_forces, good_energy, good_max_force | of an explosion: the last physical frame before it |
| good_dipole_physnet, good_dipole_dcmnet | as above |
| force_std, good_force_std | eV/Å: largest disagreement of the members; only of more than one |
| limit_value | what was measured, in the unit of the limit |
| cell, pbc, charge, multiplicity; good_cell | (3, 3) Å, (3,); only where it is another |
| fixed, moments, masses | (n,), only where the frame has them |
| uuid, walker, model | text, int, text: id of the ensemble |
| units | JSON text: {"positions": "Angstrom", "velocities": "A/fs", …} |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.frame import Float, Frame
from alfw.io._event_reading import (
    DIPOLES,
    KNOWN,
    MARKS,
    Arrays,
    check_arrays,
    find_unit,
    frame_of,
    load_plain,
    npz_keys,
    number,
    stated_unit,
    text,
    whole,
)
from alfw.io.files import replacing
from alfw.io.imported import has_own_masses
from alfw.io.velocity_units import UNIT_FS, VelocityUnit

UNITS = {
    **{"positions": "Angstrom", "velocities": "A/fs", "forces": "eV/Angstrom", "energy": "eV"},
    **{"dipole_physnet": "e*Angstrom", "dipole_dcmnet": "e*Angstrom", "time_fs": "fs", "timestep": "fs"},
    **{"max_force": "eV/Angstrom", "max_velocity": "A/fs", "max_position": "Angstrom", "temperature": "K"},
}


@dataclass(frozen=True, eq=False)
class Predicted:
    """A frame with what an ensemble says of it.

    Attributes
    ----------
    frame : Frame
    energy : float, eV
        NaN where not known.
    forces : (n, 3) float64 or None, eV/Å
    force_std : float, eV/Å
        NaN where not known.
    max_force : float, eV/Å
        Largest absolute component of the forces; NaN where not known.
    dipoles : {"dipole_physnet", "dipole_dcmnet": (3,) float64}, e·Å
    """

    frame: Frame
    energy: float = float("nan")
    forces: Float | None = None
    force_std: float = float("nan")
    max_force: float = float("nan")
    dipoles: Mapping[str, Float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SavedEvent:
    """What an event file holds, in true units.

    Attributes
    ----------
    shown : Predicted
        Of an explosion the first frame beyond the limit (or the last finite one), else the frame itself.
    good : Predicted or None
        Of an explosion, the last physical frame before it; files of others have none.
    reason, instability_type, ensemble, model, uuid : str
        "unknown" or empty where the file does not say.
    walker, step : int or None
    time_fs, timestep_fs, temperature_K, max_velocity, max_position, value : float
        NaN where not known.
    velocities : (n, 3) float64 or None, Å/fs
    velocity_unit : {"A/fs", "mmml", ""}
        The unit that was found in the file, "" = not known; what is here is in Å/fs and fs, except for "".
    unknown : tuple of str
        Keys of the file that mean nothing here.
    source : Path or None
    """

    shown: Predicted
    good: Predicted | None = None
    reason: str = "unknown"
    instability_type: str = "unknown"
    ensemble: str = "unknown"
    model: str = ""
    uuid: str = ""
    walker: int | None = None
    step: int | None = None
    time_fs: float = float("nan")
    timestep_fs: float = float("nan")
    temperature_K: float = float("nan")
    max_velocity: float = float("nan")
    max_position: float = float("nan")
    value: float = float("nan")
    velocities: Float | None = None
    velocity_unit: str = ""
    unknown: tuple[str, ...] = ()
    source: Path | None = None

    @property
    def explosion(self) -> bool:
        """Whether the walker left what is physical."""
        return self.reason == "explosion"

    @property
    def offered(self) -> Predicted:
        """What is worth a label: the last physical frame before an explosion where there is one."""
        return self.shown if self.good is None else self.good


def largest_component(values: Float | None) -> float:
    """Largest absolute component, as the older system wrote it; NaN where there is nothing."""
    return float("nan") if values is None or np.size(values) == 0 else float(np.abs(values).max())


def write_event(folder: Path, event: SavedEvent, now: datetime | None = None) -> Path:
    """The path of the event file, which appears complete or not at all.

    Named ``unstable_YYYYmmdd_HHMMSS_step{N}_w{walker}_{first 8 digits of the uuid}.npz``, or ``high_force_…``.
    """
    kind = "high_force" if event.reason == "high_force" else "unstable"
    when = (now or datetime.now()).strftime("%Y%m%d_%H%M%S")
    path = folder / f"{kind}_{when}_step{event.step}_w{event.walker}_{event.uuid[:8]}.npz"
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **_arrays(event))
    return path


def _arrays(event: SavedEvent) -> dict[str, Any]:
    """The keys of the file and what they hold."""
    frame = event.shown.frame
    arrays: dict[str, Any] = _predicted(event.shown, "")
    if event.good is not None:
        arrays |= _predicted(event.good, "good_")
        if not np.array_equal(event.good.frame.cell, frame.cell):
            arrays["good_cell"] = event.good.frame.cell
    arrays |= {
        "atomic_numbers": frame.numbers,
        "step": event.step,
        "time_fs": event.time_fs,
        "timestep": event.timestep_fs,
        "max_velocity": event.max_velocity,
        "max_position": event.max_position,
        "ensemble": event.ensemble,
        "reason": event.reason,
        "instability_type": event.instability_type,
        "limit_value": event.value,
        "cell": frame.cell,
        "pbc": frame.pbc,
        "charge": frame.charge,
        "multiplicity": frame.multiplicity,
        "uuid": event.uuid,
        "walker": event.walker,
        "model": event.model,
        "units": json.dumps(UNITS),
    }
    if np.isfinite(event.temperature_K):
        arrays["temperature"] = event.temperature_K
    optional = {"velocities": event.velocities, "fixed": frame.fixed, "moments": frame.moments}
    optional["masses"] = frame.masses if has_own_masses(frame) else None
    arrays |= {key: value for key, value in optional.items() if value is not None}
    return {key: np.asarray(value) for key, value in arrays.items()}


def _predicted(predicted: Predicted, prefix: str) -> dict[str, Any]:
    """The keys of one frame."""
    values: dict[str, Any] = {
        "positions": predicted.frame.positions,
        "forces": predicted.forces,
        "energy": predicted.energy,
        "max_force": predicted.max_force,
        **predicted.dipoles,
    }
    if np.isfinite(predicted.force_std):
        values["force_std"] = predicted.force_std
    return {prefix + key: value for key, value in values.items() if value is not None}


def is_event_file(path: Path) -> bool:
    """Whether an NPZ file has the keys of an event file."""
    keys = npz_keys(path)
    return {"positions", "atomic_numbers"} <= keys and bool(MARKS & keys) and "R" not in keys


def read_event(
    path: str | Path, unit: VelocityUnit | None = None, charge: int = 0, multiplicity: int = 1
) -> SavedEvent:
    """What is in an event file, in true units; keys but for positions and atomic numbers may be missing.

    Parameters
    ----------
    unit : {"A/fs", "mmml"} or None
        Of velocities, times and time step of a file that does not say; None = what the kinetic temperature tells.
    charge, multiplicity : int
        Of a file that does not say.

    Raises
    ------
    DataError
        Not readable, pickled, of wrong shapes, in other units, or of velocities that are credible in no unit.
    """
    path = Path(path)
    arrays = load_plain(path)
    check_arrays(path, arrays)
    shown = _read_predicted(path, arrays, "", charge, multiplicity)
    good = (
        _read_predicted(path, arrays, "good_", charge, multiplicity) if "good_positions" in arrays else None
    )
    velocities, target = arrays.get("velocities"), number(arrays, "temperature")
    found = stated_unit(path, arrays, UNITS) or unit
    found = found or find_unit(path, velocities, np.asarray(shown.frame.masses), target)
    fs = UNIT_FS[found or "A/fs"]
    return SavedEvent(
        shown=shown,
        good=good,
        reason=text(arrays, "reason", "unknown"),
        instability_type=text(arrays, "instability_type", "unknown"),
        ensemble=text(arrays, "ensemble", "unknown"),
        model=text(arrays, "model", ""),
        uuid=text(arrays, "uuid", ""),
        walker=whole(arrays, "walker"),
        step=whole(arrays, "step"),
        time_fs=number(arrays, "time_fs") * fs,
        timestep_fs=number(arrays, "timestep") * fs,
        temperature_K=target,
        max_velocity=number(arrays, "max_velocity") / fs,
        max_position=number(arrays, "max_position"),
        value=number(arrays, "limit_value"),
        velocities=None if velocities is None else np.asarray(velocities, np.float64) / fs,
        velocity_unit=found or "",
        unknown=tuple(sorted(arrays.keys() - KNOWN)),
        source=path,
    )


def _read_predicted(path: Path, arrays: Arrays, prefix: str, charge: int, multiplicity: int) -> Predicted:
    """One frame of the file, with what it says of it."""
    forces = arrays.get(prefix + "forces")
    stated = number(arrays, prefix + "max_force")
    return Predicted(
        frame=frame_of(path, arrays, prefix + "positions", prefix + "cell", charge, multiplicity),
        energy=number(arrays, prefix + "energy"),
        forces=None if forces is None else np.asarray(forces, np.float64),
        force_std=number(arrays, prefix + "force_std"),
        max_force=stated if np.isfinite(stated) else largest_component(forces),
        dipoles={
            key: np.asarray(arrays[prefix + key], np.float64) for key in DIPOLES if prefix + key in arrays
        },
    )
