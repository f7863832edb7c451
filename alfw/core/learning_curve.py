"""How the error falls with the number of labels, and what the next labels can be expected to gain.

The law is err(N) = a · N^−b + c. Measured errors scatter about it by a constant factor (training and test noise are
relative), so everything is done with log err. In terms of the error E at the last N and the share r of it that no label
takes away the law reads

    log err(N) = log E + log[(1 − r) (N / N_last)^−b + r],    0 < b ≤ 2,  0 ≤ r < 1,

and the relative gain of the next labels depends on b and r alone. Both are integrated over a grid with equal prior
weight, E and the noise in closed form (a normal likelihood, a flat prior on log E, an inverse chi-squared one on the
variance): with three or five points no fit is unique, and an interval about the best one would be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from alfw.core.frame import Float

MIN_POINTS = 3  # different numbers of labels
LEVEL = 0.9  # central; the upper end is a one-sided 95 % bound
# What is known of the noise before any residual is: seeds of set and training change a force RMSE by 1 to 5 %.
PRIOR_NOISE, PRIOR_POINTS = 0.05, 1.0
LARGEST_EXPONENT = 2.0
DRAWS = 2000  # of the band of a plot


@dataclass(frozen=True)
class Gain:
    """By how much the next labels are predicted to lower the error.

    Attributes
    ----------
    labels : int
    percent, low, high : float
        Median, and the central interval at `level`, of 100 · (1 − err(N + labels) / err(N)).
    """

    labels: int
    percent: float
    low: float
    high: float
    level: float = LEVEL

    def __str__(self) -> str:
        return (
            f"the next {self.labels} labels are predicted to gain {self.percent:.1f} % "
            f"({self.low:.1f} to {self.high:.1f} %, {100 * self.level:.0f} % interval)"
        )


@lru_cache(maxsize=1)
def _grid() -> tuple[Float, Float]:
    """(G,), (G,) float64: exponents b and shares r, in the middle of equal cells."""
    b = LARGEST_EXPONENT * (np.arange(80) + 0.5) / 80
    r = (np.arange(60) + 0.5) / 60
    r[0] = 0.0  # the pure power law
    return np.repeat(b, len(r)), np.tile(r, len(b))


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """What n points say of the law; see the module.

    Attributes
    ----------
    labels, error : (n,) float64
        In the order of the rounds; `error` in any unit.
    weight : (n,) float64
        1 for a point without test noise of its own, less with it.
    """

    labels: Float
    error: Float
    weight: Float

    @cached_property
    def _centre(self) -> Float:
        """(G,): log E of the best curve with each b and r."""
        return np.asarray(self._offsets @ self.weight / self.weight.sum())

    @cached_property
    def _offsets(self) -> Float:
        """(G, n): what log E would be by each point alone."""
        return np.asarray(np.log(self.error) - self._shape(self.labels))

    def _shape(self, labels: Float) -> Float:
        """(G, len(labels)): log[(1 − r) (N / N_last)^−b + r]."""
        b, r = _grid()
        falling = (labels / self.labels[-1]) ** -b[:, None]
        return np.asarray(np.log((1 - r)[:, None] * falling + r[:, None]))

    @cached_property
    def _squares(self) -> Float:
        """(G,): weighted sum of squared residuals, the prior's included."""
        left = self._offsets - self._centre[:, None]
        return np.asarray(PRIOR_POINTS * PRIOR_NOISE**2 + (self.weight * left**2).sum(1))

    @cached_property
    def _dof(self) -> float:
        return PRIOR_POINTS + len(self.labels) - 1

    @cached_property
    def _probability(self) -> Float:
        """(G,): weight of each b and r, 1 in all."""
        logarithm = -self._dof / 2 * np.log(self._squares)
        found = np.exp(logarithm - logarithm.max())
        return np.asarray(found / found.sum())

    @cached_property
    def _best(self) -> int:
        return int(self._squares.argmin())

    @property
    def b(self) -> float:
        """Exponent of the curve with the smallest squares."""
        return float(_grid()[0][self._best])

    @property
    def a(self) -> float:
        """Prefactor of that curve."""
        share, end = _grid()[1][self._best], math.exp(self._centre[self._best])
        return float((1 - share) * end * self.labels[-1] ** self.b)

    @property
    def c(self) -> float:
        """What that curve says no number of labels takes away."""
        return float(_grid()[1][self._best] * math.exp(self._centre[self._best]))

    @property
    def noise(self) -> float:
        """Relative scatter about that curve; with few points mostly what is assumed."""
        return float(math.sqrt(self._squares[self._best] / self._dof))

    def gain(self, labels: int, level: float = LEVEL) -> Gain:
        """What this many further labels are predicted to gain."""
        b, r = _grid()
        factor = (self.labels[-1] + labels) / self.labels[-1]
        low, middle, high = _quantiles((1 - r) * (1 - factor**-b), self._probability, level)
        return Gain(labels, 100 * middle, 100 * low, 100 * high, level)

    def interval_b(self, level: float = LEVEL) -> tuple[float, float, float]:
        """Lower end, median and upper end of the exponent."""
        return _quantiles(_grid()[0], self._probability, level)

    def interval_c(self, level: float = LEVEL) -> tuple[float, float, float]:
        """The same of what no number of labels takes away."""
        return _quantiles(_grid()[1] * np.exp(self._centre), self._probability, level)

    def band(self, labels: Sequence[float] | Float, level: float = LEVEL) -> Float:
        """(3, len(labels)): lower end, median and upper end of the law itself at these numbers of labels."""
        rng = np.random.default_rng(0)  # the same picture each time
        rows = rng.choice(len(self._probability), DRAWS, p=self._probability)
        spread = np.sqrt(self._squares[rows] / self._dof / self.weight.sum())
        offset = self._centre[rows] + spread * rng.standard_t(self._dof, DRAWS)
        curves = offset[:, None] + self._shape(np.asarray(labels, float))[rows]
        ends = [(1 - level) / 2, 0.5, (1 + level) / 2]
        return np.asarray(np.exp(np.quantile(curves, ends, axis=0)))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> LearningCurve:
        """The curve again, from `as_dict`."""
        return cls(*(np.array(stored[key], float) for key in ("n_labels", "error", "weight")))

    def as_dict(self) -> dict[str, Any]:
        """JSON data: the points, a, b, c of the best curve, and [lower end, median, upper end] of b and c."""
        return {
            "n_labels": self.labels.astype(int).tolist(),
            "error": self.error.tolist(),
            "weight": self.weight.tolist(),
            "a": self.a,
            "b": self.b,
            "c": self.c,
            "interval_b": list(self.interval_b()),
            "interval_c": list(self.interval_c()),
            "relative_noise": self.noise,
        }


