"""Putting right what a killed worker left behind: safe to run twice, and at once.

FireWorks' own `lpad detect_lostruns --rerun` finds Fireworks whose worker died inside a Firetask. The other windows of
FireWorks 2.1.4 it does not see: a Firework RESERVED without a running launch, a completed launch whose workflow was not
refreshed, a lock left set, a refresh that wrote its Fireworks but not its workflow, Fireworks in no workflow, a round
whose record has no workflow. Fireworks that are not alfw's are left alone.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fireworks import LaunchPad, Workflow
from fireworks.core.launchpad import WFLock
from fireworks.fw_config import RUN_EXPIRATION_SECS

from alfw.core.errors import AlfwError
from alfw.store import Store
from alfw.workflow import relabel
from alfw.workflow.control import fireworks_of
from alfw.workflow.rounds import continue_campaign

LOCK_SECONDS = 15.0  # a lock seen this long without any change to its workflow is stale
GRACE_SECONDS = 60.0  # between two writes that belong together; a live worker takes milliseconds
OURS = {"spec._tasks._fw_name": {"$regex": r"^\{\{alfw\.firetasks\."}}
MAX_LOST = 5  # workers that one Firework may lose
OVER = ("COMPLETED", "ARCHIVED", "DEFUSED")


@dataclass
class Report:
    """What was put right: fw_ids by kind, and campaigns whose round was opened.

    Attributes
    ----------
    given_up : int
        Frames that got a final failure because their label Firework failed too often.
    trouble : list of str
        Campaigns that could not be looked at, and why; the others were.
    """

    unlocked: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    refreshed: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)
    rerun: list[int] = field(default_factory=list)
    given_up: int = 0
    opened: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether nothing was put right."""
        return not any(found for what, found in vars(self).items() if what != "trouble")


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
    report.unlocked = unlock_stale(launchpad, lock_s)
    report.released = _release(launchpad, grace_s)
    report.lost = _rerun_lost(launchpad, RUN_EXPIRATION_SECS if expiration_s is None else expiration_s)
    report.refreshed = _refresh(launchpad, grace_s)
    report.orphans = _delete_orphans(launchpad, grace_s)
    for campaign in store.list_campaigns():
        if campaign["state"] == "running":
            _reconcile_campaign(launchpad, store, campaign["_id"], report)
    return report


def _reconcile_campaign(launchpad: LaunchPad, store: Store, campaign: str, report: Report) -> None:
    """What can be put right only while a campaign runs: FIZZLED Fireworks, and a round without a workflow."""
    of_it = [{"fw_id": {"$in": fireworks_of(launchpad, campaign)}}, {"spec._tasks.campaign.name": campaign}]
    for firework in launchpad.fireworks.find({"$or": of_it, "state": "FIZZLED"}):
        with _reported(report, campaign):
            if _worth_a_rerun(launchpad, store, campaign, firework, report):
                launchpad.rerun_fw(firework["fw_id"])
                report.rerun.append(firework["fw_id"])
    with _reported(report, campaign):
        if store.all_final_failures(campaign, reopened=True):  # `alfw qm retry` may have been killed
            report.rerun += relabel.rerun_reopened(launchpad, relabel.newest_round(store, campaign))
    with _reported(report, campaign):
        started = store.get_result(campaign, 0, "start") is not None
        if started and _idle(launchpad, campaign) and continue_campaign(launchpad, store, campaign):
            report.opened.append(campaign)


@contextlib.contextmanager
def _reported(report: Report, campaign: str) -> Iterator[None]:
    """Trouble with one Firework (a plug-in that this machine lacks, a lost blob) keeps none of the others waiting."""
    try:
        yield
    except AlfwError as error:
        report.trouble.append(f"{campaign}: {error}")


