"""The collections of alfw and how they are searched."""

from __future__ import annotations

import re

from pymongo import IndexModel

from alfw.store.base import Document, HasDatabase, collection, verb

VERSION = 3  # raise it with each change of the table, and every database follows at its next `ensure_indexes`
# collection → (fields, unique); the unique ones repeat what `_id` guarantees, for those who write by hand.
INDEXES: dict[str, list[tuple[tuple[str, ...], bool]]] = {
    "labels": [(("theory", "frame"), True), (("theory", "composition", "energy"), False)],
    "runs": [(("theory", "frame", "attempt"), True)],
    "failures": [(("campaign", "theory", "frame", "attempt", "final"), True), (("frame",), False)],
    "results": [(("campaign", "round", "stage", "part"), True)],
    "rounds": [(("campaign", "number"), True)],
    "candidates": [(("campaign", "round", "frame", "source"), True), (("frame",), False)],
    "members": [(("ensemble", "k"), True)],
}

# What `lookup` searches, by the word for one record.
KINDS = {
    "campaign": "campaigns",
    "round": "rounds",
    "result": "results",
    "frame": "frames",
    "candidate": "candidates",
    "theory": "theories",
    "label": "labels",
    "run": "runs",
    "failure": "failures",
    "dataset": "datasets",
    "ensemble": "ensembles",
    "member": "members",
    "blob": "blobs",
}


@verb
def lookup(store: HasDatabase, prefix: str) -> list[tuple[str, Document]]:
    """(kind, document) of all records whose id starts with the prefix, at most ten of a kind."""
    where = {"_id": {"$regex": "^" + re.escape(prefix)}}
    return [
        (kind, document)
        for kind, name in KINDS.items()
        for document in collection(store, name).find(where).sort("_id", 1).limit(10)
    ]


@verb
def records_of_frame(store: HasDatabase, name: str, frame_id: str) -> list[Document]:
    """The documents of one collection (labels, failures, candidates, runs) that belong to a frame."""
    return list(collection(store, name).find({"frame": frame_id}))


@verb
def ensure_indexes(store: HasDatabase) -> None:
    """Create the indexes; costs one read when they are there."""
    meta = collection(store, "meta")
    if (meta.find_one({"_id": "indexes"}) or {}).get("version") == VERSION:
        return
    for name, indexes in INDEXES.items():
        models = [IndexModel([(field, 1) for field in fields], unique=unique) for fields, unique in indexes]
        collection(store, name).create_indexes(models)
    meta.replace_one({"_id": "indexes"}, {"version": VERSION}, upsert=True)
