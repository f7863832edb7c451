"""Putting right what a killed worker left behind: safe to run twice, and at once.

FireWorks' own `lpad detect_lostruns --rerun` finds Fireworks whose worker died inside a Firetask. The other windows of
FireWorks 2.1.4 it does not see: a Firework RESERVED without a launch, a completed launch whose workflow was not
refreshed, a lock left set, Fireworks in no workflow, a round whose record has no workflow.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fireworks import LaunchPad
from fireworks.fw_config import RUN_EXPIRATION_SECS

from alfw.steps import label
from alfw.steps.context import Context
from alfw.store import Store
from alfw.workflow.control import fireworks_of
from alfw.workflow.rounds import continue_campaign

LOCK_SECONDS = 15.0  # a lock seen this long without any change to its workflow is stale
GRACE_SECONDS = 60.0  # between two writes that belong together; a live worker takes milliseconds


@dataclass
class Report:
    """What was put right: fw_ids by kind, and campaigns whose round was opened.

    Attributes
    ----------
    given_up : int
        Frames that got a final failure because their label Firework failed `max_tries` times.
    """

    unlocked: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    refreshed: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)
    rerun: list[int] = field(default_factory=list)
    given_up: int = 0
    opened: list[str] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether all was well."""
        return not any(vars(self).values())


def reconcile(
    launchpad: LaunchPad,
    store: Store,
    expiration_s: float | None = None,
    lock_s: float = LOCK_SECONDS,
    grace_s: float = GRACE_SECONDS,
) -> Report:
    """Put right what killed workers left behind in all campaigns of the database.

    Parameters
    ----------
    expiration_s : float, optional
        A RUNNING Firework without a ping for so long is lost; FireWorks' RUN_EXPIRATION_SECS by default.
    lock_s, grace_s : float
        How long a lock must stand still, and how long half-done writes may take, before they count as left behind.
    """
    report = Report()
    report.unlocked = _unlock(launchpad, lock_s)
    expiration = RUN_EXPIRATION_SECS if expiration_s is None else expiration_s
    _, report.lost, _ = launchpad.detect_lostruns(expiration_secs=expiration, rerun=True)
    report.refreshed = _refresh(launchpad, grace_s)
    report.released = _release(launchpad, grace_s)
    report.orphans = _delete_orphans(launchpad, grace_s)
    for campaign in store.list_campaigns():
        if campaign["state"] == "running":
            _rerun_labels(launchpad, store, campaign["_id"], report)
            started = store.get_result(campaign["_id"], 0, "start") is not None
            if (
                started
                and _idle(launchpad, campaign["_id"])
                and continue_campaign(launchpad, store, campaign["_id"])
            ):
                report.opened.append(campaign["_id"])
    return report


def _unlock(launchpad: LaunchPad, lock_s: float) -> list[int]:
    """Take away locks that stood still for `lock_s`; first fw_id of each workflow."""
    locked = list(launchpad.workflows.find({"locked": True}, {"updated_on": 1, "nodes": 1, "fw_states": 1}))
    if not locked:
        return []
    time.sleep(lock_s)
    unlocked = []
    for seen in locked:
        same = {
            "_id": seen["_id"],
            "locked": True,
            "updated_on": seen["updated_on"],
            "fw_states": seen["fw_states"],
        }
        if launchpad.workflows.update_one(same, {"$unset": {"locked": ""}}).modified_count:
            unlocked.append(seen["nodes"][0])
    return unlocked


def _older_than(seconds: float) -> Any:
    """A filter on FireWorks' times, which are ISO text or dates."""
    limit = datetime.now(UTC) - timedelta(seconds=seconds)
    return [{"updated_on": {"$lt": limit.isoformat()}}, {"updated_on": {"$lt": limit}}]


