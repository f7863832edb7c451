"""Starting, pausing, resuming and stopping a campaign."""

from __future__ import annotations

import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fireworks import FWAction, LaunchPad
from fireworks.core.launchpad import WFLock

from alfw.config import CampaignConfig
from alfw.core.errors import CampaignConflictError, StoreError
from alfw.steps import start as start_step
from alfw.steps.context import Context, load_config
from alfw.steps.stop_rules import stop_reason
from alfw.store import Store
from alfw.workflow.rounds import continue_campaign, open_round

PACKAGES = ("alfw", "ase", "custodian", "fireworks", "numpy", "pymongo")
FAILURE_FIELDS = {"fw_id": 1, "name": 1, "launches": 1}
OPEN = ("WAITING", "READY", "RESERVED")


def start(
    launchpad: LaunchPad, config: CampaignConfig, env: Mapping[str, Any], progress: Callable[[str], None]
) -> None:
    """Insert the campaign or find the same one, import its data, open or reopen its newest round.

    Raises
    ------
    CampaignConflictError
        A campaign of this name has other content.
    """
    store = Store.from_launchpad(launchpad)
    store.ensure_indexes()
    _, new = store.insert_campaign(config.name, config.raw, config.id, software())
    if not new:
        check_same(store, config)
    with tempfile.TemporaryDirectory(prefix="alfw_") as folder:
        start_step.run(Context.load(store, config.name, 0, Path(folder), env=env, progress=progress))
    if state(store, config.name) == "running":
        continue_campaign(launchpad, store, config.name)


def software() -> dict[str, str]:
    """Versions of Python and of the packages every stage relies on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def check_same(store: Store, config: CampaignConfig) -> None:
    """Refuse another campaign under the name of a stored one.

    Raises
    ------
    CampaignConflictError
        Lists the keys that differ.
    """
    differing = config.difference(load_config(store, config.name))
    if differing:
        raise CampaignConflictError(
            f"campaign {config.name} exists with other values of {', '.join(differing[:5])}"
            f"{' …' if len(differing) > 5 else ''}: `alfw amend FILE` records a revision, or choose another name"
        )


def state(store: Store, campaign: str) -> str:
    """running, paused or ended.

    Raises
    ------
    StoreError
        No such campaign.
    """
    return str(store.get_campaign(campaign)["state"])


def fireworks_of(launchpad: LaunchPad, campaign: str) -> list[int]:
    """fw_ids of all Fireworks in the campaign's rounds."""
    found = launchpad.workflows.find({"metadata.campaign": campaign}, {"nodes": 1})
    return [node for workflow in found for node in workflow["nodes"]]


def pause(launchpad: LaunchPad, store: Store, campaign: str, why: str) -> None:
    """Hold the campaign: its state, and every Firework that has not begun."""
    store.set_state(campaign, "paused", why)
    query = {"fw_id": {"$in": fireworks_of(launchpad, campaign)}, "state": {"$in": ["WAITING", "READY"]}}
    for firework in launchpad.fireworks.find(query, {"fw_id": 1}):
        launchpad.pause_fw(firework["fw_id"])


def resume(launchpad: LaunchPad, store: Store, campaign: str) -> None:
    """Let a paused campaign go on; if a stage of its newest round held it, what was found there is accepted.

    An ended one stays ended.

    Raises
    ------
    StoreError
        The campaign has ended.
    """
    if state(store, campaign) == "ended":
        raise StoreError(
            f"campaign {campaign} has ended; `alfw amend FILE` with other stop rules opens it again"
        )
    rounds = store.rounds(campaign)
    if rounds and rounds[-1].get("held"):
        store.set_round(campaign, rounds[-1]["number"], accepted=True)
    store.set_state(campaign, "running")
    query = {"fw_id": {"$in": fireworks_of(launchpad, campaign)}, "state": "PAUSED"}
    for firework in launchpad.fireworks.find(query, {"fw_id": 1}):
        launchpad.resume_fw(firework["fw_id"])
    continue_campaign(launchpad, store, campaign)


def stop(launchpad: LaunchPad, store: Store, campaign: str) -> None:
    """End the campaign for good: what has not begun is defused, what runs may finish; nothing stored is lost."""
    state(store, campaign)
    store.set_state(campaign, "ended", "stopped by the user")
    query = {"metadata.campaign": campaign, "state": {"$nin": ["COMPLETED", "ARCHIVED", "DEFUSED"]}}
    for workflow in launchpad.workflows.find(query, {"nodes": 1}):
        launchpad.defuse_wf(workflow["nodes"][0], defuse_all_states=False)


def give_back(launchpad: LaunchPad, store: Store, campaign: str, fw_id: int) -> FWAction:
    """Make the running Firework PAUSED as if it had never been launched; for its Firetask to return.

    The launch moves to the archived ones, so the rocket's own completion finds no Firework of it to complete, and
    `lpad resume_fws` or `alfw resume` makes the Firework READY again.
    """
    with WFLock(launchpad, fw_id):
        document = launchpad.fireworks.find_one({"fw_id": fw_id}, {"launches": 1}) or {}
        launchpad.fireworks.update_one(
            {"fw_id": fw_id},
            {
                "$set": {"state": "PAUSED", "launches": [], "updated_on": datetime.now(UTC)},
                "$push": {"archived_launches": {"$each": document.get("launches", [])}},
            },
        )
        launchpad.workflows.update_one({"nodes": fw_id}, {"$set": {f"fw_states.{fw_id}": "PAUSED"}})
    if state(store, campaign) == "running":  # resumed meanwhile, perhaps before this one was PAUSED
        launchpad.resume_fw(fw_id)
    return FWAction(exit=True)


