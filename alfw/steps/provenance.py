"""Where a record comes from: following ids up."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from alfw.core.errors import ConfigError
from alfw.store import Store


def records(store: Store, prefix: str) -> list[dict[str, Any]]:
    """Readable content of all records whose id begins so, and what belongs to them; bytes are left out."""
    found = []
    for kind, document in store.lookup(prefix):
        record = {"kind": kind, "id": document["_id"], **_readable(document)}
        if kind == "frame":
            record.pop("arrays", None)  # raw bytes; `alfw export` writes coordinates
            record |= _of_frame(store, document["_id"])
        elif kind == "run":
            record["output"] = {
                name: f"{len(data)} bytes" for name, data in _files(store, document["_id"]).items()
            }
            record["files"] = _how_to_get(document["_id"])
        elif kind == "failure" and document.get("run"):
            record["files"] = _how_to_get(document["run"])
        found.append(record)
    return found


def write_output(store: Store, prefix: str, folder: Path) -> list[Path]:
    """Paths of the raw files of a calculation, written into `folder`; of a failure or label: those it was read from.

    Raises
    ------
    ConfigError
        None or several runs are meant, the record has no output, or the folder cannot be written.
    """
    runs = sorted({run for kind, document in store.lookup(prefix) if (run := _run_of(kind, document))})
    if len(runs) != 1:
        what = "no run, nor a failure or label with one," if not runs else "more than one run"
        raise ConfigError(f"{prefix}: {what} has an id that begins so")
    paths = []
    try:
        for name, data in _files(store, runs[0]).items():
            path = folder.joinpath(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            paths.append(path)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}): choose another folder") from None
    return paths


def _run_of(kind: str, document: dict[str, Any]) -> str | None:
    """Id of the run that a record is, or was read from."""
    if kind == "run":
        return str(document["_id"])
    return document.get("run") if kind in ("failure", "label") else None


def _files(store: Store, run: str) -> dict[str, bytes]:
    return dict(store.get_run(run).files)


def _how_to_get(run: str) -> str:
    return f"alfw show {run[:12]} --files DIR"


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