def _refresh(launchpad: LaunchPad, grace_s: float) -> list[int]:
    """Refresh Fireworks that still look RUNNING (or RESERVED) although their launch has ended."""
    refreshed = []
    query = {"state": {"$in": ["RUNNING", "RESERVED"]}, "launches": {"$ne": []}, "$or": _older_than(grace_s)}
    for firework in launchpad.fireworks.find(query, {"fw_id": 1, "launches": 1}):
        ended = {"launch_id": {"$in": firework["launches"]}, "state": {"$in": ["COMPLETED", "FIZZLED"]}}
        if launchpad.launches.find_one(ended, {"launch_id": 1}) is not None:
            launchpad._refresh_wf(firework["fw_id"])
            refreshed.append(firework["fw_id"])
    return refreshed


def _release(launchpad: LaunchPad, grace_s: float) -> list[int]:
    """Make READY again what was reserved without ever getting a launch, or whose launch got no Firework."""
    released = []
    query = {"state": "RESERVED", "launches": [], "$or": _older_than(grace_s)}
    for firework in launchpad.fireworks.find(query, {"fw_id": 1}):
        same = {**query, "fw_id": firework["fw_id"]}
        now = datetime.now(UTC)
        change = {"$set": {"state": "WAITING", "updated_on": now}}
        if launchpad.fireworks.update_one(same, change).modified_count:
            launchpad.launches.update_many(
                {"fw_id": firework["fw_id"], "state": "RUNNING"}, {"$set": {"state": "FIZZLED"}}
            )
            launchpad._refresh_wf(firework["fw_id"])
            released.append(firework["fw_id"])
    return released


def _delete_orphans(launchpad: LaunchPad, grace_s: float) -> list[int]:
    """Delete Fireworks that are in no workflow: `add_wf` was killed between its two writes."""
    query = {"spec._tasks._fw_name": {"$regex": r"^\{\{alfw\.firetasks\."}, "$or": _older_than(grace_s)}
    lonely = []
    for firework in launchpad.fireworks.find(query, {"fw_id": 1}):
        if launchpad.workflows.find_one({"nodes": firework["fw_id"]}, {"_id": 1}) is None:
            lonely.append(firework["fw_id"])
    if lonely:
        launchpad.delete_fws(lonely)
    return lonely


def _rerun_labels(launchpad: LaunchPad, store: Store, campaign: str, report: Report) -> None:
    """Rerun FIZZLED label Fireworks; after `max_tries` launches write the final failure first."""
    query = {
        "fw_id": {"$in": fireworks_of(launchpad, campaign)},
        "state": "FIZZLED",
        "spec._tasks._fw_name": "{{alfw.firetasks.CalculateLabels}}",
    }
    for firework in launchpad.fireworks.find(query):
        task = firework["spec"]["_tasks"][0]
        with tempfile.TemporaryDirectory(prefix="alfw_") as folder:
            ctx = Context.load(store, campaign, task["round"], Path(folder))
            if len(_launches(firework)) >= ctx.config.label.max_tries:
                reason = f"its label Firework {firework['fw_id']} failed {len(_launches(firework))} times"
                report.given_up += label.give_up(ctx, label.pack(ctx, task["first"], task["count"]), reason)
        launchpad.rerun_fw(firework["fw_id"])
        report.rerun.append(firework["fw_id"])


def _launches(firework: Mapping[str, Any]) -> set[int]:
    both: Iterable[int] = [*firework.get("launches", []), *firework.get("archived_launches", [])]
    return set(both)


def _idle(launchpad: LaunchPad, campaign: str) -> bool:
    """Whether no Firework of the campaign is there to open its next round by itself."""
    alive = {"$nin": ["COMPLETED", "ARCHIVED", "DEFUSED"]}
    rounds = {"fw_id": {"$in": fireworks_of(launchpad, campaign)}, "state": alive}
    starting = {"spec._tasks.campaign.name": campaign, "state": {"$in": ["READY", "RESERVED", "RUNNING"]}}
    return launchpad.fireworks.find_one({"$or": [rounds, starting]}, {"_id": 1}) is None
