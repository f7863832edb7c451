"""select, on toys: what is offered to the selector, what is said, and what can never happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import step_toys
from step_toys import SCRIPTS, Stages, event, kept, shaken

from alfw.core.exploration import Exploration
from alfw.selectors.environments import EnvironmentsSelector
from alfw.steps import select
from alfw.steps.sample import median_ps_to_failure, start_frames
from alfw.store import Store


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    step_toys.register(monkeypatch)


def offered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pools that the selector is given from now on."""
    pools: list[Any] = []
    original = EnvironmentsSelector.select

    def spy(self: Any, pool: Any, limit: int, seed: int) -> Any:
        pools.append(pool)
        return original(self, pool, limit, seed)

    monkeypatch.setattr(EnvironmentsSelector, "select", spy)
    return pools


def test_a_round_is_selected_once(store: Store, tmp_path: Path) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(20, seed=2))
    stages = Stages(store, tmp_path, select={"audit_frames": 2})
    result = stages.select(1)
    rows = stages.candidates(1)
    assert [row["audit"] for row in rows] == [True, True, False, False, False]
    assert result["counts"] == {
        "n_pool": 20,
        "n_candidates": 18,
        "n_selected": 5,
        "n_audit": 2,
        "n_retry": 0,
        "n_in_flight": 0,
        "n_known": 0,
        "n_not_labelable": 0,
    }
    assert select.run(stages.ctx(1)) == result
    assert len(store.get_candidates("toy", 1)) == 5


def test_the_selector_is_told_all_that_is_known(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = offered(monkeypatch)
    monkeypatch.setattr(step_toys.ScriptedSampler, "driven", True, raising=False)
    ordinary, good = shaken(20, seed=2), shaken(1, seed=5)[0]
    SCRIPTS["pool"] = lambda starts: kept(ordinary, [event(good)])
    stages = Stages(store, tmp_path, select={"audit_frames": 2, "budget_cpu_hours": 100.0})
    stages.select(1)
    [pool] = pools
    n = len(pool.frames)
    assert n == 21 - 2 and len(pool.features) == len(pool.cost_h) == len(pool.reasons) == n
    assert [len(z) for z in pool.features] == [3] * n
    assert len(pool.labelled_features) == len(pool.labelled) == 6 + 2, "train and valid side, audit frames"
    assert set(pool.scale.mean) == {1, 8}
    assert pool.reasons[-1] == "explosion: force" and set(pool.reasons[:-1]) == {""}
    assert pool.driven == [True] * n, "by the model's forces"
    assert pool.cost_h == pytest.approx([3.0] * n) and pool.budget_h == pytest.approx(100 - 2 * 3.0)
    assert pool.force_std == pytest.approx(0.1 * pool.max_force)


def test_frames_in_flight_are_neither_proposed_again_nor_their_twins(store: Store, tmp_path: Path) -> None:
    frames = shaken(6, seed=2)
    SCRIPTS["pool"] = lambda starts: kept(frames)
    first = Stages(store, tmp_path, name="first", select={"max_frames": 6})
    assert first.select(1)["counts"]["n_selected"] == 6
    twins = [frame.moved(frame.positions[:, [1, 2, 0]]) for frame in frames[:3]]  # turned
    others = shaken(3, seed=4)
    SCRIPTS["pool"] = lambda starts: kept([*frames, *twins, *others])
    second = Stages(store, tmp_path, name="second", select={"max_frames": 12})
    result = second.select(1)
    assert result["counts"]["n_known"] == result["counts"]["n_in_flight"] == 6
    assert {row["frame"] for row in second.candidates(1)} == {frame.id for frame in others}


def test_a_pool_that_is_all_in_flight_says_so(store: Store, tmp_path: Path) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(3, seed=2))
    Stages(store, tmp_path, name="first").select(1)
    result = Stages(store, tmp_path, name="second").select(1)
    assert result["counts"]["n_selected"] == 0
    assert "3 frames on their way to a label" in result["metrics"]["notes"][-1]


@pytest.mark.parametrize("state", ["ended", "paused"])
def test_who_may_never_label_holds_up_nobody(store: Store, tmp_path: Path, state: Any) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(6, seed=2))
    Stages(store, tmp_path, name="first", select={"max_frames": 6}).select(1)
    store.set_state("first", state, "for the test")
    second = Stages(store, tmp_path, name="second", select={"max_frames": 12})
    assert second.select(1)["counts"]["n_selected"] == 6


def test_candidates_that_lost_their_round_are_in_flight(store: Store, tmp_path: Path) -> None:
    frames = shaken(12, seed=2)
    SCRIPTS["pool"] = lambda starts: kept(frames)
    stages = Stages(store, tmp_path)
    stages.select(1)
    stages.finish(1)
    waiting = frames[-1] if frames[-1].id not in {r["frame"] for r in stages.candidates(1)} else frames[-2]
    store.put_frames([waiting])
    store.put_candidates("toy", 1, [{"frame": waiting.id, "source": "elsewhere"}])
    assert stages.select(2)["counts"]["n_known"] == 3 + 1


