"""Whether a VASP run needs custodian's own handlers; only then are they loaded, which with pymatgen takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from custodian.custodian import ErrorHandler

from alfw.core.errors import (
    BasisError,
    ExecutableError,
    LabelError,
    MPIAbortError,
    OutOfDiskError,
    WalltimeError,
)
from alfw.labelers._common import load
from alfw.labelers._judge import LOG
from alfw.labelers.readers.vasp import READER, XML

HOPELESS = (BasisError, ExecutableError, OutOfDiskError, WalltimeError)  # no other INCAR helps against these


class Recovery(ErrorHandler):
    """custodian's own handlers for VASP as one handler: for outputs that our reader refuses, one remedy at a time.

    Attributes
    ----------
    changes : mapping
        Of the theory, by remedies that were allowed to.
    """

    is_monitor = False  # custodian would poll, which costs every label a wait

    def __init__(self, allow_theory_changes: bool) -> None:
        self.allow_theory_changes = allow_theory_changes
        self.changes: dict[str, Any] = {}
        self._problem: LabelError | None = None
        self._aborted = False
        self._remedies: Any = None

    def check(self, directory: str = "./") -> bool:
        """Whether the attempt just finished is no label, and it is not the worker's fault."""
        self._problem = None
        try:
            READER.output(dict(_files(Path(directory))))
        except LabelError as error:
            self._problem = error
        return self._problem is not None and not isinstance(self._problem, HOPELESS)

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """What the first of custodian's handlers does that knows the error; actions None when none does."""
        if self._remedies is None:
            self._remedies = load("alfw.labelers._vasp_handlers", "vasp").Remedies(self.allow_theory_changes)
        error, action, changes = self._remedies.apply(Path(directory))
        if action is None and isinstance(self._problem, MPIAbortError) and not self._aborted:
            self._aborted, action = True, {"again": 1}
        self.changes |= changes
        name = error or (self._problem.failure_class if self._problem else "UNKNOWN")
        return {"errors": [name], "actions": None if action is None else [action]}

    def as_dict(self) -> dict[str, Any]:
        """What custodian.json shows."""
        return {"handler": "vasp", "changes": self.changes}


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Output of the last attempt."""
    for name in (READER.main, XML, LOG):
        with suppress(FileNotFoundError):
            yield name, (folder / name).read_bytes()
