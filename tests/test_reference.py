"""Atomic reference energies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.reference import (
    composition_rank,
    compositions,
    fit_reference_energies,
    reference_sums,
    species_of,
)


def frame(*numbers: int) -> Frame:
    return Frame(np.array(numbers), 2.0 * np.arange(3 * len(numbers)).reshape(-1, 3))


FULL = [frame(1), frame(6), frame(8), frame(1, 1), frame(1, 1, 6, 8)]
energies = st.floats(-1e5, 1e5, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(
    e0=st.tuples(energies, energies, energies),
    extra=st.lists(st.lists(st.sampled_from([1, 6, 8]), min_size=1, max_size=12), max_size=5),
)
def test_e0_is_recovered_when_the_compositions_determine_it(e0, extra):
    frames = [*FULL, *(frame(*numbers) for numbers in extra)]
    truth = dict(zip((1, 6, 8), e0, strict=True))
    fitted = fit_reference_energies(frames, reference_sums(frames, truth))
    assert composition_rank(frames) == 3
    assert fitted == pytest.approx(truth, abs=1e-6, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(energy=energies, n=st.integers(1, 5), spread=st.floats(0, 1))
def test_one_composition_gets_the_mean_per_atom(energy, n, spread):
    frames = [frame(1, 1, 8)] * n
    noisy = energy + spread * np.cos(np.arange(n))
    fitted = fit_reference_energies(frames, noisy)
    assert composition_rank(frames) == 1
    assert fitted == pytest.approx({1: noisy.mean() / 3, 8: noisy.mean() / 3}, abs=1e-6, rel=1e-9)


def test_what_is_not_determined_stays_at_the_prior():
    prior = {1: -13.0, 8: -2000.0}
    fitted = fit_reference_energies([frame(1, 1, 8)] * 2, [-2030.0, -2030.0], prior)
    assert 2 * fitted[1] + fitted[8] == pytest.approx(-2030.0)
    # The smallest change of the prior that does it is along the composition.
    assert (fitted[1] - prior[1]) / (fitted[8] - prior[8]) == pytest.approx(2.0)


def test_determined_combinations_are_exact_although_single_energies_are_not():
    frames = [frame(1, 1, 8), frame(1, 1, 8, 1, 1, 8), frame(6, 6)]
    values = [-2030.0, -4060.0, -76.0]
    fitted = fit_reference_energies(frames, values)
    assert composition_rank(frames) == 2
    assert reference_sums(frames, fitted) == pytest.approx(values)


def test_counts_species_and_rank():
    frames = [frame(8, 1, 1), frame(6)]
    assert species_of(frames) == (1, 6, 8)
    assert compositions(frames, (1, 8)).tolist() == [[2, 1], [0, 0]]
    assert composition_rank([]) == 0
    assert composition_rank([frame(1, 8)]) == composition_rank([frame(1, 8, 1, 8), frame(8, 1)]) == 1


def test_errors_name_what_is_missing():
    with pytest.raises(TrainingError, match="does not know O: "):
        reference_sums([frame(1, 8)], {1: -13.0})
    with pytest.raises(TrainingError, match="no labelled frames"):
        fit_reference_energies([], [])
