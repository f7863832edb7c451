"""Frames at random: the reference that every other selector has to beat."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Pool, Selection
from alfw.selectors._filters import candidates
from alfw.selectors._options import Band, Dedup, Physical, band_needs
from alfw.selectors._ranked import take


class RandomSelector(BaseModel):
    """Picks frames uniformly at random among those that pass the filters; the first m picks are the selection for m."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["random"] = "random"
    physical: Physical = Physical()
    band_eV_per_A: Band = (None, 3.0)
    dedup: Dedup = Dedup()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return band_needs(self)

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; rejected counts as `candidates`, and ``duplicate``."""
        good, rejected = candidates(pool, self.physical, self.band_eV_per_A)
        ranking = np.random.default_rng(seed).permutation(good)
        scores = np.zeros(len(pool.frames))
        return take(pool, ranking, scores, limit, self.dedup.min_distance_A, "random", rejected)
