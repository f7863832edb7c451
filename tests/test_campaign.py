"""The crystal campaign from start to end, and what it leaves behind."""

from __future__ import annotations

from typing import Any

import bson
import campaigns
import numpy as np
import pytest

from alfw.core.ids import content_id
from alfw.steps.summary import campaign_summary
from alfw.store import Store


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, mongodb_uri: str) -> Any:
    """A campaign of three rounds that has ended: (store, launchpad); for reading only."""
    import uuid

    from fireworks import LaunchPad

    name = f"alfw_test_{uuid.uuid4().hex[:12]}"
    launchpad = LaunchPad(host=mongodb_uri, name=name, uri_mode=True, strm_lvl="WARNING")
    launchpad.reset("", require_password=False, max_reset_wo_password=10**6)
    store = campaigns.begin(
        launchpad, campaigns.copper(tmp_path_factory.mktemp("copper"), stop={"max_rounds": 2})
    )
    campaigns.fly(launchpad)
    yield store, launchpad
    launchpad.connection.drop_database(name)
    launchpad.connection.close()


@pytest.mark.slow
def test_ends_whole(ended: Any) -> None:
    store, launchpad = ended
    campaigns.assert_whole(store, launchpad, "copper")
    assert [item["number"] for item in store.rounds("copper")] == [0, 1, 2]
    assert store.get_campaign("copper")["reason"] == "max_rounds 2 reached"


@pytest.mark.slow
def test_test_side_is_sealed(ended: Any) -> None:
    store, _ = ended
    sealed = [
        {row.frame for row in campaigns.dataset_rows(store, "copper", number) if row.side == "test"}
        for number in range(3)
    ]
    assert sealed[0] == sealed[1] == sealed[2]
    assert len(sealed[0]) > 0
    for number in range(3):
        ctx = campaigns.context(store, "copper", number)
        trained = {item.frame.id for item in _training(ctx)}
        assert trained.isdisjoint(sealed[0])
        metrics = ctx.result("evaluate")["metrics"]
        assert metrics["test"]["force_rmse_eV_per_A"] > 0
    candidates = {item["frame"] for item in campaigns.collection(store, "candidates")}
    assert candidates.isdisjoint(sealed[0])


def _training(ctx: Any) -> list[Any]:
    from alfw.steps.train import training_data

    data = training_data(ctx)
    return [*data.train, *data.valid]


@pytest.mark.slow
def test_datasets_grow_and_counts_agree(ended: Any) -> None:
    store, _ = ended
    for number in (1, 2):
        before = {row.label for row in campaigns.dataset_rows(store, "copper", number - 1)}
        rows = campaigns.dataset_rows(store, "copper", number)
        ctx = campaigns.context(store, "copper", number)
        new = [row for row in rows if row.label not in before]
        chosen, merged = ctx.result("select")["counts"], ctx.result("merge")["counts"]
        assert len(new) == merged["n_labeled"] == chosen["n_selected"] - merged["n_failed"]
        assert all(row.round == number for row in new)
        assert ctx.result("screen")["counts"]["n_pool"] == chosen["n_pool"]
        unfit = chosen["n_known"] + chosen["n_not_labelable"]
        assert chosen["n_pool"] == chosen["n_candidates"] + chosen["n_audit"] + unfit
        states = {item["state"] for item in store.get_candidates("copper", number)}
        assert states == {"labeled"}


@pytest.mark.slow
def test_audit_frames_are_first_and_measure_the_ensemble_that_made_them(ended: Any) -> None:
    store, _ = ended
    for number in (1, 2):
        ctx = campaigns.context(store, "copper", number)
        rows = ctx.get_json(ctx.result("select")["outputs"]["candidates"])
        assert [row["audit"] for row in rows] == [True, True, False, False, False]
        assert all(row["reason"] == "audit" for row in rows[:2])
        assert {row["temperature_K"] for row in rows[:2]} == {300.0, 600.0}, "one of each temperature"
        evaluated = ctx.result("evaluate")
        assert evaluated["counts"]["n_audit_labeled"] == 2
        assert evaluated["metrics"]["audit"]["force_rmse_eV_per_A"] > 0
        assert (
            ctx.result("sample")["outputs"]["ensemble"]
            == ctx.result("train", round=number - 1)["outputs"]["ensemble"]
        )


