"""Raw outputs of calculations: runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from alfw.core.ids import content_id
from alfw.core.records import Run
from alfw.store.base import (
    FAST,
    HasDatabase,
    collection,
    find_by,
    find_in_order,
    insert_many_if_absent,
    now,
    verb,
)
from alfw.store.documents import decode_run, encode_run


@lru_cache(maxsize=8192)
def run_id(frame_id: str, theory_id: str, attempt: int) -> str:
    """Id of the raw output of one attempt to label a frame."""
    return content_id("run", {"frame": frame_id, "theory": theory_id, "attempt": attempt})


@verb
def put_runs(
    store: HasDatabase,
    theory_id: str,
    runs: Mapping[str, tuple[int, Run]],
    partial: bool = False,
    durable: bool = True,
) -> int:
    """How many of these outputs are new, of {frame id: (attempt, Run)}; the first one stored for an attempt stays.

    Parameters
    ----------
    partial : bool
        Whether they were stopped before their end: kept to look at and to restart from, never judged.
    durable : bool
        Whether they must survive a crash of the server in the next 0.1 s; else what follows (a label) has to.
    """
    documents = [
        {
            "_id": run_id(frame, theory_id, attempt),
            "frame": frame,
            "theory": theory_id,
            "attempt": attempt,
            "partial": partial,
            "time": now(),
            **encode_run(store, run),
        }
        for frame, (attempt, run) in runs.items()
    ]
    target = collection(store, "runs")
    return insert_many_if_absent(target if durable else target.with_options(write_concern=FAST), documents)


def put_run(
    store: HasDatabase, frame_id: str, theory_id: str, attempt: int, run: Run, partial: bool = False
) -> str:
    """Id of the raw output of this attempt; the first one stored stays."""
    put_runs(store, theory_id, {frame_id: (attempt, run)}, partial)
    return run_id(frame_id, theory_id, attempt)


@verb
def get_run(store: HasDatabase, id: str) -> Run:
    """The raw output of this id, partial or not; StoreError where it is missing."""
    [document] = find_in_order(collection(store, "runs"), [id], "run")
    return decode_run(store, document)


@verb
def get_runs(store: HasDatabase, frame_ids: Sequence[str], theory_id: str) -> dict[str, tuple[int, Run]]:
    """(attempt, Run) by frame id: the latest complete output of each frame that has one."""
    latest = {frame: complete for frame, (_, complete) in attempts(store, frame_ids, theory_id).items()}
    ids = [run_id(frame, theory_id, number) for frame, number in latest.items() if number is not None]
    found = find_by(collection(store, "runs"), "_id", ids)
    return {doc["frame"]: (doc["attempt"], decode_run(store, doc)) for doc in found}


@verb
def attempts(
    store: HasDatabase, frame_ids: Iterable[str], theory_id: str
) -> dict[str, tuple[int, int | None]]:
    """Numbers of the latest attempt, and of the latest complete one, by frame id; frames without any are left out."""
    fields = ("frame", "attempt", "partial")
    found = find_by(collection(store, "runs"), "frame", frame_ids, {"theory": theory_id}, fields)
    latest: dict[str, tuple[int, int | None]] = {}
    for document in sorted(found, key=lambda document: document["attempt"]):
        number, frame = document["attempt"], document["frame"]
        complete = latest.get(frame, (0, None))[1] if document.get("partial") else number
        latest[frame] = (number, complete)
    return latest
