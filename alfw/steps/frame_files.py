"""What lies in event files and ordinary frame files: gathered, and whatever cannot be read is listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from alfw.core.errors import DataError
from alfw.io.event_files import SavedEvent, is_event_file, read_event
from alfw.io.frames import expand_paths, read_frames
from alfw.io.imported import Imported
from alfw.io.velocity_units import AmbiguousUnitError, VelocityUnit

# Beside frames in a folder; files of other names are tried.
NO_FRAMES = {".json", ".png", ".html", ".log", ".txt", ".md", ".yaml", ".yml", ".out", ".csv"}


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be used."""

    file: str
    why: str


@dataclass
class Found:
    """What a set of paths holds.

    Attributes
    ----------
    events : list of SavedEvent
        By path.
    files : {path: frames}
        Ordinary files, trajectories among them.
    unreadable : list of Unreadable
    notes : list of str
        What the user should know, one line each.
    """

    events: list[SavedEvent] = field(default_factory=list)
    files: dict[str, list[Imported]] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def n_frames(self) -> int:
        """Events and frames of ordinary files."""
        return len(self.events) + sum(len(items) for items in self.files.values())


def gather(
    patterns: Iterable[str | Path],
    unit: VelocityUnit | None = None,
    events_only: bool = False,
    charge: int = 0,
    multiplicity: int = 1,
) -> Found:
    """The events and frames of files, folders and globs (absolute or not).

    Parameters
    ----------
    unit : {"A/fs", "mmml"} or None
        Of velocities and times of event files that do not say, see `alfw.io.velocity_units`. Where neither the file nor
        its kinetic temperature tells, the other files of its folder do, if they agree.
    events_only : bool
        Only .npz files are looked at in folders, and each has to be an event file.
    """
    found = Found()
    ambiguous: list[tuple[Path, str]] = []
    for path in _paths(patterns, events_only, found):
        try:
            if events_only or (path.suffix == ".npz" and is_event_file(path)):
                found.events.append(read_event(path, unit, charge, multiplicity))
            else:
                found.files[str(path)] = read_frames(path, charge, multiplicity)
        except AmbiguousUnitError as error:
            ambiguous.append((path, str(error)))
        except DataError as error:
            found.unreadable.append(_unreadable(path, str(error)))
    _settle(found, ambiguous, charge, multiplicity)
    found.events.sort(key=lambda event: str(event.source))
    found.notes += _notes(found.events)
    return found


def _paths(patterns: Iterable[str | Path], events_only: bool, found: Found) -> list[Path]:
    """The files to read; a pattern without files is listed as unreadable."""
    paths: dict[Path, None] = {}
    for pattern in patterns:
        try:
            matches = expand_paths([pattern])
        except DataError as error:
            found.unreadable.append(Unreadable(str(pattern), str(error).removeprefix(f"{pattern}: ")))
            continue
        named = {
            Path(pattern).expanduser(),
            *map(Path, glob(str(Path(pattern).expanduser()), recursive=True)),
        }
        for path in matches:
            inside = path.suffix == ".npz" if events_only else path.suffix not in NO_FRAMES
            if path in named or inside:
                paths[path] = None
    return sorted(paths)


def _unreadable(path: Path, message: str) -> Unreadable:
    return Unreadable(str(path), message.removeprefix(f"{path}: "))


def _settle(found: Found, ambiguous: Sequence[tuple[Path, str]], charge: int, multiplicity: int) -> None:
    """Read what is ambiguous in itself as the other files of its folder are; refuse the rest."""
    for path, message in ambiguous:
        units = {e.velocity_unit for e in found.events if e.source and e.source.parent == path.parent} - {""}
        if len(units) == 1:
            unit: VelocityUnit = "mmml" if units == {"mmml"} else "A/fs"
            found.events.append(read_event(path, unit, charge, multiplicity))
            found.notes.append(
                f"{path}: velocities and times taken in the unit of the other files of its folder"
            )
        else:
            found.unreadable.append(_unreadable(path, message))


def _notes(events: Sequence[SavedEvent]) -> list[str]:
    """What was converted, what is not known, what was not understood."""
    notes = []
    old = sum(event.velocity_unit == "mmml" for event in events)
    if old:
        notes.append(
            f"{old} files have times in units of 100 fs and velocities in Å/(100 fs), as mmml's jaxmd_dynamics writes "
            "them: converted to fs and Å/fs. Its limit of 1.0 Å/fs was 0.01 Å/fs, which healthy molecules exceed"
        )
    unsure = sum(event.velocity_unit == "" for event in events)
    if unsure:
        notes.append(f"{unsure} files do not tell the unit of their times, which are left as they are")
    unknown = Counter(key for event in events for key in event.unknown)
    if unknown:
        told = ", ".join(f"{key} ({count})" for key, count in sorted(unknown.items()))
        notes.append(f"keys that mean nothing here are ignored: {told}")
    return notes