def _rerun_lost(launchpad: LaunchPad, expiration_s: float) -> list[int]:
    """Rerun Fireworks whose worker died; those that lost `MAX_LOST` workers are left FIZZLED for their user.

    A Firework that kills its worker each time (memory, say) would do so for ever. Labels count their own tries.
    """
    _, lost, _ = launchpad.detect_lostruns(
        expiration_secs=expiration_s, query={**OURS, "state": {"$nin": OVER}}
    )
    hopeless = [fw_id for fw_id in lost if _n_lost(launchpad, fw_id) + 1 >= MAX_LOST]
    for what, fw_ids in (("rerun", sorted(set(lost) - set(hopeless))), ("fizzle", hopeless)):
        if fw_ids:
            query = {"fw_id": {"$in": fw_ids}}
            launchpad.detect_lostruns(expiration_secs=expiration_s, query=query, **{what: True})
    return list(lost)


def _n_lost(launchpad: LaunchPad, fw_id: int) -> int:
    """How often the worker of this Firework died; 0 for labels, which count their own tries."""
    query = {"fw_id": fw_id, "state": "FIZZLED", "action": None}
    is_label = {"fw_id": fw_id, "spec._tasks._fw_name": relabel.TASK}
    return (
        0 if launchpad.fireworks.find_one(is_label, {"_id": 1}) else launchpad.launches.count_documents(query)
    )


def _ours(launchpad: LaunchPad, workflow: Mapping[str, Any]) -> bool:
    """Whether a workflow is one of alfw's."""
    return launchpad.fireworks.find_one({"fw_id": {"$in": workflow["nodes"]}, **OURS}, {"_id": 1}) is not None


def unlock_stale(launchpad: LaunchPad, lock_s: float = LOCK_SECONDS) -> list[int]:
    """Take away locks that stood still for so many seconds; first fw_id of each workflow. No locks, no waiting."""
    fields = {"updated_on": 1, "nodes": 1, "fw_states": 1}
    locked = [seen for seen in launchpad.workflows.find({"locked": True}, fields) if _ours(launchpad, seen)]
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


def _release(launchpad: LaunchPad, grace_s: float) -> list[int]:
    """Make READY again what was reserved by a worker that died before it had taken over the launch.

    Its launch is missing, or (of a Firework that waited in a queue) is RUNNING while the Firework is not yet.
    """
    released = []
    query = {"state": "RESERVED", "$or": _older_than(grace_s), **OURS}
    for firework in launchpad.fireworks.find(query, {"fw_id": 1, "launches": 1}):
        fw_id, launches = firework["fw_id"], firework["launches"]
        running = {"launch_id": {"$in": launches}, "state": "RUNNING"}
        if launches and launchpad.launches.find_one(running, {"_id": 1}) is None:
            continue  # waits in a queue
        now = datetime.now(UTC)
        change = {
            "$set": {"state": "WAITING", "launches": [], "updated_on": now},
            "$push": {"archived_launches": {"$each": launches}},
        }
        same = {**query, "fw_id": fw_id, "launches": launches}
        if launchpad.fireworks.update_one(same, change).modified_count:
            half = {"fw_id": fw_id, "state": "RUNNING"}
            launchpad.launches.update_many(half, {"$set": {"state": "FIZZLED"}})
            launchpad._refresh_wf(fw_id)
            released.append(fw_id)
    return released


def _refresh(launchpad: LaunchPad, grace_s: float) -> list[int]:
    """Bring workflows up to date with what their launches say; fw_ids of the Fireworks that were behind."""
    refreshed = []
    query = {"state": {"$nin": OVER}, "locked": {"$exists": False}, "$or": _older_than(grace_s)}
    for workflow in launchpad.workflows.find(query, {"nodes": 1, "links": 1, "fw_states": 1}):
        if _behind(launchpad, workflow) and _ours(launchpad, workflow):
            with WFLock(launchpad, workflow["nodes"][0]):
                refreshed += _catch_up(launchpad, workflow["nodes"][0])
    return refreshed


