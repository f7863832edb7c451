"""Label Fireworks that run again: which of them, and with how much time."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fireworks import LaunchPad

from alfw.steps import label, ledger, retry
from alfw.steps.context import Context
from alfw.store import Store
from alfw.workflow.rounds import workflow_of

TASK = "{{alfw.firetasks.CalculateLabels}}"
FORGIVEN = (
    "_forgiven_launches"  # in the spec: up to this launch, failures do not count against the frames any more
)


def is_label(firework: Mapping[str, Any]) -> bool:
    """Whether a Firework document is one of labels."""
    return bool(firework["spec"]["_tasks"][0]["_fw_name"] == TASK)


def newest_round(store: Store, campaign: str) -> Context:
    """The context of the newest round of a campaign."""
    store.get_campaign(campaign)
    number = max((item["number"] for item in store.rounds(campaign)), default=0)
    return Context.load(store, campaign, number, Path(tempfile.gettempdir()))


def prepare(
    launchpad: LaunchPad, store: Store, campaign: str, firework: Mapping[str, Any]
) -> tuple[bool, int]:
    """Whether a FIZZLED label Firework is to run again, and how many of its frames were given up for it.

    One that failed `max_tries` times for each of its frames gets final failures for those that were tried; without any
    of them the trouble lies elsewhere, and it stays FIZZLED for its user. It is given as much time as its frames need.
    """
    task, fw_id = firework["spec"]["_tasks"][0], firework["fw_id"]
    ctx = Context.load(store, campaign, task["round"], Path(tempfile.gettempdir()))
    launches = [*firework["launches"], *firework["archived_launches"]]
    counted = {"$in": launches, "$gt": firework["spec"].get(FORGIVEN, 0)}
    failed = launchpad.launches.count_documents({"launch_id": counted, "state": "FIZZLED"})
    if failed > ctx.config.label.max_tries * task["count"]:
        frames = label.pack(ctx, task["first"], task["count"])
        given_up = ledger.give_up(ctx, frames, f"its label Firework {fw_id} failed {failed} times")
        return given_up > 0, given_up
    _give_time(launchpad, ctx, firework)
    return True, 0


def _give_time(launchpad: LaunchPad, ctx: Context, firework: Mapping[str, Any]) -> None:
    """Ask the queueing system for as much time as the frames get now; see `ledger.longer`."""
    adapter = firework["spec"].get("_queueadapter") or {}
    stated = ctx.resources("label").walltime_s
    if stated is None or "walltime" not in adapter:
        return
    task = firework["spec"]["_tasks"][0]
    known = ledger.histories(ctx, label.pack(ctx, task["first"], task["count"]))
    times = max((ledger.longer(history.since) for history in known.values() if history.open), default=1)
    minutes, seconds = divmod(round(times * stated), 60)
    walltime = f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
    launchpad.update_spec([firework["fw_id"]], {"_queueadapter": {**adapter, "walltime": walltime}})


def rerun_reopened(launchpad: LaunchPad, ctx: Context) -> list[int]:
    """Run label Fireworks of the newest round again that are over, though frames of theirs were put back; their ids.

    What waits or runs computes these frames by itself. `ctx`: of the newest round.
    """
    frames = retry.reopened(ctx)
    here = ledger.unfinished(ctx, retry.places(ctx, frames).here) if frames else []
    rerun = []
    for firework in labels_of(launchpad, ctx, here):
        if firework["state"] not in ("COMPLETED", "FIZZLED"):
            continue
        launches = [*firework["launches"], *firework["archived_launches"]]
        forgiven = {"$set": {f"spec.{FORGIVEN}": max(launches, default=0)}}
        launchpad.fireworks.update_one({"fw_id": firework["fw_id"]}, forgiven)
        launchpad.rerun_fw(firework["fw_id"])
        rerun.append(int(firework["fw_id"]))
    return rerun


def labels_of(launchpad: LaunchPad, ctx: Context, frames: Sequence[str]) -> list[dict[str, Any]]:
    """The label Fireworks of a round that these frames belong to."""
    workflow = workflow_of(launchpad, ctx.campaign, ctx.round) if frames else None
    if workflow is None:
        return []
    chosen = set(frames)
    places = [place for place, frame in enumerate(label.wanted(ctx)) if frame in chosen]
    query = {"fw_id": {"$in": workflow["nodes"]}, "spec._tasks._fw_name": TASK}
    found = []
    for firework in launchpad.fireworks.find(query).sort("fw_id", 1):
        task = firework["spec"]["_tasks"][0]
        if any(task["first"] <= place < task["first"] + task["count"] for place in places):
            found.append(firework)
    return found
