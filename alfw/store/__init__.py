"""MongoDB and GridFS on the LaunchPad's database: the only place that imports pymongo."""

from alfw.store.claims import Claim, Claims
from alfw.store.labels import label_id, surface
from alfw.store.process import is_dead, this_process
from alfw.store.runs import run_id
from alfw.store.store import Store, check_connection, connect

__all__ = [
    "Claim",
    "Claims",
    "Store",
    "check_connection",
    "connect",
    "is_dead",
    "label_id",
    "run_id",
    "surface",
    "this_process",
]