def has_label_children(launchpad: LaunchPad, fw_id: int) -> bool:
    """Whether the detours of this select Firework are in its workflow already."""
    workflow = launchpad.workflows.find_one({"nodes": fw_id}, {"links": 1}) or {"links": {}}
    children = workflow["links"].get(str(fw_id), [])
    query = {"fw_id": {"$in": children}, "spec._tasks._fw_name": "{{alfw.firetasks.CalculateLabels}}"}
    return launchpad.fireworks.find_one(query, {"fw_id": 1}) is not None


def fizzled(launchpad: LaunchPad, campaign: str) -> list[dict[str, Any]]:
    """FIZZLED Fireworks of the campaign: fw_id, name, and the last line of what went wrong."""
    query = {"fw_id": {"$in": fireworks_of(launchpad, campaign)}, "state": "FIZZLED"}
    return [_failure(launchpad, found) for found in launchpad.fireworks.find(query, FAILURE_FIELDS)]


def _failure(launchpad: LaunchPad, firework: Mapping[str, Any]) -> dict[str, Any]:
    """fw_id, name, and the last line of what went wrong in the newest launch."""
    launch = launchpad.launches.find_one(
        {"launch_id": {"$in": firework["launches"]}}, sort=[("launch_id", -1)]
    )
    stored = ((launch or {}).get("action") or {}).get("stored_data") or {}
    trace = (stored.get("_exception") or {}).get("_stacktrace") or "the worker was lost"
    return {"fw_id": firework["fw_id"], "name": firework["name"], "why": trace.strip().splitlines()[-1]}


def starting(launchpad: LaunchPad) -> dict[str, dict[str, Any]]:
    """Campaigns added with `lpad add` that no worker has stored yet: number of Fireworks by state, and failures."""
    query = {
        "spec._tasks._fw_name": "{{alfw.firetasks.StartCampaign}}",
        "state": {"$nin": ["COMPLETED", "ARCHIVED", "DEFUSED"]},
    }
    fields = {**FAILURE_FIELDS, "state": 1, "spec._tasks": 1}
    found: dict[str, dict[str, Any]] = {}
    for firework in launchpad.fireworks.find(query, fields):
        name = firework["spec"]["_tasks"][0].get("campaign", {}).get("name", "?")
        entry = found.setdefault(name, {"fireworks": Counter(), "stuck": []})
        entry["fireworks"][firework["state"]] += 1
        if firework["state"] == "FIZZLED":
            entry["stuck"].append(_failure(launchpad, firework))
    return found


def waiting(launchpad: LaunchPad, campaign: str) -> dict[str, int]:
    """Number of Fireworks of the campaign in each state."""
    match = {"$match": {"fw_id": {"$in": fireworks_of(launchpad, campaign)}}}
    groups = launchpad.fireworks.aggregate(
        [match, {"$group": {"_id": "$state", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    )
    return {group["_id"]: group["n"] for group in groups}


def revise(launchpad: LaunchPad, store: Store, config: CampaignConfig) -> int:
    """Number of the new revision of a campaign; rounds opened from now on are pinned to it.

    An ended campaign whose new stop rules let it go on runs again.

    Raises
    ------
    CampaignConflictError
        The theory, the data or the seed would change: labels of two theories must not mix.
    """
    stored = load_config(store, config.name)
    for key in ("data", "seed", "system"):
        if config.raw.get(key) != stored.raw.get(key):
            raise CampaignConflictError(
                f"{key} of campaign {config.name} cannot change: start another campaign"
            )
    if config.plugins(None).labeler.theory().id != stored.plugins(None).labeler.theory().id:
        raise CampaignConflictError(
            f"the theory of campaign {config.name} cannot change: start another campaign"
        )
    number = len(store.get_campaign(config.name)["revisions"]) + 1
    store.add_revision(config.name, number, config.raw, config.id, software())
    if state(store, config.name) == "ended":
        _reopen(launchpad, store, config)
    return number


def _reopen(launchpad: LaunchPad, store: Store, config: CampaignConfig) -> None:
    """Let an ended campaign go on if its new stop rules do: with the next round, or the one that was stopped."""
    newest = store.rounds(config.name)[-1]["number"]
    if store.get_result(config.name, newest, "decide") is None:
        store.set_state(config.name, "running")
        continue_campaign(launchpad, store, config.name)
        return
    ctx = Context(store, config, newest, Path(tempfile.gettempdir()))
    if stop_reason(ctx) is None:
        store.set_state(config.name, "running")
        open_round(launchpad, store, config.name, newest + 1, claimed_by=None)


def prepare(launchpad: LaunchPad) -> bool:
    """Give a database that FireWorks never used its counters and indexes; True when it was new."""
    if launchpad.fw_id_assigner.find_one() is not None or launchpad.fireworks.find_one() is not None:
        return False
    launchpad.reset("", require_password=False)
    return True
