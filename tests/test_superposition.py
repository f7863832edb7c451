"""RMSD after optimal rotation and permutation: against brute force, and what must hold of any such distance."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alfw.core.frame import Frame
from alfw.core.superposition import Shape, rmsd, rotation
from alfw.steps.frame_choice import diverse, unique

# CHFClBr, one of two hands.
CHIRAL = Frame(
    [6, 1, 9, 17, 35],
    [[0, 0, 0], [0.63, 0.63, 0.63], [-0.8, -0.8, 0.8], [-1.0, 1.0, -1.0], [1.15, -1.15, -1.15]],
)
seeds = st.integers(0, 2**32 - 1)
compositions = st.sampled_from(
    [
        [8, 1, 1],
        [6, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [6, 6, 8, 1, 1, 1],
        [6, 6, 8, 1, 1, 1, 1, 1, 1],
        [29] * 7,
        [18],
    ]
)


def scattered(numbers: list[int], rng: np.random.Generator) -> Frame:
    return Frame(numbers, rng.normal(size=(len(numbers), 3)) * 1.5)


def moved(frame: Frame, rng: np.random.Generator, shuffled: bool = True) -> Frame:
    """The same, somewhere else, turned, its atoms in another order."""
    positions = Rotation.random(rng=rng).apply(frame.positions.copy()) + rng.normal(size=3) * 5
    order = rng.permutation(len(frame)) if shuffled else np.arange(len(frame))
    return Frame(frame.numbers[order], positions[order])


def by_hand(a: Frame, b: Frame) -> float:
    """RMSD in the order given, with scipy's superposition."""
    x, y = a.positions - a.positions.mean(0), b.positions - b.positions.mean(0)
    if len(a) == 1:
        return 0.0
    found, _ = Rotation.align_vectors(x, y) if len(a) > 2 else (Rotation.from_matrix(rotation(y, x)), None)
    return float(np.sqrt(((x - found.apply(y)) ** 2).sum(1).mean()))


