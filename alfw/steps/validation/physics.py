"""The physics that a potential gives, asked for beside its errors: curves, relaxations, stability."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.records import Labeled, Resources
from alfw.io.frames import read_frames
from alfw.steps.validation.curves import energy_volume_curves
from alfw.steps.validation.relaxation import Relaxations
from alfw.steps.validation.stability import Stability, calm_starts
from alfw.steps.validation.testset import Reading, structures


@dataclass(frozen=True)
class Physics:
    """What is wanted.

    Attributes
    ----------
    curves : bool
        Energy–volume curves of the crystals that the test set has at several volumes.
    relaxations : Relaxations or None
        Of the minima in the test set.
    stability : Stability or None
        Of molecular dynamics from calm frames of the test set, see `calm_starts`, or from `starts`.
    starts : sequence of Frame
    seed : int
        Of the molecular dynamics.
    """

    curves: bool = False
    relaxations: Relaxations | None = None
    stability: Stability | None = None
    starts: Sequence[Frame] = ()
    seed: int = 0

    def of(
        self, potential: Potential, items: Sequence[Labeled], progress: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """{"curves", "relaxations", "stability": JSON data}, as far as they are wanted."""
        found: dict[str, Any] = {}
        if self.curves:
            found["curves"] = energy_volume_curves(potential, items)
        if self.relaxations is not None:
            found["relaxations"] = self.relaxations.run(potential, items, progress=progress)
        if self.stability is not None:
            starts = self.starts or calm_starts(items, self.seed, self.stability.walkers)
            with tempfile.TemporaryDirectory() as folder:
                found["stability"] = self.stability.run(
                    potential, starts, self.seed, Path(folder), Resources(), progress
                )
        return found


def start_frames(path: str, reading: Reading) -> list[Frame]:
    """The frames of these files, labelled or not.

    Raises
    ------
    DataError
        Nothing there, or a file that cannot be used.
    """
    options = (reading.charge, reading.multiplicity, None, reading.units)
    return [one.frame for file in structures(path) for one in read_frames(file, *options)]
