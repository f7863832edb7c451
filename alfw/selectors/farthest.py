"""Farthest frames: coverage of whole frames."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Pool, Selection
from alfw.core.frame import Bool
from alfw.selectors._choosing import Chooser, selected
from alfw.selectors._farthest import Distances
from alfw.selectors._frames import choose_frames, vectors
from alfw.selectors._options import Band, Dedup, Physical, band_needs


class FarthestSelector(BaseModel):
    """Picks, one after the other, the frame that is farthest from all those labelled or picked.

    A frame is the mean of its atoms' features, scaled per element; features are the model's where the pool has them,
    else geometric descriptors. The first m picks are the selection for m; the seed changes nothing. Without labelled
    frames the first pick is the frame nearest to the mean. The score is the distance.

    Source
    ------
    doi:10.1016/0304-3975(85)90224-5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["farthest"] = "farthest"
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
    distances = Distances(points)
    for centre in labelled:
        distances.add(centre)

    def following(eligible: Bool) -> tuple[int, float]:
        place = int(np.where(eligible, distances.nearest, -1.0).argmax())
        return place, float(np.sqrt(max(distances.nearest[place], 0.0)))

    choose_frames(chooser, points, following, distances.add)
