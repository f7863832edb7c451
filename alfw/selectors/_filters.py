"""Which frames of a pool may be chosen at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from alfw.core.exploration import Pool
from alfw.core.frame import Bool, Frame
from alfw.selectors._neighbourhood import neighbourhoods
from alfw.selectors._options import Band, Physical


def candidates(pool: Pool, physical: Physical, band: Band) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Indices of the pool frames that may be chosen, and how many others there are for which reason.

    A frame counts under the first reason that applies: ``not_finite`` (its predicted force), ``too_close``,
    ``high_force``, ``below_band``, ``above_band``. A force_std of NaN (an ensemble of one member) is in any band.
    """
    force, std = np.asarray(pool.max_force), np.asarray(pool.force_std)
    finite = np.isfinite(force)
    verdicts = {"not_finite": ~finite}
    if physical.min_distance_fraction is not None:
        verdicts["too_close"] = too_close(pool.frames, physical.min_distance_fraction)
    if physical.max_force_quantile is not None and finite.any():
        # "higher": the limit is the force of a frame, so a small pool does not always lose its highest one
        verdicts["high_force"] = force > np.quantile(
            force[finite], physical.max_force_quantile, method="higher"
        )
    low, high = band
    if low is not None:
        verdicts["below_band"] = std < low
    if high is not None:
        verdicts["above_band"] = std > high
    open_, rejected = np.ones(len(pool.frames), bool), {}
    for reason, bad in verdicts.items():
        if (count := int((open_ & bad).sum())) > 0:
            rejected[reason] = count
        open_ &= ~bad
    return np.flatnonzero(open_), rejected


def too_close(frames: Sequence[Frame], fraction: float) -> Bool:
    """(B,) bool: two atoms (or images) are closer than this fraction of the sum of their covalent radii.

    Source
    ------
    Covalent radii: doi:10.1039/b801115j, as in `ase.data`.
    """
    bad = np.zeros(len(frames), bool)
    if not frames:
        return bad
    owner = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    largest = max(covalent_radii[np.unique(frame.numbers)].max() for frame in frames)
    first_atom = 0
    for batch in neighbourhoods(frames, 2 * fraction * largest):
        radii = covalent_radii[batch.numbers]
        limit = fraction * (radii[batch.receivers] + radii[batch.senders])
        bad[owner[first_atom + batch.receivers[batch.lengths < limit]]] = True
        first_atom += len(batch.numbers)
    return bad
