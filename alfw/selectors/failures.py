"""Frames where exploration failed, or nearly."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Pool, Selection
from alfw.selectors._choosing import Chooser, selected
from alfw.selectors._covering import cover_in_tiers
from alfw.selectors._options import Band, Dedup, Physical, band_needs

# Which frames come first, by how their reason begins; explosions are all that nothing else names.
AFTERWARDS = ("uncertain", "high_force")


class FailuresSelector(BaseModel):
    """Picks frames that events offered: the last good ones before explosions, then uncertain ones, then high forces.

    Within each kind, those come first whose atomic environments are farthest from all labelled and picked ones, as
    `environments` picks them. Frames without an event are never picked. The first m picks are the selection for m; the
    seed changes nothing. An ensemble disagrees about such frames and their forces are high: neither is a reason to
    leave them out by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["failures"] = "failures"
    physical: Physical = Physical(max_force_quantile=None)
    band_eV_per_A: Band = (None, None)
    dedup: Dedup = Dedup()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return band_needs(self)

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; see `alfw.selectors._choosing.selected`."""
        selection = selected(self, pool, limit, seed, _choose)
        if pool.frames and not any(pool.reasons):
            notes = (*selection.notes, "no event offered a frame: nothing failed, nothing is chosen")
            return Selection(selection.chosen, selection.rejected, notes)
        return selection


def _choose(chooser: Chooser) -> None:
    kinds = np.array([_tier(chooser.reason(place)) for place in range(len(chooser.rows))])
    tiers = [kinds == tier for tier in range(len(AFTERWARDS) + 1)]
    if any(tier.any() for tier in tiers):
        cover_in_tiers(chooser, tiers)


def _tier(reason: str) -> int:
    """0 for an explosion, 1 and 2 for the others, −1 for a frame that no event offered."""
    if not reason:
        return -1
    return next((1 + i for i, start in enumerate(AFTERWARDS) if reason.startswith(start)), 0)
