"""decide: whether the campaign goes on, and why not."""

from __future__ import annotations

from typing import Any

from alfw.steps.context import Context, Outcome
from alfw.steps.stop_rules import Evidence, as_metrics, stop_reason


def run(ctx: Context) -> dict[str, Any]:
    """The committed decision of this round: outputs {"continue": bool, "why": str}, and the rules it was made by."""
    return ctx.once("decide", 0, lambda: _decide(ctx))


def _decide(ctx: Context) -> Outcome:
    evidence = Evidence(ctx)
    why = stop_reason(ctx, evidence)
    return Outcome({"continue": why is None, "why": why}, metrics=as_metrics(evidence))
