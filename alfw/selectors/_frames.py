"""Choosing frames by one vector each: the mean of their atoms' scaled features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from alfw.core.frame import Bool
from alfw.core.scaling import Features
from alfw.selectors._choosing import Chooser
from alfw.selectors._farthest import most_usual
from alfw.selectors._features import environments

# Distance below which a frame shows nothing new, in units of the spread of environments.
SAME = 1e-3

Next = Callable[[Bool], tuple[int, float]]


def vectors(chooser: Chooser) -> tuple[Features, Features]:
    """(G, D) of the candidates and (M, D) float32 of the labelled frames; what is not finite is set aside."""
    points, labelled = environments(chooser.pool, chooser.rows).frame_vectors()
    bad = np.asarray(~np.isfinite(points).all(1))
    chooser.set_aside(bad, "not_finite")
    points[bad] = 0.0
    return points, labelled[np.isfinite(labelled).all(1)]


def choose_frames(
    chooser: Chooser, points: Features, following: Next, add: Callable[[Features], object]
) -> None:
    """Choose frames one after the other; without labelled frames, the first is the one nearest to the mean, score 0.

    Parameters
    ----------
    chooser : Chooser
    points : (G, D) float32
    following : callable
        The best of the eligible frames (G,) bool, and its score; below `SAME`, all that are left are set aside.
    add : callable
        Take note of the vector of a frame that was chosen.
    """
    while not chooser.full:
        if chooser.chosen or chooser.pool.labelled:
            place, score = following(chooser.eligible)
            if score < SAME:
                chooser.set_aside(chooser.eligible, "nothing_new")
                return
        else:
            place, score = most_usual(points, chooser.eligible), 0.0
        if chooser.offer(place, score):
            add(points[place])
