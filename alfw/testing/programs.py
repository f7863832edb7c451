"""Programs that replay recorded outputs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = """#!{python}
import os, pathlib, shutil, sys, time
home = pathlib.Path({home!r})
number = 0
while True:
    try:
        (home / "seen" / str(number)).mkdir(parents=True)
        break
    except FileExistsError:
        number += 1
for path in pathlib.Path.cwd().iterdir():
    if path.is_file():
        shutil.copy(path, home / "seen" / str(number))
(home / "seen" / str(number) / "argv").write_text(" ".join(sys.argv[1:]))
replay = home / str(min(number, {last}))
time.sleep(float((replay / "seconds").read_text()))
for path in (replay / "files").iterdir():
    shutil.copy(path, path.name)
sys.stdout.buffer.write((replay / "stdout").read_bytes())
sys.stdout.flush()
sys.exit(int((replay / "code").read_text()))
"""


@dataclass(frozen=True)
class Replay:
    """What a fake program does when it is started.

    Attributes
    ----------
    stdout : bytes
    files : {name: bytes}
        What it leaves in its working folder.
    code : int
        Exit status.
    seconds : float
        How long it takes.
    """

    stdout: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    code: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FakeProgram:
    """An executable that replays.

    Attributes
    ----------
    path : Path
        The executable.
    home : Path
        Folder of its replays and of what it has seen.
    """

    path: Path
    home: Path

    @property
    def starts(self) -> int:
        """How often it has been started."""
        seen = self.home / "seen"
        return len(list(seen.iterdir())) if seen.is_dir() else 0

    def saw(self, start: int, name: str) -> str:
        """The file of this name in its working folder when it was started for the n-th time (from 0)."""
        return (self.home / "seen" / str(start) / name).read_text(encoding="utf-8", errors="replace")


def fake_program(folder: Path, name: str, *replays: Replay) -> FakeProgram:
    """An executable `folder`/`name` that does one replay a start, in order, and the last one from then on.

    It copies its working folder aside at each start (`FakeProgram.saw`), its arguments as file ``argv``.
    """
    home = (folder / f"{name}.replays").resolve()
    steps: Sequence[Replay] = replays or (Replay(),)
    for number, replay in enumerate(steps):
        place = home / str(number)
        (place / "files").mkdir(parents=True)
        for file, data in replay.files.items():
            (place / "files" / file).write_bytes(data)
        (place / "stdout").write_bytes(replay.stdout)
        (place / "code").write_text(str(replay.code))
        (place / "seconds").write_text(str(replay.seconds))
    path = folder.resolve() / name
    path.write_text(
        SCRIPT.format(python=sys.executable, home=str(home), last=len(steps) - 1), encoding="utf-8"
    )
    os.chmod(path, 0o755)
    return FakeProgram(path, home)
