"""The search behind `alfw.core.superposition` for periodic frames: shifts and orders, nearest images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from alfw.core.frame import Float, Int

SHIFTS = 24  # so many atoms are laid upon one

Nearest = Callable[[Float], Float]


def shifted(x: Float, y: Float, shift: Float, groups: Sequence[slice], nearest: Nearest) -> float:
    """Smallest RMSD (Å) found from this shift (3,) of y: match, shift by the mean of what is left; it never rises.

    `groups`: like atoms that may be exchanged; none = the order stays.
    """
    best = float("inf")
    while True:
        order = _order(x, y + shift, groups, nearest)
        apart = nearest(x - y[order] - shift)
        mean = apart.mean(0)
        value = float(np.sqrt(((apart - mean) ** 2).sum() / len(x)))
        if value >= best - 1e-9:
            return min(best, value)
        best, shift = value, shift + mean


def shifts(x: Float, y: Float, environments: tuple[Float, Float], groups: Sequence[slice]) -> Float:
    """(≤ SHIFTS, 3) Å: those that lay an atom of the rarest element upon one of x, the most alike first."""
    rarest = min(groups, key=lambda group: group.stop - group.start)
    one, other = environments
    unlike = ((other[rarest] - one[rarest.start]) ** 2).sum(1)
    best = np.argsort(unlike, kind="stable")[:SHIFTS]
    return np.asarray(x[rarest.start] - y[rarest][best], np.float64)


def _order(x: Float, y: Float, groups: Sequence[slice], nearest: Nearest) -> Int:
    """(n,): which atom of y goes to each of x."""
    order = np.arange(len(x))
    for group in groups:
        cost = (nearest(x[group][:, None] - y[group][None]) ** 2).sum(-1)
        order[group] = group.start + linear_sum_assignment(cost)[1]
    return order
