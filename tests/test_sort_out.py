"""Frames of a pool that are not proposed are counted with the reason."""

from __future__ import annotations

import numpy as np
from ase.build import molecule

from alfw.core.frame import Frame
from alfw.labelers.tblite import TBLiteLabeler
from alfw.steps.select import sort_out


def test_known_repeated_and_refused_frames_are_told_apart() -> None:
    water = Frame.from_atoms(molecule("H2O"))
    other = water.moved(water.positions + 0.1 * np.arange(9).reshape(3, 3) ** 2)
    radical = Frame.from_atoms(molecule("OH"))  # nine electrons, said to be a singlet
    fresh, rejected = sort_out(TBLiteLabeler(), [water, other, other, radical], known={water.id})
    assert fresh.tolist() == [False, True, False, False]
    assert rejected == {"known": 2, "not_labelable": 1}
