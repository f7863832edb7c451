"""How well a predicted spread σ knows the errors that were made: order, size, coverage.

An error and its σ are in the same unit; z = error / σ. A σ that knows all is one whose z are standard normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alfw.core.frame import Bool, Float
from alfw.core.ids import derive_seed

LEVELS = np.linspace(0.05, 0.95, 19)  # where reliability is looked at
BINS = 10
TIMES_SIGMA = (1, 2, 3)


def standardised(errors: Float, sigma: Float) -> Float:
    """z = errors / sigma in the shape of `errors`; where σ = 0: 0 without an error, infinite with one."""
    errors, sigma = np.broadcast_arrays(np.asarray(errors, float), np.asarray(sigma, float))
    z = np.where(errors == 0.0, 0.0, np.copysign(np.inf, errors))
    found: Float = np.divide(errors, sigma, out=z, where=sigma > 0)
    return found


def spearman(sigma: Float, size: Float) -> float:
    """Rank correlation of σ with the size of the error; NaN of fewer than 3 pairs, or where one never changes.

    Source
    ------
    Spearman, doi:10.2307/1412159; ties get their mean rank.
    """
    from scipy.stats import rankdata  # half a second, which other uses of this module can do without

    known = np.isfinite(sigma) & np.isfinite(size)
    a, b = sigma[known], size[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def scale(z: Float) -> float:
    """The factor on all σ that makes the mean square of z one; NaN of nothing, infinite where a σ is 0."""
    return float(np.sqrt(np.mean(np.square(z)))) if z.size else math.nan


@dataclass(frozen=True, eq=False)
class Reliability:
    """Which fraction of the errors lies inside the central interval of a normal distribution of width σ.

    Attributes
    ----------
    expected, observed : (19,) float64
        0.05 … 0.95, and the fraction of |z| below that interval's end.
    """

    expected: Float
    observed: Float

    @property
    def miscalibration_area(self) -> float:
        """Area between observed and expected: 0 at best, 0.5 at worst."""
        x = np.r_[0.0, self.expected, 1.0]
        gap = np.abs(np.r_[0.0, self.observed - self.expected, 0.0])
        return float(np.sum(np.diff(x) * (gap[1:] + gap[:-1]) / 2))

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "expected": self.expected.round(4).tolist(),
            "observed": self.observed.tolist(),
            "miscalibration_area": self.miscalibration_area,
        }


def reliability(z: Float) -> Reliability:
    """How often errors are as small as a normal distribution says.

    Source
    ------
    Kuleshov, Fenner and Ermon, arXiv:1807.00263; miscalibration area: Tran et al., doi:10.1088/2632-2153/ab7e1a.
    """
    from scipy.special import ndtri

    limits = ndtri((1 + LEVELS) / 2)
    observed = np.searchsorted(np.sort(np.abs(z), axis=None), limits, side="right") / max(z.size, 1)
    return Reliability(LEVELS.copy(), observed)


def fraction_inside(z: Float) -> dict[str, dict[str, float]]:
    """Fraction of |z| ≤ k for k = 1, 2, 3, beside that of a normal distribution."""
    return {
        str(k): {"observed": float(np.mean(np.abs(z) <= k)), "normal": math.erf(k / math.sqrt(2))}
        for k in TIMES_SIGMA
        if z.size
    }


@dataclass(frozen=True)
class Bin:
    """Some of the pairs with neighbouring σ: how many, root mean square of σ (RMV) and of the error (RMSE)."""

    n: int
    sigma_rms: float
    error_rms: float


def binned(sigma: Float, errors: Float) -> list[Bin]:
    """At most `BINS` bins of equally many pairs, by σ; pairs that are not finite are left out.

    Source
    ------
    RMSE against RMV: Levi et al., doi:10.3390/s22155540, eq. 7.
    """
    known = np.isfinite(sigma) & np.isfinite(errors)
    order = np.argsort(sigma[known], kind="stable")
    pairs = np.c_[sigma[known], errors[known]][order]
    parts = np.array_split(pairs, max(1, min(BINS, len(pairs))))
    rms = [np.sqrt(np.mean(part**2, axis=0)) for part in parts if len(part)]
    counts = [len(part) for part in parts if len(part)]
    return [Bin(n, float(s), float(e)) for n, (s, e) in zip(counts, rms, strict=True)]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected normalised calibration error: mean over bins of |RMV − RMSE| / RMV.

    Source
    ------
    ENCE: Levi et al., doi:10.3390/s22155540, eq. 8.
    """
    gaps = [abs(b.sigma_rms - b.error_rms) / b.sigma_rms if b.sigma_rms else math.inf for b in bins]
    return float(np.mean(gaps)) if gaps else math.nan


def first_half(ids: Sequence[str]) -> Bool:
    """(B,) bool: which frames calibrate; the others test. By a hash of the id, so that equal frames stay together."""
    return np.array([derive_seed("half", i) % 2 == 0 for i in ids], bool)


def conformal_factor(scores: Float, coverage: float) -> float:
    """The score that a new one stays below with at least this probability, if it is drawn as these were.

    Parameters
    ----------
    scores : (n,) float64
        |error| / σ of calibration frames.
    coverage : float

    Returns
    -------
    float
        The ⌈(n + 1) coverage⌉-th smallest score; infinite where n is too small for this coverage.

    Source
    ------
    Split conformal prediction: Lei et al., doi:10.1080/01621459.2017.1307116, algorithm 2.
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if rank > len(scores):
        return math.inf
    return float(np.sort(np.where(np.isfinite(scores), scores, np.inf))[rank - 1])


def frames_needed(coverage: float) -> int:
    """The smallest number of scores whose `conformal_factor` is finite."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact central interval of a probability of which so many trials succeeded; (0, 1) of no trial.

    Source
    ------
    Clopper and Pearson, doi:10.1093/biomet/26.4.404; by quantiles of the beta distribution.
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)


@dataclass(frozen=True)
class Coverage:
    """How often what was promised held, on frames that the promise was not made from."""

    n: int
    n_inside: int

    @property
    def fraction(self) -> float:
        """Observed; NaN of nothing."""
        return self.n_inside / self.n if self.n else math.nan

    def off(self, promised: float, level: float = 0.99) -> int:
        """−1 or +1 where the interval at this level lies below or above what was promised, else 0."""
        low, high = clopper_pearson(self.n_inside, self.n, level)
        return int(low > promised) - int(high < promised)

    def __add__(self, other: Coverage) -> Coverage:
        """Both together."""
        return Coverage(self.n + other.n, self.n_inside + other.n_inside)

    def as_dict(self) -> Mapping[str, Any]:
        """JSON data, with the 95 and 99 % Clopper–Pearson intervals."""
        return {
            "n_frames": self.n,
            "n_inside": self.n_inside,
            "fraction": self.fraction,
            "interval_95": list(clopper_pearson(self.n_inside, self.n)),
            "interval_99": list(clopper_pearson(self.n_inside, self.n, 0.99)),
        }


def coverage_of(scores: Float, factor: float) -> Coverage:
    """How many of these scores are within the factor; what is not finite is not."""
    return Coverage(len(scores), int(np.sum(np.isfinite(scores) & (scores <= factor))))
