"""Per-atom features that need no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.selectors._descriptors import descriptors


def geometric_features(frames: Sequence[Frame], elements: Sequence[int]) -> list[NDArray[np.float32]]:
    """Geometric descriptors of all atoms of B frames: B × (n, D) float32, see `alfw.selectors._descriptors`.

    Parameters
    ----------
    frames : sequence of B Frames
    elements : sequence of int
        Atomic numbers; the same ones give the same columns, whatever the frames hold.

    Raises
    ------
    DataError
        A frame has another element.
    """
    known = sorted(set(elements))
    for frame in frames:
        if not np.isin(frame.numbers, known).all():
            raise DataError(f"frame {frame.id[:12]} ({frame.formula}) has elements beyond {known}")
    return descriptors(frames, known)
