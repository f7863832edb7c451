"""Stacked labels: nothing is lost, and what a device gets is what the labels say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled
from alfw.io.shards import pack
from alfw.io.stacked import Stacked, joined, stack


def item(seed: int, plain: bool = False) -> Labeled:
    """A labelled frame with some of what a label may have."""
    rng = np.random.default_rng(seed)
    n, crystal = int(rng.integers(1, 6)), bool(rng.integers(2))
    some = lambda: not plain and bool(rng.integers(2))  # noqa: E731
    frame = Frame(
        rng.integers(1, 9, n),
        3.0 * rng.normal(size=(n, 3)) + 100.0,
        np.eye(3) * 9.0 if crystal else np.zeros((3, 3)),
        np.full(3, crystal),
        charge=int(rng.integers(-1, 2)),
        fixed=rng.integers(0, 2, n).astype(bool) if some() else None,
        moments=rng.normal(size=n) if some() else None,
        masses=rng.uniform(1, 20, n) if some() else None,
    )
    grid = int(rng.integers(1, 5)) if some() else 0
    label = Label(
        energy=float(rng.normal()),
        forces=rng.normal(size=(n, 3)),
        stress=rng.normal(size=(3, 3)) if crystal else None,
        dipole=rng.normal(size=3) if not crystal and rng.integers(2) else None,
        charges=rng.normal(size=n) if rng.integers(2) else None,
        esp=rng.normal(size=grid) if grid else None,
        esp_points=rng.normal(size=(grid, 3)) if grid else None,
    )
    return Labeled(frame, label)


def stacked(seeds: list[int], plain: bool) -> Stacked:
    """These items, each with a text that travels along."""
    items = [item(seed, plain) for seed in seeds]
    return Stacked.read(stack(items, label_id=np.array([str(seed) for seed in seeds])))


def same(a: Labeled, b: Labeled) -> None:
    """Frames and labels are equal to the last bit."""
    assert a.frame.id == b.frame.id
    assert np.array_equal(np.asarray(a.frame.masses), np.asarray(b.frame.masses))
    assert a.label.energy == b.label.energy
    for name in ("forces", "stress", "dipole", "charges", "esp", "esp_points"):
        x, y = getattr(a.label, name), getattr(b.label, name)
        assert (x is None) == (y is None), name
        assert x is None or np.array_equal(x, y), name


SEEDS = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(st.lists(SEEDS, min_size=1, max_size=6), st.booleans(), st.data())
def test_what_is_stacked_comes_back(seeds: list[int], plain: bool, data: st.DataObject) -> None:
    everything = stacked(seeds, plain)
    assert len(everything) == len(seeds)
    for seed, found in zip(seeds, everything, strict=True):
        same(item(seed, plain), found)
    rows = np.array(data.draw(st.lists(st.integers(0, len(seeds) - 1), max_size=5)), np.int64)
    taken = everything.take(rows)
    assert list(taken.arrays["label_id"]) == [str(seeds[row]) for row in rows]
    for row, found in zip(rows, taken, strict=True):
        same(item(seeds[row], plain), found)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(SEEDS, min_size=1, max_size=4), min_size=1, max_size=4), st.booleans())
def test_parts_are_joined_in_order(parts: list[list[int]], plain: bool) -> None:
    everything = joined([stacked(seeds, plain) for seeds in parts])
    seeds = [seed for part in parts for seed in part]
    assert list(everything.arrays["label_id"]) == [str(seed) for seed in seeds]
    for seed, found in zip(seeds, everything, strict=True):
        same(item(seed, plain), found)


@pytest.mark.parametrize("plain", [True, False])
def test_a_device_gets_what_the_labels_say(plain: bool) -> None:
    items = [item(seed, plain) for seed in range(12)]
    padded = Stacked.of(items).padded()
    for row, each in enumerate(items):
        n = len(each.frame)
        assert padded.mask[row].sum() == n and padded.mask[row, :n].all()
        assert np.array_equal(padded.numbers[row, :n], each.frame.numbers)
        assert not padded.numbers[row, n:].any() and not padded.forces[row, n:].any()
        local = each.frame.positions - each.frame.positions.mean(0)
        assert np.abs(padded.positions[row, :n] - local).max() < 1e-6
        assert np.abs(padded.forces[row, :n] - each.label.forces).max() < 1e-6
        assert padded.energy[row] == each.label.energy
        assert np.array_equal(padded.free[row, :n], each.frame.free) and not padded.free[row, n:].any()


def test_equal_sizes_need_no_padding() -> None:
    items = [item(3, True)] * 4
    padded = Stacked.of(items).padded()
    assert padded.mask.all() and padded.forces.shape == (4, len(items[0].frame), 3)


def test_what_is_no_training_set_is_refused() -> None:
    with pytest.raises(DataError, match="without energy and atoms_forces"):
        Stacked.read(pack([item(1).frame]))
    with pytest.raises(DataError, match="not a shard"):
        Stacked.read(b"something else")
    with pytest.raises(DataError, match="no stacked labels"):
        joined([])


def test_what_is_not_finite_is_seen_and_what_is_lacking_is_not_taken_for_it() -> None:
    everything = stacked(list(range(20)), plain=False)
    assert everything.finite
    for name in ("energy", "atoms_forces", "stress", "dipole", "esp"):
        broken = {key: array.copy() for key, array in everything.arrays.items()}
        known = np.flatnonzero(np.isfinite(broken[name].reshape(len(broken[name]), -1)).all(1))[0]
        broken[name].reshape(len(broken[name]), -1)[known, 0] = np.inf if name == "energy" else np.nan
        assert not Stacked(broken).finite, name
