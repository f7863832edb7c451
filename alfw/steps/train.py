"""train: the members of an ensemble on one dataset version."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alfw.core.records import TrainingData
from alfw.core.reference import composition_rank
from alfw.steps.context import Context, Outcome
from alfw.steps.dataset import rows_of, stacked
from alfw.steps.ensemble import ensemble_id, model_identity
from alfw.steps.replay import get_replay

STATE = "state.npz"  # of a training that was cut off, by the contract of `Model.train`


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
    train = stacked(ctx, [row for row in rows if row.side == "train"])
    valid = stacked(ctx, [row for row in rows if row.side == "valid"])
    data = TrainingData(train, valid)
    known = _lineage(ctx, data)
    statistics = known or ctx.plugins.model.statistics(data, checkpoint(ctx))
    return TrainingData(train, valid, statistics, get_replay(ctx))


def checkpoint(ctx: Context) -> Path | None:
    """The foundation checkpoint of the campaign, in the working folder; None where it has none."""
    blob = ctx.result("start", round=0)["outputs"].get("checkpoint")
    if blob is None:
        return None
    path = ctx.workdir / f"checkpoint{Path(ctx.plugins.model.start_from).suffix}"  # type: ignore[attr-defined]
    if not path.exists():
        ctx.store.save_blob(blob, path)
    return path


def _start(ctx: Context, k: int, data: TrainingData) -> Path | None:
    """What member k starts from: itself in the round before where the model wants that, else the checkpoint.

    A new lineage, with other statistics, does not start from a member of the old one.
    """
    if ctx.round > 0 and getattr(ctx.plugins.model, "warm_start", False):
        before = ctx.store.get_ensemble(ctx.result("train", round=ctx.round - 1)["outputs"]["ensemble"])
        if before["statistics"] == data.statistics:
            path = ctx.workdir / f"before_{k}{before['suffix']}"
            ctx.store.save_blob(ctx.result("train", k, round=ctx.round - 1)["outputs"]["member"], path)
            return path
    return checkpoint(ctx)


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
    workdir = ctx.workdir / f"member_{k}"
    workdir.mkdir(parents=True, exist_ok=True)
    cut_off = store.get_checkpoint(ensemble, k)
    if cut_off is not None:
        store.save_blob(cut_off[0], workdir / STATE)
    went_on = "" if cut_off is None else f", from step {cut_off[1]} on"
    ctx.progress(f"training member {k + 1}/{model.members} on {len(data.train)} labels{went_on}")
    weights = model.train(
        data,
        seed=seeds[k],
        start=_start(ctx, k, data),
        workdir=workdir,
        resources=ctx.resources("train").resources(),
        progress=ctx.progress,
        keep=lambda path, step: store.put_checkpoint(ensemble, k, store.put_file(path), step),
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
