"""The store: every verb on the database in one table."""

from __future__ import annotations

import atexit
import os
from typing import Any, Self, final

import pymongo
from pymongo import MongoClient
from pymongo.database import Database

from alfw.core.errors import StoreError
from alfw.store import blobs, campaigns, claims, datasets, indexes, labels, ledger, runs
from alfw.store.base import DURABLE, Document, address, collection, verb

_clients: dict[tuple[int, str], MongoClient[Document]] = {}  # a client does not survive a fork


@final
class Store:
    """alfw's records in the LaunchPad's database.

    Each verb is a function of a module of this package with the store as its first argument; the modules say
    what is guaranteed. All raise `StoreError`, in one line, when the database is not reachable or refuses.

    Parameters
    ----------
    database : pymongo Database
    """

    def __init__(self, database: Database[Document]) -> None:
        self.database = database.with_options(write_concern=DURABLE)

    @classmethod
    def from_launchpad(cls, launchpad: Any) -> Self:
        """The store in the database of a FireWorks LaunchPad."""
        return cls(launchpad.db)

    @property
    def address(self) -> str:
        """``host:port/name``, never with a password."""
        return address(self.database)

    ensure_indexes = indexes.ensure_indexes

    lookup = indexes.lookup
    records_of_frame = indexes.records_of_frame

    put_blob = blobs.put_blob
    put_file = blobs.put_file
    get_blob = blobs.get_blob
    save_blob = blobs.save_blob
    has_blob = blobs.has_blob

    put_frames = labels.put_frames
    get_frames = labels.get_frames
    put_theory = labels.put_theory
    get_theory = labels.get_theory
    put_label = labels.put_label
    put_labels = labels.put_labels
    get_labels = labels.get_labels
    get_labeled = labels.get_labeled
    get_label_records = labels.get_label_records
    labelled = labels.labelled
    label_energies = labels.label_energies

    put_run = runs.put_run
    put_runs = runs.put_runs
    get_runs = runs.get_runs
    attempts = runs.attempts
    get_run = runs.get_run

    put_failure = ledger.put_failure
    failures = ledger.failures
    failed_attempts = ledger.failed_attempts
    final_failures = ledger.final_failures
    all_final_failures = ledger.all_final_failures
    reopen_failures = ledger.reopen_failures
    failure_counts = ledger.failure_counts
    failure_table = ledger.failure_table

    claim = claims.claim
    claim_many = claims.claim_many
    claim_tries = claims.claim_tries
    release = claims.release
    heartbeat = claims.heartbeat

    insert_campaign = campaigns.insert_campaign
    get_campaign = campaigns.get_campaign
    list_campaigns = campaigns.list_campaigns
    set_state = campaigns.set_state
    add_revision = campaigns.add_revision
    open_round = campaigns.open_round
    set_round = campaigns.set_round
    register_workflow = campaigns.register_workflow
    close_round = campaigns.close_round
    get_round = campaigns.get_round
    rounds = campaigns.rounds
    commit_result = campaigns.commit_result
    get_result = campaigns.get_result
    get_results = campaigns.get_results

    put_candidates = datasets.put_candidates
    set_candidate_states = datasets.set_candidate_states
    get_candidates = datasets.get_candidates
    put_dataset = datasets.put_dataset
    get_dataset = datasets.get_dataset
    dataset_entries = datasets.dataset_entries
    put_ensemble = datasets.put_ensemble
    get_ensemble = datasets.get_ensemble
    put_member = datasets.put_member
    get_members = datasets.get_members
    put_checkpoint = datasets.put_checkpoint
    get_checkpoint = datasets.get_checkpoint


@atexit.register
def _close() -> None:
    """Close the clients that this process opened."""
    for (pid, _), client in _clients.items():
        if pid == os.getpid():
            client.close()


def connect(uri: str, name: str | None = None, timeout_s: float = 10.0) -> Store:
    """The store at a MongoDB URI; one client per process and URI, however often it is asked for.

    Parameters
    ----------
    name : str, optional
        Name of the database; by default the one in the URI.

    Raises
    ------
    StoreError
        Neither says which database.
    """
    key = (os.getpid(), uri)
    if key not in _clients:
        try:
            _clients[key] = MongoClient(uri, serverSelectionTimeoutMS=int(timeout_s * 1000))
        except pymongo.errors.PyMongoError as error:  # its message may repeat the password
            raise StoreError(
                "this MongoDB URI is not valid: mongodb://user:password@host:port/name"
            ) from error
    client = _clients[key]
    try:
        return Store(client[name] if name else client.get_default_database())
    except pymongo.errors.ConfigurationError as error:
        raise StoreError("this MongoDB URI names no database: append /name to it") from error


def check_connection(store: Store, timeout_s: float = 5.0) -> None:
    """Return if the database answers and lets us read.

    Raises
    ------
    StoreError
        It does not; the message says where it was looked for and what to do.
    """
    with pymongo.timeout(timeout_s):
        _probe(store)


@verb
def _probe(store: Store) -> None:
    collection(store, "campaigns").find_one({}, {"_id": 1})
