"""train: the members of an ensemble on one dataset version."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from alfw.core.records import TrainingData
from alfw.core.reference import composition_rank
from alfw.steps.context import Context, Outcome
from alfw.steps.dataset import labeled, rows_of
from alfw.steps.ensemble import ensemble_id, model_identity


def run(ctx: Context, members: Sequence[int]) -> list[dict[str, Any]]:
    """The committed results of training these members, one part each."""
    data: TrainingData | None = None
    results = []
    for k in members:
        found = ctx.store.get_result(ctx.campaign, ctx.round, "train", k)
        if found is None:
            data = data or training_data(ctx)
            found = _committed(ctx, k, data)
        results.append(found)
    return results


def _committed(ctx: Context, k: int, data: TrainingData) -> dict[str, Any]:
    return ctx.once("train", k, lambda: _train(ctx, k, data))


def training_data(ctx: Context) -> TrainingData:
    """Train and valid side of this round's dataset, with the statistics of the lineage."""
    rows = rows_of(ctx, ctx.result("merge")["outputs"]["dataset"])
    train = labeled(ctx, [row for row in rows if row.side == "train"])
    valid = labeled(ctx, [row for row in rows if row.side == "valid"])
    data = TrainingData(train, valid)
    return TrainingData(train, valid, _lineage(ctx, data) or ctx.plugins.model.statistics(data))


def _lineage(ctx: Context, data: TrainingData) -> dict[str, Any] | None:
    """Statistics of the ensemble before, unless new elements or compositions raised the rank of the E0 fit.

    E0, scale and neighbour numbers stay fixed so that compiled code and warm starts survive retraining.
    """
    if ctx.round == 0:
        return None
    before = ctx.store.get_ensemble(ctx.result("train", round=ctx.round - 1)["outputs"]["ensemble"])
    rank = composition_rank([item.frame for item in data.train])
    return dict(before["statistics"]) if before["rank"] == rank else None


def _train(ctx: Context, k: int, data: TrainingData) -> Outcome:
    model, store = ctx.at_work("model").model, ctx.store
    dataset = ctx.result("merge")["outputs"]["dataset"]
    seeds = [ctx.seed("train", j) for j in range(model.members)]
    ensemble = ensemble_id(ctx, dataset, seeds)
    began = time.perf_counter()
    ctx.progress(f"training member {k + 1}/{model.members} on {len(data.train)} labels")
    weights = model.train(
        data,
        seed=seeds[k],
        start=None,
        workdir=ctx.workdir / f"member_{k}",
        resources=ctx.resources("train").resources(),
        progress=ctx.progress,
    )
    metrics_file = weights.parent / "metrics.json"
    metrics = json.loads(metrics_file.read_text()) if metrics_file.exists() else {}
    lineage = {
        "dataset": dataset,
        "model": model_identity(ctx),
        "seeds": seeds,
        "statistics": data.statistics,
        "rank": composition_rank([item.frame for item in data.train]),
        "suffix": weights.suffix,
    }
    trained = {
        "blob": store.put_file(weights),
        "seed": seeds[k],
        "metrics": metrics,
        "wall_s": time.perf_counter() - began,
    }
    store.put_ensemble(ensemble, lineage)
    member = store.put_member(ensemble, k, trained)
    return Outcome({"ensemble": ensemble, "member": member["blob"]}, metrics=metrics)
