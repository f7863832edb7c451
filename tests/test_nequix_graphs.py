"""Padding of frames: enough room, little waste, few sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
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
