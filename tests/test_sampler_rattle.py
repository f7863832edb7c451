"""RattleSampler: widths as asked for, nothing too close, in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from numpy_toys import NeverAsked, closest_of, explore
from pydantic import ValidationError

from alfw.core.errors import DataError, SamplingError
from alfw.core.frame import Frame

WATER = Frame.from_atoms(molecule("H2O"))
CRYSTAL = Frame.from_atoms(bulk("Cu", "fcc", a=3.6, cubic=True).repeat(2))
ANY = NeverAsked(1, 8, 29)


def test_measured_widths_are_those_asked_for() -> None:
    pool = explore("rattle", ANY, [CRYSTAL], std_A=[0.02, 0.1], count=60)
    moved = np.array([frame.positions - CRYSTAL.positions for frame in pool.frames])
    # 30 frames x 32 atoms x 3: the width of a normal sample is known to 1 / sqrt(2 n) = 1.3 %
    assert moved[:30].std() == pytest.approx(0.02, rel=0.05)
    assert moved[30:].std() == pytest.approx(0.1, rel=0.05)
    assert abs(moved.mean()) < 0.004
    assert not pool.unbiased and pool.counters["n_frames"] == 60 and pool.counters["n_rejected_close"] == 0
    assert np.isnan(pool.temperature_K).all() and np.isnan(pool.time_fs).all() and not pool.events


def test_starts_are_taken_in_turn_and_are_walkers() -> None:
    pool = explore("rattle", ANY, [WATER, CRYSTAL], std_A=[0.05], count=5)
    assert [len(frame) for frame in pool.frames] == [3, 32, 3, 32, 3]
    assert pool.walker.tolist() == [0, 1, 0, 1, 0] and pool.step.tolist() == [0, 0, 1, 1, 2]
    assert len({frame.id for frame in pool.frames}) == 5 and pool.counters["n_walkers"] == 2
    assert np.array_equal(pool.frames[1].cell, CRYSTAL.cell)


def test_same_seed_same_frames() -> None:
    ids = [[f.id for f in explore("rattle", ANY, [WATER], seed=s, count=9).frames] for s in (1, 1, 2)]
    assert ids[0] == ids[1] and not set(ids[0]) & set(ids[2])


def test_atoms_that_come_too_close_are_drawn_again_and_others_are_not() -> None:
    pool = explore("rattle", ANY, [CRYSTAL], std_A=[0.25], count=10, min_distance_fraction=0.75, tries=1000)
    assert len(pool.frames) > 5 and min(map(closest_of, pool.frames)) >= 0.75
    free = explore("rattle", ANY, [CRYSTAL], std_A=[0.25], count=10, min_distance_fraction=0)
    assert min(map(closest_of, free.frames)) < 0.75
    kept = [
        np.all(a.positions == b.positions, axis=1).mean()
        for a, b in zip(pool.frames, free.frames, strict=False)
    ]
    assert 0.2 < np.mean(kept) < 1


def test_frames_given_up_are_counted() -> None:
    close = WATER.moved(WATER.positions * 0.65)
    pool = explore("rattle", ANY, [WATER, close], std_A=[0.01], count=6, tries=3, min_distance_fraction=0.7)
    assert pool.walker.tolist() == [0, 0, 0] and pool.counters["n_rejected_close"] == 3
    with pytest.raises(
        SamplingError, match="closer than min_distance_fraction 0.7 in all 6 frames"
    ) as caught:
        explore("rattle", ANY, [close], std_A=[0.01], count=6, tries=3, min_distance_fraction=0.7)
    assert "\n" not in str(caught.value)


def test_fixed_atoms_stay() -> None:
    fixed = np.arange(len(CRYSTAL)) < 10
    start = Frame(CRYSTAL.numbers, CRYSTAL.positions, CRYSTAL.cell, CRYSTAL.pbc, fixed=fixed)
    for frame in explore("rattle", ANY, [start], count=3).frames:
        assert np.array_equal(frame.positions[fixed], start.positions[fixed])
        assert (frame.positions[~fixed] != start.positions[~fixed]).any(1).all()


@pytest.mark.parametrize(
    "options",
    [
        {"std_A": []},
        {"std_A": [0.0]},
        {"std_A": [0.1, 0.2], "count": 1},
        {"count": 0},
        {"min_distance_fraction": 1.0},
        {"std": 1},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        explore("rattle", ANY, [WATER], **{"count": 5} | options)


def test_what_cannot_be_run_is_refused_in_one_line() -> None:
    slab = Frame.from_atoms(fcc111("Cu", (1, 1, 2), vacuum=6.0))
    for error, words, potential, starts in (
        (SamplingError, "no frame to start from", ANY, []),
        (SamplingError, r"does not know the elements Z = \[29\]", NeverAsked(1, 8), [WATER, CRYSTAL]),
        (DataError, "some directions only", ANY, [slab]),
    ):
        with pytest.raises(error, match=words) as caught:
            explore("rattle", potential, starts, count=4)
        assert "\n" not in str(caught.value)
