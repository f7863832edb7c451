"""The ledger of failed calculations: one record an attempt, kept for good; final ones may be reopened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alfw.core.ids import content_id
from alfw.store.base import (
    Document,
    HasDatabase,
    collection,
    find_by,
    insert_if_absent,
    now,
    plain,
    verb,
)

FINAL = {"final": True, "reopened": {"$exists": False}}


@verb
def put_failure(
    store: HasDatabase,
    campaign: str,
    frame_id: str,
    theory_id: str,
    attempt: int,
    failure_class: str,
    signature: str,
    final: bool,
    corrections: Sequence[Mapping[str, Any]] = (),
    message: str = "",
    **more: Any,
) -> Document:
    """The failure record of this attempt; a final one tells this campaign not to try the frame again.

    Parameters
    ----------
    **more
        Further plain fields: policy, run (id of the output), host, command.
    """
    what = {"campaign": campaign, "frame": frame_id, "theory": theory_id, "attempt": attempt}
    document = {
        **plain(more),
        "_id": content_id("failure", {**what, "final": final}),
        **what,
        "class": failure_class,
        "signature": signature,
        "final": final,
        "corrections": plain(corrections, "corrections"),
        "message": message,
        "time": now(),
    }
    return insert_if_absent(collection(store, "failures"), document)[0]


@verb
def failures(
    store: HasDatabase, campaign: str | None, frame_ids: Iterable[str], theory_id: str
) -> list[Document]:
    """All failure records of these frames in this campaign (None: in any), by attempt."""
    where = {"theory": theory_id} | ({} if campaign is None else {"campaign": campaign})
    found = find_by(collection(store, "failures"), "frame", frame_ids, where)
    return sorted(found, key=lambda document: (document["attempt"], document["final"], document["frame"]))


@verb
def final_failures(
    store: HasDatabase, campaign: str, frame_ids: Sequence[str], theory_id: str
) -> dict[str, Document]:
    """The final failure record by frame id, of those frames that this campaign gave up."""
    where = {"campaign": campaign, "theory": theory_id, **FINAL}
    return {doc["frame"]: doc for doc in find_by(collection(store, "failures"), "frame", frame_ids, where)}


@verb
def all_final_failures(store: HasDatabase, campaign: str, reopened: bool = False) -> list[Document]:
    """The final failures of a campaign that hold, or (`reopened`) those that do not any more; oldest first."""
    where = {"campaign": campaign, "final": True, "reopened": {"$exists": reopened}}
    return list(collection(store, "failures").find(where).sort([("time", 1), ("_id", 1)]))


@verb
def reopen_failures(store: HasDatabase, claimed: Mapping[str, int]) -> int:
    """How many of these final failures hold no longer from now on; their records stay.

    Parameters
    ----------
    claimed : {failure id: int}
        How often the campaign had begun with its frame until now: those tries are forgotten.
    """
    target = collection(store, "failures")
    changed = 0
    for key, number in claimed.items():
        change = {"$set": {"reopened": {"time": now(), "claimed": number}}}
        changed += target.update_one({"_id": key, **FINAL}, change).modified_count
    return changed


@verb
def failed_attempts(store: HasDatabase, campaign: str) -> list[tuple[str, float | None]]:
    """Class, and wall time in s of its output (None: it left none), of each attempt of a campaign that failed."""
    known = {(doc["frame"], doc.get("run") or doc["_id"]): doc for doc in _of(store, campaign)}
    runs = [doc["run"] for doc in known.values() if doc.get("run")]
    walls = {
        doc["_id"]: doc["wall_s"]
        for doc in find_by(collection(store, "runs"), "_id", runs, None, ("wall_s",))
    }
    return [(doc["class"], walls.get(doc.get("run", ""))) for doc in known.values()]


def _of(store: HasDatabase, campaign: str) -> list[Document]:
    fields = ("frame", "class", "run", "time")
    return list(
        collection(store, "failures").find({"campaign": campaign}, fields).sort([("time", 1), ("_id", 1)])
    )


@verb
def failure_counts(store: HasDatabase, campaign: str, final: bool | None = None) -> dict[str, int]:
    """How many failures of each class a campaign met; `final` restricts to final (or to retried) ones."""
    where = {"campaign": campaign} | ({} if final is None else FINAL if final else {"final": False})
    groups = collection(store, "failures").aggregate(
        [{"$match": where}, {"$group": {"_id": "$class", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    )
    return {group["_id"]: group["n"] for group in groups}


@verb
def failure_table(store: HasDatabase, campaign: str) -> dict[str, Document]:
    """By class: the number of final, retried and reopened failures of a campaign, and the id of the newest."""
    reopened = {"$ne": [{"$type": "$reopened"}, "missing"]}
    kind = {"$cond": ["$final", {"$cond": [reopened, "reopened", "final"]}, "retried"]}
    number = {
        name: {"$sum": {"$cond": [{"$eq": [kind, name]}, 1, 0]}} for name in ("final", "retried", "reopened")
    }
    stages: list[Document] = [
        {"$match": {"campaign": campaign}},
        {"$sort": {"time": 1, "_id": 1}},
        {"$group": {"_id": "$class", **number, "newest": {"$last": "$_id"}}},
        {"$sort": {"_id": 1}},
    ]
    found = collection(store, "failures").aggregate(stages)
    return {document.pop("_id"): document for document in found}
