"""Frames that a campaign gave up and its user put back: which they are, and how they come into a later round.

Putting back reopens the final failure; the record stays. While the round of the frame has not merged its labels, its
label Firework runs again (`alfw.workflow.retry`). Afterwards the frame joins the next selection as a candidate with the
reason ``retry``, on the side where its trajectory is. Frames of the sealed test side cannot come back any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alfw.core.errors import ConfigError
from alfw.steps.context import Context
from alfw.steps.dataset import previous_dataset, rows_of

REASON = "retry"


def choose(ctx: Context, classes: Collection[str] = (), frames: Collection[str] = ()) -> list[dict[str, Any]]:
    """Final failures of the campaign, of these classes (none given: all) and frames (ids or their beginnings).

    Raises
    ------
    ConfigError
        No final failure ever was of this class or frame.
    """
    found = ctx.store.all_final_failures(ctx.campaign)
    ever = found + ctx.store.all_final_failures(ctx.campaign, reopened=True)
    for name in classes:
        if name not in {failure["class"] for failure in ever}:
            known = ", ".join(sorted({failure["class"] for failure in ever})) or "none"
            raise ConfigError(f"{name}: no final failure of this class in {ctx.campaign}; there are: {known}")
    for prefix in frames:
        if not any(failure["frame"].startswith(prefix) for failure in ever):
            raise ConfigError(f"{prefix}: no frame of {ctx.campaign} that failed for good has such an id")
    return [
        failure
        for failure in found
        if (not classes or failure["class"] in classes)
        and (not frames or failure["frame"].startswith(tuple(frames)))
    ]


def reopen(ctx: Context, failures: Sequence[dict[str, Any]]) -> int:
    """How many of these final failures are put back by this call; tries made so far are forgotten."""
    theory = ctx.plugins.labeler.theory().id
    claimed = ctx.store.claim_tries([failure["frame"] for failure in failures], theory, ctx.campaign)
    return ctx.store.reopen_failures({f["_id"]: claimed.get(f["frame"], 0) for f in failures})


def reopened(ctx: Context) -> list[str]:
    """Frames that were put back and were not given up again, labelled or not; in the order they failed."""
    again = {failure["frame"] for failure in ctx.store.all_final_failures(ctx.campaign)}
    found = ctx.store.all_final_failures(ctx.campaign, reopened=True)
    return [frame for frame in dict.fromkeys(failure["frame"] for failure in found) if frame not in again]


def put_back(ctx: Context, known: Collection[str]) -> list[dict[str, Any]]:
    """Candidates of a selection that come back from earlier rounds; `known`: frames in the dataset already."""
    frames = [frame for frame in reopened(ctx) if frame not in known]
    rows: dict[str, dict[str, Any]] = {}
    for number in range(ctx.round if frames else 0):
        rows |= {row["frame"]: row for row in rows_of_round(ctx, number)}
    return [
        {**rows[frame], "reason": REASON, "audit": False, "score": None}
        for frame in frames
        if frame in rows and rows[frame].get("side") != "test"
    ]


def rows_of_round(ctx: Context, number: int) -> list[dict[str, Any]]:
    """The candidates of a round; of round 0 the imported frames, each with its side."""
    if number > 0:
        found = ctx.store.get_result(ctx.campaign, number, "select")
        return [] if found is None else list(ctx.get_json(found["outputs"]["candidates"]))
    imported = ctx.get_json(ctx.result("start", round=0)["outputs"]["entries"])
    return [{"source": "initial", "force_std": None, "temperature_K": None, **row} for row in imported]


@dataclass(frozen=True)
class Places:
    """Where frames that are put back can be computed again.

    Attributes
    ----------
    here : list of str
        In the newest round, which has not merged its labels yet.
    later : list of str
        They join the next selection.
    sealed : list of str
        Nowhere: they are of the test side, which was sealed without them.
    """

    here: list[str]
    later: list[str]
    sealed: list[str]


def places(ctx: Context, frames: Iterable[str]) -> Places:
    """Where each of these frames can be computed again; those with a label in the newest round or dataset: nowhere.

    `ctx`: of the newest round.
    """
    merged = ctx.store.get_result(ctx.campaign, ctx.round, "merge")
    dataset = previous_dataset(ctx) if merged is None else merged["outputs"]["dataset"]
    known = {row.frame for row in rows_of(ctx, dataset)}
    now = set() if merged else {row["frame"] for row in rows_of_round(ctx, ctx.round)}
    test = {row["frame"] for row in rows_of_round(ctx, 0) if row["side"] == "test"}
    waiting = [frame for frame in dict.fromkeys(frames) if frame not in known]
    labelled = ctx.store.labelled(waiting, ctx.plugins.labeler.theory().id)
    return Places(
        here=[frame for frame in waiting if frame in now - labelled],
        later=[frame for frame in waiting if frame not in now | test],
        sealed=[frame for frame in waiting if frame in test - now],
    )
