"""Why a run has not come to its end, as far as operating system, MPI and scheduler say."""

from __future__ import annotations

import re
from collections.abc import Mapping

from alfw.core.errors import (
    ExecutableError,
    LabelError,
    MissingOutputError,
    MPIAbortError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.labelers._judge import RETURN_CODE

# Regular expression of a line → class; first match wins. Source: glibc, libgfortran, ifort, Open MPI, Slurm.
SIGNATURES: tuple[tuple[str, type[LabelError]], ...] = (
    (r"No space left on device|Disk quota exceeded", OutOfDiskError),
    (
        r"[Cc]annot allocate memory|[Oo]ut of memory|oom-kill|std::bad_alloc|insufficient virtual memory"
        r"|Allocation would exceed memory limit|Error allocating \d+ bytes"
        r"|exited on signal 9 \(Killed\)",
        OutOfMemoryLabelError,
    ),
    (r"DUE TO TIME LIMIT", WalltimeError),
    (r"error while loading shared libraries|command not found", ExecutableError),
    (r"MPI_ABORT was invoked|noticed that process rank|MPI_Abort\(|BAD TERMINATION", MPIAbortError),
)
KILLED = "-9"  # what the kernel does to a process when memory runs out


def from_system(text: str) -> LabelError | None:
    """What operating system, MPI or scheduler say in a text; None where they say nothing known."""
    for pattern, error in SIGNATURES:
        found = re.search(f"^.*(?:{pattern}).*$", text, re.MULTILINE)
        if found is not None:
            line = found.group().strip()
            return error(line, line)
    return None


def behind(text: str) -> type[LabelError]:
    """The class of an error whose words are not known: memory or disk, where the system says so.

    That MPI then ends all processes says nothing about the cause.
    """
    known = from_system(text)
    return type(known) if isinstance(known, OutOfDiskError | OutOfMemoryLabelError) else UnknownLabelError


def broken_off(files: Mapping[str, bytes], text: str) -> LabelError:
    """Why there is no line that says the program has come to its end."""
    known = from_system(text)
    if known is not None:
        return known
    code = files.get(RETURN_CODE, b"").decode(errors="replace")
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
    if code == KILLED:
        return OutOfMemoryLabelError(f"killed by signal 9, last line: {last}", "killed by signal 9")
    if code.startswith("-"):
        return MissingOutputError(
            f"killed by signal {code[1:]}, last line: {last}", f"killed by signal {code[1:]}"
        )
    return MissingOutputError(f"the output is not complete, last line: {last}", last)
