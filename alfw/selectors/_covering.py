"""Choosing frames by what their atomic environments add to those labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alfw.core.frame import Bool, Float, Int
from alfw.selectors._choosing import Chooser
from alfw.selectors._coverage import Coverage, apart_from_others
from alfw.selectors._features import Environments, Rows, environments

# Mean distance of a frame's environments below which it shows nothing new, in units of an element's spread.
MIN_GAIN = 0.01
FEW_LABELLED = 10  # with fewer, nobody knows how far labelled frames usually are apart
USUAL = 0.95  # of the labelled frames are not farther from the others than what counts as usual


def cover_greedily(
    chooser: Chooser, most: int, weight: Float | None = None, trust: float | None = None
) -> None:
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
    trust : float, optional
        See `EnvironmentsSelector`.
    """
    around = environments(chooser.pool, chooser.rows)
    reach = _reach(chooser, around, trust)
    weight = np.ones(len(chooser.rows)) if weight is None else weight
    n_parts = min(-(-sum(len(n) for n in around.numbers) // most), len(chooser.rows))
    if n_parts == 1:
        _choose(chooser, around, np.arange(len(chooser.rows)), weight, reach)
        return
    picked = [
        _best_of_part(chooser, around, np.arange(part, len(chooser.rows), n_parts), weight, reach)
        for part in range(n_parts)
    ]
    _choose(chooser, around, np.sort(np.concatenate(picked)), weight, reach)


def cover_in_tiers(chooser: Chooser, tiers: Sequence[Bool]) -> None:
    """The same tier by tier (each (G,) bool): the next one only where nothing of those before is left."""
    around = environments(chooser.pool, chooser.rows)
    places = np.flatnonzero(np.any(tiers, axis=0))
    coverage = _coverage(around, places)
    chooser.set_aside(_spread(~coverage.finite, places, len(chooser.rows)), "not_finite")
    for tier in tiers:
        _pick(chooser, coverage, places, 1 / coverage.sizes, tier[places])


def _reach(chooser: Chooser, around: Environments, trust: float | None) -> Float:
    """(G,): how far from what is labelled each candidate may be; infinite where it was not made by the model."""
    reach = np.full(len(chooser.rows), np.inf)
    if trust is not None and len(chooser.pool.driven) and len(around.labelled_numbers) >= FEW_LABELLED:
        apart = apart_from_others(around.scale, around.labelled_numbers, around.labelled_features)
        driven = np.asarray(chooser.pool.driven, bool)[chooser.rows]
        reach[driven] = trust * np.nanquantile(apart, USUAL)
    return reach


def _usable(chooser: Chooser, around: Environments, places: Int, reach: Float) -> Coverage:
    """What covers these places, after those are set aside that are not finite, or too far from what is labelled."""
    coverage = _coverage(around, places)
    chooser.set_aside(_spread(~coverage.finite, places, len(chooser.rows)), "not_finite")
    if np.isfinite(reach).any():
        far = _too_far(coverage.gain(), reach[places], chooser.eligible[places], chooser.limit)
        chooser.set_aside(_spread(far, places, len(chooser.rows)), "too_far")
    return coverage


def _too_far(gain: Float, reach: Float, eligible: Bool, limit: int) -> Bool:
    """(P,) bool: what is out of reach; where everything is, the nearest `limit` frames are not: a way on, step by step.

    Labelled frames that are all alike make everything far, and without new ones they would stay the only ones.
    """
    far = gain > reach
    if not (eligible & ~far).any():
        left = np.flatnonzero(eligible)
        far[left[np.argsort(gain[left], kind="stable")[:limit]]] = False
    return far


def _choose(chooser: Chooser, around: Environments, places: Int, weight: Float, reach: Float) -> None:
    coverage = _usable(chooser, around, places, reach)
    factor = _factor(chooser, coverage, places, weight)
    _pick(chooser, coverage, places, factor, np.ones(len(places), bool))


def _best_of_part(chooser: Chooser, around: Environments, places: Int, weight: Float, reach: Float) -> Int:
    """As many of these places as are wanted, chosen among them alone; duplicates and the budget come later."""
    coverage = _usable(chooser, around, places, reach)
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
