"""Coverage of atomic environments: greedy picks against the definition, incremental, lazily, in two stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from ase.build import bulk, molecule
from selector_pools import OPEN, indices, pool_of, rattled, selector

from alfw.core.exploration import Pool
from alfw.core.frame import Frame
from alfw.core.scaling import ElementScale
from alfw.selectors import _coverage
from alfw.selectors._coverage import Coverage
from alfw.selectors._descriptors import descriptors

Arrays = list[np.ndarray]


def cloud(n: int, seed: int) -> tuple[Arrays, Arrays]:
    """Elements and features of n frames of 1 to 4 atoms."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, n)
    return (
        [rng.choice([1, 8], size) for size in sizes],
        [rng.normal(size=(size, 6)).astype(np.float32) for size in sizes],
    )


def covering(numbers: Arrays, z: Arrays, scale: ElementScale | None = None) -> Coverage:
    coverage = Coverage(scale or ElementScale.fit_frames(z, numbers))
    coverage.add(numbers, z)
    return coverage


def gains_by_definition(numbers: Arrays, scaled: Arrays, covered: Sequence[int]) -> list[float]:
    gains = []
    for elements, rows in zip(numbers, scaled, strict=True):
        distances = []
        for element, row in zip(elements, rows, strict=True):
            known = np.concatenate([scaled[j][numbers[j] == element] for j in covered])
            distances.append(np.linalg.norm(known - row, axis=1).min() if len(known) else 10.0)
        gains.append(float(np.mean(distances)))
    return gains


def test_gains_are_those_of_the_definition() -> None:
    numbers, z = cloud(30, 0)
    scale = ElementScale.fit_frames(z, numbers)
    scaled = [scale.apply(rows, elements) for rows, elements in zip(z, numbers, strict=True)]
    coverage, covered = covering(numbers, z, scale), []
    for pick in (0, 3, 7, 9):
        coverage.cover([pick])
        covered.append(pick)
        assert coverage.gain() == pytest.approx(gains_by_definition(numbers, scaled, covered), abs=2e-3)


@pytest.mark.parametrize("rivals", [1, 7, 10**6])
def test_lazy_picks_are_those_of_looking_at_all(rivals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_coverage, "FIRST_RIVALS", rivals)
    monkeypatch.setattr(_coverage, "GEMM_ROWS", 50)
    numbers, z = cloud(300, 1)
    lazy, eager = covering(numbers, z), covering(numbers, z)
    left, factor = np.ones(300, bool), 1 / lazy.sizes
    for coverage in (lazy, eager):
        coverage.cover([5])
    for _ in range(60):
        pick, value = lazy.best(left, factor)
        gain = np.where(left, eager.gain(), -1.0)
        assert value == pytest.approx(gain.max(), abs=1e-3)
        assert gain[pick] == pytest.approx(gain.max(), abs=1e-3)
        left[pick] = False
        lazy.cover([pick])
        eager.cover([pick])
    assert lazy.gain() == pytest.approx(eager.gain(), abs=1e-3)


def test_lazy_picks_leave_most_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [np.ones(1, int)] * 2000
    z = [np.full((1, 4), 0.001 * i if i % 100 else i, np.float32) for i in range(2000)]  # a few far out
    coverage = covering(numbers, z)
    coverage.cover([1])
    coverage.gain()
    compared = 0

    def counted(nearest: np.ndarray, *args: np.ndarray) -> None:
        nonlocal compared
        compared += len(nearest)
        lower(nearest, *args)

    lower = _coverage._lower
    monkeypatch.setattr(_coverage, "_lower", counted)
    left = np.ones(2000, bool)
    for _ in range(10):
        pick, _ = coverage.best(left, np.ones(2000))
        assert pick % 100 == 0
        left[pick] = False
        coverage.cover([pick])
    assert 0 < compared < 2 * 2000  # every pick against every frame would be 20,000


def test_frames_and_labels_that_come_later_count_as_those_of_the_start() -> None:
    numbers, z = cloud(80, 2)
    more, z_more = cloud(40, 3)
    more, z_more = [*more, np.array([6, 1])], [*z_more, np.ones((2, 6), np.float32)]  # a new element
    labels, z_labels = cloud(10, 4)
    scale = ElementScale.fit_frames(z + z_more, numbers + more)
    grown = covering(numbers, z, scale)
    grown.cover([3])
    grown.gain()
    grown.add(more, z_more)
    grown.cover([100])
    grown.best(np.ones(121, bool), np.ones(121))
    grown.cover_others(labels, z_labels)
    anew = covering(numbers + more, z + z_more, scale)
    anew.cover_others(labels, z_labels)
    anew.cover([3, 100])
    assert grown.gain() == pytest.approx(anew.gain(), abs=1e-3)
    assert grown.gain()[120] > 4  # carbon: never covered


