"""Selectors: coverage, invariances, filters that add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from alfw.core.errors import ConfigError
from alfw.core.exploration import Pool, Selection
from alfw.core.frame import Frame
from alfw.core.registry import plugin_class
from alfw.selectors._coverage import Coverage, element_scale
from alfw.selectors._descriptors import descriptors
from alfw.selectors._duplicates import Duplicates
from alfw.selectors._filters import too_close
from alfw.selectors.environments import EnvironmentsSelector
from alfw.selectors.force_std import ForceStdSelector
from alfw.selectors.random import RandomSelector

KINDS = ("environments", "force-std", "random")
OPEN: dict[str, Any] = {
    "physical": {"min_distance_fraction": None, "max_force_quantile": None},
    "band_eV_per_A": (None, None),
    "dedup": {"min_distance_A": 0.0},
}


def selector(kind: str, **options: Any) -> Any:
    return plugin_class("alfw.selectors", kind)(kind=kind, **options)


def rattled(name: str, n: int, width_A: float, seed: int) -> list[Frame]:
    """Randomly displaced and turned copies of a molecule."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    return [
        Frame(
            atoms.numbers,
            (atoms.positions + rng.normal(scale=width_A, size=(len(atoms), 3)))
            @ Rotation.random(rng=rng).as_matrix(),
        )
        for _ in range(n)
    ]


def pool_of(frames: list[Frame], seed: int = 0, labelled: list[Frame] | None = None, **more: Any) -> Pool:
    rng = np.random.default_rng(seed)
    std, force = rng.uniform(0, 2, len(frames)), rng.uniform(0, 9, len(frames))
    return Pool(frames, std, force, labelled or [], **more)


def indices(selection: Selection) -> list[int]:
    return [choice.index for choice in selection.chosen]


# ----------------------------------------------------------------------------------------------------- descriptors


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["CH3CH2OH", "H2O", "C6H6", "CH3SiH3"]))
def test_descriptors_ignore_rotation_reflection_translation_and_order(seed: int, name: str) -> None:
    (frame,) = rattled(name, 1, 0.1, seed)
    rng = np.random.default_rng(seed)
    turn = Rotation.random(rng=rng).as_matrix() * rng.choice([-1, 1])
    order = rng.permutation(len(frame))
    moved = Frame(frame.numbers[order], (frame.positions @ turn + rng.normal(size=3))[order])
    species = [1, 6, 8, 14]
    (a,), (b,) = descriptors([frame], species), descriptors([moved], species)
    assert np.allclose(a[order], b, atol=2e-4, rtol=1e-3)


def test_descriptors_of_a_supercell_are_those_of_the_cell() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.6)
    salt.rattle(0.1, seed=1)
    cell, supercell = Frame.from_atoms(salt), Frame.from_atoms(salt.repeat((2, 1, 2)))
    turn = Rotation.random(rng=0).as_matrix()
    turned = Frame(cell.numbers, cell.positions @ turn, cell.cell @ turn, cell.pbc)
    z, z_super, z_turned = descriptors([cell, supercell, turned], [11, 17])
    assert np.allclose(np.tile(z, (4, 1)), z_super, atol=1e-5)
    assert np.allclose(z, z_turned, atol=1e-3)


def test_descriptors_see_elements_distances_and_angles() -> None:
    def water(angle: float, oxygen: int = 8, distance: float = 0.96) -> Frame:
        a = np.radians(angle)
        return Frame(
            np.array([oxygen, 1, 1]), distance * np.array([[0, 0, 0], [1, 0, 0], [np.cos(a), np.sin(a), 0]])
        )

    species = [1, 8, 16]
    z = [rows[0] for rows in descriptors([water(104), water(100), water(104, distance=0.99)], species)]
    assert np.abs(z[0] - z[1]).max() > 0.01
    assert np.abs(z[0] - z[2]).max() > 0.01
    hydrogens = [rows[1] for rows in descriptors([water(104), water(104, oxygen=16)], species)]
    assert np.abs(hydrogens[0] - hydrogens[1]).max() > 0.1


def test_descriptors_do_not_depend_on_the_company() -> None:
    frames = rattled("CH3CH2OH", 900, 0.05, 0) + rattled("H2O", 3, 0.05, 1)  # several batches
    together = descriptors(frames, [1, 6, 8])
    for i in (0, 700, 902):
        assert np.array_equal(together[i], descriptors([frames[i]], [1, 6, 8])[0])


def test_a_lone_atom_has_an_empty_environment() -> None:
    (z,) = descriptors([Frame(np.array([2]), np.zeros((1, 3)))], [2])
    assert z.shape == (1, 19)
    assert not z.any()


# ---------------------------------------------------------------------------------------------------- environments


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


