"""What all selectors turn down, and what they say: filters, bands, budgets, empty and odd pools."""

from __future__ import annotations

import numpy as np
import pytest
from selector_pools import KINDS, OPEN, indices, rattled, selector

from alfw.core.exploration import Pool, Selection
from alfw.core.frame import Frame
from alfw.core.scaling import ElementScale
from alfw.selectors import _filters
from alfw.selectors._filters import too_close

COVERING = ("environments", "failures", "farthest", "lcmd", "maxdet")


def plain(n: int, std: float = 1.0, force: float = 1.0, seed: int = 0, **more: object) -> Pool:
    frames = rattled("H2O", n, 0.1, seed)
    return Pool(frames, np.full(n, std), np.full(n, force), reasons=["high_force"] * n, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_pools(kind: str) -> None:
    empty = Pool([], np.zeros(0), np.zeros(0))
    note = "the pool is empty: nothing is chosen"
    assert selector(kind).select(empty, 5, 0) == Selection([], {}, (note,))
    selection = selector(kind).select(plain(3, force=np.nan), 5, 0)
    assert selection == Selection([], {"not_finite": 3}, ("no frame is physical: nothing is chosen",))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_below_the_band(kind: str) -> None:
    selection = selector(kind, band_eV_per_A=(2.0, 3.0)).select(plain(6), 5, 0)
    assert not selection.chosen
    assert selection.rejected == {"below_band": 6}
    (note,) = selection.notes
    assert note.startswith("everything is below the band (force_std < 2.0 eV/Å)")
    assert note.endswith("the campaign may be converged")


@pytest.mark.parametrize("kind", KINDS)
def test_everything_above_the_band(kind: str) -> None:
    pool = plain(30)
    crushed = pool.frames[0].moved(pool.frames[0].positions * 0.3)
    pool = Pool(**{**pool.__dict__, "frames": [crushed, *pool.frames[1:]]})
    picks = []
    for seed in (1, 2, 2):
        selection = selector(kind, band_eV_per_A=(None, 0.5)).select(pool, 5, seed)
        assert selection.rejected == {"too_close": 1}
        assert selection.notes == (
            "everything is above the band (force_std > 0.5 eV/Å): the model is not yet fit to explore; "
            "5 frames are taken at random within the physical limits",
        )
        picks.append(indices(selection))
    assert picks[0] != picks[1] == picks[2]
    assert 0 not in picks[0] + picks[1]


def test_a_band_that_nobody_is_in() -> None:
    pool = Pool(**{**plain(6).__dict__, "force_std": np.array([0.1, 0.1, 0.1, 2, 2, 2])})
    selection = selector("environments", band_eV_per_A=(1.0, 1.5)).select(pool, 5, 0)
    assert selection.rejected == {"below_band": 3, "above_band": 3}
    assert selection.notes == ("no frame is inside the band: 3 are below, 3 above; nothing is chosen",)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_whose_prediction_is_not_finite_are_counted(kind: str) -> None:
    pool = plain(8)
    std, force = pool.force_std.copy(), pool.max_force.copy()
    std[2], force[3], std[4] = (
        np.nan,
        np.nan,
        np.inf,
    )  # others have a force_std: there is more than one member
    selection = selector(kind).select(Pool(**{**pool.__dict__, "force_std": std, "max_force": force}), 8, 0)
    assert selection.rejected == {"not_finite": 3}
    assert sorted(indices(selection)) == [0, 1, 5, 6, 7]


@pytest.mark.parametrize("kind", KINDS)
def test_only_duplicates(kind: str) -> None:
    labelled = rattled("H2O", 4, 0.1, 0)
    frames = [frame.moved(frame.positions[:, [1, 0, 2]] * [1, -1, 1]) for frame in labelled] * 3  # turned
    pool = Pool(frames, np.linspace(1, 2, 12), np.ones(12), labelled, reasons=["uncertain"] * 12)
    selection = selector(kind).select(pool, 5, 0)
    assert not selection.chosen
    assert sum(selection.rejected.values()) == 12
    assert set(selection.rejected) <= {"duplicate", "nothing_new"}
    (note,) = selection.notes
    twins, known = (selection.rejected.get(reason, 0) for reason in ("duplicate", "nothing_new"))
    assert note == (
        f"all candidates repeat what is labelled ({twins} duplicates, {known} without a new environment): "
        "nothing is chosen"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_of_nothing(kind: str) -> None:
    for cost in (None, np.full(5, 0.1)):
        selection = selector(kind).select(plain(5, cost_h=cost, budget_h=0.0), 3, 0)
        assert selection.rejected == {"over_budget": 5}
        assert selection.notes == ("the budget is 0 CPU-hours: nothing is chosen",)


@pytest.mark.parametrize("kind", KINDS)
def test_the_budget_is_spent(kind: str) -> None:
    cost = np.array([4.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    selection = selector(kind, **OPEN).select(plain(6, cost_h=cost, budget_h=3.5), 6, 0)
    assert 0 not in indices(selection)
    assert len(selection.chosen) == 3
    assert selection.rejected == {"over_budget": 3}
    assert selection.notes == (
        "the budget of 3.5 CPU-hours is spent: 3 labels are expected to cost 3, 3 frames cost more than was left",
    )
    enough = selector(kind, **OPEN).select(plain(6, cost_h=cost, budget_h=3.5), 2, 0)
    assert len(enough.chosen) == 2 and enough.notes == ()
    unknown = selector(kind).select(plain(6, budget_h=3.5), 6, 0)
    assert len(unknown.chosen) == 6
    assert unknown.notes == (
        "the budget of 3.5 CPU-hours is not applied: what a label costs is not known yet",
    )


def test_environments_count_gain_per_cost() -> None:
    zero = [np.zeros((3, 2), np.float32)]
    unit = {e: np.ones(2, np.float32) for e in (1, 8)}
    given = {
        "labelled": rattled("H2O", 1, 0.1, 1),
        "features": [np.full((3, 2), v, np.float32) for v in (4.0, 3.0, -1.0)],
        "labelled_features": zero,
        "scale": ElementScale({e: 0 * one for e, one in unit.items()}, unit),
    }
    by_gain = selector("environments", **OPEN).select(plain(3, **given), 3, 0)
    assert indices(by_gain)[0] == 0
    cheap = plain(3, cost_h=np.array([8.0, 2.0, 1.0]), budget_h=3.0, **given)
    selection = selector("environments", **OPEN).select(cheap, 3, 0)
    assert indices(selection) == [1, 2]
    assert selection.chosen[0].score == pytest.approx(3 * 3 * np.sqrt(2) / 2)  # sum over three atoms / cost
    assert selection.rejected == {"over_budget": 1}


def test_high_forces_are_a_matter_of_large_pools() -> None:
    frames = rattled("H2O", 1, 0.1, 0) * 2000
    force = np.arange(2000.0)
    keep = {"dedup": {"min_distance_A": 0}}
    assert selector("random", **keep).select(Pool(frames, force * 0, force), 1, 0).rejected == {
        "high_force": 1
    }
    few = Pool(frames[:50], force[:50] * 0, force[:50])
    assert selector("random", **keep).select(few, 1, 0).rejected == {}
    absolute = {**keep, "physical": {"max_force_eV_per_A": 29.5}}
    assert selector("random", **absolute).select(few, 1, 0).rejected == {"high_force": 20}


def test_too_close_counts_images() -> None:
    chain = Frame(np.array([29]), np.zeros((1, 3)), cell=np.diag([1.2, 9, 9]), pbc=np.ones(3, bool))
    water = rattled("H2O", 1, 0.0, 0)[0]
    crushed = Frame(np.array([8, 1]), np.array([[0, 0, 0], [0, 0, 0.5]]))
    lone = Frame(np.array([8]), np.zeros((1, 3)))
    frames = [chain, water, crushed, lone, crushed]
    assert too_close(frames, 0.6).tolist() == [True, False, True, False, True]
    assert too_close(frames, 0.4).tolist() == [False] * 5


def test_all_pairs_and_neighbour_lists_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = rattled("CH3CH2OH", 60, 0.25, 0) + rattled("H2O", 40, 0.25, 1)
    monkeypatch.setattr(_filters, "PAIRS_AT_ONCE", 100)
    by_pairs = too_close(frames, 0.7)
    monkeypatch.setattr(_filters, "ALL_PAIRS", 0)
    assert 10 < by_pairs.sum() < 90
    assert np.array_equal(by_pairs, too_close(frames, 0.7))
