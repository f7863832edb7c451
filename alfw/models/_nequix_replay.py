"""Frames that a checkpoint is not to forget, with what it says of them itself.

Source: pseudo-rehearsal, A. Robins, Connection Science 7, 123 (1995), doi:10.1080/09540099550039318.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.ids import derive_seed
from alfw.core.records import Label, Labeled
from alfw.core.reference import reference_sums, species_of
from alfw.models._nequix_network import load
from alfw.models._nequix_potential import NequixPotential
from alfw.models.schedule import batch_indices


def replayed(frames: Sequence[Frame], start: Path, reference: Mapping[int, float]) -> list[Labeled]:
    """The frames with energies, forces and stresses of the network in `start`.

    Energies are on the E0 of the lineage (`reference`, eV), so that only the interaction is asked for.

    Raises
    ------
    TrainingError
        The network does not know an element.
    """
    known = load(start).reference
    unknown = sorted(set(species_of(frames)) - set(known))
    if unknown:
        raise TrainingError(f"replay: {start.name} does not know Z = {unknown}: leave these frames out")
    said = NequixPotential([start]).predict(frames)
    shift = reference_sums(frames, reference) - reference_sums(frames, known)
    stress = said.stress or [None] * len(frames)
    return [
        Labeled(frame, Label(float(energy), forces.mean(0), None if s is None else s.mean(0)))
        for frame, energy, forces, s in zip(
            frames, said.energy.mean(0) + shift, said.forces, stress, strict=True
        )
    ]


def rows(
    order: NDArray[np.int64], size: int, seed: int, first_replay: int, n_replay: int, fraction: float
) -> Iterator[NDArray[np.int64]]:
    """Endless (size,) batches of rows of the dataset: of the training side, then of what is replayed.

    Parameters
    ----------
    order : (M,) int64
        Rows of the training side, some more than once if it is a bootstrap sample.
    first_replay, n_replay : int
        Where the replayed frames begin, and how many they are.
    fraction : float
        Their share of a batch.
    """
    again = min(max(round(fraction * size), 1), size - 1) if n_replay and size > 1 else 0
    own = batch_indices(len(order), size - again, derive_seed(seed, "order"))
    if not again:
        yield from (order[index] for index in own)
    old = batch_indices(n_replay, again, derive_seed(seed, "replay"))
    for index in own:
        yield np.concatenate([order[index], first_replay + next(old)])
