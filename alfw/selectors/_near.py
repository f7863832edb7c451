"""Rows of a large table that repeat an earlier one: a hash join on random projections, every match verified.

A repetition differs by less than a limit in every column, so its projection on a random unit vector differs by about
that much or less. Rows fall into the cells of a grid over several random projections, with a random offset; rows of
one cell are compared column by column. Rounds with new projections follow until the chance that a pair never met is
small.

Source
------
Locality-sensitive hashing by projections: doi:10.1145/997817.997857.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Bool, Int

EXACT_ROWS = 20_000  # up to so many, each is compared with all rows kept
WIDTHS = (8.0, 4.0, 2.0, 1.0)  # of a cell, in units of the limit: the first one that separates the rows
# Columns of a pair that differ evenly between −limit and +limit: a projection differs by so much, in the mean.
APART = np.sqrt(2 / np.pi) / np.sqrt(3)
MISSED = 3e-4  # so likely, at most, such a pair is never in one cell ...
MOST_ROUNDS = 30  # ... in as many rounds as that takes
CROWD = 8.0  # others in the cell of a row, on average: more projections until there are fewer
MOST_PROJECTIONS = 16
FOLLOWERS = 16  # each row is compared with so many others of its cell, and with the first
PREVIEW = 4  # columns compared first, one after the other: those that vary most
SAMPLE = 20_000
CHUNK = 16384  # rows looked at together, to stay in the processor's cache
FACTOR = 6364136223846793005  # of the hash, doi:10.1090/S0025-5718-99-00996-5

Table = NDArray[np.float32]
Same = Callable[[int, int], bool]


def owners(x: Table, limit: float, fixed: int = 0, same: Same | None = None) -> Int:
    """(N,) int64: which earlier row each row repeats, −1 = none; a row that is repeated repeats none itself.

    Every match is verified, so no row is said to repeat one that it does not. Up to `EXACT_ROWS` rows that are asked
    about, no repetition is missed; beyond, about one in 3,000 of those that differ as much as they may, or, where rows
    lie so close that most differ by little more than the limit, of those that differ by less.

    Parameters
    ----------
    x : (N, D) float32
    limit : float
        A row repeats another when all its columns differ by less.
    fixed : int
        The first so many rows are not asked about; others may repeat them.
    same : callable, optional
        Whether row i repeats row j indeed, asked once their columns say so.
    """
    owner = np.full(len(x), -1, np.int64)
    preview = np.argsort(-x[:: len(x) // SAMPLE + 1].var(0))[:PREVIEW] if len(x) else np.zeros(0, np.int64)
    columns = np.ascontiguousarray(x[:, preview].T)
    if len(x) - fixed <= EXACT_ROWS:
        _compare_all(x, columns, limit, fixed, same, owner)
        return owner
    random = np.random.default_rng(0)  # what is found must not depend on anything else
    width, projections = _grid(x, limit)
    together = (1 - APART / width) ** projections
    rounds = int(np.ceil(np.log(MISSED) / np.log1p(-together)))
    for _ in range(min(rounds, MOST_ROUNDS)):
        rows = np.flatnonzero(owner < 0)
        keys = _cells(x, rows, projections, width * limit, random)
        i, j = _pairs(x, columns, rows, keys, limit)
        wanted = j >= fixed
        i, j = _agreed(i[wanted], j[wanted], same)
        _assign(i, j, owner)
    _settle(x, limit, same, owner)
    return owner


def _compare_all(x: Table, columns: Table, limit: float, fixed: int, same: Same | None, owner: Int) -> None:
    """The same for few rows, each compared with all that are kept, column by column first."""
    rows = np.arange(len(x))  # those kept lie at the front
    kept, n = columns.copy(), fixed
    for row in range(fixed, len(x)):
        near = np.flatnonzero(np.abs(kept[0, :n] - columns[0, row]) < limit)
        for of_kept, value in zip(kept[1:], columns[1:, row], strict=True):
            near = near[np.abs(of_kept[near] - value) < limit]
        near = rows[near]
        near = near[(np.abs(x[near] - x[row]) < limit).all(1)]
        twin = next((int(i) for i in near if same is None or same(int(i), row)), None)
        if twin is not None:
            owner[row] = twin
        else:
            kept[:, n], rows[n] = columns[:, row], row
            n += 1


def _grid(x: Table, limit: float) -> tuple[float, int]:
    """Width of the cells in units of the limit, and so many random projections that they are not crowded."""
    random = np.random.default_rng(1)
    sample = x[random.choice(len(x), min(SAMPLE, len(x)), replace=False)]
    rows = np.arange(len(sample))
    for width in WIDTHS:
        keys = np.zeros(len(sample), np.int64)
        for number in range(1, MOST_PROJECTIONS + 1):
            keys = keys * FACTOR + _cells(sample, rows, 1, width * limit, random)
            _, counts = np.unique(keys, return_counts=True)
            others = float((counts * (counts - 1.0)).sum()) / len(sample) * len(x) / len(sample)
            if number >= 4 and others <= CROWD:
                return width, number
    return WIDTHS[0], MOST_PROJECTIONS  # rows that are nearly all the same


def _cells(x: Table, rows: Int, projections: int, width: float, random: np.random.Generator) -> Int:
    """(R,) int64: a hash of the cell of each row on a new grid."""
    axes = random.standard_normal((x.shape[1], projections))
    axes = (axes / np.linalg.norm(axes, axis=0) / width).astype(np.float32)
    offset = random.random(projections, np.float32)
    keys = np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), CHUNK):
        some, key = rows[start : start + CHUNK], keys[start : start + CHUNK]
        cells = axes.T @ x[some].T
        cells += offset[:, None]
        for cell in np.floor(cells, out=cells).astype(np.int32):
            key *= FACTOR
            key += cell
    return keys


def _pairs(x: Table, columns: Table, rows: Int, keys: Int, limit: float) -> tuple[Int, Int]:
    """Pairs i < j of rows of one cell whose columns all differ by less than the limit; `columns`: some of x."""
    order = np.argsort(keys)
    rows, keys = rows[order], keys[order]
    new = np.concatenate([[True], keys[1:] != keys[:-1]])
    leader = np.flatnonzero(new)[np.cumsum(new) - 1]
    seen = [column[rows] for column in columns]
    ones, others = [], []
    here = np.arange(len(rows))
    for lag in range(FOLLOWERS + 1):  # 0: the first of the cell
        earlier = leader if lag == 0 else here - lag
        there = np.flatnonzero((earlier >= leader) & (earlier < here))
        earlier = earlier[there]
        for column in seen:
            close = np.flatnonzero(np.abs(column[there] - column[earlier]) < limit)
            there, earlier = there[close], earlier[close]
        a, b = rows[earlier], rows[there]
        exact = _all_columns(x, a, b, limit)
        ones.append(a[exact])
        others.append(b[exact])
    a, b = np.concatenate(ones), np.concatenate(others)
    return np.minimum(a, b), np.maximum(a, b)


def _all_columns(x: Table, a: Int, b: Int, limit: float) -> Bool:
    near = np.empty(len(a), bool)
    for start in range(0, len(a), CHUNK):
        some = slice(start, start + CHUNK)
        near[some] = (np.abs(x[a[some]] - x[b[some]]) < limit).all(1)
    return near


def _agreed(i: Int, j: Int, same: Same | None) -> tuple[Int, Int]:
    """The pairs, each once, that `same` agrees to."""
    if len(i):
        i, j = np.unique(np.stack([i, j]), axis=1)
    if same is not None:
        agreed = np.array([same(int(a), int(b)) for a, b in zip(i, j, strict=True)], bool)
        i, j = i[agreed], j[agreed]
    return i, j


def _assign(i: Int, j: Int, owner: Int) -> None:
    """Give each row j an owner i that has none itself, the earlier rows first."""
    while len(j):
        waiting = np.zeros(len(owner), bool)
        waiting[j] = True
        sure = ~waiting[i]
        owner[j[sure]] = i[sure]
        open_ = (owner[i] < 0) & (owner[j] < 0)
        i, j = i[open_], j[open_]


def _settle(x: Table, limit: float, same: Same | None, owner: Int) -> None:
    """Where an owner got an owner itself, later: that one, if it is near enough, else none."""
    while True:
        rows = np.flatnonzero(owner >= 0)
        rows = rows[owner[owner[rows]] >= 0]
        if len(rows) == 0:
            return
        roots = owner[owner[rows]]
        near = _all_columns(x, roots, rows, limit)
        if same is not None:
            near &= np.array([same(int(a), int(b)) for a, b in zip(roots, rows, strict=True)], bool)
        owner[rows] = np.where(near, roots, -1)
