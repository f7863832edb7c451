"""Frames at random: the reference that every other selector has to beat."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Pool, Selection
from alfw.selectors._choosing import at_random, selected
from alfw.selectors._options import Band, Dedup, Physical, band_needs


class RandomSelector(BaseModel):
    """Picks frames uniformly at random among those that pass the filters; the first m picks are the selection for m."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()
    uses_features: ClassVar[bool] = False

    kind: Literal["random"] = "random"
    physical: Physical = Physical()
    band_eV_per_A: Band = (None, 3.0)
    dedup: Dedup = Dedup()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return band_needs(self)

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; see `alfw.selectors._choosing.selected`."""
        return selected(self, pool, limit, seed, lambda chooser: at_random(chooser, seed))
