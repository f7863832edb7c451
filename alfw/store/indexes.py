"""The collections of alfw and how they are searched."""

from __future__ import annotations

from pymongo import IndexModel

from alfw.store.base import HasDatabase, collection, verb

VERSION = 1  # raise it with each change of the table, and every database follows at its next `ensure_indexes`
# collection → (fields, unique); the unique ones repeat what `_id` guarantees, for those who write by hand.
INDEXES: dict[str, list[tuple[tuple[str, ...], bool]]] = {
    "labels": [(("theory", "frame"), True)],
    "runs": [(("theory", "frame", "attempt"), True)],
    "failures": [(("campaign", "theory", "frame", "attempt", "final"), True)],
    "results": [(("campaign", "round", "stage", "part"), True)],
    "rounds": [(("campaign", "number"), True)],
    "candidates": [(("campaign", "round", "frame", "source"), True), (("frame",), False)],
    "members": [(("ensemble", "k"), True)],
}


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
