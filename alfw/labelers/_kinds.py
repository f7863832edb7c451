"""Atoms of one element that start with different moments: to programs for crystals they are different species."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase.data import chemical_symbols

from alfw.core.frame import Frame


def initial_moments(frame: Frame, moments: Mapping[str, float]) -> list[float] | None:
    """Moment (μ_B) of each atom at the start; None where there are none.

    Parameters
    ----------
    moments : {element: μ_B}
        For frames that have none of their own.
    """
    if frame.moments is not None:
        return [float(moment) for moment in np.round(frame.moments, 3)]
    given = [moments.get(chemical_symbols[number], 0.0) for number in frame.numbers]
    return given if any(given) else None


def labels(frame: Frame, moments: Mapping[str, float]) -> tuple[list[str], dict[str, tuple[str, float]]]:
    """The label of each atom; and for each label, e.g. ``Fe`` or ``Fe1``, its element and initial moment (μ_B)."""
    kinds: dict[tuple[str, float], str] = {}
    named = []
    for number, moment in zip(
        frame.numbers, initial_moments(frame, moments) or [0.0] * len(frame), strict=True
    ):
        element = chemical_symbols[number]
        count = sum(1 for other, _ in kinds if other == element)
        kind = (element, moment)
        named.append(kinds.setdefault(kind, f"{element}{count}" if count else element))
    return named, {label: kind for kind, label in kinds.items()}
