"""Frames of high uncertainty and high force."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Pool, Selection
from alfw.core.frame import Float, Int
from alfw.selectors._choosing import Chooser, selected
from alfw.selectors._options import Band, Dedup, Physical, force_std_of


class CombinedSelector(BaseModel):
    """Picks frames that the ensemble disagrees about and whose forces are high; those that events offered come first.

    The score of a frame is the product of its two ranks among the candidates, by force_std and by largest force, each
    as a fraction of them: 1 for a frame that leads both, near 0 for one that is last in either. Ranks need no weights
    between the two, and no thresholds. The first m picks are the selection for m; the seed changes nothing. Needs an
    ensemble of at least two members. High forces are what it looks for, so no quantile of them is left out by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()
    uses_features: ClassVar[bool] = False

    kind: Literal["combined"] = "combined"
    physical: Physical = Physical(max_force_quantile=None)
    band_eV_per_A: Band = (None, 3.0)
    dedup: Dedup = Dedup()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return {"kind": "members"}

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; see `alfw.selectors._choosing.selected`.

        Raises
        ------
        ConfigError
            The ensemble has one member.
        """

        def choose(chooser: Chooser) -> None:
            std = force_std_of(pool, chooser.rows, "kind: combined")
            score = priorities(std, np.asarray(pool.max_force)[chooser.rows])
            event = np.array([bool(chooser.reason(place)) for place in range(len(score))])
            chooser.offer_in_order(_first(event, score), score)

        return selected(self, pool, limit, seed, choose)


def priorities(force_std: Float, max_force: Float) -> Float:
    """(B,) float64 in (0, 1]: product of the ranks (1 = largest) by force_std and by largest force, as fractions."""
    return _ranks(force_std) * _ranks(max_force)


def _ranks(values: Float) -> Float:
    """(B,) float64: place in rising order, as a fraction; equal values share the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float = (np.cumsum(counts) - (counts - 1) / 2)[inverse] / max(len(values), 1)
    return ranks


def _first(event: np.ndarray, score: Float) -> Int:
    """Places in order: those of events first, each part by falling score."""
    return np.lexsort((-score, ~event))
