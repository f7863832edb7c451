"""Labels looked up in files that have them already: for studies in which no calculation is to be repeated."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from alfw.core.errors import DataError, DeckError, ExecutableError, InputError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.io.frames import expand_paths, read_frames
from alfw.labelers._common import refuse, refused
from alfw.labelers._judge import RESULT, checked, numbers

PROPERTIES = ("energy", "forces", "stress", "dipole", "charges", "s_squared", "esp", "esp_points")
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DatasetLabeler(BaseModel):
    """Whatever the files say of a frame: energy, forces, stress, dipole, charges, ESP.

    In-process. A frame is found by its id: same atoms in the same order, positions and cell to 1e-6 Å, charge,
    multiplicity, fixed atoms, moments. Each worker process reads the files once.

    Attributes
    ----------
    paths : tuple of str
        Files with energies and forces (extended XYZ, NPZ, traj …), folders and globs; workers need them under the
        same path, with the same content.
    sha256 : tuple of str or None
        Of each file; found when the campaign is added. With `units`, `charge` and `multiplicity` it is the theory.
    units : {"eV", "hartree"} or None
        Of NPZ files that do not say.
    charge, multiplicity : int
        Of frames that do not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = True
    periodic: ClassVar[bool | None] = None
    execution_only: ClassVar[frozenset[str]] = frozenset({"paths"})

    kind: Literal["dataset"] = "dataset"
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    sha256: tuple[Digest, ...] | None = None
    units: Literal["eV", "hartree"] | None = None
    charge: int = 0
    multiplicity: PositiveInt = 1

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with absolute paths of single files, and the sha256 of each.

        Raises
        ------
        DataError
            No such file, or not readable.
        """
        paths = options.get("paths")
        if options.get("sha256") is not None or not isinstance(paths, (list, tuple)):
            return dict(options)
        files = [
            str(path.resolve()) for path in expand_paths(base / Path(str(p)).expanduser() for p in paths)
        ]
        return {**options, "paths": files, "sha256": [_sha256(file) for file in files]}

    def theory(self) -> Theory:
        """What the files hold; the order of the files does not matter."""
        if self.sha256 is None:
            raise DeckError("dataset: the files were not looked at when the campaign was added")
        settings = self.model_dump(include={"units", "charge", "multiplicity"})
        return Theory("dataset", settings | {"sha256": sorted(self.sha256)})

    def check(self, frame: Frame) -> None:
        """Nothing is refused: only looking it up tells whether a frame is there."""

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """What the files say of the frame, or that they do not.

        Raises
        ------
        ExecutableError
            A file is not on this worker, has other content, or no labels.
        """
        if refused(self.check, frame):
            return Run(files={})
        found = _pool(self.paths, self.sha256 or (), self.units, self.charge, self.multiplicity)
        label = found.get(frame.id)
        if label is None:
            why = "two different labels of this frame" if frame.id in found else "not in the dataset"
            return Run({RESULT: json.dumps({"missing": f"{why} ({len(found)} frames)"}).encode()})
        values = {name: getattr(label, name) for name in PROPERTIES if getattr(label, name) is not None}
        text = json.dumps({k: v if isinstance(v, float) else v.tolist() for k, v in values.items()})
        return Run(
            {RESULT: text.encode()}, version=label.version, command="in-process", host=socket.gethostname()
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label; raises InputError when the dataset has none of this frame."""
        refuse(self.check, frame)
        raw = dict(numbers(frame, run))
        if "missing" in raw:
            raise InputError(f"frame {frame.id[:12]} ({frame.formula}): {raw['missing']}", raw["missing"])
        return checked(frame, run, total_energy=False, **raw)


@lru_cache(maxsize=2)
def _pool(
    paths: tuple[str, ...], digests: tuple[str, ...], units: str | None, charge: int, multiplicity: int
) -> Mapping[str, Label | None]:
    """The labels of all files by id of their frame; None where two of them contradict each other."""
    if len(paths) != len(digests):
        raise ExecutableError(f"dataset: {len(paths)} paths and {len(digests)} sha256; leave the latter out")
    found: dict[str, Label | None] = {}
    for path, digest in zip(paths, digests, strict=True):
        where = f"{path} on {socket.gethostname()}"
        try:
            if _sha256(path) != digest:
                raise ExecutableError(f"dataset: {where} is not the file that the campaign was added with")
            items = read_frames(path, charge, multiplicity, units=units)
        except DataError as error:
            raise ExecutableError(f"dataset: {error} (on {socket.gethostname()})") from error
        if all(item.label is None for item in items):
            raise ExecutableError(f"dataset: {where} has no energies with forces")
        for item in items:
            if item.label is not None:
                other = found.get(item.frame.id, item.label)
                found[item.frame.id] = item.label if other is not None and _same(other, item.label) else None
    return found


def _same(one: Label, other: Label) -> bool:
    """Whether two labels of one frame say the same."""
    return one is other or (
        abs(one.energy - other.energy) < 1e-6 and bool(abs(one.forces - other.forces).max() < 1e-5)
    )


def _sha256(path: str) -> str:
    """Of the content of a file, without reading it all at once."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
