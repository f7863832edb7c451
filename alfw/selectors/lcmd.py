"""Largest cluster, maximum distance: coverage that follows the density of the pool."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Pool, Selection
from alfw.core.frame import Bool
from alfw.selectors._choosing import Chooser, selected
from alfw.selectors._farthest import Distances, largest_cluster_farthest
from alfw.selectors._frames import choose_frames, vectors
from alfw.selectors._options import Band, Dedup, Physical, band_needs


class LCMDSelector(BaseModel):
    """Picks the frame that is farthest from its nearest labelled or picked frame, in the largest cluster of such.

    Each frame of the pool belongs to the labelled or picked frame nearest to it; a cluster is as large as the sum of
    the squared distances in it. Picks follow the density of the pool more than those of `farthest`: right where the
    pool is what the model will be used for, wrong for rare regions. Frames and scores are as in `farthest`; the first m
    picks are the selection for m, and the seed changes nothing.

    Source
    ------
    LCMD, https://jmlr.org/papers/v24/22-0937.html (JMLR 24:164, 2023).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["lcmd"] = "lcmd"
    physical: Physical = Physical()
    band_eV_per_A: Band = (None, 3.0)
    dedup: Dedup = Dedup()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return band_needs(self)

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; see `alfw.selectors._choosing.selected`."""
        return selected(self, pool, limit, seed, _choose)


def _choose(chooser: Chooser) -> None:
    points, labelled = vectors(chooser)
    distances = Distances(points, which=True)
    for centre in labelled:
        distances.add(centre)

    def following(eligible: Bool) -> tuple[int, float]:
        place = largest_cluster_farthest(distances, eligible)
        return place, float(np.sqrt(max(distances.nearest[place], 0.0)))

    choose_frames(chooser, points, following, distances.add)
