"""Choosing frames from the top of a list."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from alfw.core.exploration import Choice, Pool, Selection
from alfw.core.frame import Float
from alfw.selectors._duplicates import Duplicates


def take(
    pool: Pool,
    ranking: NDArray[np.int64],
    scores: Float,
    limit: int,
    min_distance_A: float,
    reason: str,
    rejected: Mapping[str, int],
) -> Selection:
    """The first `limit` frames of a ranking that duplicate neither a labelled nor a chosen frame.

    Parameters
    ----------
    ranking : (R,) int64
        Indices of frames of the pool, best first.
    scores : (B,) float64
        Of all frames of the pool.
    rejected : mapping
        Counts of the frames that are not in the ranking; ``duplicate`` is added.
    """
    frames = [pool.frames[i] for i in ranking] + list(pool.labelled)
    duplicates = Duplicates(frames, min_distance_A)
    eligible = np.arange(len(frames)) < len(ranking)
    for index in range(len(ranking), len(frames)):
        eligible &= ~duplicates.of(index)
    chosen: list[Choice] = []
    for place, index in enumerate(ranking):
        if len(chosen) >= limit:
            break
        if eligible[place]:
            chosen.append(Choice(int(index), reason, float(scores[index])))
            eligible &= ~duplicates.of(place)
    twins = len(ranking) - int(eligible.sum()) - len(chosen)
    return Selection(chosen, {**rejected, **({"duplicate": twins} if twins else {})})
