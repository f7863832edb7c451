"""Errors against labels and the bound on them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from ase.build import molecule

from alfw.core.frame import Frame
from alfw.core.metrics import (
    HISTOGRAM_EDGES,
    as_json,
    bootstrap_interval,
    bootstrap_upper,
    distribution,
    frame_force_mse,
    mae,
    rmse,
    shifts,
    summarise,
)
from alfw.core.records import Label, Labeled


def _labelled(name: str, fixed: list[int] = ()) -> Labeled:  # type: ignore[assignment]
    atoms = molecule(name)
    mask = np.isin(np.arange(len(atoms)), fixed)
    frame = Frame(atoms.numbers, atoms.positions, fixed=mask)
    return Labeled(frame, Label(energy=-10.0, forces=np.zeros((len(atoms), 3))))


def test_rmse_and_mae() -> None:
    assert rmse(np.array([3.0, -4.0])) == pytest.approx(math.sqrt(12.5))
    assert mae(np.array([3.0, -4.0])) == 3.5
    assert math.isnan(rmse(np.empty(0)))


def test_summary_by_element_and_atom_without_fixed_atoms() -> None:
    items = [_labelled("H2O", fixed=[1]), _labelled("OH")]
    forces = [np.array([[1.0, 1, 1], [99, 99, 99], [2, 2, 2]]), np.array([[1.0, 1, 1], [2, 2, 2]])]
    summary = summarise(items, np.array([-10.3, -9.8]), forces)
    assert summary.n_frames == 2
    assert summary.force_rmse_by_element_eV_per_A == {"H": 2.0, "O": 1.0}
    assert summary.force_rmse_eV_per_A == pytest.approx(math.sqrt(2.5))
    assert summary.force_mae_eV_per_A == 1.5
    assert summary.energy_mae_eV_per_atom == pytest.approx(0.1)
    assert summary.energy_rmse_eV_per_atom == pytest.approx(0.1)
    assert frame_force_mse(items, forces) == [(2.5, 6), (2.5, 6)]


def test_a_summary_is_json_even_of_nothing() -> None:
    data = summarise([], np.empty(0), []).as_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["force_rmse_eV_per_A"] is None
    everything_fixed = _labelled("OH", fixed=[0, 1])
    assert frame_force_mse([everything_fixed], [np.ones((2, 3))]) == []


def test_the_bound_is_above_the_estimate_and_deterministic() -> None:
    rng = np.random.default_rng(0)
    pairs = np.column_stack([rng.exponential(0.01, 40), np.full(40, 27)])
    estimate = math.sqrt(pairs[:, 0].mean())
    bound = bootstrap_upper(pairs, seed=1)
    assert estimate < bound < math.sqrt(pairs[:, 0].max())
    assert bound == bootstrap_upper(pairs, seed=1)
    assert bound > bootstrap_upper(pairs, level=0.6, seed=1)


def test_equal_errors_leave_no_doubt_but_few_frames_do() -> None:
    assert bootstrap_upper([(0.04, 9)] * 10) == pytest.approx(0.2)
    assert bootstrap_upper([(0.04, 9)] * 4) == math.inf
    assert bootstrap_upper([]) == math.inf
    assert bootstrap_upper([(math.nan, 9)] * 10) == math.inf


def test_large_frames_weigh_more() -> None:
    pairs = [(0.01, 300)] * 10 + [(1.0, 3)] * 10
    assert bootstrap_upper(pairs) < bootstrap_upper([(mse, 1) for mse, _ in pairs])


def test_the_bound_covers() -> None:
    """In repeated experiments the true RMSE lies below the bound about as often as promised."""
    rng = np.random.default_rng(2)
    draws = rng.exponential(1.0, (200, 60))  # true mean square 1
    covered = np.mean([bootstrap_upper(np.column_stack([d, np.ones(60)]), seed=0) > 1.0 for d in draws])
    assert covered > 0.85


def test_distribution_of_sizes_in_fixed_bins() -> None:
    errors = np.r_[np.full(90, 0.02), np.full(9, -0.5), 1e9, 0.0, np.nan]
    found = distribution(errors)
    counts = np.array(found["histogram"])
    assert counts.sum() == 101 and counts[0] == 1 and counts[-1] == 1
    for value, number in ((0.02, 90), (0.5, 9)):
        assert counts[np.searchsorted(HISTOGRAM_EDGES, value) - 1] == number
    assert found["percentiles"]["50"] == 0.02
    assert found["percentiles"].keys() == {"5", "25", "50", "75", "95", "99", "99.9"}
    assert distribution(np.array([np.nan]))["histogram"] is None


def test_shifts_need_two_frames() -> None:
    assert shifts(np.array([1.0, 3.0, 7.0]), ["a", "a", "b"]) == {"a": 2.0}
    assert shifts(np.empty(0), []) == {}


def test_interval_lies_around_the_rmse_and_agrees_with_the_upper_bound() -> None:
    pairs = np.c_[np.random.default_rng(0).chisquare(3, 400), np.full(400, 27)]
    low, high = bootstrap_interval(pairs) or (math.nan, math.nan)
    assert low < math.sqrt(pairs[:, 0].mean()) < high
    assert high == bootstrap_upper(pairs, level=0.975)
    assert bootstrap_interval(pairs[:4]) is None
    assert bootstrap_interval([[math.nan, 3]] * 9) is None


def test_resamples_at_once_or_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = np.c_[np.random.default_rng(0).chisquare(3, 50), np.full(50, 27)]
    whole = bootstrap_upper(pairs)
    monkeypatch.setattr("alfw.core.metrics.AT_ONCE", 700)
    assert bootstrap_upper(pairs) == whole
    monkeypatch.setattr("alfw.core.metrics.MOST_DRAWN", 1)
    assert bootstrap_upper(pairs) == pytest.approx(whole, rel=0.1)


def test_json_of_arrays_and_numbers_that_are_none() -> None:
    value = {"a": np.array([1.0, np.nan]), 3: (np.int64(2), np.inf), "b": {"c": np.bool_(True)}}
    found = as_json(value)
    assert found == {"a": [1.0, None], "3": [2, None], "b": {"c": True}}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
