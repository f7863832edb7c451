"""Largest determinant: what a linear model is least sure about."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Pool, Selection
from alfw.core.frame import Bool
from alfw.selectors._choosing import Chooser, selected
from alfw.selectors._farthest import ConditionalVariance
from alfw.selectors._frames import choose_frames, vectors
from alfw.selectors._options import Band, Dedup, Physical, band_needs

# Variance of an observation, as a fraction of the mean variance of a frame before any.
NOISE = 1e-2


class MaxDetSelector(BaseModel):
    """Picks the frame whose energy a linear model of the features is least sure about, given those labelled or picked.

    Each pick multiplies the determinant of the kernel matrix of labelled and picked frames (inner products of their
    vectors, plus noise) by the largest factor that any frame can. Frames are as in `farthest`; the score is the
    standard deviation in units of that of an average frame before any label. The first m picks are the selection for
    m; the seed changes nothing.

    Source
    ------
    MaxDet, https://jmlr.org/papers/v24/22-0937.html (JMLR 24:164, 2023).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["maxdet"] = "maxdet"
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
    scale = float((points.astype(np.float64) ** 2).sum(1).mean()) or 1.0
    model = ConditionalVariance(points / np.float32(np.sqrt(scale)), NOISE)
    model.observe(labelled / np.float32(np.sqrt(scale)))

    def following(eligible: Bool) -> tuple[int, float]:
        place = int(np.where(eligible, model.variance, -1.0).argmax())
        return place, float(np.sqrt(model.variance[place]))

    choose_frames(
        chooser, points, following, lambda point: model.observe(point[None] / np.float32(np.sqrt(scale)))
    )
