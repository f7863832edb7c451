"""Which process this is, and whether another one on this machine still lives."""

from __future__ import annotations

import os
import socket
import subprocess
from functools import cache
from pathlib import Path

Owner = dict[str, str | int]


def started(pid: int) -> str | None:
    """When a process of this machine started, in whatever words the system has; None when it does not live.

    A pid is used again after some time, pid and start together are not. A zombie counts as dead.
    Source: proc(5), /proc/pid/stat, fields 3 (state) and 22 (starttime).
    """
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            threads = len(os.listdir(f"/proc/{pid}/task"))
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()  # the command before ")" may hold blanks
        # While it ends, its first thread is a zombie already when others still hold files and ports.
        return None if fields[0] in "ZXx" and threads <= 1 else fields[19]
    state, _, start = _ps(pid, "stat=,lstart=").partition(" ")
    return start.strip() if state and not state.startswith("Z") else None


def command_line(pid: int) -> str:
    """The command line of a process of this machine, or nothing."""
    path = Path(f"/proc/{pid}/cmdline")
    if path.exists():
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return _ps(pid, "command=")


def _ps(pid: int, columns: str) -> str:
    command = ["ps", "-o", columns, "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@cache
def _host() -> str:
    """Host name and pid namespace: containers may share the one and still not see each other's processes."""
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()} {os.readlink(namespace)}"
    except OSError:  # not Linux
        return socket.gethostname()


def this_process() -> Owner:
    """Host, pid and start of this process."""
    return {"host": _host(), "pid": os.getpid(), "started": started(os.getpid()) or ""}


def is_dead(owner: Owner) -> bool:
    """Whether the process is known to live no more; False for one on another host."""
    return owner["host"] == _host() and started(int(owner["pid"])) != owner["started"]
