"""Frames, theories and labels: shared by all campaigns of a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from alfw.core.frame import Frame
from alfw.core.ids import content_id
from alfw.core.records import Label, Labeled, Theory
from alfw.store.base import (
    Document,
    HasDatabase,
    collection,
    find_by,
    find_in_order,
    insert_if_absent,
    insert_many_if_absent,
    now,
    plain,
    verb,
)
from alfw.store.documents import decode, encode


@lru_cache(maxsize=8192)  # asked for several times of each frame that is labelled
def label_id(frame_id: str, theory_id: str) -> str:
    """Id of the label of a frame at a theory; there is at most one in a database."""
    return content_id("label", {"frame": frame_id, "theory": theory_id})


@verb
def put_frames(store: HasDatabase, frames: Sequence[Frame]) -> list[str]:
    """Ids of the frames, in order; those not in the database are added."""
    frames_by_id = {frame.id: frame for frame in frames}
    target = collection(store, "frames")
    known = (
        set(target.distinct("_id", {"_id": {"$in": list(frames_by_id)}}))
        if len(frames_by_id) <= 1000
        else set()
    )
    new = [{"_id": key, **encode(store, frame)} for key, frame in frames_by_id.items() if key not in known]
    insert_many_if_absent(target, new)
    return [frame.id for frame in frames]


@verb
def get_frames(store: HasDatabase, ids: Sequence[str]) -> list[Frame]:
    """The frames of these ids, in order.

    Raises
    ------
    StoreError
        Some are not in the database.
    """
    return [decode(store, Frame, doc) for doc in find_in_order(collection(store, "frames"), ids, "frame(s)")]


@verb
def put_theory(store: HasDatabase, theory: Theory) -> str:
    """Id of the theory, which is in the database from now on."""
    target = collection(store, "theories")
    if target.find_one({"_id": theory.id}, {"_id": 1}) is None:  # a durable write takes longer than a look
        document = {"_id": theory.id, "code": theory.code, "settings": plain(theory.settings)}
        insert_if_absent(target, document)
    return theory.id


@verb
def get_theory(store: HasDatabase, theory_id: str) -> Theory:
    """The theory of this id; StoreError where it is missing."""
    [document] = find_in_order(collection(store, "theories"), [theory_id], "theory")
    return Theory(document["code"], document["settings"])


@verb
def put_labels(
    store: HasDatabase,
    theory: Theory,
    labels: Mapping[str, Label],
    run_ids: Mapping[str, str] | None = None,
    compositions: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Label ids by frame id; a frame that has a label at this theory keeps the one it has.

    A label whose remedies changed the theory keeps its place, and its `surface` is the id of the theory it is of.

    Parameters
    ----------
    labels : {frame id: Label}
    run_ids : {frame id: id of the `run` it was read from}, optional
    compositions : {frame id: text}, optional
        Labels with equal ones can be compared in energy.
    """
    surfaces = {frame: surface(theory, label) for frame, label in labels.items()}
    for each in {one.id: one for one in (theory, *surfaces.values())}.values():
        put_theory(store, each)
    documents = [
        {
            "_id": label_id(frame, theory.id),
            "frame": frame,
            "theory": theory.id,
            "surface": surfaces[frame].id,
            "composition": (compositions or {}).get(frame),
            "run": (run_ids or {}).get(frame),
            "time": now(),
            **encode(store, label),
        }
        for frame, label in labels.items()
    ]
    insert_many_if_absent(collection(store, "labels"), documents)
    return {document["frame"]: document["_id"] for document in documents}


def surface(theory: Theory, label: Label) -> Theory:
    """The theory that a label is really of: the one asked for, with the settings that allowed remedies changed."""
    return replace(theory, settings={**theory.settings, **label.changes}) if label.changes else theory


def put_label(
    store: HasDatabase, frame_id: str, theory: Theory, label: Label, run_id: str | None = None
) -> str:
    """Id of the label of this frame at this theory; the first one stored stays."""
    return put_labels(store, theory, {frame_id: label}, {frame_id: run_id} if run_id else None)[frame_id]


@verb
def label_energies(store: HasDatabase, theory_id: str, composition: str) -> list[float]:
    """Energies (eV) of all labels of this composition at this theory, the lowest first."""
    where = {"theory": theory_id, "composition": composition}
    found = collection(store, "labels").find(where, {"_id": 0, "energy": 1}).sort("energy", 1)
    return [document["energy"] for document in found]


@verb
def get_labels(store: HasDatabase, frame_ids: Iterable[str], theory_id: str) -> dict[str, tuple[str, Label]]:
    """(label id, Label) by frame id, of those frames that have a label at this theory."""
    found = find_by(collection(store, "labels"), "frame", frame_ids, {"theory": theory_id})
    return {doc["frame"]: (doc["_id"], decode(store, Label, doc)) for doc in found}


@verb
def labelled(store: HasDatabase, frame_ids: Iterable[str], theory_id: str) -> set[str]:
    """The frames among these that have a label at this theory."""
    found = find_by(collection(store, "labels"), "frame", frame_ids, {"theory": theory_id}, ("frame",))
    return {document["frame"] for document in found}


@verb
def get_labeled(store: HasDatabase, label_ids: Sequence[str]) -> list[Labeled]:
    """Frames with their labels, by label id, in order.

    Raises
    ------
    StoreError
        A label, or the frame of one, is not in the database.
    """
    documents = find_in_order(collection(store, "labels"), label_ids, "label(s)")
    frames = get_frames(store, [doc["frame"] for doc in documents])
    return [Labeled(f, decode(store, Label, doc)) for f, doc in zip(frames, documents, strict=True)]


@verb
def get_label_records(store: HasDatabase, label_ids: Sequence[str]) -> list[Document]:
    """The documents of labels (frame, theory, run, version, host …), in order; StoreError where missing."""
    return find_in_order(collection(store, "labels"), label_ids, "label(s)")
