"""Raw outputs of calculations (runs), and the ledger of those that failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alfw.core.ids import content_id
from alfw.core.records import Run
from alfw.store.base import (
    Document,
    HasDatabase,
    collection,
    find_by,
    insert_if_absent,
    insert_many_if_absent,
    now,
    plain,
    verb,
)
from alfw.store.documents import decode_run, encode_run


def run_id(frame_id: str, theory_id: str, attempt: int) -> str:
    """Id of the raw output of one attempt to label a frame."""
    return content_id("run", {"frame": frame_id, "theory": theory_id, "attempt": attempt})


@verb
def put_runs(store: HasDatabase, theory_id: str, runs: Mapping[str, tuple[int, Run]]) -> dict[str, str]:
    """Run ids by frame id, of {frame id: (attempt, Run)}; the first output stored for an attempt stays."""
    documents = [
        {
            "_id": run_id(frame, theory_id, attempt),
            "frame": frame,
            "theory": theory_id,
            "attempt": attempt,
            "time": now(),
            **encode_run(store, run),
        }
        for frame, (attempt, run) in runs.items()
    ]
    insert_many_if_absent(collection(store, "runs"), documents)
    return {document["frame"]: document["_id"] for document in documents}


def put_run(store: HasDatabase, frame_id: str, theory_id: str, attempt: int, run: Run) -> str:
    """Id of the raw output of this attempt; the first one stored stays."""
    return put_runs(store, theory_id, {frame_id: (attempt, run)})[frame_id]


@verb
def get_runs(store: HasDatabase, frame_ids: Sequence[str], theory_id: str) -> dict[str, tuple[int, Run]]:
    """(attempt, Run) by frame id: the latest attempt of each frame that has one."""
    attempts = latest_attempts(store, frame_ids, theory_id)
    ids = {run_id(frame, theory_id, attempt): frame for frame, attempt in attempts.items()}
    found = find_by(collection(store, "runs"), "_id", ids)
    return {doc["frame"]: (doc["attempt"], decode_run(store, doc)) for doc in found}


@verb
def latest_attempts(store: HasDatabase, frame_ids: Iterable[str], theory_id: str) -> dict[str, int]:
    """The number of the latest attempt by frame id, of those frames that have a raw output at this theory."""
    found = find_by(
        collection(store, "runs"), "frame", frame_ids, {"theory": theory_id}, ("frame", "attempt")
    )
    return {doc["frame"]: doc["attempt"] for doc in sorted(found, key=lambda doc: doc["attempt"])}


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
) -> Document:
    """The failure record of this attempt; a final one tells this campaign never to try the frame again."""
    what = {"campaign": campaign, "frame": frame_id, "theory": theory_id, "attempt": attempt}
    document = {
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
def failures(store: HasDatabase, campaign: str, frame_ids: Iterable[str], theory_id: str) -> list[Document]:
    """All failure records of these frames in this campaign, by attempt."""
    where = {"campaign": campaign, "theory": theory_id}
    found = find_by(collection(store, "failures"), "frame", frame_ids, where)
    return sorted(found, key=lambda document: (document["attempt"], document["frame"]))


@verb
def final_failures(
    store: HasDatabase, campaign: str, frame_ids: Sequence[str], theory_id: str
) -> dict[str, Document]:
    """The final failure record by frame id, of those frames that this campaign gave up."""
    where = {"campaign": campaign, "theory": theory_id, "final": True}
    return {doc["frame"]: doc for doc in find_by(collection(store, "failures"), "frame", frame_ids, where)}


@verb
def failure_counts(store: HasDatabase, campaign: str, final: bool | None = None) -> dict[str, int]:
    """How many failures of each class a campaign met; `final` restricts to final (or to retried) ones."""
    where = {"campaign": campaign} | ({} if final is None else {"final": final})
    groups = collection(store, "failures").aggregate(
        [{"$match": where}, {"$group": {"_id": "$class", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    )
    return {group["_id"]: group["n"] for group in groups}
