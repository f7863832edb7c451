"""The learning curve: it finds planted laws, and its intervals hold as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alfw.core.learning_curve import learning_curve

NUMBERS = 20 + 60 * np.arange(8)
N_LAWS = 400  # laws drawn for each coverage; its own standard error is then 1.5 %


def law(labels: np.ndarray, b: float, share: float, end: float = 0.04) -> np.ndarray:
    """A curve that is `end` at the last number, `share` of it for ever."""
    return end * ((1 - share) * (labels / labels[-1]) ** -b + share)


@settings(max_examples=40, deadline=None)
@given(b=st.floats(0.2, 1.5), share=st.floats(0.0, 0.7), more=st.integers(10, 200))
def test_planted_laws_are_found(b: float, share: float, more: int) -> None:
    curve = learning_curve(NUMBERS, law(NUMBERS, b, share))
    assert curve is not None
    fitted = curve.a * NUMBERS**-curve.b + curve.c
    assert fitted == pytest.approx(law(NUMBERS, b, share), rel=0.02)
    assert curve.c >= 0
    beyond = np.append(NUMBERS, NUMBERS[-1] + more)
    after = 0.04 * ((1 - share) * (beyond[-1] / NUMBERS[-1]) ** -b + share)
    gain = curve.gain(more)
    # a pure power law lies on the edge of what is thought possible
    assert 0.98 * gain.low <= 100 * (1 - after / 0.04) <= 1.02 * gain.high
    assert gain.low <= gain.percent <= gain.high
    low, middle, high = curve.interval_b()
    assert low <= middle <= high and low - 0.03 <= b <= high + 0.03
    low, middle, high = curve.interval_c()
    assert low <= middle <= high and low - 0.002 <= 0.04 * share <= high + 0.002


@pytest.mark.parametrize(("rounds", "noise"), [(3, 0.05), (5, 0.05), (8, 0.05), (5, 0.02), (8, 0.1)])
def test_intervals_hold_as_often_as_they_say(rounds: int, noise: float) -> None:
    """90 % intervals over random laws: never much below; above where the noise is less than what is assumed."""
    rng = np.random.default_rng(rounds)
    numbers = NUMBERS[:rounds]
    held = []
    for _ in range(N_LAWS):
        b, share = rng.uniform(0.1, 1.5), rng.uniform(0.0, 0.8)
        measured = law(numbers, b, share) * np.exp(noise * rng.standard_normal(rounds))
        curve = learning_curve(numbers, measured)
        assert curve is not None
        gain = curve.gain(60)
        truth = 100 * (1 - share) * (1 - ((numbers[-1] + 60) / numbers[-1]) ** -b)
        held.append(gain.low - 1e-9 <= truth <= gain.high + 1e-9)
    assert 0.85 < np.mean(held) <= 1.0


def test_more_rounds_know_more() -> None:
    widths = []
    for rounds in (3, 5, 8):
        curve = learning_curve(NUMBERS[:rounds], law(NUMBERS[:rounds], 0.7, 0.2))
        assert curve is not None
        gain = curve.gain(60)
        widths.append(gain.high - gain.low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_a_curve_that_is_flat_gains_nothing_and_one_that_falls_does() -> None:
    rng = np.random.default_rng(0)
    flat = learning_curve(NUMBERS, 0.05 * np.exp(0.01 * rng.standard_normal(8)))
    steep = learning_curve(NUMBERS, law(NUMBERS, 1.0, 0.0))
    assert flat is not None and steep is not None
    assert flat.gain(60).high < 2.0
    assert steep.gain(60).low > 8.0  # 12 % is true
    assert "the next 60 labels are predicted to gain" in str(steep.gain(60))


def test_errors_that_rise_promise_nothing() -> None:
    curve = learning_curve(NUMBERS[:4], [0.03, 0.04, 0.05, 0.06])
    assert curve is not None
    assert curve.gain(50).low < 1.0


def test_too_few_rounds_are_no_curve() -> None:
    assert learning_curve([], []) is None
    assert learning_curve([20, 80], [0.1, 0.05]) is None
    assert learning_curve([20, 80, 80, 80], [0.1, 0.05, 0.05, 0.05]) is None
    assert learning_curve([20, 80, 140], [0.1, None, 0.05]) is None
    assert learning_curve([20, 80, 140], [0.1, math.inf, 0.05]) is None
    assert learning_curve([20, 80, 140], [0.1, 0.07, 0.05]) is not None


def test_a_point_that_few_test_frames_measured_weighs_less() -> None:
    error = [*law(NUMBERS[:5], 0.5, 0.0)]
    error[2] *= 1.5
    trusting = learning_curve(NUMBERS[:5], error, [0.0005] * 5)
    doubting = learning_curve(NUMBERS[:5], error, [0.0005, 0.0005, 0.05, 0.0005, 0.0005])
    assert trusting is not None and doubting is not None
    truth = 100 * (1 - ((NUMBERS[4] + 60) / NUMBERS[4]) ** -0.5)
    assert abs(doubting.gain(60).percent - truth) < abs(trusting.gain(60).percent - truth)
    assert doubting.noise < trusting.noise


def test_the_band_holds_the_curve() -> None:
    curve = learning_curve(NUMBERS, law(NUMBERS, 0.6, 0.3))
    assert curve is not None
    low, middle, high = curve.band([*NUMBERS, 800])
    assert (low < middle).all() and (middle < high).all()
    assert middle[:8] == pytest.approx(law(NUMBERS, 0.6, 0.3), rel=0.05)
    assert (high / low)[-1] > (high / low)[4], "less is known beyond the last round"
