"""The launchpad file of a managed database: written for FireWorks, never over a file of somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from alfw.core.errors import StoreError

NAME = "my_launchpad.yaml"
MARK = "# Written by `alfw db start`, which may write it again. It holds a password: never commit it.\n"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def read_launchpad(path: Path) -> dict[str, Any]:
    """The settings in a launchpad file.

    Raises
    ------
    StoreError
        It cannot be read, or is no mapping.
    """
    try:
        settings = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError) as error:
        raise StoreError(f"launchpad file {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict):
        raise StoreError(f"launchpad file {path} holds no settings: host, port, name …")
    return settings


def write_launchpad(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, str]:
    """The path written, and a note where it is not ``<folder>/my_launchpad.yaml`` (in git, or not ours)."""
    path, note = folder / NAME, ""
    reason = _why_not(path)
    if reason:
        path = folder / "alfw_db" / NAME
        note = f"{folder / NAME} {reason}; wrote {path}: give it to lpad, rlaunch and qlaunch with -l"
    text = StringIO()
    yaml = YAML()
    yaml.dump(dict(settings), text)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(MARK + text.getvalue())
    os.replace(temporary, path)
    return path, note


def _why_not(path: Path) -> str:
    """Why this file must stay as it is; nothing when it may be written."""
    if _tracked(path):
        return "is tracked by git, so no password goes into it"
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        return ""
    settings = read_launchpad(path)
    local = settings.get("host", "localhost") in LOOPBACK and not settings.get("uri_mode")
    return "" if local and not settings.get("password") else "is about another database and stays as it is"


def _tracked(path: Path) -> bool:
    """Whether git has this file under version control."""
    if not any((parent / ".git").exists() for parent in path.parents):
        return False
    if shutil.which("git") is None:
        return True  # cannot know: better not to write
    command = ["git", "-C", str(path.parent), "ls-files", "--error-unmatch", path.name]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
