"""For tests that type commands: `alfw …` and `python -m alfw.compat.…` in a process of their own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
from ase.build import molecule

from alfw.cli.app import _run

ALFW = Path(sys.executable).parent / "alfw"
# E = 0, F = 0; NH3 fails until there is a file `cured`, CH4 kills its worker where there is a file `kill`.
JOB = """
import os, pathlib, sys
home = pathlib.Path(sys.argv[1])
number = len(list(home.glob("start*")))
(home / f"start{number}").touch()
lines = open("structure.extxyz").read().splitlines()
if lines[0] == "4" and not (home / "cured").exists():
    sys.exit("this one is difficult")
if lines[0] == "5" and (home / "kill").exists():
    (home / "kill").unlink()
    os.kill(os.getppid(), 9)
with open("result.extxyz", "w") as file:
    print(lines[0], lines[1].replace("pos:R:3", "pos:R:3:forces:R:3") + " energy=0.0", sep="\\n", file=file)
    for line in lines[2:]:
        print(line, 0, 0, 0, file=file)
"""


@dataclass
class Typed:
    """What a command printed."""

    out: str
    err: str

    @property
    def line(self) -> str:
        """The only line on stderr."""
        [line] = self.err.splitlines()
        return line


@dataclass
class Shell:
    """A working folder, and additions to PATH and the environment."""

    folder: Path

    def __post_init__(self) -> None:
        self.env = dict(os.environ)

    def path(self, folder: Path) -> None:
        """Programs of this folder come first."""
        self.env["PATH"] = f"{folder}{os.pathsep}{self.env['PATH']}"

    def __call__(self, *command: Any, code: int = 0) -> Typed:
        """What a command printed that ended with this exit code."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return Typed(done.stdout, done.stderr)

    def alfw(self, *arguments: Any, code: int = 0) -> Typed:
        """`alfw` with these arguments."""
        return self(ALFW, *arguments, code=code)

    def here(self, *arguments: Any, code: int = 0) -> Typed:
        """The same without a process of its own, which takes a second less."""
        out, err = io.StringIO(), io.StringIO()
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            found = _run([str(argument) for argument in arguments])
        assert found == code, (found, out.getvalue(), err.getvalue())
        return Typed(out.getvalue(), err.getvalue())

    def json(self, *arguments: Any, code: int = 0) -> Any:
        """What `alfw … --json` prints, without a process of its own; stdout is JSON alone."""
        return json.loads(self.here(*arguments, "--json", code=code).out)

    def compat(self, script: str, *arguments: Any, code: int = 0) -> Typed:
        """`python -m alfw.compat.<script>`."""
        return self(sys.executable, "-m", f"alfw.compat.{script}", *arguments, code=code)

    def bash(self, line: str, code: int = 0) -> Typed:
        """A line of shell."""
        return self("bash", "-c", line, code=code)

    def start(self, *arguments: Any) -> subprocess.Popen[str]:
        """`alfw` in the background, leader of a process group as in a terminal."""
        return subprocess.Popen(
            [str(ALFW), *map(str, arguments)],
            cwd=self.folder,
            env=self.env,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def molecules(folder: Path) -> Shell:
    """A shell with a folder `s` of three molecules, one of which has a JSON file beside it, and a script."""
    (folder / "s").mkdir()
    for index, name in enumerate(("H2O", "NH3", "CH4")):
        ase.io.write(folder / "s" / f"structure_{index:04d}.xyz", molecule(name))
    (folder / "s" / "structure_0000.json").write_text('{"source": "md_1"}')
    (folder / "job.py").write_text(JOB)
    return Shell(folder)


def write_toy(shell: Shell, *more: str, command: str | None = None) -> None:
    """Inputs of these molecules for the script, in a folder `in`."""
    command = command or f"{sys.executable} job.py {shell.folder}"
    options = ["--set", "name=toy", "--set", f"command={command}", "--set", "files=[job.py]"]
    shell.here("qm", "write", "s", "--labeler", "command", *options, "-o", "in", *more)