def _behind(launchpad: LaunchPad, workflow: Mapping[str, Any]) -> list[int]:
    """Fireworks of a workflow that a refresh would change: their launch is over, or their parents are.

    A refresh writes Fireworks one by one and the workflow last. One that was killed in between leaves a Firework
    COMPLETED whose children, and whose detours, the workflow does not know of.
    """
    found = launchpad.fireworks.find(
        {"fw_id": {"$in": workflow["nodes"]}}, {"fw_id": 1, "state": 1, "launches": 1}
    )
    documents = {document["fw_id"]: document for document in found}
    states = {int(fw_id): state for fw_id, state in workflow["fw_states"].items()}
    parents: dict[int, list[int]] = {fw_id: [] for fw_id in documents}
    for parent, children in workflow["links"].items():
        for child in children:
            parents.setdefault(child, []).append(int(parent))
    behind = []
    for fw_id, document in documents.items():
        ended = {"launch_id": {"$in": document["launches"]}, "state": {"$in": ["COMPLETED", "FIZZLED"]}}
        if (
            (document["state"] == "COMPLETED" != states[fw_id])
            or (document["state"] == "WAITING" and all(states[p] == "COMPLETED" for p in parents[fw_id]))
            or (
                document["state"] in ("RUNNING", "RESERVED")
                and launchpad.launches.find_one(ended, {"_id": 1})
            )
        ):
            behind.append(fw_id)
    return behind


def _catch_up(launchpad: LaunchPad, fw_id: int) -> list[int]:
    """Refresh the Fireworks of a locked workflow that are behind; looked for again, others may have been here."""
    workflow: Workflow = launchpad.get_wf_by_fw_id_lzyfw(fw_id)
    behind = _behind(launchpad, launchpad.workflows.find_one({"nodes": fw_id}))
    changed: set[int] = set()
    for one in behind:
        if workflow.id_fw[one].state == "COMPLETED":  # in its own document only: what follows was not done
            workflow.id_fw[one].state = "RUNNING"
        changed |= set(workflow.refresh(one, changed))
    if behind:
        launchpad._update_wf(workflow, list(changed))
    return behind


def _delete_orphans(launchpad: LaunchPad, grace_s: float) -> list[int]:
    """Delete Fireworks in no workflow: `add_wf`, or adding the detours of `select`, was killed between two writes."""
    query = {"state": {"$nin": OVER}, "$or": _older_than(grace_s), **OURS}
    lonely = []
    for firework in launchpad.fireworks.find(query, {"fw_id": 1}):
        if launchpad.workflows.find_one({"nodes": firework["fw_id"]}, {"_id": 1}) is None:
            lonely.append(firework["fw_id"])
    if lonely:
        with contextlib.redirect_stdout(io.StringIO()):  # FireWorks prints what it deletes
            launchpad.delete_fws(lonely)
    return lonely


def _worth_a_rerun(
    launchpad: LaunchPad, store: Store, campaign: str, firework: Mapping[str, Any], report: Report
) -> bool:
    """Whether a FIZZLED Firework is to be rerun: its worker was lost, or it is a label and not without hope."""
    if relabel.is_label(firework):
        again, given_up = relabel.prepare(launchpad, store, campaign, firework)
        report.given_up += given_up
        return again
    last = launchpad.launches.find_one({"launch_id": {"$in": firework["launches"]}}, sort=[("launch_id", -1)])
    was_lost = last is not None and not last.get("action")
    return was_lost and _n_lost(launchpad, firework["fw_id"]) < MAX_LOST


def _idle(launchpad: LaunchPad, campaign: str) -> bool:
    """Whether no Firework of the campaign is there to open its next round by itself."""
    rounds = {"fw_id": {"$in": fireworks_of(launchpad, campaign)}, "state": {"$nin": OVER}}
    starting = {"spec._tasks.campaign.name": campaign, "state": {"$in": ["READY", "RESERVED", "RUNNING"]}}
    return launchpad.fireworks.find_one({"$or": [rounds, starting]}, {"_id": 1}) is None
