"""Several labelled data sets into one: each frame once, each trajectory on one side, one theory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from alfw.core.errors import DataError
from alfw.core.records import Label, Side
from alfw.io.imported import Imported

SAME_eV, SAME_eV_PER_A = 1e-6, 1e-5  # two labels of one frame agree
OPTIONAL = ("stress", "dipole", "charges", "esp", "esp_points", "s_squared")
NAMED = 3  # of many things, so many are named in a message
Keep = Literal["first", "last"]


@dataclass(frozen=True, eq=False)
class Row:
    """A frame of a data set: `where` names the file and its place in it."""

    item: Imported
    file: str
    index: int

    @property
    def where(self) -> str:
        """File and index, for messages."""
        return f"{self.file} frame {self.index}"


@dataclass
class Merged:
    """What data sets have become together.

    Attributes
    ----------
    rows : list of Row
        In the order of the files.
    n_read : {file: frames}
    n_duplicates : int
        Frames that were there already, with the same label.
    conflicts : list of (Row, Row)
        Of them those with another label, of which the one asked for was kept.
    n_left_out : int
        Frames of trajectories that another file has on its test side.
    notes : list of str
        What a user should know, one line each.
    """

    rows: list[Row] = field(default_factory=list)
    n_read: dict[str, int] = field(default_factory=dict)
    n_duplicates: int = 0
    conflicts: list[tuple[Row, Row]] = field(default_factory=list)
    n_left_out: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def items(self) -> list[Imported]:
        """The frames with what belongs to them."""
        return [row.item for row in self.rows]

    def as_json(self) -> dict[str, Any]:
        """As in --json."""
        items = self.items
        kept = Counter(row.file for row in self.rows)
        return {
            "n_frames": len(items),
            "inputs": [{"file": f, "n_frames": n, "n_kept": kept[f]} for f, n in self.n_read.items()],
            "n_duplicates": self.n_duplicates,
            "n_conflicts": len(self.conflicts),
            "n_left_out": self.n_left_out,
            "theories": sorted({item.theory for item in items if item.theory}),
            "n_unstated": sum(item.theory is None for item in items),
            "sides": dict(Counter(item.side or "unstated" for item in items)),
            "n_trajectories": len({item.trajectory for item in items if item.trajectory}),
            "notes": self.notes,
        }


def merge(
    inputs: Mapping[str, Sequence[Imported]], keep: Keep | None = None, allow_theories: bool = False
) -> Merged:
    """The frames of several data sets, each once, those of one trajectory on one side.

    A frame is a duplicate where its id and its theory are there already; what the first one lacks (dipole, side,
    trajectory …) it gets from the others. Where sides differ, test wins and stays as it is: frames of its
    trajectories on other sides are left out, as they would make the test set known. Between train and valid, the
    first file's side holds for the whole trajectory.

    Parameters
    ----------
    inputs : {file: frames}
    keep : {"first", "last"} or None
        Which of two different labels of one frame at one theory; None refuses them.
    allow_theories : bool
        Whether labels of several theories may go into one data set.

    Raises
    ------
    DataError
        A frame without label, two theories, or two different labels of one frame.
    """
    merged = Merged(n_read={file: len(items) for file, items in inputs.items()})
    rows = [Row(item, file, i) for file, items in inputs.items() for i, item in enumerate(items)]
    for row in rows:
        if row.item.label is None:
            raise DataError(
                f"{row.where} has no energy with forces: a data set to train on holds both; label it or drop it"
            )
    theories = _theories(rows, merged, allow_theories)
    only = theories[0] if len(theories) == 1 else None
    merged.rows = _without_duplicates(rows, only, merged, keep)
    _settle_sides(merged, rows)
    return merged


def _theories(rows: Sequence[Row], merged: Merged, allowed: bool) -> list[str]:
    """The theories that the frames state.

    Raises
    ------
    DataError
        There are two, which is not allowed.
    """
    first: dict[str, Row] = {}
    for row in rows:
        if row.item.theory is not None:
            first.setdefault(row.item.theory, row)
    if len(first) > 1:
        named = [f"{theory[:60]} ({row.file})" for theory, row in list(first.items())[:NAMED]]
        if not allowed:
            raise DataError(
                f"labels of {len(first)} theories: {', '.join(named)}: energies of one are no data for another;"
                " keep them in data sets of their own"
            )
        merged.notes.append(f"labels of {len(first)} theories in one data set: {', '.join(named)}")
    unstated = Counter(row.file for row in rows if row.item.theory is None)
    if first and unstated:
        files = ", ".join(f"{file} ({count} frames)" for file, count in unstated.items())
        merged.notes.append(f"theory not stated: {files}; merged with {', '.join(t[:60] for t in first)}")
    return list(first)


def _without_duplicates(
    rows: Sequence[Row], only: str | None, merged: Merged, keep: Keep | None
) -> list[Row]:
    """One row for each frame and theory, in the order in which they came first."""
    found: dict[tuple[str, str | None], Row] = {}
    for row in rows:
        key = (row.item.frame.id, row.item.theory or only)
        other = found.setdefault(key, row)
        if other is row:
            continue
        merged.n_duplicates += 1
        if not _agree(_label(other), _label(row)):
            merged.conflicts.append((other, row))
        best, more = (row, other) if keep == "last" else (other, row)
        found[key] = replace(best, item=_completed(best.item, more.item))
    if merged.conflicts:
        told = difference(*merged.conflicts[0])
        told += f", and {n} more such frames" if (n := len(merged.conflicts) - 1) else ""
        if keep is None:
            raise DataError(f"{told}: correct it, or alfw data merge --keep first (or last)")
        merged.notes.append(f"{told}: kept the {keep} one")
    return list(found.values())


def _label(row: Row) -> Label:
    if row.item.label is None:
        raise DataError(f"{row.where} has no label")
    return row.item.label


def _agree(one: Label, two: Label) -> bool:
    """Whether two labels of a frame say the same."""
    close = abs(one.energy - two.energy) <= SAME_eV
    return close and bool(np.abs(one.forces - two.forces).max() <= SAME_eV_PER_A)


def difference(one: Row, two: Row) -> str:
    """Two labels of a frame that differ, in words."""
    a, b = _label(one), _label(two)
    return (
        f"frame {one.item.frame.id[:12]} has two labels: {a.energy:.8g} eV in {one.where}, {b.energy:.8g} eV in"
        f" {two.where} (forces differ by up to {np.abs(a.forces - b.forces).max():.3g} eV/Å)"
    )


def _completed(best: Imported, more: Imported) -> Imported:
    """The frame, with what it lacks taken from another row of the same label; a test frame stays one."""
    label, other = best.label, more.label
    if label is not None and other is not None and _agree(label, other):
        lacking = {n: getattr(other, n) for n in OPTIONAL if getattr(label, n) is None}
        label = replace(label, **lacking, version=label.version or other.version)
    side = "test" if "test" in (best.side, more.side) else best.side or more.side
    trajectory, theory = best.trajectory or more.trajectory, best.theory or more.theory
    return replace(best, label=label, side=side, trajectory=trajectory, theory=theory)


def _settle_sides(merged: Merged, given: Sequence[Row]) -> None:
    """Put each trajectory on one side; see `merge`. The rows `given` say where it is."""
    sides: dict[str, dict[Side, Row]] = {}
    for row in given:
        if row.item.trajectory is not None and row.item.side is not None:
            sides.setdefault(row.item.trajectory, {}).setdefault(row.item.side, row)
    rows, moved, dropped = [], Counter[str](), Counter[str]()
    for row in merged.rows:
        item, known = row.item, sides.get(row.item.trajectory or "", {})
        if not known or item.side == "test":
            rows.append(row)
        elif "test" in known:
            dropped[f"{item.trajectory} ({row.file}; test in {known['test'].file})"] += 1
        else:
            side = next(iter(known))
            if item.side not in (None, side):
                moved[f"{item.trajectory} to {side} ({row.file}; {side} in {known[side].file})"] += 1
            rows.append(replace(row, item=replace(item, side=side)))
    merged.rows, merged.n_left_out = rows, dropped.total()
    if dropped:
        merged.notes.append(
            f"left out {dropped.total()} frames of test trajectories that are not on the test side: {_few(dropped)}"
        )
    if moved:
        merged.notes.append(f"moved {moved.total()} frames to the side of their trajectory: {_few(moved)}")


def _few(counts: Mapping[str, int]) -> str:
    """The first of many names."""
    names = list(counts)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
