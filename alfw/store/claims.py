"""Claims: one process at a time computes the label of a frame at a theory, over the whole database.

A claim is a lease: it ends when it is released, when its owner no longer sends heartbeats (`ttl_s` by the
clock of the database server, the only one involved), or at once when its owner is a dead process of the
asking host.
A claim saves time; it is not what keeps labels single, the unique label record is.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pymongo import ReturnDocument
from pymongo.collection import Collection

from alfw.core.errors import StoreError
from alfw.store.base import FAST, Document, HasDatabase, collection, verb
from alfw.store.labels import label_id
from alfw.store.process import Owner, is_dead, this_process

TTL_S = 60.0
EXPIRED = {"$expr": {"$lt": ["$beat", {"$subtract": ["$$NOW", {"$multiply": ["$ttl_s", 1000]}]}]}}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """The answer to a claim.

    Attributes
    ----------
    acquired : bool
        Whether the asking process has it now.
    tries : int
        How often this campaign has acquired it so far, this time included.
    owner : mapping
        host, pid, started of the process that has it.
    token : str
        Names this acquisition.
    """

    frame_id: str
    theory_id: str
    acquired: bool
    tries: int
    owner: Owner
    token: str


@verb
def claim(
    store: HasDatabase,
    frame_id: str,
    theory_id: str,
    campaign: str,
    owner: Owner | None = None,
    ttl_s: float = TTL_S,
) -> Claim:
    """Try to become the one that labels this frame at this theory; look at `acquired`.

    Parameters
    ----------
    owner : {"host", "pid", "started"}, optional
        `this_process()` by default.
    """
    target, key, owner = _claims(store), label_id(frame_id, theory_id), owner or this_process()
    absent: Document = {"frame": frame_id, "theory": theory_id, "released": True, "tries": {}}
    target.update_one({"_id": key}, {"$setOnInsert": absent}, upsert=True)
    holder = target.find_one({"_id": key}) or absent
    free: list[dict[str, Any]] = [{"released": True}, EXPIRED]
    if not holder["released"] and is_dead(holder["owner"]):
        free.append({"token": holder["token"]})
    taken = target.find_one_and_update(
        {"_id": key, "$or": free},
        {
            "$set": {
                "owner": owner,
                "token": uuid.uuid4().hex,
                "ttl_s": ttl_s,
                "released": False,
                "campaign": campaign,
            },
            "$inc": {f"tries.{_key(campaign)}": 1},
            "$currentDate": {"beat": True},
        },
        return_document=ReturnDocument.AFTER,
    )
    document: Document = taken or target.find_one({"_id": key}) or holder
    return Claim(
        frame_id=frame_id,
        theory_id=theory_id,
        acquired=taken is not None,
        tries=document["tries"].get(_key(campaign), 0),
        owner=document.get("owner", {}),
        token=document.get("token", ""),
    )


@verb
def release(store: HasDatabase, claims: Iterable[Claim]) -> None:
    """Give up these claims; one that somebody else has taken over since stays theirs."""
    tokens = [one.token for one in claims if one.acquired]
    if tokens:
        where = _where(claims) | {"token": {"$in": tokens}}
        _claims(store).update_many(where, {"$set": {"released": True}})


@verb
def heartbeat(store: HasDatabase, claims: Iterable[Claim]) -> int:
    """Prolong these claims by their `ttl_s` from now; how many of them are still ours."""
    tokens = [one.token for one in claims if one.acquired]
    if not tokens:
        return 0
    where = _where(claims) | {"token": {"$in": tokens}, "released": False}
    return _claims(store).update_many(where, {"$currentDate": {"beat": True}}).matched_count


def _claims(store: HasDatabase) -> Collection[Document]:
    return collection(store, "claims").with_options(write_concern=FAST)


def _where(claims: Iterable[Claim]) -> dict[str, Any]:
    """By `_id`, which is indexed."""
    return {"_id": {"$in": [label_id(one.frame_id, one.theory_id) for one in claims]}}


def _key(campaign: str) -> str:
    """The campaign's name as a key of a document, where "." and "$" mean something else."""
    return campaign.replace("%", "%25").replace(".", "%2E").replace("$", "%24")


class Claims:
    """The claims of one worker: kept alive by a thread while the block runs, released at its end.

    Examples
    --------
    ``with Claims(store, "ethanol") as claims: mine = claims.take(frame_id, theory_id).acquired``
    """

    def __init__(
        self, store: HasDatabase, campaign: str, owner: Owner | None = None, ttl_s: float = TTL_S
    ) -> None:
        self._store, self._campaign, self._ttl_s = store, campaign, ttl_s
        self._owner = owner or this_process()
        self._held: dict[tuple[str, str], Claim] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="alfw-claims", daemon=True)

    def take(self, frame_id: str, theory_id: str) -> Claim:
        """Try to claim a frame at a theory; look at `acquired`. What this block holds stays acquired."""
        with self._lock:
            if held := self._held.get((frame_id, theory_id)):
                return held
            answer = claim(self._store, frame_id, theory_id, self._campaign, self._owner, self._ttl_s)
            if answer.acquired:
                self._held[frame_id, theory_id] = answer
            return answer

    def done(self, frame_id: str, theory_id: str) -> None:
        """Release one claim before the end of the block."""
        with self._lock:
            held = self._held.pop((frame_id, theory_id), None)
        if held:
            release(self._store, [held])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        held, self._held = list(self._held.values()), {}
        try:
            release(self._store, held)
        except StoreError as lost:  # they run out by themselves; the block's own outcome matters more
            logger.warning("claims not released: %s", lost)

    def _beat(self) -> None:
        while not self._stop.wait(self._ttl_s / 4):
            with self._lock:
                held = list(self._held.values())
            try:
                heartbeat(self._store, held)
            except StoreError as error:  # the next beat tries again
                logger.warning("claims not prolonged: %s", error)
