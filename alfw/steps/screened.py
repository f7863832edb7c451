"""What an ensemble says of frames in files, and how that is kept.

As JSON: one row a frame in the form of the older system (E_mean, E_var, F_mean, F_var, index), with more beside. As a
shard (NPZ): all of it, with the forces of every member and the features of the atoms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import DataError
from alfw.core.frame import Bool, Float, Frame
from alfw.core.uncertainty import force_std, frame_max_force
from alfw.io.files import write_file
from alfw.io.frames import read_frames
from alfw.io.shards import pack, unpack

UNITS = {"energy": "eV", "forces": "eV/A", "E_var": "eV^2", "F_var": "(eV/A)^2", "force_std": "eV/A"}
OLDER = frozenset({"E_mean", "E_var", "F_mean", "F_var", "index"})


@dataclass(frozen=True)
class Origin:
    """The file a frame is from, and its index there."""

    path: Path
    index: int


@dataclass(frozen=True, eq=False)
class Screening:
    """B frames and what K members say of them.

    Attributes
    ----------
    frames : list of B Frames
    origins : list of B Origin
    energy : (K, B) float64, eV
    forces : B × (K, n, 3) float64, eV/Å
    features : B × (n, D) float32, or None
        Of the first member, where it has any.
    """

    frames: list[Frame]
    origins: list[Origin]
    energy: Float
    forces: list[Float]
    features: list[Float] | None = None

    @property
    def members(self) -> int:
        """K."""
        return len(self.energy)

    @property
    def finite(self) -> Bool:
        """(B,) bool: whether every member has an energy and forces."""
        forces = np.array([np.isfinite(f).all() for f in self.forces], bool)
        both: Bool = np.isfinite(self.energy).all(axis=0) & forces
        return both

    @property
    def atom_force_std(self) -> list[Float]:
        """B × (n_free,) float64, eV/Å: of the atoms that may move; NaN of one member."""
        return [force_std(f)[frame.free] for frame, f in zip(self.frames, self.forces, strict=True)]

    @property
    def force_std(self) -> Float:
        """(B,) float64, eV/Å: the largest over the atoms that may move."""
        return np.array([each.max(initial=-np.inf) if each.size else 0.0 for each in self.atom_force_std])

    @property
    def max_force(self) -> Float:
        """(B,) float64, eV/Å: largest mean force on an atom that may move."""
        pairs = zip(self.frames, self.forces, strict=True)
        return np.array([frame_max_force(forces, frame.free) for frame, forces in pairs])

    @property
    def energy_std_per_atom(self) -> Float:
        """(B,) float64, eV: of the members' energies, without their constant offsets; NaN of one member."""
        if self.members < 2:
            return np.full(len(self.frames), np.nan)
        spread = self.energy - self.energy.mean(1, keepdims=True)
        found: Float = spread.std(0) / [len(frame) for frame in self.frames]
        return found


def as_rows(screening: Screening) -> list[dict[str, Any]]:
    """One row a frame, JSON data; what is not finite is None."""
    largest, mean = (
        screening.force_std,
        [each.mean() if each.size else 0.0 for each in screening.atom_force_std],
    )
    columns = zip(largest, mean, screening.energy_std_per_atom, screening.max_force, strict=True)
    rows = []
    for i, (frame, origin, numbers) in enumerate(
        zip(screening.frames, screening.origins, columns, strict=True)
    ):
        energy, forces = screening.energy[:, i], screening.forces[i]
        row = {
            "E_mean": energy.mean(),
            "E_var": energy.var(),
            "F_mean": forces.mean(0).tolist(),
            "F_var": forces.var(0).mean(),
            "index": i,
            "source": str(origin.path),
            "frame": origin.index,
            "id": frame.id,
            "n_atoms": len(frame),
            "charge": frame.charge,
            "multiplicity": frame.multiplicity,
            "members": screening.members,
            "energies": energy.tolist(),
            **dict(
                zip(
                    ("force_std_max", "force_std_mean", "energy_std_per_atom", "max_force"),
                    numbers,
                    strict=True,
                )
            ),
            "units": UNITS,
        }
        rows.append({key: _plain(value) for key, value in row.items()})
    return rows


