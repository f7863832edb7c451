"""Labelled frames from outputs of QM programs, wherever they were run; a bad output never becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from glob import glob
from pathlib import Path
from typing import Any, Literal

from alfw.core.errors import ConfigError, DataError, LabelError, MissingOutputError, SuspectError
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.io.files import replacing
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.io.training_npz import UNITS, write_training_npz
from alfw.labelers.outputs import CODES, labels, level, main_output, outputs_in, read_output, reader
from alfw.steps.qm_folder import MANIFEST, QMFolder, Refused, load_folder
from alfw.steps.qm_runs import labelled, load_run, output_stem, read_run, untouched

SAME_eV = 1e-4  # two labels of one frame agree


@dataclass(frozen=True)
class Source:
    """One output: a file or folder, or a frame of a folder with ``qm.json``."""

    name: str
    path: Path | None = None
    folder: QMFolder | None = None
    stem: str = ""


@dataclass
class Collected:
    """What a set of outputs holds.

    Attributes
    ----------
    items : list of Imported
        With `theory`: the id where ``qm.json`` tells, else code, major version and method as printed.
    refused : list of Refused
    n_outputs, n_repeated : int
        Outputs looked at; labels left out because another output has the same frame with the same energy.
    about : dict
        Code, versions, theory and how it was set (JSON data).
    """

    items: list[Imported] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    n_outputs: int = 0
    n_repeated: int = 0
    about: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, tuple[Label, str]] = field(default_factory=dict)  # by id of the frame, with its output

    @property
    def versions(self) -> list[str]:
        """Exact versions of the programs."""
        return sorted({item.label.version for item in self.items if item.label and item.label.version})

    def properties(self) -> dict[str, int]:
        """How many labels carry each property."""
        names = ("energy", "forces", "stress", "dipole", "charges", "s_squared", "esp")
        counts = {n: sum(getattr(item.label, n, None) is not None for item in self.items) for n in names}
        return {name: count for name, count in counts.items() if count}


def find_sources(patterns: Iterable[str | Path], code: str | None = None) -> list[Source]:
    """The outputs that files, folders and globs stand for, in order.

    Raises
    ------
    DataError
        Nothing there.
    """
    folders: dict[Path, QMFolder | None] = {}

    def known(folder: Path) -> QMFolder | None:
        if folder not in folders:
            folders[folder] = load_folder(folder) if (folder / MANIFEST).is_file() else None
        return folders[folder]

    found: dict[str, Source] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        matches = [path] if path.exists() else [Path(p) for p in sorted(glob(str(path), recursive=True))]
        sources = [source for match in matches for source in _sources(match, code, known)]
        if not sources:
            raise DataError(f"{pattern}: no such file, or a folder without outputs")
        found |= {source.name: source for source in sources}
    return list(found.values())


def _sources(path: Path, code: str | None, known: Callable[[Path], QMFolder | None]) -> Iterator[Source]:
    """The outputs at one path."""
    folder = known(path) if path.is_dir() else known(path.parent)
    if path.is_dir() and folder is not None:
        for stem in folder.items:
            yield Source(str(path / stem), None, folder, stem)
    elif path.is_dir():
        outputs = outputs_in(path, code)
        yield from [Source(str(path), path)] if len(outputs) == 1 else [Source(str(p), p) for p in outputs]
    else:
        stem = output_stem(path)
        mine = folder if folder is not None and stem in folder.items else None
        yield Source(str(path), path, mine, stem)


def collect(
    sources: Iterable[Source],
    code: str | None = None,
    charge: int = 0,
    multiplicity: int | None = None,
    told: Callable[[Source, Refused | None], None] = lambda source, refused: None,
) -> Collected:
    """The labels of every complete step of every good output, and the list of bad ones.

    Parameters
    ----------
    code : str, optional
        None: recognised from each output.
    charge, multiplicity : int
        Of outputs that do not say, and of frames that no ``qm.json`` tells more of.
    told : callable
        Gets each output when it is read, with what is wrong with it.

    Raises
    ------
    DataError
        Outputs of two theories.
    """
    collected = Collected()
    first: Source | None = None
    for source in sources:
        collected.n_outputs += 1
        refused = None
        try:
            theory, about, pairs = _read(source, code, charge, multiplicity)
            if first is None:
                first, collected.about = source, {"theory": theory, **about}
            elif theory != collected.about["theory"]:
                raise DataError(
                    f"outputs of two theories: {collected.about['theory'][:80]} ({first.name}), "
                    f"{theory[:80]} ({source.name}); read them into two files"
                )
            _add(collected, source, theory, pairs)
        except LabelError as error:
            refused = Refused.of(source.name, error)
            collected.refused.append(refused)
        told(source, refused)
    collected.about |= {"versions": collected.versions}
    return collected


def _read(
    source: Source, code: str | None, charge: int, multiplicity: int | None
) -> tuple[str, Mapping[str, Any], list[tuple[Frame, Label]]]:
    """Theory, more about it, and the labelled frames of one output."""
    if source.folder is not None:
        return _read_known(source.folder, source)
    output = read_output(source.path or Path(source.name), code)
    about = {"code": output.code, "method": output.theory}
    return level(output), about, labels(output, None, charge, multiplicity)


def _read_known(folder: QMFolder, source: Source) -> tuple[str, Mapping[str, Any], list[tuple[Frame, Label]]]:
    """The same for a frame that ``qm.json`` knows, with its theory unless somebody edited the input."""
    run, stem = load_run(folder, source.stem), source.stem
    kind = folder.labeler.kind
    if source.path is not None and kind in CODES:
        other = read_run(folder, source.path)
        if run is None or main_output(kind, run.files) != main_output(kind, other.files):
            run = other
    if run is None:
        raise MissingOutputError("not run yet", "no output")
    theory = folder.labeler.theory()
    about: dict[str, Any] = {"code": theory.code, "settings": dict(theory.settings)}
    if run.command or untouched(folder, stem):
        return folder.theory, about, labelled(folder, stem, run)
    output = reader(kind).output(run.files)
    about = {"code": kind, "method": output.theory}
    return level(output), about, labels(output, folder.items[stem].frame)


def _add(collected: Collected, source: Source, theory: str, pairs: list[tuple[Frame, Label]]) -> None:
    """Add the labels of an output, once each.

    Raises
    ------
    SuspectError
        Another output gives one of the frames another energy; its label goes, too, as nobody knows which is right.
    """
    for frame, label in pairs:
        other = collected.seen.get(frame.id)
        if other is not None and abs(other[0].energy - label.energy) > SAME_eV:
            what = f"{label.energy:.6f} eV in {source.name}, {other[0].energy:.6f} eV in {other[1]}"
            error = SuspectError(f"frame {frame.id[:12]}: {what}", what)
            here = [item for item in collected.items if item.frame.id == frame.id]
            if here:
                collected.items = [item for item in collected.items if item not in here]
                collected.refused.append(Refused.of(other[1], error))
            raise error
    item = source.folder.items[source.stem] if source.folder is not None else Imported(pairs[0][0])
    trajectory = item.trajectory or (source.name if len(pairs) > 1 else None)
    for frame, label in pairs:
        if frame.id in collected.seen:
            collected.n_repeated += 1
            continue
        collected.seen[frame.id] = (label, source.name)
        collected.items.append(replace(item, frame=frame, label=label, trajectory=trajectory, theory=theory))


def save(path: Path, collected: Collected, esp_unit: Literal["V", "Hartree/e"] = "V") -> dict[str, Any]:
    """Write the labels as .npz or .extxyz, complete or not at all; what --json says.

    Raises
    ------
    ConfigError
        Neither of these.
    """
    check_suffix(path)
    if collected.items:
        with replacing(path) as temporary:
            if path.suffix == ".npz":
                write_training_npz(temporary, collected.items, esp_unit=esp_unit, about=collected.about)
            else:
                write_extxyz(temporary, collected.items)
    return {
        "file": str(path) if collected.items else None,
        "n_outputs": collected.n_outputs,
        "n_labels": len(collected.items),
        "n_repeated": collected.n_repeated,
        "n_refused": len(collected.refused),
        **collected.about,
        "units": UNITS | {"esp": esp_unit},
        "properties": collected.properties(),
        "refused": [each.as_json("output") for each in collected.refused],
    }


def check_suffix(path: Path) -> None:
    """Raise ConfigError for a file that is neither .npz nor .extxyz."""
    if path.suffix not in (".npz", ".extxyz"):
        raise ConfigError(f"{path}: labels are written as .npz or .extxyz, its name must end so")