@pytest.mark.slow
def test_error_bars_and_stop_rules_are_committed_and_reported(ended: Any, tmp_path: Any) -> None:
    from alfw.steps.stop_report import save

    store, _ = ended
    for number in (1, 2):
        ctx = campaigns.context(store, "copper", number)
        evaluated = ctx.result("evaluate")
        found = evaluated["metrics"]["calibration"]
        assert (found["n_calibration"], found["factor"]) == (2 * number, None)
        assert found["note"] == f"too few audit labels for 90%: {9 - 2 * number} more are needed"
        errors = ctx.get_json(evaluated["outputs"]["audit_errors"])
        assert {error["stratum"] for error in errors} == {"jaxmd 300 K", "jaxmd 600 K"}
        assert all(error["error"] > 0 and error["force_std"] > 0 for error in errors)
        largest = max(error["error"] for error in errors)
        assert largest**2 >= max(square for square, _ in evaluated["metrics"]["audit_squares"])
    report = save(store, "copper", tmp_path / "report.html")
    [rule] = [rule for rule in report["stop"]["rules"] if rule["met"]]
    assert (rule["rule"], rule["text"]) == ("max_rounds", "round 2")
    curve = report["stop"]["learning_curve"]
    assert curve["error"] == [row["force_rmse_eV_per_A"] for row in report["rounds"]]
    assert curve["n_labels"] == [row["n_train"] + row["n_valid"] for row in report["rounds"]]
    assert all(row["exploration_ns"] > 0 for row in report["rounds"][1:])
    assert set(report["costs"]["stages"]) >= {"sample", "train", "label", "evaluate"}


@pytest.mark.slow
def test_audit_draw_is_uniform(ended: Any) -> None:
    from alfw.steps.audit import draw_audit
    from alfw.steps.pool import gather

    store, _ = ended
    pool = gather(campaigns.context(store, "copper", 1))
    fresh = np.ones(len(pool.frames), bool)
    drawn = np.concatenate([draw_audit(pool, fresh, 2, seed) for seed in range(3000)])
    times = np.bincount(drawn, minlength=len(pool.frames))
    expected = 6000 / pool.auditable.sum()
    assert (times[~pool.auditable] == 0).all()
    assert np.abs(times[pool.auditable] / expected - 1).max() < 6 / np.sqrt(expected)


@pytest.mark.slow
def test_summary(ended: Any) -> None:
    store, _ = ended
    summary = campaign_summary(store, "copper")
    assert summary["state"] == "ended"
    assert summary["stop_reason"] == "max_rounds 2 reached"
    assert summary["failures"] == {}
    fields = set(
        "round state n_pool n_candidates n_selected n_labeled n_failed n_train n_valid n_test "  # noqa: SIM905
        "force_rmse_eV_per_A energy_rmse_eV_per_atom audit_force_rmse_eV_per_A n_explosions "
        "max_force_eV_per_A median_ps_to_failure cpu_hours".split()
    )
    for number, row in enumerate(summary["rounds"]):
        assert fields <= row.keys()
        assert row["round"] == number
        assert row["state"] == "done"
        assert row["force_rmse_eV_per_A"] > 0
        explored = number > 0
        assert (row["n_pool"] is not None) == (row["audit_force_rmse_eV_per_A"] is not None) == explored


@pytest.mark.slow
def test_every_label_has_its_provenance(ended: Any) -> None:
    store, _ = ended
    ctx = campaigns.context(store, "copper", 2)
    rows = campaigns.dataset_rows(store, "copper", 2)
    records = store.get_label_records([row.label for row in rows])
    runs = {run["_id"]: run for run in campaigns.collection(store, "runs")}
    for row, record in zip(rows, records, strict=True):
        assert record["frame"] == row.frame == store.get_frames([row.frame])[0].id
        assert runs[record["run"]]["frame"] == row.frame
        assert store.get_theory(record["theory"]).id == record["theory"] == ctx.plugins.labeler.theory().id
        assert record["version"].startswith("ase ")
    candidates = {item["frame"] for item in store.get_candidates("copper")}
    imported = {row["frame"] for row in ctx.get_json(ctx.result("start", round=0)["outputs"]["entries"])}
    assert {row.frame for row in rows} == imported | candidates
    for number in range(3):
        _ensemble_leads_to_its_dataset(store, number)


def _ensemble_leads_to_its_dataset(store: Store, number: int) -> None:
    ctx = campaigns.context(store, "copper", number)
    dataset, parent = ctx.result("merge")["outputs"]["dataset"], None
    ensemble = store.get_ensemble(ctx.result("train")["outputs"]["ensemble"])
    assert ensemble["dataset"] == dataset
    if number:
        parent = ctx.result("merge", round=number - 1)["outputs"]["dataset"]
    assert store.get_dataset(dataset)["parent"] == parent
    members = store.get_members(ensemble["_id"])
    assert [member["k"] for member in members] == [0, 1]
    assert [member["seed"] for member in members] == ensemble["seeds"]
    assert all(store.has_blob(member["blob"]) for member in members)
    named = {key: ensemble[key] for key in ("dataset", "model", "seeds")}
    assert ensemble["_id"] == content_id("ensemble", named)


@pytest.mark.slow
def test_specs_are_small(ended: Any) -> None:
    _, launchpad = ended
    sizes = {item["name"]: len(bson.encode(item["spec"])) for item in launchpad.fireworks.find()}
    assert max(sizes.values()) < 2000, sizes
