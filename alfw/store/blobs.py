"""Blobs: bytes in GridFS, found by their SHA-256.

A file is uploaded under a random id; the record {sha256 → file id} follows after it is closed. A writer that
dies before leaves a file without a record, which is garbage and in nobody's way; of two writers the one whose
record comes second deletes its own file.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import IO, Any

from gridfs import GridFSBucket
from gridfs.errors import CorruptGridFile, NoFile

from alfw.core.errors import StoreError
from alfw.core.ids import sha256
from alfw.store.base import FAST, PREFIX, Document, HasDatabase, collection, insert_if_absent, now, verb

BUCKET = PREFIX + "fs"
PIECE = 1 << 20  # bytes read at a time


@verb
def put_blob(store: HasDatabase, data: bytes) -> str:
    """SHA-256 of the data, which is in the database from now on."""
    return _put(store, sha256(data), io.BytesIO(data), len(data))


@verb
def put_file(store: HasDatabase, path: Path) -> str:
    """SHA-256 of a file's content, which is in the database from now on; the file may be large."""
    with path.open("rb") as stream:
        key = hashlib.file_digest(stream, "sha256").hexdigest()
        length = stream.tell()
        stream.seek(0)
        return _put(store, key, stream, length)


@verb
def get_blob(store: HasDatabase, sha: str) -> bytes:
    """The bytes of a blob.

    Raises
    ------
    StoreError
        The blob is missing, or what is stored does not have this SHA-256.
    """
    sink = io.BytesIO()
    _get(store, sha, sink)
    return sink.getvalue()


@verb
def save_blob(store: HasDatabase, sha: str, path: Path) -> Path:
    """The path, now a file with the content of the blob; it appears complete or not at all.

    Raises
    ------
    StoreError
        As in `get_blob`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as sink:
            _get(store, sha, sink)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path


@verb
def has_blob(store: HasDatabase, sha: str) -> bool:
    """Whether the blob is in the database, complete (its content is checked on reading only)."""
    record = collection(store, "blobs").find_one({"_id": sha})
    return record is not None and _complete(store, record)


def _complete(store: HasDatabase, record: Document) -> bool:
    """Whether the file of a blob record exists in full length."""
    file = store.database[BUCKET].files.find_one({"_id": record["file"]}, {"length": 1})
    return file is not None and file["length"] == record["length"]


def _put(store: HasDatabase, sha: str, stream: IO[bytes], length: int) -> str:
    records = collection(store, "blobs")
    old = records.find_one({"_id": sha})
    if old is not None and _complete(store, old):
        return sha
    bucket = GridFSBucket(store.database, BUCKET, write_concern=FAST)  # the record makes it durable
    file = bucket.upload_from_stream(sha, stream)
    record = {"_id": sha, "file": file, "length": length, "time": now()}
    if old is not None:  # its file is gone or short: point to the new one
        records.replace_one({"_id": sha, "file": old["file"]}, record)
        return sha
    if not insert_if_absent(records, record)[1]:
        bucket.delete(file)
    return sha


def _get(store: HasDatabase, sha: str, sink: IO[Any]) -> None:
    """Write the checked content of a blob into `sink`."""
    record = collection(store, "blobs").find_one({"_id": sha})
    if record is None:
        raise StoreError(f"blob {sha} is not in the database")
    digest = hashlib.sha256()
    try:
        with GridFSBucket(store.database, BUCKET).open_download_stream(record["file"]) as stream:
            while piece := stream.read(PIECE):
                digest.update(piece)
                sink.write(piece)
    except (NoFile, CorruptGridFile) as error:
        raise StoreError(f"blob {sha} has lost data in GridFS: put it again from its source") from error
    if digest.hexdigest() != sha:
        raise StoreError(
            f"blob {sha} is corrupt (its bytes hash to {digest.hexdigest()}):"
            f" delete its record in {PREFIX}blobs and put it again"
        )
