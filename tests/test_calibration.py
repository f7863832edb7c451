"""How well a spread knows the errors: what is known exactly, and what a spread that is right must show."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from alfw.core.calibration import (
    Coverage,
    binned,
    calibration_error,
    clopper_pearson,
    conformal_factor,
    coverage_of,
    first_half,
    fraction_inside,
    frames_needed,
    reliability,
    scale,
    spearman,
    standardised,
)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """σ of two decades, and errors drawn from normal distributions of these widths."""
    rng = np.random.default_rng(0)
    sigma = 10 ** rng.uniform(-2, 0, 20000)
    return sigma, sigma * rng.standard_normal(len(sigma))


def test_a_spread_that_is_right_is_found_right(drawn):
    sigma, errors = drawn
    z = standardised(errors, sigma)
    assert scale(z) == pytest.approx(1, abs=0.02)
    assert reliability(z).miscalibration_area < 0.01
    assert calibration_error(binned(sigma, errors)) < 0.05
    inside = fraction_inside(z)
    assert inside["1"]["observed"] == pytest.approx(0.683, abs=0.01)
    assert inside["2"]["normal"] == pytest.approx(0.9545, abs=1e-4)
    assert json.loads(json.dumps(reliability(z).as_dict()))["expected"][0] == 0.05


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_spread_of_the_wrong_size_is_found_out_and_put_right(drawn, factor):
    sigma, errors = drawn
    z = standardised(errors, factor * sigma)
    assert scale(z) == pytest.approx(1 / factor, rel=0.02)
    assert reliability(z).miscalibration_area > 0.15
    assert reliability(z / scale(z)).miscalibration_area < 0.01
    assert calibration_error(binned(factor * sigma, errors)) > 0.5
    assert spearman(factor * sigma, np.abs(errors)) == pytest.approx(spearman(sigma, np.abs(errors)))


def test_the_worst_reliability_has_half_of_the_area():
    assert reliability(np.full(100, np.inf)).miscalibration_area == pytest.approx(0.475, abs=1e-6)
    assert reliability(np.zeros(100)).miscalibration_area == pytest.approx(0.475, abs=1e-6)


def test_a_spread_of_zero_is_right_only_where_there_is_no_error():
    z = standardised(np.array([0.0, 1e-3, -1e-3]), np.zeros(3))
    assert z.tolist() == [0.0, math.inf, -math.inf]
    assert scale(z) == math.inf
    assert fraction_inside(z)["3"]["observed"] == pytest.approx(1 / 3)


def test_rank_correlation_is_that_of_scipy_and_says_nothing_where_there_is_nothing():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 9, 50).astype(float)
    b = a + rng.normal(size=50)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(np.r_[a, np.nan], np.r_[b, 1.0]) == pytest.approx(spearman(a, b))
    assert math.isnan(spearman(np.ones(5), np.arange(5.0)))
    assert math.isnan(spearman(np.arange(2.0), np.arange(2.0)))


def test_bins_hold_equally_many_by_sigma_and_leave_out_what_is_not_finite():
    sigma = np.r_[np.arange(1.0, 101), np.nan]
    bins = binned(sigma, np.r_[np.full(100, 2.0), 7.0])
    assert [b.n for b in bins] == [10] * 10
    assert bins[0].sigma_rms == pytest.approx(np.sqrt(np.mean(np.arange(1, 11) ** 2)))
    assert all(b.error_rms == 2.0 for b in bins)
    assert len(binned(np.ones(3), np.ones(3))) == 3
    assert binned(np.empty(0), np.empty(0)) == []
    assert math.isnan(calibration_error([]))


def test_conformal_factors_cover_what_they_promise():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(400):
        scores = rng.lognormal(size=60)
        factor = conformal_factor(scores[:30], 0.9)
        found.append(coverage_of(scores[30:], factor).fraction)
    # exactly ⌈31 · 0.9⌉ / 31 on average
    assert np.mean(found) == pytest.approx(28 / 31, abs=0.01)


def test_conformal_factor_is_the_right_rank_and_infinite_of_too_few():
    scores = np.arange(1.0, 20.0)
    assert conformal_factor(scores, 0.9) == 18.0  # ⌈20 · 0.9⌉
    assert conformal_factor(scores[:8], 0.9) == math.inf
    assert conformal_factor(scores[:9], 0.9) == 9.0
    assert conformal_factor(np.r_[scores[:8], np.nan], 0.9) == math.inf
    assert conformal_factor(np.empty(0), 0.9) == math.inf


def test_coverage_counts_only_what_is_finite():
    coverage = coverage_of(np.array([0.5, 1.0, 2.0, np.nan]), 1.0)
    assert (coverage.n, coverage.n_inside, coverage.fraction) == (4, 2, 0.5)
    assert coverage.as_dict()["interval_95"] == pytest.approx(clopper_pearson(2, 4))
    assert coverage.as_dict()["interval_99"] == pytest.approx(clopper_pearson(2, 4, 0.99))


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_as_many_frames_are_needed_as_make_the_factor_finite(coverage):
    needed = frames_needed(coverage)
    assert math.isfinite(conformal_factor(np.ones(needed), coverage))
    assert math.isinf(conformal_factor(np.ones(needed - 1), coverage))


def test_coverage_is_off_where_its_interval_leaves_the_promise():
    assert Coverage(20, 18).off(0.9) == 0
    assert Coverage(20, 12).off(0.9) == -1
    assert Coverage(20, 20).off(0.9) == 0, "too few to say that it is too much"
    assert Coverage(200, 200).off(0.9) == 1
    assert Coverage(0, 0).off(0.9) == 0
    assert Coverage(20, 12) + Coverage(5, 5) == Coverage(25, 17)


def test_clopper_pearson_known_values():
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1.0))
    assert clopper_pearson(8, 10) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_halves_are_fixed_by_the_frames_alone():
    ids = [f"{i:064x}" for i in range(1000)]
    half = first_half(ids)
    assert 450 < half.sum() < 550
    assert (first_half(ids[::-1]) == half[::-1]).all()
