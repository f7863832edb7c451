"""Duplicates: what is one, and that none is missed among many."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from selector_pools import rattled, selector

from alfw.core.exploration import Pool
from alfw.core.frame import Frame
from alfw.selectors import _near
from alfw.selectors._duplicates import Known, fingerprints, profiles
from alfw.selectors._near import owners


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_duplicates_up_to_rotation_order_and_a_small_displacement(seed: int) -> None:
    (frame,) = rattled("CH3CH2OH", 1, 0.1, seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(9)
    steps = rng.uniform(-1, 1, (9, 3))
    steps *= 0.024 / np.linalg.norm(steps, axis=1).max()
    moved = (frame.positions @ Rotation.random(rng=rng).as_matrix() + steps + 3.0)[order]
    twin = Frame(frame.numbers[order], moved)
    far = frame.positions.copy()
    far[3] *= 1.15
    others = [frame, twin, frame.moved(far), Frame(frame.numbers, frame.positions, charge=1)]
    assert Known([frame], 0.05).repeated(others).tolist() == [True, True, False, False]
    assert Known([twin], 0.05).repeated(others).tolist() == [True, True, False, False]
    assert Known([], 0.05).repeated(others).tolist() == [False, True, False, False]
    assert Known([frame], 0.0).repeated(others).tolist() == [False] * 4
    a, b = (fingerprints([f.numbers], profiles([f]))[0] for f in (frame, twin))
    assert np.abs(a - b).max() < 0.05  # what is compared first never turns a duplicate down


def test_one_moved_atom_is_seen_in_a_large_cell() -> None:
    copper = bulk("Cu", cubic=True).repeat(3)
    copper.rattle(0.1, seed=0)
    frame = Frame.from_atoms(copper)
    moved = frame.positions.copy()
    moved[50, 0] += 0.3
    copper.positions = copper.positions + [1.0, 2.0, 3.0]
    copper.wrap()
    independent = bulk("Cu", cubic=True).repeat(3)
    independent.rattle(0.1, seed=1)
    others = [frame.moved(moved), Frame.from_atoms(copper), Frame.from_atoms(independent)]
    assert Known([frame], 0.05).repeated(others).tolist() == [False, True, False]


def test_known_frames_add_up() -> None:
    frames = rattled("H2O", 6, 0.1, 0) + rattled("CH3CH2OH", 6, 0.1, 1)
    known = Known(frames[:2], 0.05)
    assert known.repeated(frames).tolist() == [True] * 2 + [False] * 10
    known.add(frames[4:8])
    assert known.repeated(frames).tolist() == [True, True, False, False] + [True] * 4 + [False] * 4


def planted(n: int, limit: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of which a tenth repeat another as badly as they may; and which repeat which."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, 20)) @ rng.normal(size=(20, 64)) * 0.05).astype(np.float32)
    copies = rng.choice(n, n // 5, replace=False)
    twins, originals = np.split(copies, 2)
    x[twins] = x[originals] + rng.uniform(-0.999 * limit, 0.999 * limit, (len(twins), 64))
    return x, twins, originals


def test_planted_rows_are_found_among_many_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_near, "EXACT_ROWS", 1000)
    x, twins, originals = planted(20_000, 0.05, 0)
    owner = owners(x, 0.05)
    found = np.flatnonzero(owner >= 0)
    assert (np.abs(x[found] - x[owner[found]]) < 0.05).all()
    assert (owner[found] < found).all() and (owner[owner[found]] == -1).all()
    recall = ((owner[twins] >= 0) | (owner[originals] >= 0)).mean()
    assert recall >= 0.999
    assert np.array_equal(owner, owners(x, 0.05))  # nothing is left to chance


def test_joining_and_comparing_all_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x, twins, originals = planted(1200, 0.05, 1)
    x[300] = x[200] = x[100]
    fixed = 500
    by_all = owners(x, 0.05, fixed)
    assert (by_all[:fixed] == -1).all()
    unwanted = {int(max(twins[0], originals[0]))}
    monkeypatch.setattr(_near, "EXACT_ROWS", 10)
    assert np.array_equal(owners(x, 0.05, fixed) >= 0, by_all >= 0)

    def same(i: int, j: int) -> bool:
        return not {i, j} & unwanted

    vetoed = owners(x, 0.05, 0, same)
    expected = owners(x, 0.05)
    differ = np.flatnonzero((vetoed >= 0) != (expected >= 0))
    assert differ.tolist() == sorted(unwanted)


@pytest.mark.parametrize("exact", [10, 10_000])
def test_a_table_of_one_row_repeated(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_near, "EXACT_ROWS", exact)
    x = np.ones((5000, 8), np.float32)
    owner = owners(x, 0.05)
    assert (owner == -1).sum() == 1 and owner.max() == np.flatnonzero(owner == -1)[0]


def test_rows_closer_than_the_limit_allows_to_tell_apart_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = (3 + 0.03 * rng.normal(size=(3000, 96))).astype(
        np.float32
    )  # most columns differ by less than the limit
    x[2700:] = x[:300] + rng.uniform(-0.01, 0.01, (300, 96))
    by_all = owners(x, 0.05)
    assert (by_all[2700:] == np.arange(300)).all()
    monkeypatch.setattr(_near, "EXACT_ROWS", 10)
    assert (owners(x, 0.05)[2700:] == np.arange(300)).mean() > 0.99


def test_large_rankings_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    originals = rattled("CH3CH2OH", 600, 0.1, 0)
    copies = [
        frame.moved(frame.positions @ Rotation.random(rng=rng).as_matrix()) for frame in originals[:300]
    ]
    pool = Pool(originals + copies, np.ones(900), np.ones(900))
    chooser = selector("random", physical={"min_distance_fraction": None})
    monkeypatch.setattr(_near, "EXACT_ROWS", 100)
    assert chooser.select(pool, 900, 0).rejected == {"duplicate": 300}
