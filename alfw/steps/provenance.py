"""Where a record comes from: following ids up."""

from __future__ import annotations

from typing import Any

from alfw.store import Store


def records(store: Store, prefix: str) -> list[dict[str, Any]]:
    """Readable content of all records whose id begins so, and what belongs to them; bytes are left out."""
    found = []
    for kind, document in store.lookup(prefix):
        record = {"kind": kind, "id": document["_id"], **_readable(document)}
        if kind == "frame":
            record.pop("arrays", None)  # raw bytes; `alfw export` writes coordinates
            record |= _of_frame(store, document["_id"])
        found.append(record)
    return found


def _of_frame(store: Store, frame_id: str) -> dict[str, Any]:
    """Formula, labels, failures and candidates of a frame."""
    [frame] = store.get_frames([frame_id])
    return {
        "formula": frame.formula,
        "n_atoms": len(frame),
        "labels": [_readable(item) for item in store.records_of_frame("labels", frame_id)],
        "failures": [_readable(item) for item in store.records_of_frame("failures", frame_id)],
        "candidates": [_readable(item) for item in store.records_of_frame("candidates", frame_id)],
    }


def _readable(value: Any) -> Any:
    """JSON data of a document; bytes become their length."""
    if isinstance(value, dict):
        return {str(k): _readable(v) for k, v in value.items() if k != "_id"}
    if isinstance(value, (list, tuple)):
        return [_readable(item) for item in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    plain = value is None or isinstance(value, (str, int, float, bool))
    return value if plain else str(value)