@settings(deadline=None, max_examples=60)
@given(compositions, seeds)
def test_a_copy_that_is_turned_and_shuffled_is_the_same(numbers: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = scattered(numbers, rng)
    copy = moved(frame, rng)
    assert rmsd(frame, copy) < 1e-5
    assert Shape(frame).within(Shape(copy), 1e-4)


@settings(deadline=None, max_examples=40)
@given(compositions, seeds, st.floats(0.01, 3.0))
def test_what_holds_of_any_two(numbers: list[int], seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    a = scattered(numbers, rng)
    b = moved(a.moved(a.positions + rng.normal(size=(len(a), 3)) * noise), rng, shuffled=False)
    value = rmsd(a, b)
    assert value == rmsd(b, a) == rmsd(a, b)
    assert value <= rmsd(a, b, permute=False) + 1e-9
    assert rmsd(a, b, permute=False) == pytest.approx(by_hand(a, b), abs=1e-6)
    assert np.linalg.norm(Shape(a).fingerprint - Shape(b).fingerprint) <= value + 1e-9
    assert Shape(a).within(Shape(b), value + 1e-6) and not Shape(a).within(Shape(b), value * (1 - 1e-6))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(0, 2), seeds, st.booleans())
def test_against_every_order(like: int, others: int, seed: int, near: bool) -> None:
    rng = np.random.default_rng(seed)
    numbers = [1] * like + [6, 8][:others]
    a = scattered(numbers, rng)
    b = (
        moved(a.moved(a.positions + rng.normal(size=(len(a), 3)) * 0.3), rng, False)
        if near
        else scattered(numbers, rng)
    )
    best = min(
        rmsd(a, Frame(numbers, b.positions[[*order, *range(like, len(a))]]), permute=False)
        for order in permutations(range(like))
    )
    assert rmsd(a, b) == pytest.approx(best, abs=1e-7)


@pytest.mark.parametrize("sizes", [(1, 6), (2, 6)])
def test_the_search_among_many_orders_misses_little(sizes: tuple[int, int]) -> None:
    """1,440 orders, most of them tried by hand; of near frames the search finds the best, of others almost."""
    rng = np.random.default_rng(3)
    numbers = [6] * sizes[0] + [1] * sizes[1]
    first = list(permutations(range(sizes[0])))
    for near in (True, True, False):
        a = scattered(numbers, rng)
        b = a.moved(a.positions + rng.normal(size=(len(a), 3)) * 0.3) if near else scattered(numbers, rng)
        b = moved(b, rng)
        b = Frame(np.sort(b.numbers)[::-1], b.positions[np.argsort(-b.numbers, kind="stable")])
        orders = [[*c, *h] for c in first for h in permutations(range(sizes[0], len(a)))]
        x, y = a.positions - a.positions.mean(0), b.positions - b.positions.mean(0)
        u, s, v = np.linalg.svd(np.einsum("ni,snj->sij", x, y[orders]))
        s[:, 2] *= np.sign(np.linalg.det(u @ v))
        best = np.sqrt(max(0.0, ((x**2).sum() + (y**2).sum() - 2 * s.sum(1).max()) / len(a)))
        assert (
            rmsd(a, b) == pytest.approx(best, abs=1e-6) if near else best <= rmsd(a, b) + 1e-9 <= 1.15 * best
        )


def test_a_mirror_image_is_another_molecule() -> None:
    mirror = CHIRAL.moved(CHIRAL.positions * [1, 1, -1])
    assert rmsd(CHIRAL, mirror) > 0.3
    water = Frame([8, 1, 1], molecule("H2O").positions)
    assert rmsd(water, water.moved(water.positions * [1, -1, 1])) < 1e-6  # it has a plane of symmetry
    assert list(unique([CHIRAL, mirror, moved(CHIRAL, np.random.default_rng(0))], [0, 0, 1], 0.2)) == [
        0,
        1,
        0,
    ]


def test_never_across_compositions() -> None:
    water, other = molecule("H2O"), molecule("SH2")
    assert rmsd(Frame.from_atoms(water), Frame.from_atoms(other)) == np.inf
    assert rmsd(Frame([8, 1, 1], water.positions), Frame([1, 8, 1], water.positions), permute=False) == np.inf
    assert rmsd(Frame([8, 1, 1], water.positions), Frame([1, 8, 1], water.positions[[1, 0, 2]])) < 1e-6
    assert not Shape(Frame.from_atoms(water)).within(Shape(Frame.from_atoms(other)), 1e9)


def test_symmetric_molecules_and_straight_ones() -> None:
    rng = np.random.default_rng(1)
    for name in ("CO2", "C2H2", "CH4", "C6H6", "CH3CH2OH", "N2"):
        frame = Frame.from_atoms(molecule(name))
        assert rmsd(frame, moved(frame, rng)) < 1e-5, name


def test_periodic_frames_are_shifted_and_shuffled() -> None:
    rng = np.random.default_rng(2)
    copper = Frame.from_atoms(bulk("Cu", cubic=True) * (2, 2, 2))
    a = copper.moved(copper.positions + rng.normal(size=(32, 3)) * 0.1)
    shifted = a.moved((a.positions + [1.3, -7.0, 4.4])[rng.permutation(32)])
    assert rmsd(a, shifted) < 1e-5
    wrapped = shifted.to_atoms()
    wrapped.wrap()
    assert rmsd(a, Frame.from_atoms(wrapped)) < 1e-5 and rmsd(Frame.from_atoms(wrapped), a) < 1e-5
    one = a.positions.copy()
    one[5] += [0.4, 0.0, 0.0]  # √(0.4² (1 − 1/32) / 32)
    assert rmsd(a, a.moved(one)) == pytest.approx(0.4 * np.sqrt((1 - 1 / 32) / 32), rel=1e-6)
    assert rmsd(a, a.moved(a.positions, a.cell * 1.01)) == np.inf
    assert rmsd(a, Frame(a.numbers, a.positions)) == np.inf


def test_duplicates_go_to_the_least_extreme_one_in_whatever_order_they_come() -> None:
    rng = np.random.default_rng(5)
    kinds = [scattered([6, 8, 1, 1, 1, 1], rng) for _ in range(4)]
    frames = [
        moved(k.moved(k.positions + rng.normal(size=(6, 3)) * 0.01), rng) for k in kinds for _ in range(5)
    ]
    extreme = rng.uniform(size=20)
    stands = unique(frames, extreme, 0.2)
    for k in range(4):
        group = np.arange(5 * k, 5 * k + 5)
        assert (stands[group] == group[np.argmin(extreme[group])]).all()
    order = rng.permutation(20)
    again = unique([frames[i] for i in order], extreme[order], 0.2)
    assert {(order[i], order[j]) for i, j in enumerate(again)} == set(enumerate(stands))


def test_farthest_frames_come_first() -> None:
    rng = np.random.default_rng(6)
    base = scattered([6, 8, 1, 1], rng)
    near = [base.moved(base.positions + rng.normal(size=(4, 3)) * 0.01) for _ in range(6)]
    far = [base.moved(base.positions * scale) for scale in (1.5, 0.5)]
    other = Frame([18], [[0, 0, 0]])
    picked = diverse([*near, *far, other], 4)
    assert picked[0] == 0 and set(picked) == {0, 6, 7, 8} and picked[1] == 8
    assert diverse(near, 99) and sorted(diverse(near, 99)) == list(range(6))
