"""Choosing frames by what their atomic environments add to those labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alfw.core.frame import Bool, Float, Int
from alfw.selectors._choosing import Chooser
from alfw.selectors._coverage import Coverage
from alfw.selectors._features import Environments, Rows, environments

# Mean distance of a frame's environments below which it shows nothing new, in units of an element's spread.
MIN_GAIN = 0.01


def cover_greedily(chooser: Chooser, most: int, weight: Float | None = None) -> None:
    """Choose, one after the other, the candidate whose environments add most to those labelled or chosen.

    What a frame adds is the mean distance of its environments to the nearest known ones, times its weight; where the
    cost of a label is known, the sum of these distances over the cost.

    Parameters
    ----------
    chooser : Chooser
    most : int
        With more environments than this, each of several parts of the candidates (every p-th frame) first chooses by
        itself as many as are wanted; the choice is then made among those alone.
    weight : (G,) float64, optional
        Of each candidate.
    """
    around = environments(chooser.pool, chooser.rows)
    weight = np.ones(len(chooser.rows)) if weight is None else weight
    n_parts = min(-(-sum(len(n) for n in around.numbers) // most), len(chooser.rows))
    if n_parts == 1:
        _choose(chooser, around, np.arange(len(chooser.rows)), weight)
        return
    picked = [
        _best_of_part(chooser, around, np.arange(part, len(chooser.rows), n_parts), weight)
        for part in range(n_parts)
    ]
    _choose(chooser, around, np.sort(np.concatenate(picked)), weight)


def cover_in_tiers(chooser: Chooser, tiers: Sequence[Bool]) -> None:
    """The same tier by tier (each (G,) bool): the next one only where nothing of those before is left."""
    around = environments(chooser.pool, chooser.rows)
    places = np.flatnonzero(np.any(tiers, axis=0))
    coverage = _coverage(around, places)
    chooser.set_aside(_spread(~coverage.finite, places, len(chooser.rows)), "not_finite")
    for tier in tiers:
        _pick(chooser, coverage, places, 1 / coverage.sizes, tier[places])


def _choose(chooser: Chooser, around: Environments, places: Int, weight: Float) -> None:
    coverage = _coverage(around, places)
    chooser.set_aside(_spread(~coverage.finite, places, len(chooser.rows)), "not_finite")
    factor = _factor(chooser, coverage, places, weight)
    _pick(chooser, coverage, places, factor, np.ones(len(places), bool))


def _best_of_part(chooser: Chooser, around: Environments, places: Int, weight: Float) -> Int:
    """As many of these places as are wanted, chosen among them alone; duplicates and the budget come later."""
    coverage = _coverage(around, places)
    factor = _factor(chooser, coverage, places, weight)
    eligible = chooser.eligible[places] & coverage.finite
    picked: list[int] = []
    while len(picked) < chooser.limit and eligible.any():
        best, _ = _next(coverage, eligible, factor, first=not (picked or chooser.pool.labelled))
        picked.append(best)
        eligible[best] = False
        coverage.cover([best])
    return places[picked]


def _pick(chooser: Chooser, coverage: Coverage, places: Int, factor: Float, wanted: Bool) -> None:
    """Choose among these places until nothing wanted is left, or nothing new."""
    while not chooser.full:
        eligible = chooser.eligible[places] & wanted
        if not eligible.any():
            return
        first = not (chooser.chosen or chooser.pool.labelled)
        best, value = _next(coverage, eligible, factor, first)
        if not first and coverage.upper_bound()[best] < MIN_GAIN:
            known = eligible & (coverage.upper_bound() < MIN_GAIN)
            chooser.set_aside(_spread(known, places, len(chooser.rows)), "nothing_new")
        elif chooser.offer(int(places[best]), value):
            coverage.cover([best])


def _next(coverage: Coverage, eligible: Bool, factor: Float, first: bool) -> tuple[int, float]:
    if not first:
        return coverage.best(eligible, factor)
    usual = coverage.most_usual(eligible)
    return usual, float(coverage.upper_bound()[usual])


def _coverage(around: Environments, places: Int) -> Coverage:
    coverage = Coverage(around.scale)
    coverage.add([around.numbers[i] for i in places], Rows(around.features, places))
    coverage.cover_others(around.labelled_numbers, around.labelled_features)
    return coverage


def _factor(chooser: Chooser, coverage: Coverage, places: Int, weight: Float) -> Float:
    """What the sum of distances over the atoms of each frame is multiplied with."""
    cost = coverage.sizes if chooser.cost_h is None else np.maximum(chooser.cost_h[places], 1e-9)
    factor: Float = weight[places] / cost
    return factor


def _spread(some: Bool, places: Int, length: int) -> Bool:
    """(length,) bool: the places of which `some` (P,) is true."""
    mask = np.zeros(length, bool)
    mask[places[some]] = True
    return mask