def _plain(value: Any) -> Any:
    """JSON data without NaN and infinity."""
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def save(path: Path, screening: Screening) -> None:
    """Write a screening as JSON (.json) or as a shard (.npz).

    Raises
    ------
    DataError
        Another suffix, or it cannot be written.
    """
    if path.suffix == ".json":
        write_file(path, (json.dumps(as_rows(screening), indent=1, allow_nan=False) + "\n").encode())
    elif path.suffix == ".npz":
        write_file(path, _shard(screening))
    else:
        raise DataError(f"{path}: a screening is .json or .npz")


def _shard(screening: Screening) -> bytes:
    # (K, n, 3) of each frame as n rows (K, 3)
    none = np.empty((0, screening.members, 3))
    forces = np.concatenate([none, *(f.swapaxes(0, 1) for f in screening.forces)])
    more = {} if screening.features is None else {"atoms_features": np.concatenate(screening.features)}
    return pack(
        screening.frames,
        source=np.array([str(origin.path) for origin in screening.origins], np.str_),
        index=np.array([origin.index for origin in screening.origins], np.int64),
        energy=screening.energy.T,
        atoms_forces=forces,
        **more,
    )


def load(path: Path) -> Screening:
    """The screening in a shard.

    Raises
    ------
    DataError
        It is missing or damaged, holds pickled objects, or is no screening.
    """
    try:
        frames, arrays = unpack(path.read_bytes())
    except (OSError, DataError) as error:
        raise DataError(f"{path}: {error}") from None
    missing = {"source", "index", "energy", "atoms_forces"} - arrays.keys()
    if missing:
        raise DataError(f"{path}: not the output of alfw screen: it has no {', '.join(sorted(missing))}")
    cuts = np.cumsum([len(frame) for frame in frames])[:-1]
    features = arrays.get("atoms_features")
    return Screening(
        frames=frames,
        origins=[Origin(Path(s), int(i)) for s, i in zip(arrays["source"], arrays["index"], strict=True)],
        energy=arrays["energy"].T,
        forces=[f.swapaxes(0, 1) for f in np.split(arrays["atoms_forces"], cuts)] if frames else [],
        features=None if features is None else np.split(features, cuts),
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a screening kept as JSON, by the older system as well.

    Raises
    ------
    DataError
        It is none.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= OLDER for row in rows):
        wanted = ", ".join(sorted(OLDER))
        raise DataError(
            f"{path}: not the output of alfw screen or run_ensemble: a list of rows with {wanted}"
        )
    return rows


def frames_of(rows: Sequence[dict[str, Any]], base: Path) -> list[Frame]:
    """The frames that rows were made from, read from their files again.

    Parameters
    ----------
    base : Path
        Folder that a path is meant from where it is not found from the current one.

    Raises
    ------
    DataError
        A row without its file, a file that is gone, or one that has changed since.
    """
    read: dict[tuple[Any, ...], list[Frame]] = {}
    found: list[Frame] = []
    for row in rows:
        if "source" not in row:
            raise DataError(f"row {row['index']} does not say which file it is from: give --structures")
        source, charge, multiplicity = str(row["source"]), row.get("charge", 0), row.get("multiplicity", 1)
        path = Path(source) if Path(source).exists() else base / source
        key = (path, charge, multiplicity)
        if key not in read:
            read[key] = [item.frame for item in read_frames(path, charge, multiplicity, "vacuum")]
        index = int(row.get("frame", 0))
        frame = read[key][index] if index < len(read[key]) else None
        if frame is None or row.get("id", frame.id) != frame.id:
            raise DataError(f"{source} frame {index} has changed since it was screened: screen it again")
        found.append(frame)
    return found
