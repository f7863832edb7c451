"""What a deck for pw.x needs of a frame: species, k-points, namelists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from alfw.core.errors import BasisError, InputError
from alfw.core.frame import Frame
from alfw.labelers._kinds import labels
from alfw.labelers._kpoints import KPoints

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


def check_labels(frame: Frame, moments: Mapping[str, float]) -> None:
    """Raise InputError when a frame has more different moments than pw.x has names for."""
    lengthy = [kind for label, kind in labels(frame, moments)[1].items() if len(label) > LABEL]
    if lengthy:
        what = f"frame {frame.id[:12]}: pw.x has no names for so many different moments of {lengthy[0][0]}"
        raise InputError(f"{what}; give its atoms fewer initial moments")


def species(
    kinds: Mapping[str, tuple[str, float]], files: Mapping[str, str], contents: Mapping[str, bytes]
) -> list[Species]:
    """The species of a frame.

    Parameters
    ----------
    kinds
        As `labels` has them.
    files, contents
        Name and content of each element's pseudopotential; contents are needed only where there are moments.
    """
    found = []
    for number, (label, (element, moment)) in enumerate(kinds.items(), start=1):
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


def automatic(mesh: Sequence[int], kpoints: KPoints) -> str:
    """The line below ``K_POINTS automatic``: a mesh, and whether it is shifted by half a step.

    Without a shift the mesh contains Γ.
    """
    monkhorst = [0.0 if kpoints.gamma or n % 2 else 0.5 for n in mesh]
    halves = [round(2 * (a + b)) % 2 for a, b in zip(kpoints.shift, monkhorst, strict=True)]
    return " ".join(map(str, [*mesh, *halves]))


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
