"""The labelled frames that a model is validated on, in named regions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alfw.core.errors import DataError
from alfw.core.records import Labeled
from alfw.io.frames import expand_paths, read_frames
from alfw.io.imported import Imported
from alfw.io.references import ReferenceKeys

UNNAMED = "test"  # the region of files without a name
POOLED = "all"
ARRAYS = ("E", "F")  # in NPZ and HDF5 files
# What lies beside structures in a folder and is none.
BESIDE = frozenset({".json", ".md", ".txt", ".log", ".yaml", ".yml", ".csv", ".html", ".png"})


@dataclass(frozen=True, eq=False)
class Reference:
    """A labelled frame of a test set, and where it came from: file and index in it."""

    region: str
    source: Path
    index: int
    item: Labeled


@dataclass(frozen=True)
class Reading:
    """How files are read: units of NPZ files that do not say, charge and multiplicity of frames that do not say.

    `energy_key`, `forces_key`: where the labels are; None = wherever `ReferenceKeys` finds them.
    """

    units: str | None = None
    charge: int = 0
    multiplicity: int = 1
    energy_key: str | None = None
    forces_key: str | None = None


@dataclass(frozen=True, eq=False)
class TestSet:
    """What was read, and how many frames had their labels under which names.

    Attributes
    ----------
    references : list of Reference
    taken : Counter of (str, str)
        Names of energy and forces.
    """

    __test__ = False  # pytest takes the name for one of its own

    references: list[Reference]
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def regions(self) -> list[str]:
        """Names, in the order in which they were given."""
        return list(dict.fromkeys(reference.region for reference in self.references))

    @property
    def n_repeated(self) -> int:
        """How many frames are there more than once."""
        ids = {reference.item.frame.id for reference in self.references}
        return len(self.references) - len(ids)

    def said(self) -> str:
        """What was taken as labels, in one line."""
        several = len(self.taken) > 1
        parts = [
            f"energy from '{energy}', forces from '{forces}'" + (f" ({n} frames)" if several else "")
            for (energy, forces), n in self.taken.items()
        ]
        return f"{len(self.references)} frames: {'; '.join(parts)}"


def read_testset(texts: Sequence[str], reading: Reading | None = None) -> TestSet:
    """The labelled frames of files, folders and globs, each as it is or as ``region=path``.

    Raises
    ------
    DataError
        Nothing there, a file that cannot be used, or frames without labels (with their number).
    """
    reading = reading or Reading()
    keys = ReferenceKeys(reading.energy_key, reading.forces_key)
    references: list[Reference] = []
    missing: list[str] = []
    taken: Counter[tuple[str, str]] = Counter()
    for text in texts:
        region, pattern = _named(text)
        for path in structures(pattern):
            before = keys.taken.total()
            found = read_frames(path, reading.charge, reading.multiplicity, None, reading.units, keys)
            taken[ARRAYS] += sum(one.label is not None for one in found) - (keys.taken.total() - before)
            missing += [f"{path} frame {i}" for i, one in enumerate(found) if one.label is None]
            references += _references(region, path, found)
    if missing:
        total = len(references) + len(missing)
        raise DataError(
            f"{len(missing)} of {total} frames have no energy and forces, the first: {missing[0]}; a test set holds"
            " labelled frames: name the keys with --energy-key and --forces-key, or leave these frames out"
        )
    return TestSet(references, +taken + keys.taken)


def structures(pattern: str | Path) -> list[Path]:
    """Files named by a file, folder or glob; in a folder, what is no structure by its name is passed over.

    Raises
    ------
    DataError
        There is none.
    """
    paths = expand_paths([pattern])
    if not Path(pattern).expanduser().is_dir():
        return paths
    kept = [path for path in paths if path.suffix.lower() not in BESIDE]
    if not kept:
        raise DataError(f"{pattern}: no file with structures in this folder")
    return kept


def _named(text: str) -> tuple[str, str]:
    """Region and path of ``region=path``; a path that is there under its whole name has no region."""
    match = re.fullmatch(r"([\w.+-]+)=(.+)", text)
    if match is None or Path(text).expanduser().exists():
        return UNNAMED, text
    if match[1] == POOLED:
        raise DataError(f"{text}: {POOLED!r} is what all regions together are called; choose another name")
    return match[1], match[2]


def _references(region: str, path: Path, found: Sequence[Imported]) -> Iterator[Reference]:
    for index, one in enumerate(found):
        if one.label is not None:
            yield Reference(region, path, index, Labeled(one.frame, one.label))
