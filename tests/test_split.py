"""Sides: by trajectory, never empty where it can be helped, for good."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alfw.core.errors import DataError
from alfw.core.split import side_of_trajectory, split_note, split_sides

shares = st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.45])
trajectory_ids = st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=120)


@settings(max_examples=200)
@given(trajectory_ids, shares, shares, st.integers(0, 9))
def test_laws_of_a_split(trajectories: list[str | None], valid: float, test: float, seed: int) -> None:
    sides = split_sides(trajectories, valid, test, seed)
    assert len(sides) == len(trajectories)
    assert sides == split_sides(trajectories, valid, test, seed)
    wanted = {"train"} | ({"valid"} if valid else set()) | ({"test"} if test else set())
    assert set(sides) <= wanted
    if len(trajectories) >= 3 * len(wanted) or not trajectories:
        assert set(sides) == (wanted if trajectories else set())
    if trajectories:
        assert "train" in sides
    names = {t for t in trajectories if t is not None}
    if len(names) >= len(wanted):
        for name in names:
            assert len({s for s, t in zip(sides, trajectories, strict=True) if t == name}) == 1


def test_shares_of_equal_trajectories_are_exact() -> None:
    trajectories = [str(i // 10) for i in range(200)]
    sides = split_sides(trajectories, 0.1, 0.2, 3)
    assert (sides.count("valid"), sides.count("test")) == (20, 40)


def test_without_ids_neighbours_stay_together() -> None:
    sides = split_sides([None] * 500, 0.1, 0.1, 0)
    blocks = [(side, len(list(run))) for side, run in groupby(sides)]
    assert sides.count("valid") == sides.count("test") == 50
    assert [n for side, n in blocks if side != "train"] == [10] * 10
    # every part of the file is on every side
    assert all("test" in sides[first : first + 100] for first in range(0, 500, 100))


def test_stated_sides_are_kept_for_the_whole_trajectory() -> None:
    trajectories = ["a"] * 10 + ["b"] * 10 + [None] * 10
    given_sides = ["test"] + [None] * 19 + ["train"] * 10
    sides = split_sides(trajectories, 0.0, 0.0, 0, given_sides)
    assert sides == ["test"] * 10 + ["train"] * 20


def test_refusals() -> None:
    with pytest.raises(DataError, match="leave something to train"):
        split_sides([None] * 10, 0.6, 0.5, 0)
    with pytest.raises(DataError, match="no frame to train"):
        split_sides([None] * 2, 0.1, 0.0, 0, ["test", "valid"])


def test_weak_splits_are_remarked_upon() -> None:
    assert "fewer than 50" in str(split_note([None] * 49, 0.1, 0.1))
    assert "too few trajectories (2)" in str(split_note(["a"] * 60 + ["b"] * 60, 0.1, 0.1))
    assert split_note([None] * 50, 0.1, 0.1) is None
    assert split_note(["a", "b", "c"], 0.1, 0.1) is None
    assert split_note([None] * 10, 0.0, 0.0) is None


def test_later_trajectories_have_a_side_for_good() -> None:
    names = [f"c/r001/s0/w{i}" for i in range(2000)]
    sides = [side_of_trajectory(name, 0.1, 7) for name in names]
    assert sides == [side_of_trajectory(name, 0.1, 7) for name in names]
    assert 0.07 < np.mean([side == "valid" for side in sides]) < 0.13
    # a larger share only adds to the valid side
    assert all(
        side_of_trajectory(n, 0.3, 7) == "valid" for n, s in zip(names, sides, strict=True) if s == "valid"
    )
    assert {side_of_trajectory(name, 0.0, 7) for name in names} == {"train"}
