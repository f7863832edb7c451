"""New versions beside old files: nothing is overwritten, also not by two processes at once."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from alfw.core.errors import DataError
from alfw.io.files import remove

VERSION = re.compile(r"(?P<stem>.+)_v(?P<number>\d+)")


def free_names(paths: Sequence[Path]) -> list[Path]:
    """The paths themselves if nothing is there, else all with the next number that is free for each of them.

    ``data.npz`` becomes ``data_v2.npz``, ``data_v2.npz`` becomes ``data_v3.npz``.
    """
    if not any(os.path.lexists(path) for path in paths):
        return list(paths)
    stems, numbers = [], []
    for path in paths:
        found = VERSION.fullmatch(path.stem)
        stems.append(found["stem"] if found else path.stem)
        numbers.append(int(found["number"]) if found else 1)
    for number in count(max(numbers) + 1):
        names = [
            path.with_name(f"{stem}_v{number}{path.suffix}") for path, stem in zip(paths, stems, strict=True)
        ]
        if not any(os.path.lexists(name) for name in names):
            break
    return names


def newest_version(path: Path) -> Path:
    """The file of the highest number beside `path` (``data_v3.npz`` for ``data.npz``), else `path` itself."""
    found = VERSION.fullmatch(path.stem)
    stem = found["stem"] if found else path.stem
    versions = {int(found["number"]) if found else 1: path}
    for other in path.parent.glob(f"*{path.suffix}"):
        match = VERSION.fullmatch(other.stem)
        if match and match["stem"] == stem:
            versions[int(match["number"])] = other
    return versions[max(versions)]


def write_new(*files: tuple[Path, Callable[[Path], object]]) -> list[Path]:
    """The names, see `free_names`, under which files appear together, complete or not at all.

    Parameters
    ----------
    files : (Path, callable)
        The name asked for, and what writes the file to the path it is given.

    Raises
    ------
    DataError
        It cannot be written there.
    """
    temporaries = [
        path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}.partial{path.suffix}") for path, _ in files
    ]
    try:
        for temporary, (path, write) in zip(temporaries, files, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
        while True:
            names = free_names([path for path, _ in files])
            if _claimed(temporaries, names):
                return names
    except OSError as error:
        where = ", ".join(str(path) for path, _ in files)
        raise DataError(f"{where}: cannot be written ({error.strerror}): choose another path") from None
    finally:
        for temporary in temporaries:
            remove(temporary)


def _claimed(temporaries: Sequence[Path], names: Sequence[Path]) -> bool:
    """Whether all files now have these names; False, and none has, if somebody was faster."""
    done: list[Path] = []
    for temporary, name in zip(temporaries, names, strict=True):
        try:
            os.link(temporary, name)  # unlike a rename, this never replaces a file
        except FileExistsError:
            for other in done:
                remove(other)
            return False
        except OSError:  # a file system without hard links: the best there is
            if os.path.lexists(name):
                return False
            temporary.rename(name)
        done.append(name)
    return True
