"""All selectors: what they have in common, and what each looks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from selector_pools import KINDS, OPEN, indices, pool_of, rattled, selector

from alfw.core.errors import ConfigError
from alfw.core.exploration import Pool
from alfw.core.protocols import spread_lacking
from alfw.core.scaling import ElementScale
from alfw.selectors._coverage import Coverage
from alfw.selectors._descriptors import descriptors
from alfw.selectors._farthest import ConditionalVariance, Distances, farthest_points
from alfw.selectors.combined import priorities
from alfw.selectors.environments import EnvironmentsSelector
from alfw.selectors.force_std import ForceStdSelector

EXPLOSION, UNCERTAIN, HIGH = "explosion: force", "uncertain", "high_force"


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
    pool = Pool(frames, std, force, labelled, reasons=[EXPLOSION] * n)
    selection = selector(kind, band_eV_per_A=(0.1, 3.0)).select(pool, limit, 0)
    expected = {"not_finite": 1, "too_close": 5, "above_band": 2, "below_band": 1}
    again = {"duplicate", "nothing_new"}
    assert {k: v for k, v in selection.rejected.items() if k not in again} == expected
    assert all(choice.reason == f"{kind}, {EXPLOSION}" for choice in selection.chosen)
    if (
        limit == 1000
    ):  # everything is chosen or turned down; frames 1, 2, 3 are there twice, 0 only once as finite
        assert sum(selection.rejected.get(reason, 0) for reason in again) == 3 + 2
        assert len(selection.chosen) == n - sum(selection.rejected.values())
    else:
        assert len(selection.chosen) == limit
        assert sum(selection.rejected.values()) + limit < n


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_any_elements_and_sizes_are_comparable(kind: str) -> None:
    frames = rattled("H2O", 10, 0.1, 0) + rattled("CH3CH2OH", 10, 0.1, 1) + rattled("SiH4", 2, 0.1, 2)
    selection = selector(kind, **OPEN).select(pool_of(frames, labelled=rattled("H2O", 2, 0.1, 3)), 22, 0)
    assert sorted(indices(selection)) == list(range(22))
    assert all(np.isfinite(choice.score) for choice in selection.chosen)


def test_the_largest_force_std_comes_first() -> None:
    frames = rattled("H2O", 5, 0.1, 0)
    pool = Pool(frames, np.array([0.1, 0.5, 9.0, 0.3, 0.4]), np.ones(5))
    selection = ForceStdSelector().select(pool, 3, 0)
    assert indices(selection) == [1, 4, 3]
    assert [choice.score for choice in selection.chosen] == [0.5, 0.4, 0.3]


def test_an_ensemble_of_one_has_no_force_std() -> None:
    pool = Pool(rattled("H2O", 5, 0.1, 0), np.full(5, np.nan), np.ones(5), reasons=[HIGH] * 5)
    for kind in sorted(set(KINDS) - {"force-std", "combined"}):
        assert len(selector(kind, band_eV_per_A=(0.1, 0.2)).select(pool, 5, 0).chosen) == 5
    for kind, options in (("force-std", {}), ("combined", {}), ("environments", {"weight": "force-std"})):
        needy = selector(kind, **options)
        with pytest.raises(ConfigError, match="set model.members to 2"):
            needy.select(pool, 5, 0)
        assert "an ensemble of one has no spread" in (spread_lacking(needy, members=1, cheap=False) or "")
    assert spread_lacking(EnvironmentsSelector(), members=1, cheap=False) is None


def test_failures_come_by_kind_and_diverse_within() -> None:
    near, far = rattled("H2O", 30, 0.01, 0), rattled("H2O", 6, 0.3, 1)
    reasons = [""] * 10 + [HIGH] * 10 + [EXPLOSION] * 10 + [EXPLOSION, HIGH, UNCERTAIN] * 2
    pool = Pool(near + far, np.full(36, 9.0), np.ones(36), rattled("H2O", 2, 0.01, 2), reasons=reasons)
    selection = selector("failures", **OPEN).select(pool, 100, 0)
    kinds = [reasons[i] for i in indices(selection)]
    assert kinds == [EXPLOSION] * 12 + [UNCERTAIN] * 2 + [HIGH] * 12
    assert set(indices(selection)[:2]) == {30, 33}  # the far ones first
    assert selection.chosen[0].reason == f"failures, {EXPLOSION}"
    quiet = Pool(near, np.ones(30), np.ones(30))
    selection = selector("failures").select(quiet, 5, 0)
    assert not selection.chosen
    assert selection.notes == ("no event offered a frame: nothing failed, nothing is chosen",)


def test_combined_wants_high_uncertainty_and_high_force() -> None:
    std, force = np.array([0.1, 0.5, 0.9, 0.8, 0.2]), np.array([9.0, 1.0, 2.0, 8.0, 3.0])
    assert priorities(std, force) == pytest.approx(np.array([1 * 5, 3 * 1, 5 * 2, 4 * 4, 2 * 3]) / 25)
    pool = Pool(rattled("H2O", 5, 0.1, 0), std, force)
    selection = selector("combined").select(pool, 5, 0)
    assert indices(selection) == [3, 2, 4, 0, 1]
    assert selection.chosen[0].score == pytest.approx(16 / 25)
    events = Pool(**{**pool.__dict__, "reasons": ["", EXPLOSION, "", "", HIGH]})
    assert indices(selector("combined").select(events, 5, 0)) == [4, 1, 3, 2, 0]


def test_farthest_points_are_those_of_the_definition() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 5)).astype(np.float32)  # several pieces
    found = farthest_points(points, 12, start=3)
    nearest = np.full(len(points), np.inf)
    for this, following in zip(found[:-1], found[1:], strict=True):
        nearest = np.minimum(nearest, ((points.astype(float) - points[this]) ** 2).sum(1))
        assert nearest[following] == pytest.approx(nearest.max(), rel=1e-4)
    assert found[0] == 3
    assert len(farthest_points(points[:4], 9, 0)) == 4


def test_farthest_frames_leave_smaller_gaps_than_chance() -> None:
    frames = rattled("CH3CH2OH", 300, 0.08, 0)
    z = [rows.astype(np.float32) for rows in descriptors(frames, [1, 6, 8])]
    means = np.array([rows.mean(0) for rows in z])
    means /= means.std(0) + 0.1
    gap = {}
    for kind in ("farthest", "lcmd", "random"):
        picks = means[indices(selector(kind, **OPEN).select(pool_of(frames), 20, 0))]
        gap[kind] = np.linalg.norm(means[:, None] - picks, axis=2).min(1).max()
    assert gap["farthest"] < gap["random"]


def test_lcmd_goes_to_the_largest_cluster() -> None:
    many = [np.full((3, 2), 10 + 0.1 * i, np.float32) for i in range(20)]
    few = [np.full((3, 2), -30.0, np.float32), np.full((3, 2), -31.9, np.float32)]
    labelled = [np.full((3, 2), v, np.float32) for v in (9.9, -29.9)]
    pool = pool_of(
        rattled("H2O", 22, 0.05, 0),
        labelled=rattled("H2O", 2, 0.05, 1),
        features=many + few,
        labelled_features=labelled,
    )
    assert indices(selector("lcmd", **OPEN).select(pool, 1, 0)) == [19]  # 20 frames up to 2 away
    assert indices(selector("farthest", **OPEN).select(pool, 1, 0)) in ([19], [21])
    clusters = Distances(np.array([[0.0], [1.0], [5.0], [5.5]], np.float32), which=True)
    assert clusters.add(np.zeros(1, np.float32)) == 3
    clusters.add(np.full(1, 5.0, np.float32))
    assert clusters.centre is not None and clusters.centre.tolist() == [0, 0, 1, 1]


def test_maxdet_maximises_the_determinant_of_the_kernel() -> None:
    rng = np.random.default_rng(0)
    points, observed = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(3, 6)).astype(np.float32)
    model = ConditionalVariance(points, noise=0.01)
    model.observe(observed)
    known = list(observed.astype(float))
    for _ in range(4):
        best = int(model.variance.argmax())
        logdet = [
            np.linalg.slogdet(_kernel(np.array([*known, p])) + 0.01 * np.eye(len(known) + 1))[1]
            for p in points
        ]
        assert best == int(np.argmax(logdet))
        known.append(points[best].astype(float))
        model.observe(points[best][None])


def _kernel(x: np.ndarray) -> np.ndarray:
    return x.astype(float) @ x.T.astype(float)


def test_coverage_leaves_smaller_gaps_than_chance() -> None:
    frames = rattled("CH3CH2OH", 300, 0.08, 0)
    numbers, z = [f.numbers for f in frames], descriptors(frames, [1, 6, 8])
    largest = {}
    for kind in ("environments", "random"):
        coverage = Coverage(ElementScale.fit_frames(z, numbers, by_column=True))
        coverage.add(numbers, z)
        coverage.cover(indices(selector(kind, **OPEN).select(pool_of(frames), 30, 0)))
        largest[kind] = coverage.gain().max()
    assert largest["environments"] < 0.9 * largest["random"]


@pytest.mark.parametrize(
    "options",
    [
        {"band_eV_per_A": (3.0, 1.0)},
        {"band_eV_per_A": (1.0, 1.0)},
        {"band_eV_per_A": (-1.0, 1.0)},
        {"physical": {"min_distance_fraction": 1.5}},
        {"physical": {"max_force_quantile": 0}},
        {"physical": {"max_force_eV_per_A": 0}},
        {"dedup": {"min_distance_A": -1}},
        {"dedup": {"distance": 1}},
        {"weight": "energy"},
        {"exact_up_to": 0},
        {"unknown": 1},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EnvironmentsSelector(**options)
