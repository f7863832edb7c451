"""How long things last when not all of them have failed yet."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from alfw.core.frame import Float, Int


@dataclass(frozen=True, eq=False)
class Survival:
    """A Kaplan–Meier curve: a staircase that starts at 1 and steps down at M distinct times of failure.

    Attributes
    ----------
    time : (M,) float64
        In the unit of the data, ascending.
    at_risk, failed : (M,) int64
        Under observation just before, and failed at that time.
    survival : (M,) float64
        Probability to last longer than that time.
    std_error : (M,) float64
        Of `survival`, by Greenwood; NaN where nothing survives.
    lower, upper : (M,) float64
        Pointwise interval, always within 0 and 1; NaN where nothing survives.
    """

    time: Float
    at_risk: Int
    failed: Int
    survival: Float
    std_error: Float
    lower: Float
    upper: Float

    @property
    def median(self) -> float | None:
        """The first time at which at most half survive; None when more than half were left at the end."""
        return _first_at_half(self.time, self.survival)

    @property
    def median_interval(self) -> tuple[float | None, float | None]:
        """Interval of the median, at the level of the curve; None: not reached.

        Source
        ------
        Brookmeyer and Crowley, doi:10.2307/2530286: the times at which the bounds of the curve pass 1/2. Where nothing
        survives the bounds of the curve are unknown: 0 and 1.
        """
        last = self.failed == self.at_risk
        return (
            _first_at_half(self.time, np.where(last, 0.0, self.lower)),
            _first_at_half(self.time, np.where(last, 1.0, self.upper)),
        )


def _first_at_half(time: Float, curve: Float) -> float | None:
    below = np.flatnonzero(curve <= 0.5 + 1e-12)
    return float(time[below[0]]) if len(below) else None


def kaplan_meier(time: ArrayLike, failed: ArrayLike, level: float = 0.95) -> Survival:
    """The curve of n lifetimes, some of them cut off (censored) by the end of the observation.

    Parameters
    ----------
    time : (n,) float64
        Of failure or of the end of the observation; at least 0.
    failed : (n,) bool
        False: had not failed when the observation ended. One that ends when another fails was still at risk then.
    level : float
        Of the two-sided interval.

    Source
    ------
    Curve: Kaplan and Meier, doi:10.1080/01621459.1958.10501452. Greenwood's variance and its interval on
    the scale of log(−log S): Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2nd edition
    (doi:10.1002/9781118032985), section 1.4.
    """
    t, dead = np.asarray(time, np.float64), np.asarray(failed, bool)
    times, deaths = np.unique(t[dead], return_counts=True)
    at_risk = len(t) - np.searchsorted(np.sort(t), times, side="left")
    survival = np.cumprod(1.0 - deaths / at_risk, dtype=np.float64)
    left = deaths < at_risk
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.cumsum(np.where(left, deaths / (at_risk * (at_risk - deaths)), np.nan)))
        widening = NormalDist().inv_cdf((1 + level) / 2) * spread / np.abs(np.log(survival))
    return Survival(
        time=times,
        at_risk=at_risk.astype(np.int64),
        failed=deaths.astype(np.int64),
        survival=survival,
        std_error=survival * spread,
        lower=survival ** np.exp(widening),
        upper=survival ** np.exp(-widening),
    )


def poisson_bounds(events: int, level: float = 0.95) -> tuple[float, float]:
    """Exact lower and upper bound of the expected number of events, when this many were counted.

    Each bound by itself holds at `level`; both together at 2 · `level` − 1. Divided by the time of observation they
    bound a rate of failure that does not change with time.

    Source
    ------
    Garwood, doi:10.1093/biomet/28.3-4.437; in terms of chi-squared: Ulm, doi:10.1093/oxfordjournals.aje.a115507.
    """
    from scipy.special import chdtri  # chi-squared of which this share lies above

    lower = float(chdtri(2 * events, level)) / 2 if events else 0.0
    return lower, float(chdtri(2 * events + 2, 1 - level)) / 2
