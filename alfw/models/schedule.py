"""The order in which a training sees its frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def batch_indices(n: int, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Endless (size,) batches cut from one permutation of n frames after another: every batch is full."""
    rng = np.random.default_rng(seed)
    left = np.empty(0, np.int64)
    while True:
        while len(left) < size:
            left = np.concatenate([left, rng.permutation(n)])
        yield left[:size]
        left = left[size:]
