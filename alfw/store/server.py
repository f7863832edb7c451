"""A managed local MongoDB: one mongod on the loopback interface, authentication on, for one working folder.

Everything lies in ``<folder>/alfw_db``: the data, the log, the pid file, the passwords (mode 0600). FireWorks
gets them in ``<folder>/my_launchpad.yaml`` (mode 0600). Each step may be interrupted; the next start completes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote_plus

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from alfw.core.errors import StoreError
from alfw.store.base import DUPLICATE, Document
from alfw.store.launchpad import read_launchpad, write_launchpad
from alfw.store.mongod import HOST, free_port, port_is_free
from alfw.store.process import command_line, started

DATABASE = "alfw"
ALREADY_EXISTS, UNAUTHORIZED = 51003, 13  # error codes: a second createUser; anonymous where there are users
START_S = STOP_S = 60.0
PORT_ATTEMPTS = 5


@dataclass(frozen=True)
class Status:
    """What is known of the managed mongod of a folder.

    Attributes
    ----------
    state : {"running", "stopped", "absent"}
        ``absent``: never started here.
    changed : bool
        Whether the call that returns this made it so.
    launchpad : Path or None
        The launchpad file to use.
    note : str
        What the user should know, or nothing.
    """

    state: Literal["running", "stopped", "absent"]
    folder: Path
    pid: int | None = None
    port: int | None = None
    launchpad: Path | None = None
    changed: bool = False
    note: str = ""


def status(folder: Path) -> Status:
    """Whether the mongod of this working folder runs, and how to reach it."""
    home = folder.absolute() / "alfw_db"
    if not (home / "credentials.json").exists():
        return Status("absent", home)
    settings = _credentials(home)
    pid = _pid(home)
    launchpad = Path(settings["launchpad"]) if "launchpad" in settings else None
    return Status("running" if pid else "stopped", home, pid, settings.get("port"), launchpad)


def start(folder: Path, mongod: Path, port: int | None = None) -> Status:
    """Start the mongod of this working folder, create its users and write its launchpad file.

    Parameters
    ----------
    mongod : Path
        The program, see `mongod.find_mongod`.
    port : int, optional
        By default the one used before if it is free, else the first free one from 27117.

    Raises
    ------
    StoreError
        The port is taken, or mongod does not start; the message holds the reason or names the log.
    """
    home = folder.absolute() / "alfw_db"
    (home / "data").mkdir(parents=True, exist_ok=True)
    os.chmod(home, 0o700)
    with _only_one(home):
        before = status(folder)
        check_port(before, port)
        settings = _credentials(home)
        if before.pid is None:
            _launch_on_free_port(mongod, home, settings, port)
        _create_users(settings)
        path, note = write_launchpad(folder.absolute(), _launchpad(settings))
        settings["launchpad"] = str(path)
        _write_credentials(home, settings)
        return Status("running", home, _pid(home), settings["port"], path, before.pid is None, note)


def _launch_on_free_port(mongod: Path, home: Path, settings: dict[str, Any], port: int | None) -> None:
    """Start mongod on this port, else on a free one; another may take a free port first, then the next is tried."""
    for attempts_left in reversed(range(PORT_ATTEMPTS)):
        settings["port"] = port or _free(settings.get("port"))
        _write_credentials(home, settings)
        try:
            return _launch(mongod, home, settings["port"])
        except StoreError as error:
            if port is not None or not attempts_left or "in use" not in str(error):
                raise
            settings["port"] = None


def check_port(now: Status, port: int | None) -> None:
    """Return if mongod can be had on this port.

    Raises
    ------
    StoreError
        Another program has it, or mongod runs on another one already.
    """
    if port is None or port == now.port and now.pid:
        return
    if now.pid:
        raise StoreError(f"mongod of {now.folder} runs on port {now.port}: stop it first (`alfw db stop`)")
    if not port_is_free(port):
        raise StoreError(f"port {port} is taken by another program: choose another with --port")


def stop(folder: Path) -> Status:
    """End the mongod of this working folder, if it runs, and wait until it is gone.

    Raises
    ------
    StoreError
        It is still there after a minute.
    """
    before = status(folder)
    if before.pid is None:
        return before
    birth = started(before.pid)
    os.kill(before.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while started(before.pid) == birth:
        if time.monotonic() > deadline:
            raise StoreError(
                f"mongod (pid {before.pid}) of {before.folder} does not end: see mongod.log there"
            )
        time.sleep(0.05)
    return Status("stopped", before.folder, None, before.port, before.launchpad, changed=True)


def _pid(home: Path) -> int | None:
    """Pid of our mongod; None when it does not run. A pid file may be stale, its number another's."""
    try:
        pid = int((home / "mongod.pid").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None
    ours = started(pid) is not None and f"--dbpath {home / 'data'} " in command_line(pid) + " "
    return pid if ours else None


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Wait until no other process starts the mongod of this folder."""
    with (home / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _credentials(home: Path) -> dict[str, Any]:
    """Passwords, port and launchpad file; new passwords where there are none yet."""
    path = home / "credentials.json"
    if path.exists():
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return settings
    return {"root_password": secrets.token_urlsafe(24), "password": secrets.token_urlsafe(24)}


def _write_credentials(home: Path, settings: dict[str, Any]) -> None:
    """Passwords are on disk before the users exist, so that an interrupted start can be completed."""
    path, temporary = home / "credentials.json", home / ".credentials.json"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(settings, file)
    os.replace(temporary, path)


def _free(before: int | None) -> int:
    """The port used before if it is free, so that copies of the launchpad file stay right; else another."""
    return before if before and port_is_free(before) else free_port()


def _launch(mongod: Path, home: Path, port: int) -> None:
    """Start mongod as a daemon; it returns when it listens."""
    command = [str(mongod), "--fork", "--auth", "--bind_ip", HOST, "--port", str(port), "--nounixsocket"]
    command += ["--dbpath", str(home / "data"), "--logpath", str(home / "mongod.log"), "--logappend"]
    command += ["--pidfilepath", str(home / "mongod.pid"), "--wiredTigerCacheSizeGB", "0.5"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(f"mongod does not start: {error}") from error
    if done.returncode != 0:
        raise StoreError(f"mongod does not start ({_reason(done, home)}); its log: {home / 'mongod.log'}")


def _reason(done: subprocess.CompletedProcess[str], home: Path) -> str:
    """The last error of mongod's own log, else the last line it said."""
    log = home / "mongod.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    for line in reversed(lines[-200:]):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("s") in ("E", "F") and entry.get("attr", {}).get("error"):
            return str(entry["attr"]["error"])[:200]
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return (said[-1] if said else f"exit status {done.returncode}")[:200]


def _create_users(settings: dict[str, Any]) -> None:
    """root, through the exception MongoDB makes on localhost while there is no user, and alfw's user."""
    root = {"username": "root", "password": settings["root_password"], "authSource": "admin"}
    try:
        with _client(settings["port"]) as nobody:
            _create_user(nobody, "admin", "root", settings["root_password"], ["root"])
        with _client(settings["port"], **root) as admin:
            _create_user(admin, DATABASE, "alfw", settings["password"], ["readWrite", "dbAdmin"])
    except PyMongoError as error:
        what = str(error).splitlines()[0][:200]
        raise StoreError(f"mongod on port {settings['port']} does not accept its users: {what}") from error


def _client(port: int, **options: Any) -> MongoClient[Document]:
    return MongoClient(HOST, port, serverSelectionTimeoutMS=int(START_S * 1000), **options)


def _create_user(
    client: MongoClient[Document], database: str, name: str, password: str, roles: list[str]
) -> None:
    """Create a user unless it exists; MongoDB refuses anonymous clients once there is any."""
    try:
        client[database].command("createUser", name, pwd=password, roles=roles)
    except OperationFailure as error:
        if error.code not in (ALREADY_EXISTS, DUPLICATE, UNAUTHORIZED):
            raise


def _launchpad(settings: dict[str, Any]) -> dict[str, Any]:
    """What FireWorks needs to know."""
    return {
        "host": HOST,
        "port": settings["port"],
        "name": DATABASE,
        "username": "alfw",
        "password": settings["password"],
        "authsource": DATABASE,
        "logdir": None,
        "strm_lvl": "INFO",
        "user_indices": [],
        "wf_user_indices": [],
    }


def uri(launchpad: Path) -> str:
    """MongoDB URI of a launchpad file, password included."""
    settings = read_launchpad(launchpad)
    if settings.get("uri_mode"):
        return str(settings["host"])
    who = [quote_plus(str(settings.get(key) or "")) for key in ("username", "password")]
    user = ":".join(who) + "@" if who[0] else ""
    name = settings.get("name") or "fireworks"
    query = f"?authSource={settings.get('authsource') or name}" if user else ""
    return (
        f"mongodb://{user}{settings.get('host') or 'localhost'}:{settings.get('port') or 27017}/{name}{query}"
    )