def _quantiles(values: Float, probability: Float, level: float) -> tuple[float, float, float]:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(probability[order])
    places = np.searchsorted(total, [(1 - level) / 2, 0.5, (1 + level) / 2])
    low, middle, high = values[order][np.minimum(places, len(values) - 1)]
    return float(low), float(middle), float(high)


def learning_curve(
    labels: Sequence[int], error: Sequence[float | None], std_error: Sequence[float | None] | None = None
) -> LearningCurve | None:
    """What these points say; None of fewer than `MIN_POINTS` different numbers of labels.

    Parameters
    ----------
    labels : sequence of n int
        Labels that each round was trained on.
    error : sequence of n float or None
        On one and the same test set; what is not finite or not above zero is left out.
    std_error : sequence of n float or None, optional
        Standard error of each, in the same unit, from a bootstrap over test frames; the larger, the less a point
        weighs.

    Source
    ------
    The law: Cortes et al., Advances in Neural Information Processing Systems 6 (1993) 327; of interatomic potentials
    Batzner et al., doi:10.1038/s41467-022-29939-5. Marginal likelihood: Gelman et al., Bayesian Data Analysis, 3rd
    edition, section 14.2.
    """
    size = np.array([math.nan if e is None else e for e in error], float)
    number = np.asarray(labels, float)
    known = np.isfinite(size) & (size > 0) & (number > 0)
    if len(np.unique(number[known])) < MIN_POINTS:
        return None
    given = std_error if std_error is not None else [None] * len(size)
    own = np.array([0.0 if s is None or not math.isfinite(s) else s for s in given], float)
    weight = 1 / (1 + (own[known] / size[known] / PRIOR_NOISE) ** 2)
    return LearningCurve(number[known], size[known], weight)