def test_coverage_leaves_smaller_gaps_than_chance() -> None:
    frames = rattled("CH3CH2OH", 300, 0.08, 0)
    numbers, z = [f.numbers for f in frames], descriptors(frames, [1, 6, 8])
    largest = {}
    for kind in ("environments", "random"):
        coverage = Coverage(numbers, z)
        coverage.cover(indices(selector(kind, **OPEN).select(pool_of(frames), 30, 0)))
        largest[kind] = coverage.gain().max()
    assert largest["environments"] < 0.9 * largest["random"]


def test_greedy_picks_are_those_of_the_definition() -> None:
    """Against the plain definition: the frame of the largest mean distance to all covered environments."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 5, 30)
    numbers = [rng.choice([1, 8], size) for size in sizes]
    z = [rng.normal(size=(size, 6)).astype(np.float32) for size in sizes]
    scaled = np.split(element_scale(np.concatenate(z), np.concatenate(numbers)), np.cumsum(sizes)[:-1])
    coverage, covered = Coverage(numbers, z), []
    for pick in (0, 3, 7, 9):
        coverage.cover([pick])
        covered.append(pick)
        for i, gain in enumerate(coverage.gain()):
            distances = []
            for element, row in zip(numbers[i], scaled[i], strict=True):
                known = [scaled[j][numbers[j] == element] for j in covered]
                known = np.concatenate(known)
                distances.append(np.linalg.norm(known - row, axis=1).min() if len(known) else 10.0)
            assert gain == pytest.approx(np.mean(distances), abs=2e-3)


def test_features_are_scaled_per_element() -> None:
    rng = np.random.default_rng(0)
    numbers = np.repeat([1, 6], 50)
    z = rng.normal(loc=100, size=(100, 4)) * np.where(numbers == 1, 1, 50)[:, None]
    scaled = element_scale(z.astype(np.float32), numbers)
    for element in (1, 6):
        assert (scaled[numbers == element] ** 2).sum(1).mean() == pytest.approx(1.0, rel=1e-3)
    assert not element_scale(np.full((5, 3), 7.1, np.float32), np.ones(5, int)).any()


def test_features_of_the_model_are_used_where_there_are_any() -> None:
    frames = rattled("H2O", 40, 0.05, 0)
    features = [np.zeros((3, 4), np.float32) for _ in frames]
    features[17][:, 0] = 5.0
    labelled = rattled("H2O", 1, 0.05, 1)
    pool = pool_of(
        frames, labelled=labelled, features=features, labelled_features=[np.zeros((3, 4), np.float32)]
    )
    assert indices(selector("environments", **OPEN).select(pool, 10, 0)) == [
        17
    ]  # the others show nothing new
    without = pool_of(frames, labelled=labelled, features=features)  # of no use without those of the labelled
    assert len(selector("environments", **OPEN).select(without, 10, 0).chosen) == 10


def test_nothing_labelled_starts_from_the_most_usual_frame() -> None:
    frames = rattled("CH3CH2OH", 60, 0.1, 0) + [Frame.from_atoms(molecule("CH3CH2OH"))]
    assert indices(selector("environments").select(pool_of(frames), 5, 0))[0] == 60


def test_exact_copies_are_never_picked() -> None:
    frames = rattled("CH3CH2OH", 10, 0.1, 0)
    pool = pool_of(frames * 4, labelled=frames[:3])
    chosen = indices(selector("environments", **OPEN).select(pool, 40, 0))
    assert sorted(i % 10 for i in chosen) == [3, 4, 5, 6, 7, 8, 9]


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


# --------------------------------------------------------------------------------------------------- all selectors


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_picks_are_the_selection_for_fewer(kind: str) -> None:
    pool = pool_of(rattled("CH3CH2OH", 80, 0.1, 0), labelled=rattled("CH3CH2OH", 3, 0.1, 1))
    many = indices(selector(kind).select(pool, 20, 5))
    assert len(set(many)) == 20
    for limit in (0, 1, 7):
        assert indices(selector(kind).select(pool, limit, 5)) == many[:limit]


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_all(kind: str) -> None:
    pool = pool_of(rattled("CH3CH2OH", 50, 0.1, 0))
    runs = [selector(kind).select(pool, 10, seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert (indices(runs[0]) != indices(runs[2])) == (kind == "random")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [3, 1000])
def test_chosen_rejected_and_left_over_make_the_pool(kind: str, limit: int) -> None:
    good = rattled("CH3CH2OH", 40, 0.1, 0)
    crushed = [f.moved(f.positions * 0.4) for f in good[:5]]
    labelled = rattled("CH3CH2OH", 2, 0.1, 1)
    frames = good + crushed + good[:4] + labelled  # copies in the pool, and of the labelled frames
    n = len(frames)
    force, std = np.full(n, 2.0), np.linspace(0.2, 1.0, n)
    force[0], std[5:7], std[8] = np.inf, 9.0, 0.01
    pool = Pool(frames, std, force, labelled)
    options: dict[str, Any] = {"band_eV_per_A": (0.1, 3.0)}
    selection = selector(kind, **options).select(pool, limit, 0)
    expected = {"not_finite": 1, "too_close": 5, "above_band": 2, "below_band": 1}
    assert {k: v for k, v in selection.rejected.items() if k != "duplicate"} == expected
    assert all(choice.reason == kind for choice in selection.chosen)
    if (
        limit == 1000
    ):  # everything is chosen or turned down; frames 1, 2, 3 are there twice, 0 only once as finite
        assert selection.rejected["duplicate"] == 3 + 2
        assert len(selection.chosen) == n - sum(selection.rejected.values())
    else:
        assert len(selection.chosen) == limit
        assert sum(selection.rejected.values()) + limit < n


@pytest.mark.parametrize("kind", KINDS)
def test_empty_pools(kind: str) -> None:
    empty = Pool([], np.zeros(0), np.zeros(0))
    assert selector(kind).select(empty, 5, 0) == Selection([], {})
    frames = rattled("H2O", 3, 0.05, 0)
    nothing_finite = Pool(frames, np.zeros(3), np.full(3, np.nan))
    assert selector(kind).select(nothing_finite, 5, 0) == Selection([], {"not_finite": 3})


def test_the_largest_force_std_comes_first() -> None:
    frames = rattled("H2O", 5, 0.1, 0)
    pool = Pool(frames, np.array([0.1, 0.5, 9.0, 0.3, 0.4]), np.ones(5))
    selection = ForceStdSelector().select(pool, 3, 0)
    assert indices(selection) == [1, 4, 3]
    assert [choice.score for choice in selection.chosen] == [0.5, 0.4, 0.3]


def test_an_ensemble_of_one_has_no_force_std() -> None:
    pool = Pool(rattled("H2O", 5, 0.1, 0), np.full(5, np.nan), np.ones(5))
    assert len(EnvironmentsSelector(band_eV_per_A=(0.1, 0.2)).select(pool, 5, 0).chosen) == 5
    assert len(RandomSelector().select(pool, 5, 0).chosen) == 5
    with pytest.raises(ConfigError, match="members"):
        ForceStdSelector().select(pool, 5, 0)


def test_high_forces_are_a_matter_of_large_pools() -> None:
    frames = rattled("H2O", 1, 0.1, 0) * 2000
    force = np.arange(2000.0)
    rejected = (
        selector("random", dedup={"min_distance_A": 0}).select(Pool(frames, force * 0, force), 1, 0).rejected
    )
    assert rejected == {"high_force": 1}
    few = Pool(frames[:50], force[:50] * 0, force[:50])
    assert selector("random", dedup={"min_distance_A": 0}).select(few, 1, 0).rejected == {}


@pytest.mark.parametrize(
    "options",
    [
        {"band_eV_per_A": (3.0, 1.0)},
        {"band_eV_per_A": (1.0, 1.0)},
        {"band_eV_per_A": (-1.0, 1.0)},
        {"physical": {"min_distance_fraction": 1.5}},
        {"physical": {"max_force_quantile": 0}},
        {"dedup": {"min_distance_A": -1}},
        {"dedup": {"distance": 1}},
        {"unknown": 1},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EnvironmentsSelector(**options)


# ------------------------------------------------------------------------------------------- filters and duplicates


def test_too_close_counts_images() -> None:
    chain = Frame(np.array([29]), np.zeros((1, 3)), cell=np.diag([1.2, 9, 9]), pbc=np.ones(3, bool))
    water, crushed = (
        Frame.from_atoms(molecule("H2O")),
        Frame(np.array([8, 1]), np.array([[0, 0, 0], [0, 0, 0.5]])),
    )
    assert too_close([chain, water, crushed], 0.6).tolist() == [True, False, True]
    assert too_close([chain, water, crushed], 0.4).tolist() == [False, False, False]


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
    assert Duplicates(others, 0.05).of(0).tolist() == [True, True, False, False]
    assert Duplicates(others, 0.05).of(1).tolist() == [True, True, False, False]
    assert Duplicates(others, 0.0).of(0).tolist() == [True, False, False, False]


def test_one_moved_atom_is_seen_in_a_large_cell() -> None:
    copper = bulk("Cu", cubic=True).repeat(3)
    copper.rattle(0.1, seed=0)
    frame = Frame.from_atoms(copper)
    moved = frame.positions.copy()
    moved[50, 0] += 0.3
    shifted = Frame.from_atoms(copper)
    wrapped = shifted.positions + [1.0, 2.0, 3.0]
    copper.positions = wrapped
    copper.wrap()
    independent = bulk("Cu", cubic=True).repeat(3)
    independent.rattle(0.1, seed=1)
    frames = [frame, frame.moved(moved), Frame.from_atoms(copper), Frame.from_atoms(independent)]
    assert Duplicates(frames, 0.05).of(0).tolist() == [True, False, True, False]