EMPTY = {
    "empty pool": ([], {}, "the pool is empty"),
    "below the band": (shaken(20, 2), {"band_eV_per_A": [5.0, 9.0]}, "may be converged"),
    "duplicates only": ([step_toys.WATER] * 20, {"dedup": {"min_distance_A": 0.5}}, "duplicate"),
    "labelled all": (shaken(8, seed=1), {}, "the pool is empty"),
    "not finite": (shaken(5, 2, size=300.0), {"audit_frames": 5}, "no frame is physical"),
}


@pytest.mark.parametrize("case", EMPTY)
def test_an_empty_selection_says_why(store: Store, tmp_path: Path, case: str) -> None:
    frames, options, said = EMPTY[case]
    SCRIPTS["pool"] = lambda starts: kept(frames)
    stages = Stages(store, tmp_path, select=options)
    result = stages.select(1)
    assert stages.candidates(1) == [] and result["counts"]["n_selected"] == 0
    notes = result["metrics"]["notes"]
    assert any(said in note for note in notes), notes
    assert all("\n" not in note for note in notes)
    stages.finish(1)
    assert stages.ctx(1).result("merge")["counts"]["n_labeled"] == 0, "and the round ends"


def test_everything_above_the_band_is_said(store: Store, tmp_path: Path) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(20, seed=2))
    stages = Stages(store, tmp_path, select={"band_eV_per_A": [None, 0.001]})
    result = stages.select(1)
    assert result["counts"]["n_selected"] == 3, "at random"
    assert "not yet fit to explore" in result["metrics"]["notes"][0]


def test_an_ensemble_of_one_is_no_reason_to_choose_nothing(store: Store, tmp_path: Path) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(20, seed=2))
    stages = Stages(store, tmp_path, model={"members": 1})
    assert stages.select(1)["counts"]["n_selected"] == 3
    assert {row["force_std"] for row in stages.candidates(1)} == {None}
    assert stages.ctx(1).result("screen")["metrics"]["force_std_mean_eV_per_A"] is None


# --- sample


def test_walkers_start_from_calm_labelled_frames(store: Store, tmp_path: Path) -> None:
    torn = step_toys.WATER.moved(2.0 * step_toys.WATER.positions)  # labelled, but far from anything calm
    given: list[Any] = []

    def explore(starts: Any) -> Exploration:
        given.extend(starts)
        bad = shaken(1, seed=8, size=2.0)[0]
        return kept(shaken(5, seed=2), [event(starts[0], bad=bad)])

    SCRIPTS["pool"] = explore
    stages = Stages(store, tmp_path, initial=[*shaken(12, seed=1), torn])
    for number in (1, 2):
        stages.select(number)
        stages.finish(number)
    rows = {row.frame: row for row in _rows(stages)}
    starts = {frame.id for frame in given}
    assert starts <= rows.keys(), "labelled ones only: no bad frame of an event"
    assert torn.id not in starts
    assert all(rows[frame].side != "test" for frame in starts)
    assert [f.id for f in start_frames(stages.ctx(2), 0)] == [f.id for f in start_frames(stages.ctx(2), 0)]


def _rows(stages: Stages) -> Any:
    from alfw.steps.dataset import rows_of

    ctx = stages.ctx(2)
    return rows_of(ctx, ctx.result("merge")["outputs"]["dataset"])


def test_events_keep_their_velocities(store: Store, tmp_path: Path) -> None:
    speeds = np.arange(9.0).reshape(3, 3) / 100
    SCRIPTS["pool"] = lambda starts: kept(
        shaken(5, seed=2), [event(starts[0], velocities=speeds), event(starts[0], velocities=speeds * np.nan)]
    )
    stages = Stages(store, tmp_path)
    stages.explore(1)
    ctx = stages.ctx(1)
    first, second = ctx.get_json(ctx.result("sample")["outputs"]["events"])
    assert np.array(first["velocities"]) == pytest.approx(speeds) and second["velocities"] is None


def test_median_time_to_failure_knows_who_was_watched_how_long() -> None:
    good = step_toys.WATER

    def lived(*ends: tuple[str, float], walkers: int = 4, time_ps: float = 4.0) -> Exploration:
        events = [event(good, why, walker=w, time_fs=fs) for w, (why, fs) in enumerate(ends)]
        return kept([], events, counters={"n_walkers": walkers, "time_ps": time_ps})

    assert median_ps_to_failure(lived(("force", 200.0))) is None
    assert median_ps_to_failure(lived(("force", 200.0), ("nan", 700.0))) == pytest.approx(0.7)
    assert median_ps_to_failure(lived(("force", 200.0), ("high_force", 700.0))) is None
    # two were stopped before anything failed: of the two others one failed
    stopped = lived(("uncertain", 100.0), ("uncertain", 100.0), ("force", 900.0), time_ps=2.1)
    assert median_ps_to_failure(stopped) == pytest.approx(0.9)
    assert median_ps_to_failure(lived(walkers=0, time_ps=0.0)) is None
    # one that began again as another walker was watched for the rest of the time only
    again = kept([], [event(good, time_fs=300.0)], life_fs={0: 300.0, 1: 1000.0, 2: 700.0})
    assert median_ps_to_failure(again) is None
    again = kept(
        [],
        [event(good, time_fs=300.0), event(good, walker=2, time_fs=200.0)],
        life_fs={0: 300.0, 1: 250.0, 2: 200.0},
    )
    assert median_ps_to_failure(again) == pytest.approx(0.3), "of three, one stopped being watched before"
