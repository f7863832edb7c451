"""Blobs: whoever dies, nothing is in the way; what is read is what was written."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gridfs import GridFSBucket

from alfw.core.errors import StoreError
from alfw.store import Store

BIG = np.random.default_rng(1).bytes(3_000_000)  # a dozen chunks


def files(store: Store) -> Any:
    return store.database["alfw_fs.files"]


def chunks(store: Store) -> Any:
    return store.database["alfw_fs.chunks"]


@pytest.mark.parametrize("data", [b"", b"x", BIG], ids=["empty", "one byte", "many chunks"])
def test_bytes_come_back(store: Store, data: bytes) -> None:
    sha = store.put_blob(data)
    assert sha == hashlib.sha256(data).hexdigest() == store.put_blob(data)
    assert store.get_blob(sha) == data
    assert files(store).count_documents({}) == 1


def test_files_come_back(store: Store, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_bytes(BIG)
    sha = store.put_file(source)
    assert sha == store.put_blob(BIG)
    assert store.save_blob(sha, target).read_bytes() == BIG
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_missing_blob_is_named_and_leaves_no_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="blob 00ff is not in the database"):
        store.get_blob("00ff")
    with pytest.raises(StoreError, match="00ff"):
        store.save_blob("00ff", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_writer_killed_before_the_record_is_in_nobodys_way(store: Store) -> None:
    sha = hashlib.sha256(BIG).hexdigest()
    upload = GridFSBucket(store.database, "alfw_fs").open_upload_stream(sha)
    upload.write(BIG)  # killed here: chunks without a file …
    upload._buffer.close()
    GridFSBucket(store.database, "alfw_fs").upload_from_stream(sha, BIG)  # … or here: a file without a record
    assert not store.has_blob(sha)
    assert store.put_blob(BIG) == sha
    assert store.get_blob(sha) == BIG


def test_writers_that_race_leave_one_file(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: store.put_blob(BIG), range(8)))) == 1
    assert files(store).count_documents({}) == 1
    assert store.get_blob(hashlib.sha256(BIG).hexdigest()) == BIG


def test_a_changed_byte_is_found(store: Store, tmp_path: Path) -> None:
    sha = store.put_blob(BIG)
    chunk = chunks(store).find_one({"n": 3})
    chunks(store).update_one({"_id": chunk["_id"]}, {"$set": {"data": chunk["data"][:-1] + b"?"}})
    with pytest.raises(StoreError, match=f"blob {sha} is corrupt"):
        store.get_blob(sha)
    with pytest.raises(StoreError, match="corrupt"):
        store.save_blob(sha, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_lost_chunk_is_found(store: Store) -> None:
    sha = store.put_blob(BIG)
    chunks(store).delete_one({"n": 3})
    with pytest.raises(StoreError, match=f"blob {sha} has lost data"):
        store.get_blob(sha)


def test_a_lost_file_is_put_again(store: Store) -> None:
    sha = store.put_blob(BIG)
    files(store).delete_many({})
    assert not store.has_blob(sha)
    with pytest.raises(StoreError, match="lost data"):
        store.get_blob(sha)
    store.put_blob(BIG)
    assert store.get_blob(sha) == BIG
