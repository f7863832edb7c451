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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pymongo.collection import Collection

from alfw.core.errors import StoreError
from alfw.store.base import (
    FAST,
    Document,
    HasDatabase,
    collection,
    find_by,
    insert_many_if_absent,
    verb,
)
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
        How often this campaign has acquired it so far, this time included; those of `claim_many` do not count.
    owner : mapping
        host, pid, started of the process that has it.
    token : str
        Names this acquisition.
    lost : bool
        Whether the one who had it before is dead, or silent: it began with this frame and did not finish.
    """

    frame_id: str
    theory_id: str
    acquired: bool
    tries: int
    owner: Owner
    token: str
    lost: bool = False


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
    [answer] = claim_many(store, [frame_id], theory_id, campaign, owner, ttl_s, counted=True)
    return answer


@verb
def claim_many(
    store: HasDatabase,
    frame_ids: Sequence[str],
    theory_id: str,
    campaign: str,
    owner: Owner | None = None,
    ttl_s: float = TTL_S,
    counted: bool = False,
) -> list[Claim]:
    """One answer a frame, in order, in a few moves however many frames there are; see `claim`.

    Parameters
    ----------
    counted : bool
        Whether this counts as a try. Of many frames claimed at once, a worker that dies was at one only.
    """
    target, token = _claims(store), uuid.uuid4().hex
    mine: Document = {"owner": owner or this_process(), "token": token, "ttl_s": ttl_s, "released": False}
    mine["campaign"] = campaign
    now = store.database.command("hello")["localTime"]
    tries = {_key(campaign): 1} if counted else {}
    ids = {label_id(frame, theory_id): frame for frame in frame_ids}
    fresh = [
        {"_id": key, "frame": frame, "theory": theory_id, "tries": tries, "beat": now, **mine}
        for key, frame in ids.items()
    ]
    found = {document["_id"]: document for document in fresh}
    before: dict[str, Document] = {}
    if insert_many_if_absent(target, fresh) < len(fresh):
        known = target.find({"_id": {"$in": list(ids)}})
        before = {document["_id"]: document for document in known if document.get("token") != token}
        _take_over(target, before, mine, campaign, counted)
        found |= {document["_id"]: document for document in target.find({"_id": {"$in": list(before)}})}
    return [_answer(ids[key], found[key], before.get(key), token, campaign) for key in ids]


def _take_over(
    target: Collection[Document],
    before: Mapping[str, Document],
    mine: Document,
    campaign: str,
    counted: bool,
) -> None:
    """Make those of these claims ours that nobody holds any more."""
    held = [document for document in before.values() if not document["released"]]
    owners = {document["token"]: document["owner"] for document in held}
    dead = [token for token, owner in owners.items() if is_dead(owner)]
    free: list[dict[str, Any]] = [{"released": True}, EXPIRED, {"token": {"$in": dead}}]
    change: Document = {"$set": mine, "$currentDate": {"beat": True}}
    if counted:
        change["$inc"] = {f"tries.{_key(campaign)}": 1}
    target.update_many({"_id": {"$in": list(before)}, "$or": free}, change)


def _answer(frame_id: str, document: Document, before: Document | None, token: str, campaign: str) -> Claim:
    """What the document of a claim says to the one who asked with this token."""
    acquired = document.get("token") == token
    return Claim(
        frame_id=frame_id,
        theory_id=document["theory"],
        acquired=acquired,
        tries=document["tries"].get(_key(campaign), 0),
        owner=document.get("owner", {}),
        token=document.get("token", ""),
        lost=acquired and before is not None and not before["released"],
    )


@verb
def claim_tries(
    store: HasDatabase, frame_ids: Iterable[str], theory_id: str, campaign: str
) -> dict[str, int]:
    """How often this campaign has begun with each of these frames; those it never began with are left out."""
    keys = [label_id(frame, theory_id) for frame in frame_ids]
    found = find_by(_claims(store), "_id", keys, fields=("frame", "tries"))
    return {doc["frame"]: doc["tries"][_key(campaign)] for doc in found if _key(campaign) in doc["tries"]}


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
        return self._taken([frame_id], theory_id, counted=True)[0]

    def take_many(self, frame_ids: Sequence[str], theory_id: str) -> list[Claim]:
        """Try to claim many frames at once, in order; does not count as a try of any of them."""
        return self._taken(frame_ids, theory_id, counted=False)

    def _taken(self, frame_ids: Sequence[str], theory_id: str, counted: bool) -> list[Claim]:
        with self._lock:
            new = [frame for frame in dict.fromkeys(frame_ids) if (frame, theory_id) not in self._held]
            who = (self._campaign, self._owner, self._ttl_s)
            answers = {a.frame_id: a for a in claim_many(self._store, new, theory_id, *who, counted=counted)}
            self._held |= {(frame, theory_id): answer for frame, answer in answers.items() if answer.acquired}
            return [answers.get(frame) or self._held[frame, theory_id] for frame in frame_ids]

    def done(self, frame_ids: str | Iterable[str], theory_id: str) -> None:
        """Release claims before the end of the block."""
        frames = [frame_ids] if isinstance(frame_ids, str) else list(frame_ids)
        with self._lock:
            held = [self._held.pop((frame, theory_id), None) for frame in frames]
        release(self._store, [one for one in held if one])

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
