"""Padding of frames: enough room, little waste, few sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
from alfw.core.records import Label, Labeled
from alfw.io.stacked import Stacked
from alfw.models._nequix_data import dataset
from alfw.models.graphs import Shape, atom_bucket, bucket, species_index, stack


@given(count=st.integers(0, 10**6), step=st.sampled_from([4, 8]))
def test_buckets_hold_and_waste_little(count, step):
    size = bucket(count, step)
    assert size >= max(count, step) and size % step == 0
    assert size - count <= max(step, count / 16)
    assert bucket(size, step) == size and bucket(count + 1, step) >= size
    assert atom_bucket(max(count, 1)) >= max(count, 1)


def test_sizes_are_few():
    assert len({bucket(count) for count in range(1, 100_000)}) < 200


def test_padding_never_touches_a_real_atom_within_the_cutoff():
    frames = [Frame([8, 1, 1], [[0, 0, 0], [1, 0, 0], [0, 1, 0]]), Frame([1], [[0, 0, 0]])]
    edges = [neighbours(frame, 4.0) for frame in frames]
    kinds = species_index(frames, (1, 8))
    graphs = stack(frames, edges, kinds, Shape(3, 4, 8), 4.0)
    length = np.linalg.norm(graphs.vectors, axis=-1)
    assert ((length <= 4.0).sum(1) == [6, 0, 0]).all() and length[length > 4.0].min() == 8.0
    assert graphs.mask.tolist() == [[True] * 3 + [False], [True] + [False] * 3, [False] * 4]
    assert graphs.species[0].tolist() == [1, 0, 0, 0]
    assert {x.dtype for x in graphs} == {np.dtype(d) for d in (np.float32, np.int32, bool)}


def molecules(count: int, seed: int, cell: float = 0.0) -> list[Labeled]:
    """Labelled heaps of one to eight atoms of H, C, O, some of them fixed."""
    rng, items = np.random.default_rng(seed), []
    for _ in range(count):
        n = int(rng.integers(1, 9))
        fixed = rng.integers(0, 2, n).astype(bool)
        frame = Frame(
            rng.choice([1, 6, 8], n),
            2 * rng.normal(size=(n, 3)),
            cell * np.eye(3),
            np.full(3, cell > 0),
            fixed=fixed,
        )
        items.append(Labeled(frame, Label(float(rng.normal()) - 1e3 * n, rng.normal(size=(n, 3)))))
    return items


@pytest.mark.parametrize("cell", [0.0, 9.0])
def test_stacked_frames_give_the_arrays_that_they_give_one_by_one(cell: float) -> None:
    train, valid, reference = (
        molecules(30, 0, cell),
        molecules(5, 1, cell),
        {1: -13.1, 6: -1029.2, 8: -2041.7},
    )
    one = dataset(train, valid, (1, 6, 8), reference, 3.0)
    both = dataset(Stacked.of(train), Stacked.of(valid), (1, 6, 8), reference, 3.0)
    assert (both.n_train, both.n_valid) == (30, 5)
    for x, y in zip(one.batch.targets, both.batch.targets, strict=True):
        assert x.dtype == y.dtype and np.array_equal(x, y)
    for name in ("species", "mask", "receivers"):
        assert np.array_equal(getattr(one.batch.graphs, name), getattr(both.batch.graphs, name))
    for b in range(35):  # edges: the same ones, of each atom in any order
        rows = [
            np.c_[g.receivers[b], g.senders[b], g.vectors[b]] for g in (one.batch.graphs, both.batch.graphs)
        ]
        first, second = (row[np.lexsort(row.T[::-1])] for row in rows)
        assert np.array_equal(first, second)


def test_stacked_frames_with_an_unknown_element_are_named() -> None:
    items = molecules(6, 2)
    strange = Labeled(Frame([9, 1], [[0, 0, 0], [0, 0, 1.0]]), Label(0.0, np.zeros((2, 3))))
    with pytest.raises(TrainingError, match=f"frame {strange.frame.id[:12]}: the model does not know F"):
        dataset(Stacked.of([*items, strange]), [], (1, 6, 8), {1: 0.0, 6: 0.0, 8: 0.0}, 3.0)
