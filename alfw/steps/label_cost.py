"""What a label costs: a law of the size of a frame, learnt from labels that are there.

With n atoms and N electrons, CPU time ≈ a · n^b · (N / n)^c, fitted to log(wall time × threads) by least squares with
Huber's weights, so that calculations that were restarted or had a slow node do not bend it. An exponent is fitted only
where sizes (or electrons per atom) differ enough to tell it, else all labels are expected to cost the same. The fit
tells the usual cost; the expected one, which sums up to a budget, is higher by the mean of exp(rest of the logs).

Source
------
Huber's weights: doi:10.1214/aoms/1177703732. From the mean of logs to the mean: doi:10.1080/01621459.1983.10478017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Bool, Float, Frame
from alfw.steps.context import Context
from alfw.steps.dataset import Row

MIN_RANGE = 1.2  # largest over smallest size, below which no exponent is fitted
EXPONENTS = (0.0, 6.0)  # what is plausible of a QM program
HUBER = 1.345
NEWEST = 1000  # labels that the law is learnt from


@dataclass(frozen=True)
class LabelCost:
    """The cost of labels by size.

    Attributes
    ----------
    prefactor_h : float, CPU-hours
    by_atoms, by_electrons_per_atom : float
        The exponents b and c.
    spread : float
        Factor that one standard deviation makes up or down; robust.
    n_labels : int
        How many labels it was learnt from.
    """

    prefactor_h: float
    by_atoms: float
    by_electrons_per_atom: float
    spread: float
    n_labels: int

    @classmethod
    def fit(cls, frames: Sequence[Frame], hours: Float) -> LabelCost | None:
        """The law of these labels: hours (B,) CPU-hours; those that are not positive do not count. None without any."""
        hours = np.asarray(hours, np.float64)
        used = np.flatnonzero(np.isfinite(hours) & (hours > 0))
        if not len(used):
            return None
        x, y = _sizes([frames[int(i)] for i in used]), np.log(hours[used])
        exponents = _exponents(x, y)
        rest = y - x @ exponents
        usual = float(np.median(rest))
        spread = 1.4826 * float(np.median(np.abs(rest - usual)))
        expected = usual + np.log(np.mean(np.exp(rest - usual)))
        by_atoms, by_electrons = map(float, exponents)
        return cls(float(np.exp(expected)), by_atoms, by_electrons, float(np.exp(spread)), len(used))

    def hours(self, frames: Sequence[Frame]) -> Float:
        """(B,) float64, CPU-hours: what the labels of these frames are expected to cost."""
        if not frames:
            return np.zeros(0)
        return np.asarray(
            self.prefactor_h * np.exp(_sizes(frames) @ [self.by_atoms, self.by_electrons_per_atom])
        )


def _sizes(frames: Sequence[Frame]) -> Float:
    """(B, 2) float64: log of the atoms, and of the electrons per atom."""
    atoms = np.array([len(frame) for frame in frames], np.float64)
    electrons = np.array([max(int(frame.numbers.sum()) - frame.charge, 1) for frame in frames], np.float64)
    return np.log(np.column_stack([atoms, electrons / atoms]))


def _exponents(x: Float, y: Float) -> Float:
    """(2,) float64: exponents of the columns of x that vary; 0 of the others."""
    wide = np.ptp(x, axis=0) > np.log(MIN_RANGE)
    columns = [k for k in (0, 1) if wide[k]]
    if len(columns) == 2 and np.linalg.matrix_rank(x - x.mean(0), tol=0.1 * np.sqrt(len(x))) < 2:
        columns = [0]  # electrons per atom go with the size: which of them it is, nobody can tell
    found = np.zeros(2)
    if columns:
        found[columns] = np.clip(_huber(x[:, columns], y), *EXPONENTS)
    return found


def _huber(x: Float, y: Float) -> Float:
    """Slopes (C,) of y on the columns of x (B, C) and a constant, by reweighted least squares."""
    design = np.column_stack([x, np.ones(len(x))])
    weights = np.ones(len(x))
    for _ in range(50):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
        rest = np.abs(y - design @ solution)
        sigma = max(1.4826 * float(np.median(rest)), 1e-6)
        new = np.minimum(1.0, HUBER * sigma / np.maximum(rest, 1e-300))
        if np.allclose(new, weights, atol=1e-6):
            break
        weights = new
    return np.asarray(solution[:-1])


@dataclass(frozen=True, eq=False)
class Purse:
    """What the labels of a round may cost.

    Attributes
    ----------
    budget_h : float or None, CPU-hours
        None = no limit.
    cost_h : (B,) float64 or None, CPU-hours
        Of each frame of the pool; None = not known: then only a budget of nothing limits anything.
    """

    budget_h: float | None
    cost_h: Float | None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to spend."""
        return self.budget_h is not None and self.budget_h <= 0

    def audit_frames(self, wanted: int, others: int, open_: Bool) -> int:
        """How many audit frames of those wanted are paid for: cut as all others are, where not all can be had.

        Only their number depends on costs, never which they are: they are to be like the pool.

        Parameters
        ----------
        others : int
            How many frames are to be chosen beside them.
        open_ : (B,) bool
            Frames they may be drawn from.
        """
        if self.empty:
            return 0
        if self.budget_h is None or self.cost_h is None or not open_.any():
            return wanted
        affordable = self.budget_h / float(self.cost_h[open_].mean()) + 1e-9
        share = int(wanted * min(1.0, affordable / max(wanted + others, 1)))
        return max(share, min(wanted, 1, int(affordable)))

    def without(self, indices: NDArray[np.int64]) -> Purse:
        """What is left when these frames of the pool are paid for."""
        if self.budget_h is None or self.cost_h is None:
            return self
        return Purse(max(self.budget_h - float(self.cost_h[indices].sum()), 0.0), self.cost_h)

    def covers(self, index: int) -> bool:
        """Whether the label of this frame can be paid for."""
        return not self.empty and (
            self.budget_h is None
            or self.cost_h is None
            or bool(self.cost_h[index] <= self.budget_h * (1 + 1e-9))
        )


def learn(ctx: Context, rows: Sequence[Row]) -> LabelCost | None:
    """The law of the labels of these rows that alfw computed, the newest ones; None where none of them tells its time.

    Threads are those that the campaign asks for.
    """
    newest = sorted(rows, key=lambda row: -row.round)[:NEWEST]
    ids = [row.frame for row in newest]
    labels = ctx.store.get_labels(ids, ctx.plugins.labeler.theory().id)
    threads = ctx.resources("label").resources().threads
    timed = [i for i in ids if i in labels and labels[i][1].command != "imported"]
    hours = np.array([labels[i][1].wall_s * threads / 3600 for i in timed])
    return LabelCost.fit(ctx.store.get_frames(timed), hours)


def as_metrics(cost: LabelCost | None) -> dict[str, Any] | None:
    """The law as JSON data."""
    if cost is None:
        return None
    return {
        "prefactor_h": cost.prefactor_h,
        "by_atoms": cost.by_atoms,
        "by_electrons_per_atom": cost.by_electrons_per_atom,
        "spread_factor": cost.spread,
        "n_labels": cost.n_labels,
    }
