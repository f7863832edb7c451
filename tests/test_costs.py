"""What a campaign has cost: by stage, per label, for each meV/Å; failed calculations included."""

from __future__ import annotations

import campaigns
import numpy as np
import pytest
from campaign_results import Round, begun, commit, told

from alfw.core.errors import NotConvergedError, WalltimeError
from alfw.core.records import Run
from alfw.steps.costs import campaign_costs
from alfw.steps.ledger import record_failure


def test_costs_by_stage_label_and_gain(store, tmp_path):
    rounds = [Round(error=0.10), Round(error=0.06, gpu_s=720.0), Round(error=0.07)]
    told(store, tmp_path, rounds, stop={"max_rounds": 9})
    costs = campaign_costs(store, "copper")
    # 36 CPU-s a label: 20 at the start, 12 in each of two rounds; 360 s a stage
    assert costs["labels"]["n"] == 44
    assert costs["labels"]["cpu_hours"] == pytest.approx(0.44)
    assert costs["labels"]["cpu_hours_per_label"] == pytest.approx(0.01)
    assert costs["stages"]["sample"]["cpu_hours"] == pytest.approx(0.2)
    assert costs["stages"]["sample"]["gpu_hours"] == pytest.approx(0.2)
    assert costs["gpu_hours"] == pytest.approx(4 * 0.2)
    whole = sum(part["cpu_hours"] for part in costs["stages"].values())
    assert costs["cpu_hours"] == pytest.approx(whole)
    assert costs["labels"]["campaign_cpu_hours_per_label"] == pytest.approx(whole / 44)
    start, good, bad = costs["rounds"]
    assert start["gained_meV_per_A"] is None
    assert good["gained_meV_per_A"] == pytest.approx(40)
    assert good["cpu_hours_per_meV_per_A"] == pytest.approx(good["cpu_hours"] / 40)
    assert bad["gained_meV_per_A"] == pytest.approx(-10) and bad["cpu_hours_per_meV_per_A"] is None


def test_failed_calculations_cost_what_their_outputs_took(store, tmp_path):
    config = begun(store, tmp_path, resources={"label": {"ntasks": 4, "gpus": 1}})
    ctx = commit(store, config, 0, Round())
    before = campaign_costs(store, "copper")
    frames = [f"{i:064x}" for i in range(3)]
    theory = ctx.plugins.labeler.theory().id
    run = Run(files={"out": b"not converged"}, wall_s=900.0)
    store.put_run(frames[0], theory, 1, run)
    record_failure(ctx, frames[0], NotConvergedError("no"), run, final=False, attempt=1)
    record_failure(ctx, frames[0], NotConvergedError("no"), run, final=True, attempt=1)  # the same output
    stopped = WalltimeError("time is up")
    stopped.partial = Run(files={"out": b""}, wall_s=1800.0)
    record_failure(ctx, frames[1], stopped, final=True, attempt=1)
    record_failure(ctx, frames[2], NotConvergedError("died"), final=True, attempt=1)
    costs = campaign_costs(store, "copper")
    assert costs["failed_labels"] == {"n": 3, "n_unknown": 1, "cpu_hours": 3.0, "gpu_hours": 0.75}
    assert costs["cpu_hours"] == pytest.approx(before["cpu_hours"] + 3.0)
    assert store.failed_attempts("another") == []


def test_a_stage_commits_its_wall_time_times_its_gpus(store, tmp_path):
    from alfw.steps.context import Context, Outcome

    config = campaigns.copper(tmp_path, resources={"train": {"gpus": 2}})
    ctx = Context(store, config, 0, tmp_path)
    trained = ctx.once("train", 0, lambda: Outcome({"sum": float(np.ones(10**6).sum())}))
    assert trained["cost"]["gpu_s"] == pytest.approx(2 * trained["cost"]["wall_s"])
    assert ctx.once("merge", 0, lambda: Outcome({}))["cost"]["gpu_s"] == 0


def test_a_campaign_that_has_just_begun_has_cost_nothing(store, tmp_path):
    begun(store, tmp_path)
    costs = campaign_costs(store, "copper")
    assert costs["cpu_hours"] == 0 and costs["rounds"] == []
    assert costs["labels"]["cpu_hours_per_label"] is None
