"""What is in a labelled data set: counts, ranges, units, and rows that look wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.neighbours import closest_fraction
from alfw.core.records import Label
from alfw.io.datasets import units_of
from alfw.io.frames import read_frames
from alfw.io.imported import Imported
from alfw.io.plausible import check_plausible
from alfw.io.references import ReferenceKeys
from alfw.steps.data_files import properties

MAX_FORCE_eV_PER_A = 50.0
MIN_DISTANCE_FRACTION = 0.6  # of the sum of two covalent radii, as `select.physical` has it


def describe(path: Path, units: str | None = None, charge: int = 0, multiplicity: int = 1) -> dict[str, Any]:
    """What is in a file, as JSON data; rows that cannot be used are listed, not an error.

    Parameters
    ----------
    units : {"eV", "hartree"} or None
        Of a file without units of its own.
    charge, multiplicity : int
        Of frames that do not say.

    Raises
    ------
    DataError
        The file cannot be read, or does not state its units.
    """
    refused: dict[int, str] = {}
    items = read_frames(path, charge, multiplicity, None, units, prepare=ReferenceKeys(), refused=refused)
    index = [i for i in range(len(items) + len(refused)) if i not in refused]
    suspicious = refused | dict(_suspicious(items, index))
    stated = dict(units_of(path))
    return {
        "file": str(path),
        "n_frames": len(index) + len(refused),
        "n_labeled": sum(item.label is not None for item in items),
        **_composition([item.frame for item in items]),
        **_energies_and_forces([(item.frame, item.label) for item in items if item.label is not None]),
        "properties": properties(items),
        "sides": dict(Counter(item.side or "unstated" for item in items)),
        "trajectories": _named(item.trajectory for item in items),
        "theories": _named(item.theory for item in items),
        "versions": _named((item.label.version or None) if item.label else None for item in items),
        "units": stated or None,
        "duplicates": _duplicates(items, index),
        "suspicious": [{"frame": i, "why": why} for i, why in sorted(suspicious.items())],
        "contradiction": _contradiction(items, path),
    }


def _named(values: Any) -> dict[str, int]:
    """How often each value is stated; None counts as unstated."""
    return dict(Counter("unstated" if value is None else str(value) for value in values))


def _composition(frames: Sequence[Frame]) -> dict[str, Any]:
    """Sizes, elements, compositions, charges and periodicity."""
    sizes = [len(frame) for frame in frames]
    numbers, counts = np.unique(
        np.concatenate([frame.numbers for frame in frames]) if frames else np.zeros(0, np.int64),
        return_counts=True,
    )
    return {
        "atoms_per_frame": {"min": min(sizes), "max": max(sizes), "mean": float(np.mean(sizes))}
        if frames
        else None,
        "elements": {chemical_symbols[z]: int(n) for z, n in zip(numbers, counts, strict=True)},
        "compositions": dict(Counter(frame.formula for frame in frames).most_common()),
        "charges": dict(Counter(str(frame.charge) for frame in frames)),
        "multiplicities": dict(Counter(str(frame.multiplicity) for frame in frames)),
        "n_periodic": sum(frame.periodic for frame in frames),
        "n_with_fixed_atoms": sum(frame.fixed is not None for frame in frames),
    }


def _energies_and_forces(labelled: Sequence[tuple[Frame, Label]]) -> dict[str, Any]:
    """Range of energies per atom, RMS over force components, largest force on an atom."""
    if not labelled:
        return {}
    energies = [label.energy / len(frame) for frame, label in labelled]
    forces = np.concatenate([label.forces for _, label in labelled])
    return {
        "energy_eV_per_atom": {"min": min(energies), "max": max(energies), "mean": float(np.mean(energies))},
        "force_rms_eV_per_A": float(np.sqrt(np.mean(forces**2))),
        "max_force_eV_per_A": float(np.linalg.norm(forces, axis=1).max()),
    }


def _suspicious(items: Sequence[Imported], index: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Index of each frame that looks broken, and why."""
    for i, item in zip(index, items, strict=True):
        why = []
        if item.label is not None:
            force = float(np.linalg.norm(item.label.forces, axis=1).max())
            if force > MAX_FORCE_eV_PER_A:
                why.append(f"force of {force:.1f} eV/Å")
        try:
            fraction = closest_fraction(item.frame)
        except DataError as error:  # periodic in some directions only
            why.append(str(error))
        else:
            if fraction < MIN_DISTANCE_FRACTION:
                why.append(f"two atoms at {fraction:.2f} of the sum of their covalent radii")
        if why:
            yield i, "; ".join(why)


def _duplicates(items: Sequence[Imported], index: Sequence[int]) -> list[list[int]]:
    """Indices of frames with the same id."""
    found: dict[str, list[int]] = {}
    for i, item in zip(index, items, strict=True):
        found.setdefault(item.frame.id, []).append(i)
    return [same for same in found.values() if len(same) > 1]


def _contradiction(items: Sequence[Imported], path: Path) -> str | None:
    """What numbers say against their units."""
    try:
        check_plausible(items, str(path))
    except DataError as error:
        return str(error)
    return None
