"""What a file says of one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_masses

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.records import Label, Side

# What others call the same side.
SIDES: Mapping[str, Side] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}


@dataclass(frozen=True, eq=False)
class Imported:
    """A frame with what came along in its file.

    Attributes
    ----------
    frame : Frame
    label : Label or None
        None unless the file has both energy and forces.
    trajectory : str or None
        Frames of one trajectory are correlated and stay on one side.
    side : {"train", "valid", "test"} or None
    theory : str or None
        What the file says of the origin of its labels; free text.
    """

    frame: Frame
    label: Label | None = None
    trajectory: str | None = None
    side: Side | None = None
    theory: str | None = None


def parse_side(value: Any) -> Side | None:
    """The side a file means by `value`; None and empty text = none.

    Raises
    ------
    DataError
        Not the name of a side.
    """
    text = "" if value is None else str(value).strip().lower()
    if text not in SIDES and text:
        raise DataError(f"unknown split {str(value)!r}: use train, valid or test")
    return SIDES.get(text)


def text_or_none(value: Any) -> str | None:
    """Text of an optional key; None and empty text = None."""
    return None if value is None or str(value) == "" else str(value)


def has_own_masses(frame: Frame) -> bool:
    """Whether an atom has another mass than its element's."""
    return not np.array_equal(np.asarray(frame.masses), atomic_masses[frame.numbers])
