"""Labelled data sets as ASE databases (SQLite, ``.db``), searchable with ``ase db``.

A row has what ASE knows (atoms, constraints, energy, forces, stress, dipole, charges). Charge, multiplicity, split,
trajectory, theory and version are key-value pairs where ASE takes them (it refuses text like ``007``) and in any case
in the row's data, exact; so are the potential on a grid and its points.

Source: https://ase-lib.org/ase/db/db.html; ASE's units are alfw's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alfw.core.errors import DataError
from alfw.io.imported import Imported

if TYPE_CHECKING:
    from ase import Atoms

UNITS = {"E": "eV", "F": "eV/Angstrom", "R": "Angstrom", "D": "e*Angstrom", "stress": "eV/Angstrom^3"}


def write_asedb(path: str | Path, items: Sequence[Imported], about: Mapping[str, Any] | None = None) -> None:
    """Write frames with their labels; `about` (JSON data) goes into the metadata, with the units.

    Raises
    ------
    DataError
        No frames.
    """
    from ase.db import connect

    if not items:
        raise DataError(f"{path}: no frames to write")
    with connect(Path(path), type="db", append=False) as database:
        for item in items:
            data = _data(item)
            pairs = {key: value for key, value in data.items() if _is_pair(key, value)}
            database.write(_atoms(item), key_value_pairs=pairs, data=data)
        database.metadata = {"units": UNITS | {"esp": "V"}, "about": dict(about or {})}


def _data(item: Imported) -> dict[str, Any]:
    """What Atoms and their calculator have no place for."""
    label = item.label
    data: dict[str, Any] = {
        "charge": item.frame.charge,
        "multiplicity": item.frame.multiplicity,
        "trajectory": item.trajectory,
        "split": item.side,
        "theory": item.theory,
    }
    if label is not None:
        data |= {"version": label.version or None, "esp": label.esp, "esp_points": label.esp_points}
        data["stress"] = label.stress  # ASE keeps six components
    return {key: value for key, value in data.items() if value is not None}


def _is_pair(key: str, value: Any) -> bool:
    """Whether ASE takes this as a key-value pair."""
    from ase.db.core import check

    if not isinstance(value, str | int) or key == "charge":  # ASE has its own, of initial charges
        return False
    try:
        check({key: value})
    except ValueError:
        return False
    return True


def _atoms(item: Imported) -> Atoms:
    """The frame with its label as a calculator that knows the answers."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    atoms, label = item.frame.to_atoms(), item.label
    if label is not None:
        stress = None if label.stress is None else full_3x3_to_voigt_6_stress(label.stress)
        results = {"energy": label.energy, "forces": label.forces, "stress": stress}
        results |= {"dipole": label.dipole, "charges": label.charges}
        known = {name: value for name, value in results.items() if value is not None}
        atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms


def rows(path: Path) -> list[Atoms]:
    """The rows in the order of their ids; key-value pairs and data in `info`, the exact stress in the results.

    Raises
    ------
    Exception
        Whatever ASE and SQLite raise on a file that is none.
    """
    from ase.db import connect

    images = []
    for row in connect(path, type="db").select():
        atoms = row.toatoms()
        more = {**row.key_value_pairs, **row.data}
        stress = more.pop("stress", None)
        if stress is not None and atoms.calc is not None:
            atoms.calc.results["stress"] = stress
        atoms.info.update(more)
        images.append(atoms)
    return images