def test_what_is_known_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, z = cloud(50, 5)
    coverage = covering(numbers, z)
    coverage.cover([0, 1, 2])
    coverage.gain()
    pairs = 0
    lower = _coverage._lower

    def counted(nearest: np.ndarray, z: np.ndarray, squares: np.ndarray, covered: np.ndarray) -> None:
        nonlocal pairs
        pairs += len(nearest) * len(covered)
        lower(nearest, z, squares, covered)

    monkeypatch.setattr(_coverage, "_lower", counted)
    coverage.gain()
    assert pairs == 0
    coverage.cover([7])
    coverage.gain()
    elements = np.concatenate(numbers)
    assert pairs == sum((elements == e).sum() * (numbers[7] == e).sum() for e in (1, 8))


def test_the_campaign_s_scale_is_used_and_completed() -> None:
    frames = rattled("H2O", 6, 0.05, 0)
    z = [np.zeros((3, 2), np.float32) for _ in frames]
    z[1][0, 0], z[2][1, 0] = 3.0, 1.0  # of oxygen and of a hydrogen
    zero = [np.zeros((3, 2), np.float32)]
    middle = {1: np.zeros(2, np.float32), 8: np.zeros(2, np.float32)}
    given = ElementScale(middle, {1: np.full(2, 10.0, np.float32), 8: np.ones(2, np.float32)})

    def picks(of: ElementScale | None) -> list[int]:
        pool = pool_of(frames, labelled=rattled("H2O", 1, 0.05, 1), features=z, labelled_features=zero)
        pool = Pool(**{**pool.__dict__, "scale": of})
        return indices(selector("environments", **OPEN).select(pool, 2, 0))

    assert picks(given) == [1, 2]  # 3 / 1 against 1 / 10
    assert picks(None) == [2, 1]  # one odd atom of 14 against one of 7
    only_hydrogen = ElementScale({1: middle[1]}, {1: given.width[1]})
    assert picks(only_hydrogen) == [1, 2]  # oxygen is fitted


def test_features_that_are_not_finite_are_turned_down() -> None:
    frames = rattled("H2O", 20, 0.05, 0)
    z = [np.random.default_rng(i).normal(size=(3, 4)).astype(np.float32) for i in range(20)]
    z[4][1, 2], z[9][0] = np.nan, np.inf
    pool = pool_of(frames, features=z)
    for kind in ("environments", "failures", "farthest", "lcmd", "maxdet"):
        selection = selector(kind, **OPEN).select(pool, 20, 0)
        assert selection.rejected == {"not_finite": 2}
        assert sorted(indices(selection)) == [i for i in range(20) if i not in (4, 9)]


def test_two_stages_lose_little() -> None:
    common, rare = rattled("CH3CH2OH", 300, 0.05, 0), rattled("CH3CH2OH", 4, 0.25, 1)
    pool = pool_of(common[:150] + rare + common[150:], labelled=rattled("CH3CH2OH", 3, 0.05, 2))
    exact = indices(selector("environments", **OPEN).select(pool, 12, 0))
    staged = indices(selector("environments", **OPEN, exact_up_to=9 * 80).select(pool, 12, 0))
    assert {150, 151, 152, 153} <= set(exact) & set(staged)  # what is rare is found by its part
    z, numbers = descriptors(pool.frames, [1, 6, 8]), [f.numbers for f in pool.frames]
    scale = ElementScale.fit_frames(z, numbers, by_column=True)
    radius = {}
    for name, picks in (("exact", exact), ("staged", staged)):
        coverage = covering(numbers, z, scale)
        coverage.cover(picks)
        radius[name] = coverage.gain().max()
    assert radius["staged"] < 1.1 * radius["exact"]
    everything = selector("environments", **OPEN, exact_up_to=9 * 304).select(pool, 12, 0)
    assert indices(everything) == exact


