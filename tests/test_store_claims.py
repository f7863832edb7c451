"""Claims: one at a time, and what a dead worker held is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from alfw.store import Claims, Store, is_dead, this_process

HOLDER = """
import sys, time
from alfw.store import Claims, connect
uri, name, ttl_s = sys.argv[1:]
with Claims(connect(uri, name), "ethanol", ttl_s=float(ttl_s)) as claims:
    sys.stdout.write(str(claims.take("frame", "theory").acquired) + chr(10))
    sys.stdout.flush()
    time.sleep(60)
"""
FAR = {"host": "another", "pid": 1, "started": "1"}


def holder(store: Store, uri: str, ttl_s: float = 60.0) -> subprocess.Popen[str]:
    """Another process that holds the claim on ("frame", "theory")."""
    command = [sys.executable, "-c", HOLDER, uri, store.database.name, str(ttl_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def end(process: subprocess.Popen[str], how: signal.Signals = signal.SIGKILL) -> None:
    process.send_signal(how)
    process.wait(10)
    if process.stdout is not None:
        process.stdout.close()


def test_one_at_a_time(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: store.claim("f", "t", "c"), range(24)))
    assert [answer.acquired for answer in answers].count(True) == 1
    assert {answer.tries for answer in answers} <= {0, 1}
    assert store.claim("f", "other theory", "c").acquired
    assert store.claim("g", "t", "c").acquired


def test_a_released_claim_is_free_and_its_tries_are_counted_by_campaign(store: Store) -> None:
    for n, campaign in enumerate(["a.b$c", "a.b$c", "a"]):
        claim = store.claim("f", "t", campaign)
        assert claim.acquired and claim.tries == (n + 1 if campaign != "a" else 1)
        store.release([claim])


def test_another_process_holds_it_until_it_is_killed(store: Store, mongodb_uri: str) -> None:
    process = holder(store, mongodb_uri)
    try:
        answer = store.claim("frame", "theory", "ethanol")
        assert not answer.acquired
        assert answer.owner["pid"] == process.pid
    finally:
        end(process)
    taken = store.claim("frame", "theory", "ethanol")  # at once, though its lease of a minute has not run out
    assert taken.acquired and taken.tries == 2


def test_a_stopped_process_gives_its_claims_back(store: Store, mongodb_uri: str) -> None:
    process = holder(store, mongodb_uri)
    end(process, signal.SIGINT)
    assert store.database.alfw_claims.find_one({})["released"]


def test_a_lease_on_another_host_runs_out(store: Store) -> None:
    first = store.claim("f", "t", "c", owner=dict(FAR), ttl_s=0.3)
    assert first.acquired
    assert not store.claim("f", "t", "c").acquired
    time.sleep(0.4)
    second = store.claim("f", "t", "c")
    assert second.acquired
    assert store.heartbeat([first]) == 0  # too late: it is somebody else's
    store.release([first])
    assert not store.claim("f", "t", "c").acquired
    assert store.heartbeat([second]) == 1


def test_heartbeats_keep_a_claim_alive(store: Store) -> None:
    with Claims(store, "c", owner=dict(FAR), ttl_s=0.4) as claims:
        assert claims.take("f", "t").acquired
        assert claims.take("f", "t").acquired  # ours already
        time.sleep(1.0)
        assert not store.claim("f", "t", "c").acquired
        claims.done("f", "t")
        assert store.claim("f", "t", "c").acquired


def test_an_error_in_the_block_releases_the_claims(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), Claims(store, "c") as claims:
        claims.take("f", "t")
        raise ZeroDivisionError
    assert store.claim("f", "t", "c").acquired


def test_a_pid_that_is_used_again_is_not_the_owner() -> None:
    me = this_process()
    assert not is_dead(me)
    assert is_dead({**me, "started": "0"})
    assert is_dead({**me, "pid": 2**22 + os.getpid()})
    assert not is_dead(FAR)  # of other hosts nothing is known


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    owner = {**this_process(), "pid": process.pid}
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet reaped
    try:
        assert is_dead(owner)
    finally:
        process.wait()


def test_many_at_once_are_no_tries(store: Store, mongodb_uri: str) -> None:
    held = store.claim("b", "t", "c")
    answers = store.claim_many(["a", "b", "c"], "t", "c")
    assert [(one.frame_id, one.acquired, one.tries) for one in answers] == [
        ("a", True, 0),
        ("b", False, 1),
        ("c", True, 0),
    ]
    assert store.heartbeat(answers) == 2
    store.release(answers)
    assert not store.claim("b", "t", "c").acquired  # of `held` still
    again = store.claim_many(["c", "a"], "t", "c")
    assert all(one.acquired and not one.lost for one in again)
    store.release([held, *again])
    assert store.claim("a", "t", "c").tries == 1
    assert store.claim_tries(["a", "b", "c", "d"], "t", "c") == {"a": 1, "b": 1}
    assert store.claim_tries(["a"], "t", "other") == {}


def test_what_a_dead_worker_held_is_told(store: Store, mongodb_uri: str) -> None:
    process = holder(store, mongodb_uri)
    end(process)
    one, other = store.claim_many(["frame", "another"], "theory", "ethanol")
    assert one.acquired and one.lost and one.tries == 1
    assert other.acquired and not other.lost
    store.release([one])
    assert not store.claim("frame", "theory", "ethanol").lost
