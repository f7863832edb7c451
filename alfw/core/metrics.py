"""Errors of predictions against labels, and how sure one can be of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from alfw.core.frame import Float, Int
from alfw.core.records import Labeled

# A bootstrap of fewer frames knows nothing of the frames it has not seen.
MIN_FRAMES = 5
RESAMPLES = 2000
# Of very many frames fewer resamples are drawn, and only some of them are in memory at once.
FEWEST_RESAMPLES, MOST_DRAWN, AT_ONCE = 200, 20_000_000, 2_000_000
# Percentiles of absolute errors, and edges of their histogram: eight bins a decade, the same for every model.
PERCENTILES = (5, 25, 50, 75, 95, 99, 99.9)
HISTOGRAM_EDGES = 10.0 ** np.linspace(-5, 3, 65)


def rmse(errors: Float) -> float:
    """Root of the mean square of all components; NaN of nothing."""
    return float(np.sqrt(np.mean(np.square(errors)))) if np.size(errors) else math.nan


def mae(errors: Float) -> float:
    """Mean of the absolute components; NaN of nothing."""
    return float(np.mean(np.abs(errors))) if np.size(errors) else math.nan


@dataclass(frozen=True)
class ErrorSummary:
    """Errors of the mean of an ensemble over B frames; forces per component, fixed atoms left out.

    Attributes
    ----------
    n_frames : int
    force_rmse_eV_per_A, force_mae_eV_per_A : float
    energy_rmse_eV_per_atom, energy_mae_eV_per_atom : float
        Of (E_predicted − E_label) / n of each frame; no shift is taken out.
    force_rmse_by_element_eV_per_A : {symbol: float}
    """

    n_frames: int
    force_rmse_eV_per_A: float
    force_mae_eV_per_A: float
    energy_rmse_eV_per_atom: float
    energy_mae_eV_per_atom: float
    force_rmse_by_element_eV_per_A: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """JSON data; NaN and infinities become None."""
        found: dict[str, Any] = as_json(asdict(self))
        return found


def as_json(value: Any) -> Any:
    """The same as JSON data: numpy's arrays and numbers as Python's, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summarise(items: Sequence[Labeled], energy: Float, forces: Sequence[Float]) -> ErrorSummary:
    """Errors of predicted energies and forces (the mean of the members) over labelled frames.

    Parameters
    ----------
    items : sequence of B Labeled
    energy : (B,) float64, eV
    forces : B × (n, 3) float64, eV/Å
    """
    pairs = list(zip(items, energy, strict=True))
    per_atom = np.array([(predicted - item.label.energy) / len(item.frame) for item, predicted in pairs])
    errors = np.concatenate([np.empty((0, 3)), *force_errors(items, forces)])
    numbers = free_numbers(items)
    return ErrorSummary(
        n_frames=len(items),
        force_rmse_eV_per_A=rmse(errors),
        force_mae_eV_per_A=mae(errors),
        energy_rmse_eV_per_atom=rmse(per_atom),
        energy_mae_eV_per_atom=mae(per_atom),
        force_rmse_by_element_eV_per_A={
            chemical_symbols[z]: rmse(errors[numbers == z]) for z in np.unique(numbers)
        },
    )


def free_numbers(items: Sequence[Labeled]) -> Int:
    """(N,) int64: atomic numbers of the atoms that may move, in the order of `force_errors`."""
    return np.concatenate([np.empty(0, np.int64), *(item.frame.numbers[item.frame.free] for item in items)])


def distribution(errors: Float) -> dict[str, Any]:
    """How absolute errors are distributed: JSON data, in the unit of the errors.

    Returns
    -------
    dict
        percentiles: {"5": …, "99.9": …}; histogram: counts between `HISTOGRAM_EDGES`, what is beyond them in the
        first and last bin. Errors that are not finite are left out.
    """
    size = np.abs(errors[np.isfinite(errors)])
    if not size.size:
        return {"percentiles": {f"{p:g}": None for p in PERCENTILES}, "histogram": None}
    inside = np.clip(size, HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
    values = np.percentile(size, PERCENTILES)
    return {
        "percentiles": {f"{p:g}": float(value) for p, value in zip(PERCENTILES, values, strict=True)},
        "histogram": np.histogram(inside, HISTOGRAM_EDGES)[0].tolist(),
    }


def shifts(errors: Float, groups: Sequence[str]) -> dict[str, float]:
    """The mean error of each group that has more than one: of one alone nothing would be left."""
    names, index, counts = np.unique(np.asarray(groups, str), return_inverse=True, return_counts=True)
    sums = np.bincount(index, errors, len(names))
    return {str(n): float(s / c) for n, s, c in zip(names, sums, counts, strict=True) if c > 1}


def force_errors(items: Sequence[Labeled], forces: Sequence[Float]) -> list[Float]:
    """B × (n_free, 3) float64, eV/Å: predicted − labelled forces on the atoms that may move."""
    return [(f - item.label.forces)[item.frame.free] for item, f in zip(items, forces, strict=True)]


def frame_force_mse(items: Sequence[Labeled], forces: Sequence[Float]) -> list[tuple[float, int]]:
    """Of each frame, for `bootstrap_upper`: mean square (eV²/Å²) and number of its force-component errors.

    Frames whose atoms are all fixed are left out.
    """
    errors = force_errors(items, forces)
    return [(float(np.mean(error**2)), error.size) for error in errors if error.size]


def bootstrap_upper(frame_mse: ArrayLike, level: float = 0.95, seed: int = 0) -> float:
    """Upper bound (eV/Å) of a force RMSE, at this one-sided level, from resampling whole frames.

    Parameters
    ----------
    frame_mse : (B, 2)
        Mean square error (eV²/Å²) and number of components of each frame, as `frame_force_mse` gives them.
    level : float
    seed : int

    Returns
    -------
    float
        Quantile of the resampled RMSE; infinite below `MIN_FRAMES` frames or where an error is not finite.

    Source
    ------
    Percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    resampled = _resampled(frame_mse, seed)
    return math.inf if resampled is None else float(np.quantile(resampled, level))


def bootstrap_interval(
    frame_mse: ArrayLike, level: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """Lower and upper bound (eV/Å) of a force RMSE, central, from resampling whole frames; see `bootstrap_upper`.

    None below `MIN_FRAMES` frames or where an error is not finite.
    """
    resampled = _resampled(frame_mse, seed)
    if resampled is None:
        return None
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(frame_mse: ArrayLike, seed: int) -> Float | None:
    """(RESAMPLES,) eV/Å: force RMSE of resampled frames; None where that says nothing."""
    squares, weights = np.reshape(np.asarray(frame_mse, np.float64), (-1, 2)).T
    n = len(squares)
    if n < MIN_FRAMES or not np.isfinite(squares).all():
        return None
    # how often each frame is drawn, instead of which ones, some resamples at a time: (rows, B)
    rng, share = np.random.default_rng(seed), np.full(n, 1 / n)
    left = max(min(RESAMPLES, MOST_DRAWN // n), FEWEST_RESAMPLES)
    found = []
    while left > 0:
        rows = min(left, max(1, AT_ONCE // n))
        drawn = rng.multinomial(n, share, size=rows)
        found.append(np.sqrt(drawn @ (weights * squares) / (drawn @ weights)))
        left -= rows
    resampled: Float = np.concatenate(found)
    return resampled
