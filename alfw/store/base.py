"""The few moves every collection shares: insert if absent, read in order, turn driver errors into one line.

Uniqueness never depends on a secondary index: the `_id` of each record is made of what must be unique, so
that an insert is the whole test-and-set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import PurePath
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from bson import ObjectId
from pymongo import WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)

from alfw.core.errors import StoreError

Document = dict[str, Any]
PREFIX = "alfw_"
# A server that is killed loses up to 0.1 s of what it acknowledged, unless asked to write its journal first (1–3 ms).
DURABLE = WriteConcern(w="majority", j=True)
FAST = WriteConcern(w=1)  # for what a durable write follows, or what may be lost
BATCH = 1000  # ids in one query: keeps its document far below MongoDB's 16 MB
DUPLICATE = 11000  # error code of a second insert under the same unique key
REFUSED = (13, 18)  # Unauthorized, AuthenticationFailed

P = ParamSpec("P")
T = TypeVar("T")


class HasDatabase(Protocol):
    """Whatever carries the database; `Store` does."""

    @property
    def database(self) -> Database[Document]:
        """The MongoDB database."""
        ...


def address(database: Database[Document]) -> str:
    """``host:port/name`` of the database, never with a password."""
    servers = database.client.topology_description.server_descriptions()
    return ",".join(f"{host}:{port}" for host, port in servers) + "/" + database.name


def verb(function: Callable[P, T]) -> Callable[P, T]:
    """The function with errors of the MongoDB driver turned into `StoreError` of one line."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except PyMongoError as error:
            raise _explain(args[0], error) from error

    return wrapper


def _explain(store: Any, error: PyMongoError) -> StoreError:
    """The driver's error in alfw's words: which database, what is wrong, what to do."""
    where = address(store.database)
    what = (str(error).splitlines() or [""])[0][:300]
    if isinstance(error, OperationFailure) and error.code in REFUSED:
        return StoreError(f"database {where} refuses the user: check the username in my_launchpad.yaml")
    if isinstance(error, ConnectionFailure):
        return StoreError(f"database {where} is not reachable: start it with `alfw db start` ({what})")
    if isinstance(error, DocumentTooLarge):
        return StoreError(
            f"database {where}: record above MongoDB's 16 MB; put the bulk of it into a blob ({what})"
        )
    return StoreError(f"database {where}: {what}")


def collection(store: HasDatabase, name: str) -> Collection[Document]:
    """The collection ``alfw_<name>``."""
    return store.database[PREFIX + name]


def now() -> datetime:
    """Time of this machine in UTC, as MongoDB gives it back (naive, ms): for information, decides nothing."""
    time = datetime.now(UTC).replace(tzinfo=None)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def insert_if_absent(target: Collection[Document], document: Document) -> tuple[Document, bool]:
    """The stored document of this `_id`, and whether it is the one given (True) or an older one."""
    try:
        target.insert_one(document)
    except DuplicateKeyError:
        winner = target.find_one({"_id": document["_id"]})
        if winner is None:
            raise  # another unique key of the collection is taken: a real conflict
        return winner, False
    return document, True


def insert_many_if_absent(target: Collection[Document], documents: Sequence[Document]) -> int:
    """How many of the documents were new; those whose `_id` is there already are left as they are."""
    if not documents:
        return 0
    try:
        return len(target.insert_many(documents, ordered=False).inserted_ids)
    except BulkWriteError as error:
        errors = (error.details or {}).get("writeErrors", [])
        if any(item["code"] != DUPLICATE for item in errors):
            raise
        return len(documents) - len(errors)


def find_by(
    target: Collection[Document],
    key: str,
    values: Iterable[str],
    where: Mapping[str, Any] | None = None,
    fields: Sequence[str] | None = None,
) -> list[Document]:
    """All documents (or these fields of them) whose `key` is one of the values, in no particular order."""
    unique = list(dict.fromkeys(values))
    found: list[Document] = []
    for start in range(0, len(unique), BATCH):
        found += target.find({**(where or {}), key: {"$in": unique[start : start + BATCH]}}, fields)
    return found


def find_in_order(target: Collection[Document], ids: Sequence[str], what: str) -> list[Document]:
    """The documents of these ids in this order.

    Raises
    ------
    StoreError
        Some are missing; the first five are named.
    """
    found = {document["_id"]: document for document in find_by(target, "_id", ids)}
    missing = [one for one in dict.fromkeys(ids) if one not in found]
    if missing:
        names = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise StoreError(f"{len(missing)} {what} not in the database: {names}")
    return [found[one] for one in ids]


def plain(value: Any, path: str = "") -> Any:
    """The value in types that BSON gives back: mappings with text keys, lists, numbers, text, bytes.

    Raises
    ------
    StoreError
        It holds something else; its path is named.
    """
    if value is None or isinstance(value, (bool, str, bytes, datetime, ObjectId)):
        return value
    if isinstance(value, np.generic):
        return plain(value.item(), path)
    if isinstance(value, (int, float)):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise StoreError(f"{path or 'value'} = {value} does not fit into 64 bits")
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), path)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    raise StoreError(f"{path or 'value'} is a {type(value).__name__}, which cannot be stored")
