"""screen, without a database: an ensemble asked for frames in files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from alfw.core.frame import Float, Frame
from alfw.core.protocols import HasFeatures, Potential
from alfw.io.frames import expand_paths, read_frames
from alfw.steps.screened import Origin, Screening

BATCH = 1024  # frames predicted at once, so that memory stays bounded


def read_structures(
    patterns: Sequence[str | Path],
    charge: int = 0,
    multiplicity: int = 1,
    partial_pbc: Literal["vacuum"] | None = None,
) -> tuple[list[Frame], list[Origin]]:
    """All frames of files, folders and globs, file by file in order of their names.

    Raises
    ------
    DataError
        Nothing there, or a file or frame that cannot be used.
    """
    frames: list[Frame] = []
    origins: list[Origin] = []
    for path in expand_paths(patterns):
        for index, item in enumerate(read_frames(path, charge, multiplicity, partial_pbc)):
            frames.append(item.frame)
            origins.append(Origin(path, index))
    return frames, origins


def screen(
    potential: Potential,
    frames: list[Frame],
    origins: list[Origin],
    features: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Screening:
    """What the ensemble says of these frames; `progress` gets the number done, and all.

    Raises
    ------
    TrainingError
        An element that the model does not know …
    """
    energy: list[Float] = [np.empty((potential.members, 0))]
    forces: list[Float] = []
    found: list[Float] = []
    for first in range(0, len(frames), BATCH):
        batch = frames[first : first + BATCH]
        said = potential.predict(batch)
        energy.append(said.energy)
        forces += said.forces
        if features and isinstance(potential, HasFeatures):
            found += potential.features(batch)
        if progress is not None:
            progress(len(forces), len(frames))
    return Screening(frames, origins, np.concatenate(energy, 1), forces, found or None)
