"""Why an ORCA run has given no result, from the lines that it has printed.

Source: outputs of ORCA 4.0 to 6.1; the ORCA manual 6.1, "SCF convergence" and "Troubleshooting"; the ORCA Input
Library, "SCF convergence issues".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    InputError,
    LabelError,
    LicenseError,
    LinearDependencyError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.labelers._judge import LOG, RETURN_CODE
from alfw.labelers.readers.endings import broken_off

TOO_MANY_PROCESSES = r"exceeds number of pairs|not enough slots available"
BAD_RESTART = r"GBW ?File is either corrupt|Input geometry does not match current geometry"
# Coupled cluster: none of the remedies for the SCF is one for its amplitudes.
POST_SCF = r"(CCSD|CEPA|CPF|QCISD|CISD) iterations have NOT converged"
UNCONVERGED = (  # also where ORCA goes on to a normal end
    rf"{POST_SCF}|SCF NOT CONVERGED AFTER|wave ?function IS NOT (FULLY )?CONVERGED|Wavefunction not fully converged"
    r"|the SCF has not converged|CP-SCF (CALCULATION IS UNCONVERGED|did not converge)"
)
NO_PROGRAM = (
    r"sh: .*not found|sh: .*No such file or directory|: \d+: \S*(orca|mpirun)\S*: (not found|Permission denied)"
    r"|error while loading shared libraries|ORCA has to be called with full pathname|detected an attempt to run as root"
)
# The line that stands before the abort of a module, never one of a calculation that goes on.
MEMORY = (
    r"Not enough memory available|Please increase MaxCore|OUT OF MEMORY ERROR|ERROR.*OUT OF MEMORY|!!!.*OUT OF MEMORY"
    r"|Error.*([Oo]ut of memory|[Ii]nsufficient memory)|Out of memory! Please|cannot allocate memory for"
    r"|failed to add matrix to|not enough memory for|exited on signal 9|oom-kill|Out Of Memory|(?m:^Killed\b)"
)
REFUSED = (
    r"INPUT ERROR|Unknown identifier|Invalid assignment|check syntax"
    r"|'END' was expected|expect a '\$'|non-ASCII character|could not read ctyp|CANNOT OPEN FILE"
    r"|HF exchange must be handled|(not (yet )?(implemented|available)|NOT IMPLEMENTED).*gradient"
    r"|[Gg]radients?.*(not (yet )?(implemented|available)|NOT IMPLEMENTED)"
)
# Regular expression of a line → class; the first that any line matches wins, causes before consequences.
SIGNATURES: tuple[tuple[str, type[LabelError]], ...] = (
    (NO_PROGRAM, ExecutableError),
    (r"[Ll]icen[cs]e.*(not found|invalid|expired|failed)|[Nn]o valid licen[cs]e", LicenseError),
    (r"No space left on device|Disk quota exceeded|COULD NOT WRITE TO DISK", OutOfDiskError),
    (r"DUE TO TIME LIMIT|JOB \d+ .*CANCELLED AT", WalltimeError),
    (r"multiplicity \(-?\d+\) is (even|odd) and number of electrons", ChargeError),
    (r"There are no .*basis functions on atom number|basis set was either not assigned", BasisError),
    (r"UNRECOGNIZED OR DUPLICATED KEYWORD", DeckError),
    (REFUSED, DeckError),
    (r"not enough slots available", ExecutableError),
    (r"exceeds number of pairs", InputError),
    (BAD_RESTART, MissingOutputError),
    (r"Zero distance encountered", GeometryError),
    (MEMORY, OutOfMemoryLabelError),
    (rf"{UNCONVERGED}|SERIOUS PROBLEM IN SOSCF", NotConvergedError),
    (r"[Ll]inear(ly)? dependen|Cholesky.*(fail|not positive)|Error.*Cholesky", LinearDependencyError),
    (
        r"MPI_ABORT was invoked|noticed that process rank|one or more processes exited|exited on signal"
        r"|Connection reset by peer|PMIX ERROR|Segmentation fault",
        MPIAbortError,
    ),
)
IGNORED = r"^\|\s*\d+> .*$|^.*WARNING.*$"  # the echo of the input, and what ORCA itself does not mind
WHERE = r"ORCA finished by error termination in .*"
PARALLEL = r"Calling Command: .*mpirun"


def spoken(text: str) -> str:
    """What an output says itself, without the echo of the input and without warnings."""
    return re.sub(IGNORED, "", text, flags=re.MULTILINE)


def line_with(pattern: str, text: str) -> str | None:
    """The first line that matches a regular expression."""
    found = re.search(pattern, text)
    if found is None:
        return None
    start, stop = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
    return text[start : stop if stop >= 0 else len(text)].strip()


def not_converged(text: str) -> str | None:
    """The line that says something has not converged, in an output that may end well all the same."""
    lines = [line for line in spoken(text).splitlines() if "onverge" in line or "ONVERGE" in line]
    return line_with(UNCONVERGED, "\n".join(lines))


def failure(files: Mapping[str, bytes], text: str) -> LabelError:
    """Why an output has no line that says ORCA has come to its normal end."""
    said = spoken(text)
    for pattern, error in SIGNATURES:
        line = line_with(pattern, said)
        if line is not None:
            return error(f"ORCA: {line}{_more(line, said)}", line)
    where = line_with(WHERE, said)
    if where is None:
        return broken_off(files, said)
    if files.get(RETURN_CODE) in (b"-9", b"137"):
        return OutOfMemoryLabelError(f"ORCA: {where}, killed by signal 9", where)
    if re.search(PARALLEL, said):
        return MPIAbortError(f"ORCA: {where}; a parallel process died and says not why", where)
    return UnknownLabelError(f"ORCA: {where}; it says not why", where)


def _more(line: str, said: str) -> str:
    """What the lines after `line` add to it: the keyword, the memory, the block."""
    after = said[said.index(line) + len(line) :].splitlines()[1:4]
    if "KEYWORD" in line or "INPUT ERROR" in line:
        words = [text.strip() for text in after if text.strip() and "!!!!" not in text]
        return ": " + " ".join(words) if words else ""
    needed = re.search(r"MaxCore to more than:\s*([\d.]+ MB)", said)
    return f" More than {needed.group(1)} for each process is needed" if needed and "memory" in line else ""


def too_many_processes(files: Mapping[str, bytes]) -> bool:
    """Whether fewer processes would do."""
    return _says(files, TOO_MANY_PROCESSES)


def bad_restart(files: Mapping[str, bytes]) -> bool:
    """Whether ORCA cannot use the orbitals it was to start from."""
    return _says(files, BAD_RESTART)


def wants_memory(files: Mapping[str, bytes]) -> bool:
    """Whether ORCA itself says that the memory it was given is too little."""
    return _says(files, r"Please increase [Mm]ax[Cc]ore|Not enough memory available")


def after_scf(files: Mapping[str, bytes]) -> bool:
    """Whether it is what comes after the SCF that did not converge."""
    return _says(files, POST_SCF)


def _says(files: Mapping[str, bytes], pattern: str) -> bool:
    return re.search(pattern, spoken(files.get(LOG, b"").decode(errors="replace"))) is not None
