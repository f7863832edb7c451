"""Errors of predictions against labels, and how sure one can be of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from alfw.core.frame import Float
from alfw.core.records import Labeled

# A bootstrap of fewer frames knows nothing of the frames it has not seen.
MIN_FRAMES = 5
RESAMPLES = 2000


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
        return {key: _json(value) for key, value in asdict(self).items()}


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
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
    numbers = np.concatenate(
        [np.empty(0, np.int64), *(item.frame.numbers[item.frame.free] for item in items)]
    )
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
    squares, weights = np.reshape(np.asarray(frame_mse, np.float64), (-1, 2)).T
    n = len(squares)
    if n < MIN_FRAMES or not np.isfinite(squares).all():
        return math.inf
    # how often each frame is drawn, instead of which ones: (RESAMPLES, B)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return float(np.quantile(np.sqrt(drawn @ (weights * squares) / (drawn @ weights)), level))
