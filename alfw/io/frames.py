"""Frames from any file that ASE reads or from our NPZ, and to extended XYZ.

Source: extended XYZ, https://github.com/libAtoms/extxyz; ASE's reading of it, `ase.io.extxyz`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.stress import voigt_6_to_full_3x3_stress

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame
from alfw.core.records import Label
from alfw.io.event_files import is_event_file, read_event
from alfw.io.hdf5 import read_hdf5
from alfw.io.imported import Imported, has_own_masses, parse_side, text_or_none
from alfw.io.multi_copy import METADATA, is_md_file, read_md
from alfw.io.training_npz import read_training_npz

# Longer than the cutoff of any model in use, so that two images of a slab do not see each other.
VACUUM_A = 10.0


def expand_paths(patterns: Iterable[str | Path]) -> list[Path]:
    """Files named by files, directories (what lies directly in them, not hidden) and globs, sorted.

    Raises
    ------
    DataError
        A pattern matches no file.
    """
    found: set[Path] = set()
    for pattern in patterns:
        path = Path(pattern).expanduser()
        matches = [path] if path.exists() else [Path(p) for p in glob(str(path), recursive=True)]
        files = [file for match in matches for file in _files_in(match)]
        if not files:
            raise DataError(f"{pattern}: no such file, or a folder or pattern without files")
        found.update(files)
    return sorted(found)


def _files_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    return [file for file in files if file.name != METADATA]  # it belongs to another file


def read_frames(
    path: str | Path,
    charge: int = 0,
    multiplicity: int = 1,
    partial_pbc: Literal["vacuum"] | None = None,
    units: str | None = None,
    prepare: Callable[[Atoms], None] | None = None,
    refused: dict[int, str] | None = None,
) -> list[Imported]:
    """The frames of a file, in its order, with the labels, trajectories, sides and theories it carries.

    Parameters
    ----------
    path : str or Path
        Anything ASE reads (extxyz, traj, POSCAR, databases …), NPZ with the keys of `alfw.io.training_npz` or of a
        trajectory (`alfw.io.trajectory_npz`, `alfw.io.multi_copy`), or HDF5 in the layouts of `alfw.io.hdf5`.
    charge, multiplicity : int
        Of frames that do not say; a frame's own values win.
    partial_pbc : "vacuum" or None
        What to do with frames periodic in one or two directions: make them fully periodic, see
        `with_vacuum`, or refuse them.
    units : {"eV", "hartree"} or None
        Of an NPZ or HDF5 file without units of its own.
    prepare : callable, optional
        Called with each of ASE's Atoms before it is taken, e.g. `alfw.io.references.ReferenceKeys`.
    refused : dict, optional
        Gets what is wrong with frames that cannot be used, by index; None: the first one is an error.

    Raises
    ------
    DataError
        File missing, unreadable or without frames; a frame that cannot be used (the message has its index).
    """
    from ase.io import read  # a third of a second, which most commands can do without

    from alfw.io.asedb import rows

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: no frames, the file is empty")
    if path.suffix == ".npz" and is_event_file(path):  # the unit of its velocities does not matter here
        return [Imported(read_event(path, "A/fs", charge, multiplicity).offered.frame)]
    if path.suffix == ".npz" and is_md_file(path):
        return read_md(path, charge, multiplicity)
    if path.suffix == ".npz":
        return read_training_npz(path, charge, multiplicity, units, refused)
    if path.suffix in (".h5", ".hdf5"):
        return read_hdf5(path, charge, multiplicity, units, refused)
    try:
        images = rows(path) if path.suffix == ".db" else read(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # every ASE parser raises its own
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {reason})") from error
    if not images:
        raise DataError(f"{path}: no frames")
    imported = []
    for index, atoms in enumerate(images):
        try:
            if prepare is not None:
                prepare(atoms)
            imported.append(_from_atoms(atoms, charge, multiplicity, partial_pbc))
        except (DataError, ValueError, TypeError) as error:
            if refused is None:
                raise DataError(f"{path} frame {index}: {error}") from error
            refused[index] = str(error)
    return imported


def _from_atoms(atoms: Atoms, charge: int, multiplicity: int, partial_pbc: str | None) -> Imported:
    """What ASE's Atoms say of one frame."""
    for key in ("charge", "multiplicity"):
        value = atoms.info.get(key, 1)
        if float(value) != int(value):
            raise DataError(f"{key} {value} is not an integer")
    if atoms.pbc.any() and not atoms.pbc.all():
        if partial_pbc != "vacuum":
            raise DataError(
                "periodic in some directions only: set `partial_pbc: vacuum`, or give pbc in the file"
            )
        atoms = with_vacuum(atoms)
    frame = Frame.from_atoms(atoms, charge, multiplicity)
    side = atoms.info.get("split", atoms.info.get("side"))
    return Imported(
        frame=frame,
        label=_label(atoms, frame),
        trajectory=text_or_none(atoms.info.get("trajectory")),
        side=parse_side(side),
        theory=text_or_none(atoms.info.get("theory")),
    )


