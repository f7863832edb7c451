"""The physics that a potential gives, asked for beside its errors: curves, relaxations, stability."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alfw.core.frame import Frame
from alfw.core.protocols import Labeler, Potential
from alfw.core.records import Labeled, Resources
from alfw.io.frames import read_frames
from alfw.steps.validation.curves import energy_volume_curves, labelled_curve
from alfw.steps.validation.relaxation import Relaxations
from alfw.steps.validation.stability import Stability, calm_starts
from alfw.steps.validation.testset import Reading, structures


@dataclass(frozen=True)
class Physics:
    """What is wanted.

    Attributes
    ----------
    curves : bool
        Energy–volume curves: of the crystals that the test set has at several volumes, or, with a labeler, of the
        crystal of lowest energy of each composition.
    relaxations : Relaxations or None
        Of the minima in the test set.
    stability : Stability or None
        Of molecular dynamics from calm frames of the test set, see `calm_starts`, or from `starts`.
    starts : sequence of Frame
    seed : int
        Of the molecular dynamics.
    labeler : Labeler or None
        The reference: labels strained crystals, and judges the minima of the model.
    resources : Resources
        Of the labeler and of the molecular dynamics.
    """

    curves: bool = False
    relaxations: Relaxations | None = None
    stability: Stability | None = None
    starts: Sequence[Frame] = ()
    seed: int = 0
    labeler: Labeler | None = None
    resources: Resources = Resources()

    def of(
        self, potential: Potential, items: Sequence[Labeled], progress: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """{"curves", "relaxations", "stability": JSON data}, as far as they are wanted."""
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if self.curves:
                found["curves"] = self._curves(potential, items, folder)
            if self.relaxations is not None:
                found["relaxations"] = self.relaxations.run(
                    potential, items, self.labeler, folder, self.resources, progress
                )
            if self.stability is not None:
                starts = self.starts or calm_starts(items, self.seed, self.stability.walkers)
                found["stability"] = self.stability.run(
                    potential, starts, self.seed, folder, self.resources, progress
                )
        return found

    def _curves(self, potential: Potential, items: Sequence[Labeled], folder: Path) -> dict[str, Any]:
        """Of the test set's labels, or of labels made here."""
        if self.labeler is None:
            return energy_volume_curves(potential, items)
        lowest: dict[str, Labeled] = {}
        for item in items:
            formula = item.frame.formula
            if item.frame.pbc.all() and (
                formula not in lowest or item.label.energy < lowest[formula].label.energy
            ):
                lowest[formula] = item
        labelled: list[Labeled] = []
        failures: list[dict[str, Any]] = []
        for formula, item in lowest.items():
            cells, failed = labelled_curve(self.labeler, item.frame, folder / formula, self.resources)
            labelled += cells
            failures += [{"formula": formula, "reason": reason} for reason in failed]
        found = energy_volume_curves(potential, labelled)
        return {**found, "not_fitted": [*found["not_fitted"], *failures]}


def start_frames(path: str, reading: Reading) -> list[Frame]:
    """The frames of these files, labelled or not.

    Raises
    ------
    DataError
        Nothing there, or a file that cannot be used.
    """
    options = (reading.charge, reading.multiplicity, None, reading.units)
    return [one.frame for file in structures(path) for one in read_frames(file, *options)]
