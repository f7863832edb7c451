"""evaluate: how good the ensemble is, on the sealed test regions and on audit labels it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from alfw.core.metrics import ErrorSummary, bootstrap_upper, frame_force_mse, summarise
from alfw.core.protocols import Potential
from alfw.core.records import Labeled
from alfw.steps.context import Context, Outcome
from alfw.steps.dataset import Row, labeled, rows_of
from alfw.steps.ensemble import driving_ensemble, load_potential


def run(ctx: Context) -> dict[str, Any]:
    """The committed evaluation of this round."""
    return ctx.once("evaluate", 0, lambda: _evaluate(ctx))


def _evaluate(ctx: Context) -> Outcome:
    rows = rows_of(ctx, ctx.result("merge")["outputs"]["dataset"])
    ensemble = ctx.result("train")["outputs"]["ensemble"]
    potential = load_potential(ctx, ensemble)
    metrics: dict[str, Any] = {}
    test = [row for row in rows if row.side == "test"]
    metrics["test"] = _summary(ctx, potential, test)
    metrics["test_regions"] = {
        region: _summary(ctx, potential, [row for row in test if row.region == region])
        for region in sorted({row.region for row in test if row.region})
    }
    metrics["valid"] = _summary(ctx, potential, [row for row in rows if row.side == "valid"])
    audit = [row for row in rows if row.audit and row.round == ctx.round]
    if audit:
        metrics |= _audit(ctx, audit)
    return Outcome({"ensemble": ensemble}, {"n_audit_labeled": len(audit)}, metrics)


def _audit(ctx: Context, rows: list[Row]) -> dict[str, Any]:
    """Errors on this round's audit labels of the ensemble that made the pool, before it was retrained on them."""
    candidates = ctx.get_json(ctx.result("select")["outputs"]["candidates"])
    temperature = {c["frame"]: c["temperature_K"] for c in candidates}
    before = load_potential(ctx, driving_ensemble(ctx))
    items = labeled(ctx, rows)
    mean_forces = [forces.mean(0) for forces in before.predict([item.frame for item in items]).forces]
    by_temperature = {}
    for kelvin in sorted({temperature[row.frame] or 0.0 for row in rows}):
        chosen = [row for row in rows if (temperature[row.frame] or 0.0) == kelvin]
        by_temperature[f"{kelvin:g} K".replace(".", "_")] = _summary(ctx, before, chosen)
    return {
        "audit": _summary(ctx, before, rows),
        "audit_by_temperature": by_temperature,
        "audit_squares": [list(pair) for pair in frame_force_mse(items, mean_forces)],
    }


def _summary(ctx: Context, potential: Potential, rows: list[Row]) -> dict[str, Any] | None:
    """Errors of the ensemble's mean on these rows; None without rows."""
    if not rows:
        return None
    items = labeled(ctx, rows)
    return errors_of(potential, items).as_dict()


def errors_of(potential: Potential, items: list[Labeled]) -> ErrorSummary:
    """Errors of the ensemble's mean energy and forces on labelled frames."""
    prediction = potential.predict([item.frame for item in items])
    return summarise(items, prediction.energy.mean(0), [forces.mean(0) for forces in prediction.forces])


def audit_upper_bound(ctx: Context, rounds: int = 3) -> float | None:
    """Upper 95 % bootstrap bound (eV/Å) of the audit force RMSE of the last rounds; None with too few audits."""
    squares: list[list[float]] = []
    for number in range(max(ctx.round - rounds + 1, 1), ctx.round + 1):
        squares += ctx.result("evaluate", round=number)["metrics"].get("audit_squares", [])
    if not squares:
        return None
    bound = bootstrap_upper(np.array(squares), level=0.95, seed=ctx.seed("decide", "bootstrap"))
    return bound if np.isfinite(bound) else None