def test_weights_are_those_of_force_std() -> None:
    frames = rattled("H2O", 3, 0.05, 0)
    z = [np.full((3, 2), v, np.float32) for v in (1.0, 2.0, 3.0)]
    pool = Pool(
        frames,
        np.array([0.9, 0.1, 0.2]),
        np.ones(3),
        rattled("H2O", 1, 0.05, 1),
        features=z,
        labelled_features=[np.zeros((3, 2), np.float32)],
    )
    assert indices(selector("environments", **OPEN).select(pool, 1, 0)) == [2]
    weighted = selector("environments", **OPEN, weight="force-std")
    assert indices(weighted.select(pool, 1, 0)) == [0]
    assert weighted.spread_needs()["weight"] == "members"


def test_coverage_finds_a_rare_region_that_chance_misses() -> None:
    common, rare = rattled("CH3CH2OH", 380, 0.05, 0), []
    for frame in rattled("CH3CH2OH", 20, 0.05, 1):  # its OH bond stretched
        oxygen, hydrogen = 2, 3
        bond = frame.positions[hydrogen] - frame.positions[oxygen]
        moved = frame.positions.copy()
        moved[hydrogen] += 0.6 * bond
        rare.append(frame.moved(moved))
    pool = pool_of(common + rare, labelled=rattled("CH3CH2OH", 5, 0.05, 2))

    def hits(kind: str, seed: int) -> int:
        return sum(i >= 380 for i in indices(selector(kind).select(pool, 20, seed)))

    by_chance = [hits("random", seed) for seed in range(10)]
    assert hits("environments", 0) >= 5
    assert hits("environments", 0) > max(by_chance)


def test_features_of_the_model_are_used_where_there_are_any() -> None:
    frames = rattled("H2O", 40, 0.05, 0)
    features = [np.zeros((3, 4), np.float32) for _ in frames]
    features[17][:, 0] = 5.0
    labelled = rattled("H2O", 1, 0.05, 1)
    known = [np.zeros((3, 4), np.float32)]
    pool = pool_of(frames, labelled=labelled, features=features, labelled_features=known)
    selection = selector("environments", **OPEN).select(pool, 10, 0)
    assert indices(selection) == [17]
    assert selection.rejected == {"nothing_new": 39}
    without = pool_of(frames, labelled=labelled, features=features)  # of no use without those of the labelled
    assert len(selector("environments", **OPEN).select(without, 10, 0).chosen) == 10


def test_features_may_be_one_array() -> None:
    frames = rattled("H2O", 30, 0.05, 0)
    z = np.random.default_rng(0).normal(size=(30, 3, 4)).astype(np.float16)
    known = rattled("H2O", 2, 0.05, 1)
    whole = pool_of(frames, labelled=known, features=z, labelled_features=z[:2] + 1)
    parts = pool_of(
        frames, labelled=known, features=list(z.astype(np.float32)), labelled_features=list(z[:2] + 1)
    )
    for kind in ("environments", "failures", "farthest", "lcmd", "maxdet"):
        assert selector(kind).select(whole, 9, 0) == selector(kind).select(parts, 9, 0)


def test_nothing_labelled_starts_from_the_most_usual_frame() -> None:
    frames = rattled("CH3CH2OH", 60, 0.1, 0) + [Frame.from_atoms(molecule("CH3CH2OH"))]
    for kind in ("environments", "farthest", "lcmd", "maxdet"):
        assert indices(selector(kind).select(pool_of(frames), 5, 0))[0] == 60


def test_exact_copies_are_never_picked() -> None:
    frames = rattled("CH3CH2OH", 10, 0.1, 0)
    pool = pool_of(frames * 4, labelled=frames[:3])
    for kind in ("environments", "failures", "farthest", "lcmd"):
        selection = selector(kind, **OPEN).select(pool, 40, 0)
        assert sorted(i % 10 for i in indices(selection)) == [3, 4, 5, 6, 7, 8, 9]
        assert selection.rejected == {"nothing_new": 33}


def test_mixed_sizes_and_elements() -> None:
    frames = rattled("H2O", 20, 0.05, 0) + rattled("CH3CH2OH", 20, 0.05, 1) + rattled("SiH4", 2, 0.05, 2)
    salt = bulk("NaCl", "rocksalt", a=5.6)
    for seed in range(3):
        salt.rattle(0.1, seed=seed)
        frames.append(Frame.from_atoms(salt))
    pool = pool_of(frames, labelled=rattled("CH3CH2OH", 3, 0.05, 3))
    first = indices(selector("environments").select(pool, 2, 0))
    assert {min(i, 42) for i in first} <= {40, 41, 42}  # elements never seen come first
    assert len({i // 20 for i in indices(selector("environments").select(pool, 12, 0))}) == 3
