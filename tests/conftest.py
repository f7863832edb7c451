"""What all tests share: pinned threads, a cache that survives, one real mongod and a fresh database each."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

CACHE = Path(tempfile.gettempdir()) / f"alfw-test-cache-{os.getuid()}"  # survives: compiled code, not results
CACHE.mkdir(exist_ok=True)
SETTINGS = "RAPIDFIRE_SLEEP_SECS: 1\nPING_TIME_SECS: 2\nRUN_EXPIRATION_SECS: 10\nPRINT_FW_JSON: false\n"
(CACHE / "FW_config.yaml").write_text(SETTINGS, encoding="utf-8")
# Before anything is imported that reads them: BLAS, jax and FireWorks look once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("ALFW_CACHE", str(CACHE))
os.environ["FW_CONFIG_FILE"] = str(CACHE / "FW_config.yaml")

import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
from pymongo import MongoClient  # noqa: E402
from pymongo.database import Database  # noqa: E402
from pymongo.errors import PyMongoError  # noqa: E402

from alfw.core.errors import AlfwError  # noqa: E402
from alfw.store import Store  # noqa: E402
from alfw.store.mongod import find_mongod, free_port  # noqa: E402

# A shell starts jobs in the background with Ctrl-C ignored, and all that these tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs() -> None:
    """One process runs hundreds of tests: what others compiled must not use up the memory maps; see `make_room`."""
    if "jax" in sys.modules:
        from alfw.models._jax import make_room

        make_room(0.2)


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a real MongoDB: $MONGODB_URI, or one mongod for the whole test run on a free loopback port."""
    if "MONGODB_URI" in os.environ:
        yield os.environ["MONGODB_URI"]
        return
    try:
        mongod = find_mongod()
    except AlfwError as error:
        pytest.skip(f"needs a MongoDB: {error}")
    folder, port = tmp_path_factory.mktemp("mongod"), free_port(27217)
    options = f"--bind_ip 127.0.0.1 --nounixsocket --wiredTigerCacheSizeGB 0.25 --port {port}".split()
    files = ["--dbpath", str(folder), "--logpath", str(folder / "log")]
    server = subprocess.Popen([str(mongod), *options, *files], stdout=subprocess.DEVNULL)
    try:
        yield _wait(server, f"mongodb://127.0.0.1:{port}/", folder / "log")
    finally:
        server.terminate()
        server.wait(30)


def _wait(server: subprocess.Popen[bytes], uri: str, log: Path) -> str:
    with MongoClient(uri, serverSelectionTimeoutMS=500) as client:
        for _ in range(60):
            if server.poll() is not None:  # no AVX, no libcurl4, no libssl3
                pytest.skip(f"mongod does not run here (exit status {server.returncode}, see {log})")
            try:
                client.admin.command("ping")
                return uri
            except PyMongoError:
                time.sleep(0.1)
    pytest.fail(f"mongod does not answer, see {log}")


@pytest.fixture(scope="session")
def _client(mongodb_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient(mongodb_uri, serverSelectionTimeoutMS=5000) as client:
        yield client


@pytest.fixture
def database(_client: MongoClient[dict[str, Any]]) -> Iterator[Database[dict[str, Any]]]:
    """A database of its own for each test."""
    name = f"alfw_test_{uuid.uuid4().hex[:12]}"
    yield _client[name]
    _client.drop_database(name)


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> Store:
    """A store in a database of its own."""
    store = Store(database)
    store.ensure_indexes()
    return store


@pytest.fixture
def launchpad_file(
    database: Database[dict[str, Any]], mongodb_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """``tmp_path/my_launchpad.yaml`` of the test's database, and an FW_config.yaml for subprocesses."""
    path, settings = tmp_path / "my_launchpad.yaml", tmp_path / "FW_config.yaml"
    path.write_text(
        f"host: {mongodb_uri}\nname: {database.name}\nuri_mode: true\nlogdir: null\nstrm_lvl: WARNING\n",
        encoding="utf-8",
    )
    settings.write_text(SETTINGS + f"LAUNCHPAD_LOC: {path}\n", encoding="utf-8")
    monkeypatch.setenv("FW_CONFIG_FILE", str(settings))
    return path


@pytest.fixture
def launchpad(launchpad_file: Path) -> Iterator[Any]:
    """A reset FireWorks LaunchPad on the test's database, the one of `launchpad_file`."""
    from fireworks import LaunchPad

    launchpad = LaunchPad.from_file(str(launchpad_file))
    launchpad.reset("", require_password=False, max_reset_wo_password=10**6)
    yield launchpad
    launchpad.connection.close()
