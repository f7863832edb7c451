"""Campaigns, their rounds, and the one result of each stage."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pymongo import ReturnDocument

from alfw.core.errors import StoreError
from alfw.store.base import Document, HasDatabase, collection, insert_if_absent, now, plain, verb

State = Literal["running", "paused", "ended"]


@verb
def insert_campaign(
    store: HasDatabase, name: str, config: Mapping[str, Any], config_id: str, versions: Mapping[str, str]
) -> tuple[Document, bool]:
    """The campaign of this name, and whether it is new; if not, compare its last `config_id` with yours.

    A campaign holds `state`, `reason` and `revisions`: a list of {number, config, config_id, versions, time}.
    """
    document = {
        "_id": name,
        "state": "running",
        "reason": "",
        "revisions": [_revision(1, config, config_id, versions)],
        "time": now(),
    }
    return insert_if_absent(collection(store, "campaigns"), document)


def _revision(
    number: int, config: Mapping[str, Any], config_id: str, versions: Mapping[str, str]
) -> Document:
    revision = {
        "number": number,
        "config": config,
        "config_id": config_id,
        "versions": versions,
        "time": now(),
    }
    return dict(plain(revision))


@verb
def get_campaign(store: HasDatabase, name: str) -> Document:
    """The campaign of this name.

    Raises
    ------
    StoreError
        There is none; the message lists those there are.
    """
    document = collection(store, "campaigns").find_one({"_id": name})
    if document is None:
        known = ", ".join(collection(store, "campaigns").distinct("_id")) or "none yet"
        raise StoreError(f"no campaign {name!r} in the database; known: {known}")
    return document


@verb
def list_campaigns(store: HasDatabase) -> list[Document]:
    """All campaigns, oldest first."""
    return list(collection(store, "campaigns").find().sort("time", 1))


@verb
def set_state(store: HasDatabase, name: str, state: State, reason: str | None = "") -> Document:
    """The campaign with its new state and the reason for it; StoreError for an unknown campaign or state."""
    if state not in get_args(State):
        raise StoreError(f"campaign {name!r}: unknown state {state!r}; known: {', '.join(get_args(State))}")
    change = {"$set": {"state": state, "reason": reason or ""}}
    document = collection(store, "campaigns").find_one_and_update(
        {"_id": name}, change, return_document=ReturnDocument.AFTER
    )
    return document or get_campaign(store, name)


@verb
def add_revision(
    store: HasDatabase,
    name: str,
    number: int,
    config: Mapping[str, Any],
    config_id: str,
    versions: Mapping[str, str],
) -> Document:
    """The campaign with revision `number` added.

    Raises
    ------
    StoreError
        The campaign has not exactly `number` − 1 revisions: somebody else amended it meanwhile.
    """
    revision = _revision(number, config, config_id, versions)
    document = collection(store, "campaigns").find_one_and_update(
        {"_id": name, "revisions": {"$size": number - 1}},
        {"$push": {"revisions": revision}},
        return_document=ReturnDocument.AFTER,
    )
    if document is None:
        count = len(get_campaign(store, name)["revisions"])
        raise StoreError(f"campaign {name!r} is at revision {count}, not {number - 1}: amend it again")
    return document


@verb
def open_round(
    store: HasDatabase, campaign: str, number: int, revision: int, claimed_by: int | None
) -> Document:
    """The round, opened by the Firework `claimed_by`, or as somebody opened it before."""
    document = {
        "_id": f"{campaign}/{number}",
        "campaign": campaign,
        "number": number,
        "revision": revision,
        "claimed_by": claimed_by,
        "state": "open",
        "workflow": None,
        "decision": None,
        "time": now(),
    }
    return insert_if_absent(collection(store, "rounds"), document)[0]


@verb
def set_round(store: HasDatabase, campaign: str, number: int, **fields: Any) -> Document:
    """The round with these fields set, e.g. a new `claimed_by` after `lpad reset`."""
    document = collection(store, "rounds").find_one_and_update(
        {"_id": f"{campaign}/{number}"}, {"$set": plain(fields)}, return_document=ReturnDocument.AFTER
    )
    if document is None:
        raise StoreError(f"round {number} of campaign {campaign!r} is not in the database")
    return document


@verb
def register_workflow(
    store: HasDatabase, campaign: str, number: int, expected: str | None, token: str | None
) -> bool:
    """Make `token` the round's workflow, unless another than `expected` is it by now; whether it is."""
    target, key = collection(store, "rounds"), f"{campaign}/{number}"
    target.update_one({"_id": key, "workflow": expected}, {"$set": {"workflow": token}})
    return target.count_documents({"_id": key, "workflow": token}) == 1


@verb
def close_round(store: HasDatabase, campaign: str, number: int, decision: Mapping[str, Any]) -> Document:
    """The closed round with its decision; the first decision stays. StoreError where the round is missing."""
    target, key = collection(store, "rounds"), f"{campaign}/{number}"
    change = {"$set": {"state": "closed", "decision": plain(decision), "closed": now()}}
    target.update_one({"_id": key, "state": "open"}, change)
    document = target.find_one({"_id": key})
    if document is None:
        raise StoreError(f"round {number} of campaign {campaign!r} is not in the database")
    return document


@verb
def get_round(store: HasDatabase, campaign: str, number: int) -> Document | None:
    """The round, or None."""
    return collection(store, "rounds").find_one({"_id": f"{campaign}/{number}"})


@verb
def rounds(store: HasDatabase, campaign: str) -> list[Document]:
    """The rounds of a campaign, in order."""
    return list(collection(store, "rounds").find({"campaign": campaign}).sort("number", 1))


def _result_id(campaign: str, round_: int, stage: str, part: int) -> str:
    return f"{campaign}/{round_}/{stage}/{part}"


@verb
def commit_result(
    store: HasDatabase,
    campaign: str,
    round: int,
    stage: str,
    part: int = 0,
    outputs: Mapping[str, Any] | None = None,
    counts: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    cost: Mapping[str, Any] | None = None,
) -> Document:
    """The one result of this part of a stage: yours if you are first, else the winner's, to be used instead.

    Insert it last, when all that `outputs` points to is in the database.
    """
    document = {
        "_id": _result_id(campaign, round, stage, part),
        "campaign": campaign,
        "round": round,
        "stage": stage,
        "part": part,
        "outputs": plain(outputs or {}, "outputs"),
        "counts": plain(counts or {}, "counts"),
        "metrics": plain(metrics or {}, "metrics"),
        "cost": plain(cost or {}, "cost"),
        "host": socket.gethostname(),
        "time": now(),
    }
    return insert_if_absent(collection(store, "results"), document)[0]


@verb
def get_result(store: HasDatabase, campaign: str, round: int, stage: str, part: int = 0) -> Document | None:
    """The committed result, or None."""
    return collection(store, "results").find_one({"_id": _result_id(campaign, round, stage, part)})


@verb
def get_results(
    store: HasDatabase, campaign: str, round: int | None = None, stage: str | None = None
) -> list[Document]:
    """The committed results of a campaign (of one round, of one stage if given) by round, stage, part."""
    where: dict[str, Any] = {"campaign": campaign}
    where |= {} if round is None else {"round": round}
    where |= {} if stage is None else {"stage": stage}
    return list(collection(store, "results").find(where).sort([("round", 1), ("stage", 1), ("part", 1)]))
