"""What a deck for pw.x needs of a frame: species, k-points, namelists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from alfw.core.errors import BasisError, InputError
from alfw.core.frame import Frame

VALENCE = r"z_valence\s*=\s*[\"']\s*([\d.EeDd+-]+)|^\s*([\d.]+)\s+Z valence"  # UPF version 2; version 1
LABEL = 3  # characters at most


@dataclass(frozen=True)
class Species:
    """One species of a deck: atoms of one element with the same initial moment.

    Attributes
    ----------
    label : str
        E.g. ``Fe`` or ``Fe1``.
    number : int
        In the list of species, from 1.
    mass : float, amu
        Of the element; pw.x asks for it, and does not use it here.
    file : str
        Of the pseudopotential.
    magnetization : float
        At the start, per valence electron.
    """

    label: str
    number: int
    mass: float
    file: str
    magnetization: float


def labels(frame: Frame) -> tuple[list[str], dict[str, tuple[str, float]]]:
    """The label of each atom; and for each label its element and initial moment (μ_B).

    Raises
    ------
    InputError
        Too many different moments.
    """
    moments = np.zeros(len(frame)) if frame.moments is None else np.round(frame.moments, 3)
    kinds: dict[tuple[str, float], str] = {}
    named = []
    for number, moment in zip(frame.numbers, moments, strict=True):
        element = chemical_symbols[number]
        count = sum(1 for other, _ in kinds if other == element)
        label = kinds.setdefault((element, float(moment)), f"{element}{count}" if count else element)
        if len(label) > LABEL:
            what = f"frame {frame.id[:12]}: pw.x has no names for {count + 1} different moments of {element}"
            raise InputError(f"{what}; give them fewer initial moments")
        named.append(label)
    return named, {label: kind for kind, label in kinds.items()}


def species(frame: Frame, files: Mapping[str, str], contents: Mapping[str, bytes]) -> list[Species]:
    """The species of a frame.

    Parameters
    ----------
    files, contents
        Name and content of each element's pseudopotential; contents are needed only where there are moments.
    """
    found = []
    for number, (label, (element, moment)) in enumerate(labels(frame)[1].items(), start=1):
        share = moment / valence(element, contents[element]) if moment else 0.0
        mass = float(atomic_masses[atomic_numbers[element]])
        found.append(Species(label, number, mass, files[element], float(np.clip(share, -1.0, 1.0))))
    return found


def valence(element: str, pseudopotential: bytes) -> float:
    """Number of valence electrons that a file in UPF states.

    Raises
    ------
    BasisError
        It states none.
    """
    found = re.search(VALENCE, pseudopotential.decode(errors="replace"), re.MULTILINE)
    if found is None:
        raise BasisError(
            f"pseudopotential of {element}: no number of valence electrons, which moments need; use UPF"
        )
    return float((found.group(1) or found.group(2)).upper().replace("D", "E"))


def grid(cell: np.ndarray, spacing: float) -> list[int]:
    """Numbers of k-points, none farther apart (1/Å, with 2π) than `spacing` along its reciprocal vector.

    Parameters
    ----------
    cell : (3, 3) float64, Å
    """
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell).T, axis=1)
    return [max(1, int(np.ceil(length / spacing - 1e-6))) for length in lengths]


def namelists(
    keywords: Mapping[str, Mapping[str, bool | float | str]], names: Sequence[str]
) -> dict[str, list[str]]:
    """The lines ``keyword = value`` of each namelist, in Fortran's spelling."""
    return {
        name: [f"{key} = {_fortran(value)}" for key, value in keywords.get(name, {}).items()]
        for name in names
    }


def _fortran(value: bool | float | str) -> str:
    """A value as Fortran reads it."""
    if isinstance(value, bool):
        return ".true." if value else ".false."
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
