"""Candidates, dataset versions, ensembles and their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne

from alfw.core.errors import StoreError
from alfw.core.ids import content_id
from alfw.store.base import (
    BATCH,
    Document,
    HasDatabase,
    collection,
    find_in_order,
    insert_if_absent,
    insert_many_if_absent,
    now,
    plain,
    verb,
)
from alfw.store.documents import attach, attached


@verb
def put_candidates(
    store: HasDatabase, campaign: str, round: int, candidates: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Ids of the candidates, in order; unique on (campaign, round, frame, source): the first stays.

    Parameters
    ----------
    candidates : sequence of mappings
        `frame` (id) and `source` (text: sampler, event, audit …) are required; `state` is "selected" by
        default; walker, step, time_fs, temperature_K, trajectory, reason, force_std … as they come.
    """
    documents = []
    for fields in candidates:
        what = {"campaign": campaign, "round": round, "frame": fields["frame"], "source": fields["source"]}
        documents.append(
            {
                "state": "selected",
                "why": "",
                **plain(fields),
                **what,
                "_id": content_id("candidate", what),
                "time": now(),
            }
        )
    insert_many_if_absent(collection(store, "candidates"), documents)
    return [document["_id"] for document in documents]


@verb
def set_candidate_states(
    store: HasDatabase, campaign: str, round: int, states: Mapping[str, tuple[str, str]]
) -> None:
    """Set (state, why) of the candidates of a round, by frame id: labeled, failed, rejected, selected."""
    where = {"campaign": campaign, "round": round}
    updates = [
        UpdateOne({**where, "frame": frame, "source": source}, {"$set": {"state": state, "why": why}})
        for frame, (state, why) in states.items()
        for source in collection(store, "candidates").distinct("source", {**where, "frame": frame})
    ]
    for start in range(0, len(updates), BATCH):
        collection(store, "candidates").bulk_write(updates[start : start + BATCH], ordered=False)


@verb
def get_candidates(
    store: HasDatabase, campaign: str, round: int | None = None, state: str | None = None
) -> list[Document]:
    """The candidates of a campaign, of one round and in one state if given, in a fixed order."""
    where: dict[str, Any] = {"campaign": campaign}
    where |= {} if round is None else {"round": round}
    where |= {} if state is None else {"state": state}
    return list(collection(store, "candidates").find(where).sort([("round", 1), ("_id", 1)]))


@verb
def put_dataset(
    store: HasDatabase,
    parent: str | None,
    entries: Mapping[str, Mapping[str, Any]],
    counts: Mapping[str, Any] | None = None,
    campaign: str = "",
) -> str:
    """Id of the dataset version that adds these labels to its parent.

    Parameters
    ----------
    parent : dataset id or None
    entries : {label id: {"side": "train" | "valid" | "test", "trajectory": …, "region": …}}
        Only the labels that are new in this version; a label keeps the side it has for good.
    counts : mapping
        For information: per side, per element.
    campaign : str
        For information: where it was made first.
    """
    version = 1 if parent is None else get_dataset(store, parent)["version"] + 1
    content: Document = plain(entries, "entries")
    document: Document = {
        "_id": content_id("dataset", {"parent": parent, "entries": content}),
        "parent": parent,
        "version": version,
        "counts": plain(counts or {}, "counts"),
        "campaign": campaign,
        "time": now(),
    }
    attach(store, document, "entries", content)
    return str(insert_if_absent(collection(store, "datasets"), document)[0]["_id"])


@verb
def get_dataset(store: HasDatabase, dataset_id: str) -> Document:
    """The record of one dataset version, without its labels; StoreError where it is missing."""
    [document] = find_in_order(collection(store, "datasets"), [dataset_id], "dataset version")
    return {key: value for key, value in document.items() if key != "entries"}


@verb
def dataset_entries(store: HasDatabase, dataset_id: str) -> dict[str, Document]:
    """All labels of a dataset version, ancestors first: {label id: {"side", …}}; the eldest entry wins.

    Raises
    ------
    StoreError
        A version of the chain is missing.
    """
    chain: list[Document] = []
    one: str | None = dataset_id
    while one is not None:
        [document] = find_in_order(collection(store, "datasets"), [one], "dataset version")
        chain.append(attached(store, document, "entries"))
        one = document["parent"]
    merged: dict[str, Document] = {}
    for entries in reversed(chain):
        for label, entry in entries.items():
            merged.setdefault(label, entry)
    return merged


@verb
def put_ensemble(store: HasDatabase, ensemble_id: str, fields: Mapping[str, Any]) -> Document:
    """The ensemble of this id: made of these fields, or as it was stored before."""
    document = {"time": now(), **plain(fields), "_id": ensemble_id}
    return insert_if_absent(collection(store, "ensembles"), document)[0]


@verb
def get_ensemble(store: HasDatabase, ensemble_id: str) -> Document:
    """The ensemble of this id; StoreError where it is missing."""
    return find_in_order(collection(store, "ensembles"), [ensemble_id], "ensemble")[0]


@verb
def put_member(store: HasDatabase, ensemble_id: str, k: int, fields: Mapping[str, Any]) -> Document:
    """Member k of the ensemble: of these fields (`blob`, `seed`, `metrics` …), or as it was stored before."""
    document = {"time": now(), **plain(fields), "_id": f"{ensemble_id}/{k}", "ensemble": ensemble_id, "k": k}
    return insert_if_absent(collection(store, "members"), document)[0]


@verb
def get_members(store: HasDatabase, ensemble_id: str) -> list[Document]:
    """The members of the ensemble that are stored so far, by k."""
    return list(collection(store, "members").find({"ensemble": ensemble_id}).sort("k", 1))


@verb
def put_checkpoint(store: HasDatabase, ensemble_id: str, k: int, blob: str, step: int) -> None:
    """Remember the blob of an unfinished training of member k; one of a later step is not replaced."""
    checkpoints, key = collection(store, "checkpoints"), f"{ensemble_id}/{k}"
    insert_if_absent(checkpoints, {"_id": key, "blob": blob, "step": step})
    checkpoints.update_one({"_id": key, "step": {"$lt": step}}, {"$set": {"blob": blob, "step": step}})


@verb
def get_checkpoint(store: HasDatabase, ensemble_id: str, k: int) -> tuple[str, int] | None:
    """(blob, step) of the latest checkpoint of member k, or None."""
    document = collection(store, "checkpoints").find_one({"_id": f"{ensemble_id}/{k}"})
    return None if document is None else (document["blob"], document["step"])


def find_label_side(entries: Mapping[str, Mapping[str, Any]], label_id: str) -> str:
    """The side of a label in `dataset_entries`; StoreError where it is not in the dataset."""
    if label_id not in entries:
        raise StoreError(f"label {label_id} is not in this dataset version")
    return str(entries[label_id]["side"])
