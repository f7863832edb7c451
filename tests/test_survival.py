"""Survival curves and Poisson bounds against worked examples of textbooks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import pdtr, pdtrc

from alfw.core.survival import kaplan_meier, poisson_bounds

# Remission (weeks) of leukaemia under 6-MP: Freireich et al. 1963, the example of Cox and Oakes, Kalbfleisch and
# Prentice, and Kleinbaum and Klein (whose Stata output has the log-log intervals).
WEEKS = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSE = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]


def test_the_curve_of_the_leukaemia_data_is_the_published_one() -> None:
    curve = kaplan_meier(WEEKS, RELAPSE)
    assert curve.time.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert curve.failed.tolist() == [3, 1, 1, 1, 1, 1, 1]
    published = {
        "survival": [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482],
        "std_error": [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346],
        "lower": [0.6197, 0.5631, 0.5032, 0.4316, 0.3675, 0.2678, 0.1881],
        "upper": [0.9516, 0.9228, 0.8894, 0.8491, 0.8049, 0.7468, 0.6801],
    }
    for name, values in published.items():
        assert getattr(curve, name) == pytest.approx(values, abs=6e-5), name
    assert curve.median == 23
    assert curve.median_interval == (13, None)  # the upper bound never gets down to 1/2


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_without_censoring_it_is_the_share_that_lasts_longer(times: list[int]) -> None:
    curve = kaplan_meier(times, np.ones(len(times), bool))
    expected = [np.mean(np.array(times) > t) for t in curve.time]
    assert curve.survival == pytest.approx(expected, abs=1e-12)
    assert curve.failed.sum() == len(times)
    assert curve.median == sorted(times)[(len(times) + 1) // 2 - 1]
    # Greenwood is the binomial variance then
    binomial = np.sqrt(np.array(expected) * (1 - np.array(expected)) / len(times))
    assert curve.std_error[:-1] == pytest.approx(binomial[:-1])
    assert np.isnan([curve.std_error[-1], curve.lower[-1], curve.upper[-1]]).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30))
def test_the_curve_falls_inside_its_interval_and_knows_no_order(rows: list[tuple[int, bool]]) -> None:
    curve = kaplan_meier(*zip(*rows, strict=True))
    again = kaplan_meier(*zip(*sorted(rows, reverse=True), strict=True))
    np.testing.assert_array_equal(curve.survival, again.survival)
    assert (np.diff([1.0, *curve.survival]) < 0).all()
    known = np.isfinite(curve.lower)
    assert (curve.lower[known] >= 0).all() and (curve.upper[known] <= 1).all()
    assert (curve.lower[known] < curve.survival[known]).all()
    assert (curve.survival[known] < curve.upper[known]).all()


def test_what_never_failed_has_no_median() -> None:
    curve = kaplan_meier([5.0, 5.0], [False, False])
    assert len(curve.time) == 0 and curve.median is None and curve.median_interval == (None, None)


def test_an_end_of_observation_at_a_failure_was_still_at_risk() -> None:
    assert kaplan_meier([1, 1], [True, False]).survival.tolist() == [0.5]
    assert kaplan_meier([1, 0.9], [True, False]).survival.tolist() == [0.0]


def test_bounds_are_those_of_garwoods_table() -> None:
    # two-sided 95 %: each side at 97.5 %
    for count, table in {0: (0, 3.689), 1: (0.0253, 5.572), 5: (1.623, 11.668), 10: (4.795, 18.390)}.items():
        assert poisson_bounds(count, 0.975) == pytest.approx(table, abs=6e-4)
    assert poisson_bounds(0)[1] == pytest.approx(-np.log(0.05))  # the rule of three


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from([0.9, 0.95, 0.99]))
def test_bounds_are_where_the_count_becomes_improbable(count: int, level: float) -> None:
    lower, upper = poisson_bounds(count, level)
    assert pdtr(count, upper) == pytest.approx(1 - level)  # as few or fewer
    assert pdtrc(count - 1, lower) == pytest.approx(1 - level)  # as many or more
