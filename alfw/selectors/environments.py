"""Coverage of atomic environments: the default selector."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Choice, Pool, Selection
from alfw.core.frame import Frame
from alfw.selectors._coverage import Coverage, Features
from alfw.selectors._descriptors import descriptors, standardise
from alfw.selectors._duplicates import Duplicates
from alfw.selectors._filters import candidates
from alfw.selectors._options import Band, Dedup, Physical, band_needs

# Mean distance of a frame's environments below which it shows nothing new, in units of an element's spread.
MIN_GAIN = 0.01


class EnvironmentsSelector(BaseModel):
    """Picks, one after the other, the frame whose atomic environments are farthest from all those labelled or picked.

    The distance of an atom is that of its features to the nearest environment of the same element, in units of the
    spread of that element over pool and labelled frames; of a frame, the mean over its atoms. Features are the
    model's where the pool has them, else geometric descriptors, so no trained model is needed. The first m picks are
    the selection for m: picks do not depend on the limit, nor on the seed. Without labelled frames the first pick is
    the most usual frame. It ends early when nothing new is left.

    Source
    ------
    Greedy farthest-point (k-centre) selection, doi:10.1016/0304-3975(85)90224-5, over atoms instead of frames.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["environments"] = "environments"
    physical: Physical = Physical()
    band_eV_per_A: Band = (None, 3.0)
    dedup: Dedup = Dedup()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return band_needs(self)

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; rejected counts as `candidates`, and ``duplicate``."""
        good, rejected = candidates(pool, self.physical, self.band_eV_per_A)
        if len(good) == 0 or limit <= 0:
            return Selection([], rejected)
        frames = [pool.frames[i] for i in good] + list(pool.labelled)
        labelled = range(len(good), len(frames))
        coverage = Coverage([frame.numbers for frame in frames], _features(pool, good, frames))
        duplicates = Duplicates(frames, self.dedup.min_distance_A)
        coverage.cover(labelled)
        eligible = np.arange(len(frames)) < len(good)
        for index in labelled:
            eligible &= ~duplicates.of(index)
        chosen: list[Choice] = []
        while len(chosen) < limit and eligible.any():
            gain = np.where(eligible, coverage.gain(), -1.0)
            pick = int(gain.argmax()) if chosen or pool.labelled else coverage.most_usual(eligible)
            if gain[pick] < MIN_GAIN:
                break
            chosen.append(Choice(int(good[pick]), "environments", float(gain[pick])))
            coverage.cover([pick])
            eligible &= ~duplicates.of(pick)
        twins = len(good) - int(eligible[: len(good)].sum()) - len(chosen)
        return Selection(chosen, rejected | ({"duplicate": twins} if twins else {}))


def _features(pool: Pool, good: np.ndarray, frames: list[Frame]) -> list[Features]:
    """Features of the good frames of the pool, then of the labelled ones: the model's, or geometric ones."""
    if pool.features is not None and (pool.labelled_features is not None or not pool.labelled):
        return [
            np.asarray(z, np.float32)
            for z in [pool.features[i] for i in good] + list(pool.labelled_features or [])
        ]
    numbers = np.concatenate([frame.numbers for frame in frames])
    z = np.concatenate(descriptors(frames, [int(e) for e in np.unique(numbers)]))
    return np.split(standardise(z, numbers), np.cumsum([len(frame) for frame in frames])[:-1])
