"""Records as documents: plain fields as they are, arrays as little-endian bytes, bulky ones in blobs."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import bson
import numpy as np
from numpy.typing import NDArray

from alfw.core.records import Run
from alfw.store.base import Document, HasDatabase, plain
from alfw.store.blobs import get_blob, put_blob

INLINE_BYTES = 256 * 1024  # what exceeds this goes into a blob, so that reading many records stays cheap
Record = TypeVar("Record")


def attach(store: HasDatabase, document: Document, key: str, content: Mapping[str, Any]) -> None:
    """Set ``document[key]`` to the content, or to ``{"blob": sha256}`` of its BSON where it is bulky."""
    data = bson.encode(content)
    document[key] = dict(content) if len(data) <= INLINE_BYTES else {"blob": put_blob(store, data)}


def attached(store: HasDatabase, document: Mapping[str, Any], key: str) -> Document:
    """The content that `attach` stored."""
    content: Document = document[key]
    if set(content) != {"blob"}:
        return content
    return bson.decode(get_blob(store, content["blob"]))


def encode_array(array: NDArray[Any]) -> Document:
    """dtype, shape and little-endian bytes in C order of an array."""
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {"dtype": data.dtype.str, "shape": list(array.shape), "data": data.tobytes()}


def decode_array(content: Mapping[str, Any]) -> NDArray[Any]:
    """The read-only array of `encode_array`."""
    return np.frombuffer(content["data"], content["dtype"]).reshape(content["shape"])


def encode(store: HasDatabase, record: Any) -> Document:
    """A frozen record of alfw.core as a document; fields that are None are left out."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.init}
    arrays = {name: encode_array(value) for name, value in values.items() if isinstance(value, np.ndarray)}
    document: Document = {
        name: plain(value, name) for name, value in values.items() if value is not None and name not in arrays
    }
    attach(store, document, "arrays", arrays)
    return document


def decode(store: HasDatabase, kind: type[Record], document: Mapping[str, Any]) -> Record:
    """The record that `encode` made a document of."""
    names = {field.name for field in fields(kind) if field.init}  # type: ignore[arg-type]
    values = {name: value for name, value in document.items() if name in names}
    arrays = attached(store, document, "arrays")
    return kind(**values, **{name: decode_array(content) for name, content in arrays.items()})


def encode_run(store: HasDatabase, run: Run) -> Document:
    """A run as a document; each file gzipped, without a time stamp, so equal content gives equal bytes."""
    document: Document = plain(
        {
            "corrections": run.corrections,
            "changes": run.changes,
            "wall_s": run.wall_s,
            "version": run.version,
            "command": run.command,
            "host": run.host,
        }
    )
    files = [{"name": name, "gzip": gzip.compress(data, mtime=0)} for name, data in sorted(run.files.items())]
    attach(store, document, "output", {"files": files})
    return document


def decode_run(store: HasDatabase, document: Mapping[str, Any]) -> Run:
    """The run that `encode_run` made a document of."""
    files = attached(store, document, "output")["files"]
    return Run(
        files={item["name"]: gzip.decompress(item["gzip"]) for item in files},
        corrections=document["corrections"],
        changes=document.get("changes", {}),
        wall_s=document["wall_s"],
        version=document["version"],
        command=document["command"],
        host=document["host"],
    )
