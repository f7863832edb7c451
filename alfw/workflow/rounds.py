"""Opening rounds: exactly one live workflow a round, whoever tries, however often, wherever it dies."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from fireworks import LaunchPad

from alfw.steps.context import Context
from alfw.store import Store
from alfw.workflow.build import round_workflow

DEAD = ("ARCHIVED", "DEFUSED")


def workflow_of(launchpad: LaunchPad, campaign: str, number: int) -> Mapping[str, Any] | None:
    """The newest workflow document of a round that is neither archived nor defused."""
    query = {"metadata.campaign": campaign, "metadata.round": number, "state": {"$nin": DEAD}}
    found: Mapping[str, Any] | None = launchpad.workflows.find_one(query, sort=[("_id", -1)])
    return found


def open_round(
    launchpad: LaunchPad, store: Store, campaign: str, number: int, claimed_by: int | None
) -> bool:
    """Insert the round's record, then its workflow; True when a workflow was added.

    The record is unique, so only one `decide` claims a round; a second call finds the workflow and does nothing.
    Should two callers add a workflow at the same moment, one registers; the roots of the other find out and defuse it.
    """
    revision = len(store.get_campaign(campaign)["revisions"])
    record = store.open_round(campaign, number, revision=revision, claimed_by=claimed_by)
    if workflow_of(launchpad, campaign, number) is not None:
        return False
    if (
        record["workflow"] is not None
    ):  # a dead one: forgotten first, so that the roots of the new one may register it
        store.register_workflow(campaign, number, expected=record["workflow"], token=None)
    token = uuid4().hex
    ctx = Context.load(store, campaign, number, Path(tempfile.gettempdir()))
    launchpad.add_wf(round_workflow(ctx, token))
    store.register_workflow(campaign, number, expected=None, token=token)
    return True


def is_registered(store: Store, campaign: str, number: int, token: str) -> bool:
    """Whether the workflow with this token is the round's; the first to ask registers it if nobody has."""
    record = store.get_round(campaign, number)
    if record is None:
        return False
    if record.get("workflow") is None:
        store.register_workflow(campaign, number, expected=None, token=token)
        record = store.get_round(campaign, number) or {}
    return bool(record.get("workflow") == token)


def continue_campaign(launchpad: LaunchPad, store: Store, campaign: str) -> bool:
    """Open the newest unfinished round again when it has no live workflow; True when one was added.

    Its results make its stages skip what is done. A round whose decision was committed is finished; when it says to
    go on and the next round is missing, that one is opened; when it does not, the campaign has ended.
    """
    rounds = store.rounds(campaign)
    number = rounds[-1]["number"] if rounds else 0
    decision = store.get_result(campaign, number, "decide")
    if decision is not None:
        if not decision["outputs"]["continue"]:
            store.set_state(campaign, "ended", decision["outputs"]["why"])
            return False
        number += 1
    return open_round(launchpad, store, campaign, number, claimed_by=None)
