"""decide: whether the campaign goes on, and why not."""

from __future__ import annotations

from typing import Any

from alfw.steps.context import Context, Outcome
from alfw.steps.evaluate import audit_upper_bound


def run(ctx: Context) -> dict[str, Any]:
    """The committed decision of this round: outputs {"continue": bool, "why": str}."""
    return ctx.once("decide", 0, lambda: _decide(ctx))


def _decide(ctx: Context) -> Outcome:
    why = stop_reason(ctx)
    bound = audit_upper_bound(ctx) if ctx.round > 0 else None
    return Outcome({"continue": why is None, "why": why}, metrics={"audit_force_rmse_upper_eV_per_A": bound})


def stop_reason(ctx: Context) -> str | None:
    """Why the campaign ends after this round; None when it goes on."""
    stop = ctx.config.file.stop
    if ctx.round >= stop.max_rounds:
        return f"max_rounds {stop.max_rounds} reached"
    merged = ctx.result("merge")["counts"]
    n_labels = merged["n_train"] + merged["n_valid"] + merged["n_test"]
    if stop.max_labels is not None and n_labels >= stop.max_labels:
        return f"max_labels {stop.max_labels} reached ({n_labels} labels)"
    if ctx.round > 0 and ctx.result("select")["counts"]["n_selected"] == 0:
        return "nothing left to label: the selection of this round is empty"
    if ctx.round < stop.min_rounds or stop.force_rmse_eV_per_A is None or ctx.round == 0:
        return None
    return _accurate_enough(ctx, stop.force_rmse_eV_per_A)


def _accurate_enough(ctx: Context, target: float) -> str | None:
    """Met when the sealed test RMSE *and* the upper 95 % bound of the audit RMSE are below the target."""
    test = ctx.result("evaluate")["metrics"]["test"]
    bound = audit_upper_bound(ctx)
    if test is None or bound is None:
        return None
    rmse = test["force_rmse_eV_per_A"]
    if rmse is None or not (rmse < target and bound < target):
        return None
    return (
        f"force_rmse_eV_per_A {target:g} reached: sealed test {rmse:.4f}, audit labels at most {bound:.4f} "
        "(95 % bootstrap bound of the last rounds)"
    )
