"""Which of many frames: each structure once, and the most different ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from alfw.core.frame import Frame, Int
from alfw.core.superposition import Shape


def unique(frames: Sequence[Frame], extreme: Sequence[float], limit_A: float) -> Int:
    """(B,) int64: for each frame the index of the one that stands for it, itself where it stays.

    Frames are taken from the least extreme on (equal ones in the order of their ids); each stays unless its RMSD from
    one that stayed is below the limit, and then the first one found, by the lower bound, stands for it. Other atoms,
    charges, multiplicities or cells are never the same.
    """
    stands = np.arange(len(frames))
    for group in _groups(frames):
        group = sorted(group, key=lambda index: (extreme[index], frames[index].id))
        shapes = [Shape(frames[index]) for index in group]
        prints = np.array([shape.fingerprint for shape in shapes])
        kept: list[int] = []
        for place, shape in enumerate(shapes):
            lower = np.linalg.norm(prints[kept] - prints[place], axis=1)
            near = [kept[k] for k in np.argsort(lower, kind="stable") if lower[k] < limit_A]
            same = next((other for other in near if shape.within(shapes[other], limit_A)), None)
            if same is None:
                kept.append(place)
            else:
                stands[group[place]] = group[same]
    return stands


def diverse(frames: Sequence[Frame], most: int) -> list[int]:
    """Indices of at most `most` frames, the first one and then always the farthest from those chosen.

    The distance is the lower bound of the RMSD (`Shape.fingerprint`); frames of other atoms are infinitely far. Of
    equals the first is taken.

    Source
    ------
    T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985), doi:10.1016/0304-3975(85)90224-5.
    """
    groups = list(_groups(frames))
    group_of = np.zeros(len(frames), np.int64)
    place = np.zeros(len(frames), np.int64)
    prints = []
    for number, group in enumerate(groups):
        group_of[group], place[group] = number, np.arange(len(group))
        prints.append(np.array([Shape(frames[index]).fingerprint for index in group]))
    distance = np.full(len(frames), np.inf)
    chosen: list[int] = []
    while len(chosen) < min(most, len(frames)):
        pick = int(np.argmax(distance)) if chosen else 0
        chosen.append(pick)
        number = group_of[pick]
        apart = np.linalg.norm(prints[number] - prints[number][place[pick]], axis=1)
        distance[groups[number]] = np.minimum(distance[groups[number]], apart)
        distance[pick] = -1.0
    return chosen


def _groups(frames: Sequence[Frame]) -> Iterator[list[int]]:
    """Indices of frames of the same atoms, charge and multiplicity."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, frame in enumerate(frames):
        key = (np.sort(frame.numbers).tobytes(), frame.charge, frame.multiplicity)
        groups.setdefault(key, []).append(index)
    yield from groups.values()
