"""What every selector does alike: filters, duplicates, the budget, and what the user is told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from alfw.core.exploration import Choice, Pool, Selection
from alfw.core.frame import Bool, Float, Frame, Int
from alfw.selectors._duplicates import Known
from alfw.selectors._filters import candidates
from alfw.selectors._options import Options

MOST_AT_ONCE = 20_000  # so many frames of a ranking are compared for duplicates together
UNFIT = (
    "everything is above the band (force_std > {} eV/Å): the model is not yet fit to explore; "
    "{} frames are taken at random within the physical limits"
)


class Chooser:
    """The candidates of a pool, in the order of the pool, and those chosen so far.

    A place is the index of a frame among the candidates.

    Attributes
    ----------
    pool : Pool
    rows : (G,) int64
        Index in the pool of each candidate.
    eligible : (G,) bool
        Neither chosen nor set aside yet.
    cost_h : (G,) float64 or None, CPU-hours
    chosen : list of Choice
    """

    def __init__(self, pool: Pool, rows: Int, options: Options, limit: int) -> None:
        self.pool, self.rows, self.limit = pool, rows, limit
        self.eligible: Bool = np.ones(len(rows), bool)
        self.cost_h: Float | None = None if pool.cost_h is None else np.asarray(pool.cost_h)[rows]
        self.chosen: list[Choice] = []
        self.rejected: dict[str, int] = {}
        self.spent_h = 0.0
        self._kind = options.kind
        self._known = Known(pool.labelled, options.dedup.min_distance_A)
        self._set_aside_what_costs_too_much()

    @property
    def full(self) -> bool:
        """Whether nothing more can be chosen."""
        return len(self.chosen) >= self.limit or not self.eligible.any()

    def frame(self, place: int) -> Frame:
        """The frame of a candidate."""
        return self.pool.frames[self.rows[place]]

    def reason(self, place: int) -> str:
        """Why an event offered the frame; "" where none did."""
        return self.pool.reasons[self.rows[place]] if len(self.pool.reasons) else ""

    def set_aside(self, places: Bool, reason: str) -> None:
        """Candidates (G,) bool that are not to be chosen any more."""
        places = places & self.eligible
        self._count(reason, int(places.sum()))
        self.eligible &= ~places

    def _count(self, reason: str, number: int) -> None:
        if number:
            self.rejected[reason] = self.rejected.get(reason, 0) + number

    def offer(self, place: int, score: float) -> bool:
        """Whether the frame is chosen, as no known frame is like it; either way it is not eligible any more."""
        repeated = bool(self._known.repeated([self.frame(place)])[0])
        self._decide(place, score, repeated)
        if not repeated:
            self._known.add([self.frame(place)])
        return not repeated

    def offer_in_order(self, ranking: Int, scores: Float) -> None:
        """Choose from a ranking of places, best first; `scores` (G,) of all candidates."""
        ranking = ranking[self.eligible[ranking]]
        start, at_once = 0, 2 * self.limit
        while start < len(ranking) and not self.full:
            some = ranking[start : start + at_once]
            repeated = self._known.repeated([self.frame(place) for place in some])
            before = len(self.chosen)
            for place, twin in zip(some.tolist(), repeated.tolist(), strict=True):
                if self.full:
                    break
                if self.eligible[place]:  # not yet too dear
                    self._decide(place, float(scores[place]), twin)
            self._known.add([self.pool.frames[choice.index] for choice in self.chosen[before:]])
            start, at_once = start + at_once, min(4 * at_once, MOST_AT_ONCE)

    def _decide(self, place: int, score: float, repeated: bool) -> None:
        self.eligible[place] = False
        if repeated:
            self._count("duplicate", 1)
            return
        row, event = int(self.rows[place]), self.reason(place)
        self.chosen.append(Choice(row, f"{self._kind}, {event}" if event else self._kind, score))
        if self.cost_h is not None:
            self.spent_h += float(self.cost_h[place])
            self._set_aside_what_costs_too_much()

    def _set_aside_what_costs_too_much(self) -> None:
        budget = self.pool.budget_h
        if budget is not None and self.cost_h is not None:
            self.set_aside(~(self.cost_h <= budget - self.spent_h), "over_budget")
        elif budget is not None and budget <= 0:
            self.set_aside(self.eligible, "over_budget")

    def notes(self) -> list[str]:
        """What the user should know, one line each."""
        found = []
        budget, unaffordable = self.pool.budget_h, self.rejected.get("over_budget", 0)
        if unaffordable and budget is not None and budget <= 0:
            found.append("the budget is 0 CPU-hours: nothing is chosen")
        elif unaffordable and len(self.chosen) < self.limit:
            found.append(
                f"the budget of {budget:.4g} CPU-hours is spent: {len(self.chosen)} labels are expected to cost "
                f"{self.spent_h:.4g}, {unaffordable} frames cost more than was left"
            )
        elif budget is not None and self.cost_h is None and len(self.rows):
            found.append(
                f"the budget of {budget:.4g} CPU-hours is not applied: what a label costs is not known yet"
            )
        twins, known = (self.rejected.get(reason, 0) for reason in ("duplicate", "nothing_new"))
        if twins + known and twins + known == len(self.rows):
            found.append(
                f"all candidates repeat what is labelled ({twins} duplicates, {known} without a new environment): "
                "nothing is chosen"
            )
        return found


def selected(
    options: Options, pool: Pool, limit: int, seed: int, choose: Callable[[Chooser], None]
) -> Selection:
    """The frames that `choose` chooses among those that pass the filters, at most `limit`.

    Where everything is above the band, frames are taken at random instead: what the model says of them is worth
    nothing. To the counts of `candidates` come ``duplicate`` (of a labelled or chosen frame), ``over_budget`` and,
    where features decide, ``nothing_new`` and ``not_finite``. Frames count as duplicates that were met before the
    choice was complete; the others are not looked at.
    """
    found = candidates(pool, options.physical, options.band_eV_per_A)
    chooser = Chooser(pool, found.rows, options, limit)
    notes = list(found.notes)
    if found.unfit:
        at_random(chooser, seed)
        notes.append(UNFIT.format(options.band_eV_per_A[1], len(chooser.chosen)))
    elif not chooser.full:
        choose(chooser)
    rejected = dict(found.rejected)
    for reason, count in chooser.rejected.items():
        rejected[reason] = rejected.get(reason, 0) + count
    return Selection(chooser.chosen, rejected, tuple(notes + chooser.notes()))


def at_random(chooser: Chooser, seed: int) -> None:
    """Choose uniformly among the candidates."""
    ranking = np.random.default_rng(seed).permutation(len(chooser.rows))
    chooser.offer_in_order(ranking, np.zeros(len(ranking)))
