"""Which frames of a pool may be chosen at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from alfw.core.exploration import Pool
from alfw.core.frame import Bool, Frame, Int
from alfw.selectors._neighbourhood import neighbourhoods
from alfw.selectors._options import Band, Physical

ALL_PAIRS = 64  # atoms: in open frames of at most so many, all pairs are faster than a neighbour list
PAIRS_AT_ONCE = 2_000_000
CONVERGED = (
    "everything is below the band (force_std < {} eV/Å): nothing is chosen; the campaign may be converged"
)
OUTSIDE = "no frame is inside the band: {} are below, {} above; nothing is chosen"


@dataclass(frozen=True, eq=False)
class Candidates:
    """The frames of a pool that may be chosen.

    Attributes
    ----------
    rows : (G,) int64
        Their indices.
    rejected : {reason: how many of the others}
    notes : sequence of str
        What the user should know.
    unfit : bool
        All physical frames are above the band: they are the candidates nevertheless, but their predictions are worth
        nothing.
    """

    rows: Int
    rejected: dict[str, int]
    notes: tuple[str, ...] = ()
    unfit: bool = False


def candidates(pool: Pool, physical: Physical, band: Band) -> Candidates:
    """The frames that may be chosen, and how many others there are for which reason.

    A frame counts under the first reason that applies: ``not_finite`` (anything predicted of it), ``too_close``,
    ``high_force``, ``below_band``, ``above_band``. Where the force_std of all frames is NaN (an ensemble of one
    member), they are in any band.
    """
    if not pool.frames:
        return Candidates(np.zeros(0, np.int64), {}, ("the pool is empty: nothing is chosen",))
    open_, rejected = _count(_unphysical(pool, physical), np.ones(len(pool.frames), bool))
    if not open_.any():
        return Candidates(np.zeros(0, np.int64), rejected, ("no frame is physical: nothing is chosen",))
    std = np.asarray(pool.force_std)
    low, high = band
    inside, outside = _count(
        {
            "below_band": std < (-np.inf if low is None else low),
            "above_band": std > (np.inf if high is None else high),
        },
        open_,
    )
    rows = np.flatnonzero(inside)
    if len(rows):
        return Candidates(rows, rejected | outside)
    below, above = outside.get("below_band", 0), outside.get("above_band", 0)
    if below == 0:
        return Candidates(np.flatnonzero(open_), rejected, unfit=True)
    note = OUTSIDE.format(below, above) if above else CONVERGED.format(low)
    return Candidates(rows, rejected | outside, (note,))


def _count(verdicts: dict[str, Bool], open_: Bool) -> tuple[Bool, dict[str, int]]:
    """The open frames with no verdict against them, and how many had which, the first one counts."""
    rejected = {}
    for reason, bad in verdicts.items():
        if (count := int((open_ & bad).sum())) > 0:
            rejected[reason] = count
        open_ = open_ & ~bad
    return open_, rejected


def _unphysical(pool: Pool, physical: Physical) -> dict[str, Bool]:
    force, std = np.asarray(pool.max_force), np.asarray(pool.force_std)
    finite = np.isfinite(force) & (np.isfinite(std) | np.isnan(std).all())
    verdicts = {"not_finite": ~finite}
    if physical.min_distance_fraction is not None:
        verdicts["too_close"] = too_close(pool.frames, physical.min_distance_fraction)
    limit = np.inf if physical.max_force_eV_per_A is None else physical.max_force_eV_per_A
    if physical.max_force_quantile is not None and finite.any():
        # "higher": the limit is the force of a frame, so a small pool does not always lose its highest one
        quantile = np.quantile(force[finite], physical.max_force_quantile, method="higher")
        limit = min(limit, float(quantile))
    verdicts["high_force"] = force > limit
    return verdicts


def too_close(frames: Sequence[Frame], fraction: float) -> Bool:
    """(B,) bool: two atoms (or images) are closer than this fraction of the sum of their covalent radii.

    Source
    ------
    Covalent radii: doi:10.1039/b801115j, as in `ase.data`.
    """
    bad = np.zeros(len(frames), bool)
    molecules: dict[bytes, list[int]] = {}
    others: list[int] = []
    for index, frame in enumerate(frames):
        if frame.periodic or len(frame) > ALL_PAIRS:
            others.append(index)
        else:
            molecules.setdefault(frame.numbers.tobytes(), []).append(index)
    for rows in molecules.values():
        bad[rows] = _too_close_molecules([frames[i] for i in rows], fraction)
    bad[others] = _too_close_by_lists([frames[i] for i in others], fraction)
    return bad


def _too_close_molecules(frames: Sequence[Frame], fraction: float) -> Bool:
    """The same for open frames of the same atoms in the same order."""
    radii = covalent_radii[frames[0].numbers]
    i, j = np.triu_indices(len(radii), 1)
    limit = (fraction * (radii[i] + radii[j])) ** 2
    bad = np.zeros(len(frames), bool)
    at_once = max(1, PAIRS_AT_ONCE // max(1, len(i)))
    for start in range(0, len(frames), at_once):
        positions = np.stack([frame.positions for frame in frames[start : start + at_once]])
        squared = sum((positions[:, i, axis] - positions[:, j, axis]) ** 2 for axis in range(3))
        bad[start : start + at_once] = (squared < limit).any(1)
    return bad


def _too_close_by_lists(frames: Sequence[Frame], fraction: float) -> Bool:
    """The same for any frames."""
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
