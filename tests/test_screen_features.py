"""screen: features from the best source there is, computed once; events that are no frames of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import step_toys
from ase.build import molecule
from step_toys import COMPUTED, SCRIPTS, Stages, event, kept, shaken

from alfw.core.frame import Frame
from alfw.io.scales import unpack_scale
from alfw.io.shards import pack, unpack
from alfw.steps import screen, select
from alfw.steps.audit import draw_audit
from alfw.steps.features import compact
from alfw.steps.pool import gather
from alfw.store import Store


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    step_toys.register(monkeypatch)


@pytest.fixture
def frozen(tmp_path: Path) -> dict[str, Any]:
    """A model that starts from a checkpoint."""
    path = tmp_path / "checkpoint.json"
    path.write_text(json.dumps({"tag": "frozen"}))
    return {"kind": "toymodel", "start_from": str(path)}


def computed(tag: str) -> list[str]:
    """Ids of all frames whose features came from weights with a tag that starts so."""
    return [frame for name, ids in COMPUTED if name.startswith(tag) for frame in ids]


def test_frozen_features_are_computed_once_for_each_frame(
    store: Store, tmp_path: Path, frozen: dict[str, Any]
) -> None:
    pools = iter([shaken(20, seed=2), shaken(20, seed=3), shaken(20, seed=4)])
    SCRIPTS["pool"] = lambda starts: kept(next(pools))
    stages = Stages(store, tmp_path, model=frozen, select={"audit_frames": 2})
    seen: list[str] = []
    for number in (1, 2, 3):
        result = stages.select(number)
        assert result["outputs"]["features"].startswith("checkpoint ")
        pool = gather(stages.ctx(number))
        assert pool.features is not None and pool.features[0].dtype == np.float32
        stages.finish(number)
        labelled = stages.ctx(number).result("screen")["outputs"]["labelled_features"]
        seen += unpack(store.get_blob(labelled))[1]["id"].tolist()
    assert computed("trained") == []
    assert len(seen) == len(set(seen)) == 6 + 5 + 5, (
        "8 initial frames without their test side; 5 of each round"
    )
    assert len(computed("frozen")) == 3 * 20 + len(seen), "nothing is computed again"


def test_the_scale_is_fitted_once_and_new_elements_are_added(
    store: Store, tmp_path: Path, frozen: dict[str, Any]
) -> None:
    hydrogen = Frame.from_atoms(molecule("H2"))
    pools = iter([shaken(20, 2, frame=hydrogen), shaken(20, 3, size=0.5)])
    SCRIPTS["pool"] = lambda starts: kept(next(pools))
    stages = Stages(store, tmp_path, model=frozen, initial=shaken(8, 1, frame=hydrogen))
    first = unpack_scale(store.get_blob(stages.select(1)["outputs"]["scale"]))
    stages.finish(1)
    second = unpack_scale(store.get_blob(stages.select(2)["outputs"]["scale"]))
    assert set(first.mean) == {1} and set(second.mean) == {1, 8}
    assert (first.mean[1] == second.mean[1]).all() and (first.width[1] == second.width[1]).all()


def test_features_of_the_ensemble_are_others_in_each_round(store: Store, tmp_path: Path) -> None:
    pools = iter([shaken(20, seed=2), shaken(20, seed=3, size=0.3)])
    SCRIPTS["pool"] = lambda starts: kept(next(pools))
    stages = Stages(store, tmp_path)
    results = []
    for number in (1, 2):
        results.append(stages.select(number)["outputs"])
        stages.finish(number)
    assert results[0]["features"] != results[1]["features"]
    assert results[1]["features"].startswith("ensemble ")
    assert len(computed("trained")) == (20 + 6) + (20 + 6 + 3), "what is labelled is computed again"
    one, two = (unpack_scale(store.get_blob(result["scale"])) for result in results)
    assert (one.width[8] != two.width[8]).any(), "another source has another scale"


def test_without_a_network_features_are_geometric(store: Store, tmp_path: Path) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(20, seed=2))
    stages = Stages(store, tmp_path, model={"has_features": False})
    result = stages.select(1)
    assert result["outputs"]["features"] == "geometric 1 8"
    assert result["counts"]["n_selected"] == 3
    features = gather(stages.ctx(1)).features
    assert features is not None and features[0].shape == (3, 10 * 2 + 9 * 3)


def test_elements_that_a_source_does_not_know_leave_the_features_out(store: Store, tmp_path: Path) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(5, 2, frame=Frame.from_atoms(molecule("HCl"))))
    stages = Stages(store, tmp_path, model={"has_features": False})
    result = stages.select(1)
    assert "features" not in result["outputs"] and result["counts"]["n_selected"] == 3
    assert gather(stages.ctx(1)).features is None


def test_nothing_is_computed_for_a_selector_that_needs_none(store: Store, tmp_path: Path) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(20, seed=2))
    stages = Stages(store, tmp_path, select={"kind": "random"})
    assert stages.select(1)["counts"]["n_selected"] == 3
    assert COMPUTED == []


def test_a_round_screened_by_an_older_version_goes_on(store: Store, tmp_path: Path) -> None:
    good = shaken(1, seed=5)[0]
    SCRIPTS["pool"] = lambda starts: kept(shaken(20, seed=2), [event(good)])
    stages = Stages(store, tmp_path)
    stages.explore(1)
    new = stages.ctx(1).result("screen")
    frames, arrays = unpack(store.get_blob(new["outputs"]["pool"]))
    old = {k: v for k, v in arrays.items() if k not in ("reason", "energy", "atoms_forces", "atoms_features")}
    store.database["alfw_results"].update_one(
        {"_id": new["_id"]}, {"$set": {"outputs": {"pool": store.put_blob(pack(frames, **old))}}}
    )
    result = select.run(stages.ctx(1))
    assert result["counts"]["n_selected"] == 3 and "features" not in result["outputs"]
    pool = gather(stages.ctx(1))
    assert pool.features is None and pool.reason.tolist() == [""] * 20 + ["event"]


def test_what_events_offer_is_marked_and_the_bad_frame_stays_a_record(store: Store, tmp_path: Path) -> None:
    ordinary, good, bad = shaken(20, seed=2), shaken(1, seed=5)[0], shaken(1, seed=6, size=3.0)[0]
    met = [event(good, "force", bad), event(good, "speed", bad, walker=1), event(ordinary[3], "high_force")]
    SCRIPTS["pool"] = lambda starts: kept(ordinary, met)
    stages = Stages(store, tmp_path, select={"kind": "random", "max_frames": 21})
    result = stages.select(1)
    pool = gather(stages.ctx(1))
    assert [frame.id for frame in pool.frames] == [frame.id for frame in [*ordinary, good]]
    assert pool.reason.tolist() == [""] * 3 + ["high_force"] + [""] * 16 + ["explosion: force"]
    assert pool.auditable.tolist() == [True] * 20 + [False], "a high force is an ordinary frame of the pool"
    rows = {row["frame"]: row for row in stages.candidates(1)}
    assert bad.id not in rows and store.get_frames([bad.id])
    assert rows[good.id]["event"] == "explosion: force" and rows[good.id]["reason"].startswith("random")
    assert rows[ordinary[3].id]["event"] == "high_force" and rows[ordinary[4].id]["event"] is None
    assert result["counts"]["n_pool"] == 21
    counts = stages.ctx(1).result("sample")["counts"]
    assert (counts["n_explosions"], counts["n_high_force"], counts["n_events"]) == (2, 1, 3)


def test_a_frame_that_is_not_finite_neither_enters_nor_shifts_the_scale(
    store: Store, tmp_path: Path, frozen: dict[str, Any]
) -> None:
    lost = shaken(1, seed=7, size=200.0)[0]
    SCRIPTS["pool"] = lambda starts: kept([*shaken(20, seed=2), lost])
    stages = Stages(store, tmp_path, model=frozen, select={"audit_frames": 5})
    result = stages.select(1)
    assert result["metrics"]["rejected"]["not_finite"] == 1
    assert stages.ctx(1).result("screen")["counts"]["n_not_finite"] == 1
    assert lost.id not in {row["frame"] for row in stages.candidates(1)}
    assert unpack_scale(store.get_blob(result["outputs"]["scale"])).width[1].max() < 2


def test_features_are_stored_as_float16_where_that_is_exact_enough() -> None:
    rng = np.random.default_rng(0)
    numbers = np.repeat([1, 8], 500)
    wide = rng.standard_normal((1000, 16)).astype(np.float32)
    narrow = wide.copy()
    narrow[numbers == 8] = 5 + 0.01 * narrow[numbers == 8]  # of a rigid crystal
    assert compact(wide, numbers).dtype == np.float16
    assert compact(narrow, numbers).dtype == np.float32
    huge = wide.copy()
    huge[0, 0] = 1e6
    assert compact(huge, numbers).dtype == np.float32 and compact(huge, numbers)[0, 0] == 1e6


def test_audit_frames_of_a_ramp_are_spread_over_its_temperatures(store: Store, tmp_path: Path) -> None:
    count = 64
    ramp = np.linspace(300, 700, count)
    SCRIPTS["pool"] = lambda starts: kept(shaken(count, seed=2), temperature_K=ramp)
    SCRIPTS["biased"] = lambda starts: kept(shaken(count, seed=3), unbiased=False)
    stages = Stages(store, tmp_path, sample=[{"kind": "scripted"}, {"kind": "scripted", "script": "biased"}])
    stages.explore(1, parts=2)
    pool = gather(stages.ctx(1))
    fresh = np.ones(2 * count, bool)
    drawn = draw_audit(pool, fresh, 8, seed=1)
    assert np.bincount(drawn // 8, minlength=16).tolist() == [1] * 8 + [0] * 8, (
        "one of each eighth of the ramp"
    )
    times = np.bincount(
        np.concatenate([draw_audit(pool, fresh, 3, s) for s in range(1000)]), minlength=2 * count
    )
    expected = 3 * 1000 / count
    assert np.abs(times[:count] / expected - 1).max() < 5 / np.sqrt(expected), "each as likely as any other"
    assert times[count:].sum() == 0


def test_screen_and_select_change_nothing_when_they_run_again(
    store: Store, tmp_path: Path, frozen: dict[str, Any]
) -> None:
    SCRIPTS["pool"] = lambda starts: kept(shaken(20, seed=2))
    stages = Stages(store, tmp_path, model=frozen)
    result = stages.select(1)
    before, calls = store.get_results("toy"), len(COMPUTED)
    screen.run(stages.ctx(1), 0)
    assert select.run(stages.ctx(1)) == result
    assert store.get_results("toy") == before and len(COMPUTED) == calls


def test_select_needs_numpy_only() -> None:
    code = "import sys, alfw.firetasks; print([m for m in ('jax', 'torch', 'nequix', 'tblite') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
