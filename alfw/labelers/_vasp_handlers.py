"""custodian's own handlers for VASP, kept from changing the theory or the structure unasked.

Which ones: VaspErrorHandler (what VASP prints), StdErrHandler (memory, stars of G-vectors), MeshSymmetryErrorHandler
and UnconvergedErrorHandler (another ALGO, other mixing). Left out: monitors (a time limit is `_process.deadline`'s;
NonConverging and Potim look at many ionic steps, of which there is one here), handlers for relaxations (Drift,
IncorrectSmearing), and those whose only remedy is another theory (Aliasing: FFT grid; LargeSigma: SIGMA;
KspacingMetal: k-points) or that mistrust a good result (PositiveEnergy).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custodian.custodian import ErrorHandler
from custodian.vasp.handlers import (
    MeshSymmetryErrorHandler,
    StdErrHandler,
    UnconvergedErrorHandler,
    VaspErrorHandler,
)
from pymatgen.io.vasp.inputs import Incar

from alfw.labelers._judge import LOG
from alfw.labelers._vasp_input import NEUTRAL_TAGS

logger = logging.getLogger("alfw")

TRIES = 4  # a handler that wants what is not allowed may know something else after that
RESTART = ("WAVECAR", "CHGCAR")

logging.getLogger("VaspErrorHandler").setLevel(logging.CRITICAL)  # what it says is in Run.corrections

Remedy = tuple[str, dict[str, Any] | None, dict[str, Any]]


class Remedies:
    """The handlers of one calculation; they count what they have tried.

    Parameters
    ----------
    allow : bool
        Whether remedies may change the theory.
    """

    def __init__(self, allow: bool) -> None:
        self.allow = allow
        self.tried: set[str] = set()
        self.handlers: tuple[ErrorHandler, ...] = (
            VaspErrorHandler(output_filename=LOG),
            StdErrHandler(output_filename=LOG),
            MeshSymmetryErrorHandler(output_filename=LOG),
            UnconvergedErrorHandler(),
        )

    def apply(self, folder: Path) -> Remedy:
        """Error, what was done about it (None: nothing), and what of that changed the theory.

        The input files are changed in place, and are as they were where nothing was done.
        """
        error = ""
        with _quiet():
            for handler in self.handlers:
                for _ in range(TRIES if _matches(handler, folder) else 0):
                    name, action, changes = self._correct(handler, folder)
                    error = error or name
                    if action is not None:
                        return name, action, changes
                    if not changes:  # it was not the permission that was missing
                        break
        return error, None, {}

    def _correct(self, handler: ErrorHandler, folder: Path) -> Remedy:
        """One remedy of one handler; where it is not allowed, its action is None."""
        before = Inputs.of(folder)
        try:
            result = handler.correct(str(folder))
            after = Inputs.of(folder)
            before.restore_structure(folder)
            action = before.differences(after)
            self.tried.add(before.settings)
            known = after.settings in self.tried and "removed" not in action  # some handlers go in circles
        except Exception as error:  # whatever pymatgen stumbles over: then there is no remedy
            before.restore(folder)
            return f"{type(error).__name__}: {error}", None, {}
        name = ", ".join(sorted(result["errors"]))
        changes = {tag: value for tag, value in action.items() if tag not in NEUTRAL_TAGS | {"removed"}}
        if result["actions"] and not known and (self.allow or not changes):
            return name, action, changes
        before.restore(folder)
        return name, None, changes if result["actions"] and not known else {}


@dataclass(frozen=True)
class Inputs:
    """The input files of a calculation at one time.

    Attributes
    ----------
    files : {name: bytes}
    restart : frozenset of str
        Which of WAVECAR and CHGCAR are there.
    """

    files: Mapping[str, bytes]
    restart: frozenset[str]

    @classmethod
    def of(cls, folder: Path) -> Inputs:
        """Those in a folder."""
        names = ("INCAR", "KPOINTS", "POSCAR", "POTCAR")
        files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
        return cls(files, frozenset(name for name in RESTART if (folder / name).exists()))

    def restore(self, folder: Path) -> None:
        """Make those in the folder what these are."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)

    def restore_structure(self, folder: Path) -> None:
        """The same for POSCAR and POTCAR alone: no remedy may label another structure."""
        for name in ("POSCAR", "POTCAR"):
            if name in self.files:
                (folder / name).write_bytes(self.files[name])

    @property
    def settings(self) -> str:
        """INCAR and mesh of k-points in one spelling."""
        return f"{sorted(self._tags().items())} {self._mesh()}"

    def _tags(self) -> Mapping[str, Any]:
        return Incar.from_str(self.files["INCAR"].decode())

    def _mesh(self) -> str:
        return " ".join(self.files.get("KPOINTS", b"").decode().split("\n", 2)[-1].split())

    def differences(self, after: Inputs) -> dict[str, Any]:
        """Tags of the INCAR, KPOINTS and restart files that are different then; None for tags that are gone."""
        old, new = self._tags(), after._tags()
        found = {tag: new.get(tag) for tag in sorted({*old, *new}) if old.get(tag) != new.get(tag)}
        if self._mesh() != after._mesh():
            found["KPOINTS"] = after._mesh()
        gone = self.restart - after.restart
        return found | ({"removed": sorted(gone)} if gone else {})


def _matches(handler: ErrorHandler, folder: Path) -> bool:
    """Whether a handler sees its error; not, where the files are too broken for it to look, which is told."""
    try:
        return bool(handler.check(str(folder)))
    except Exception as error:  # whatever pymatgen stumbles over: the reader judges such files
        what = f"{type(error).__name__}: {error}"
        logger.warning("custodian's %s could not look at the output (%s)", type(handler).__name__, what)
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither pymatgen's warnings nor the handler that custodian's first message would put on the root logger."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(silent)