def _label(atoms: Atoms, frame: Frame) -> Label | None:
    """Energy, forces and what else the file has; the force-consistent energy wins where there are two."""
    results: dict[str, Any] = atoms.calc.results if atoms.calc is not None else {}
    energy = results.get("free_energy", results.get("energy"))
    if energy is None or results.get("forces") is None:
        return None
    label = Label(
        energy=float(energy),
        forces=np.array(results["forces"], np.float64),
        stress=_stress(results.get("stress"), atoms) if frame.pbc.all() else None,
        dipole=_optional(results.get("dipole")) if not frame.periodic else None,
        charges=_optional(results.get("charges")),
        esp=_optional(atoms.info.get("esp")),
        esp_points=_optional(atoms.info.get("esp_points")),
        version=str(atoms.info.get("version", "")),
    )
    if label.forces.shape != (len(frame), 3):
        raise DataError(f"forces of shape {label.forces.shape} for {len(frame)} atoms")
    for name in ("energy", "forces", "stress", "dipole", "charges", "esp", "esp_points"):
        value = getattr(label, name)
        if value is not None and not np.isfinite(value).all():
            raise DataError(f"{name} is not finite")
    return label


def _stress(stress: Any, atoms: Atoms) -> Float | None:
    """(3, 3) float64, eV/Å^3; where there is none, from extended XYZ's `virial` = −volume · stress."""
    if stress is None and "virial" in atoms.info:
        return -np.array(atoms.info["virial"], np.float64).reshape(3, 3) / atoms.get_volume()
    if stress is None:
        return None
    stress = np.array(stress, np.float64)
    return voigt_6_to_full_3x3_stress(stress) if stress.shape == (6,) else stress.reshape(3, 3)


def _optional(value: Any) -> Float | None:
    return None if value is None else np.array(value, np.float64)


def with_vacuum(atoms: Atoms) -> Atoms:
    """The same atoms, periodic in all directions.

    Along each direction that was not periodic the cell is at least `VACUUM_A` higher than the atoms, measured
    normal to the other two cell vectors; a longer vector is kept, a missing one is put normal to the others.
    """
    if not np.isfinite(atoms.positions).all():
        raise DataError("positions must be finite")
    cell = np.array(atoms.cell.complete())
    for axis in np.flatnonzero(~atoms.pbc):
        normal = np.cross(cell[axis - 2], cell[axis - 1])
        normal /= np.linalg.norm(normal)
        height = abs(cell[axis] @ normal)
        needed = np.ptp(atoms.positions @ normal) + VACUUM_A
        cell[axis] *= max(1.0, needed / height)
    padded = atoms.copy()
    padded.calc = atoms.calc
    padded.set_cell(cell)
    padded.pbc = True
    return padded


def write_extxyz(
    path: str | Path, items: Sequence[Imported], more: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Write frames with their labels as extended XYZ; `read_frames` gives back the same ids and numbers.

    Numbers are written with the digits that identify a float64, so nothing is lost.

    Parameters
    ----------
    more : sequence of mapping, optional
        Further keys of the comment lines; None is left out.
    """
    with open(path, "w", encoding="utf-8") as file:
        for item, keys in zip(items, more or [{}] * len(items), strict=True):
            file.write(_extxyz(item, keys))


def _extxyz(item: Imported, more: Mapping[str, Any]) -> str:
    """One frame as text."""
    from ase.io.extxyz import key_val_dict_to_str

    frame, label = item.frame, item.label
    columns: list[tuple[str, str, Any]] = [
        ("species", "S", np.array([chemical_symbols[z] for z in frame.numbers])),
        ("pos", "R", frame.positions),
    ]
    if label is not None:
        columns.append(("forces", "R", label.forces))
        if label.charges is not None:
            columns.append(("charges", "R", label.charges))
    if frame.fixed is not None:
        columns.append(("move_mask", "L", np.where(frame.fixed, "F", "T")))
    if frame.moments is not None:
        columns.append(("initial_magmoms", "R", frame.moments))
    if has_own_masses(frame):
        columns.append(("masses", "R", frame.masses))
    tables = [np.reshape(values, (len(frame), -1)) for _, _, values in columns]
    properties = ":".join(f"{n}:{kind}:{t.shape[1]}" for (n, kind, _), t in zip(columns, tables, strict=True))
    plain = {key: _safe(value) if isinstance(value, str) else value for key, value in more.items()}
    info = _info(item, properties) | {key: value for key, value in plain.items() if value is not None}
    comment = key_val_dict_to_str(info)
    rows = zip(*(table.tolist() for table in tables), strict=True)
    lines = (" ".join(str(value) for part in row for value in part) for row in rows)
    return "\n".join([str(len(frame)), comment, *lines, ""])


def _info(item: Imported, properties: str) -> dict[str, Any]:
    """The keys of the comment line."""
    frame, label = item.frame, item.label
    info: dict[str, Any] = {"Lattice": frame.cell.T} if frame.periodic else {}
    info |= {"Properties": properties, "pbc": frame.pbc}
    info |= {"charge": frame.charge, "multiplicity": frame.multiplicity}
    if label is not None:
        info |= {"energy": label.energy, "stress": label.stress, "dipole": label.dipole}
    texts = {"trajectory": item.trajectory, "split": item.side, "theory": item.theory}
    texts["version"] = label.version or None if label is not None else None
    info |= {key: _safe(text) for key, text in texts.items() if text is not None}
    return {key: value for key, value in info.items() if value is not None}


def _safe(text: str) -> str:
    """`text`, or its JSON form where ASE would read something else (``007``, ``T``, two lines)."""
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

    line = {"key": text, "next": 1}
    if text.isprintable() and not text.startswith("_JSON "):
        again = key_val_str_to_dict(key_val_dict_to_str(line))
        if isinstance(again.get("key"), str) and again == line:  # "," becomes an array
            return text
    # ASE reads a backslash as "take the next character as it is" and does not double it when it writes
    return "_JSON " + json.dumps(text).replace("\\", "\\\\")
