"""What the members of an ensemble share: elements, reference energies, the scale of the forces, neighbour numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from alfw.core.errors import TrainingError
from alfw.core.neighbours import neighbours
from alfw.core.records import Labeled
from alfw.core.reference import fit_reference_energies, species_of
from alfw.io.stacked import Stacked

MIN_SCALE_eV = (
    1e-2  # below it the forces are rounding (isolated atoms, perfect crystals) and say nothing of energies
)


def check_finite(items: Sequence[Labeled]) -> None:
    """Raise TrainingError, naming the frame, for a label without forces, or with a number that is not finite."""
    if isinstance(items, Stacked) and items.finite:
        return
    for item in items:
        label, which = item.label, f"label of frame {item.frame.id[:12]}"
        if np.shape(label.forces) != (len(item.frame), 3):
            raise TrainingError(
                f"{which} has no forces of its {len(item.frame)} atoms: label it anew, or remove it"
            )
        optional = [value for value in (label.stress, label.dipole, label.esp) if value is not None]
        if not (np.isfinite(label.energy) and all(np.isfinite(x).all() for x in [label.forces, *optional])):
            raise TrainingError(f"{which} is not finite: remove it from the dataset")


def check_labels(train: Sequence[Labeled], valid: Sequence[Labeled] = ()) -> None:
    """Raise TrainingError where there is nothing to train on, or as `check_finite` does."""
    if not train:
        raise TrainingError("no training labels: add labelled frames to the train side")
    check_finite([*train, *valid])


def check_elements(train: Sequence[Labeled], valid: Sequence[Labeled]) -> None:
    """Raise TrainingError for a frame of the valid side with an element that the train side does not have."""
    known = set(species_of([item.frame for item in train]))
    for item in valid:
        strange = sorted(set(item.frame.numbers.tolist()) - known)
        if strange:
            names = ", ".join(chemical_symbols[z] for z in strange)
            raise TrainingError(
                f"frame {item.frame.id[:12]} of the valid side has {names}, which no frame on the train side has:"
                " add such frames there"
            )


def statistics(train: Sequence[Labeled], cutoff_A: float) -> dict[str, Any]:
    """Shared statistics of a training set as JSON data; see `NequixModel.statistics`."""
    check_labels(train)
    frames = [item.frame for item in train]
    reference = fit_reference_energies(frames, [item.label.energy for item in train])
    forces = np.concatenate([item.label.forces[item.frame.free] for item in train])
    scale = float(np.sqrt(np.mean(forces**2))) if forces.size else 0.0
    n_edges = sum(len(neighbours(frame, cutoff_A)) for frame in frames)
    return {
        "species": list(species_of(frames)),
        "E0_eV": {str(z): energy for z, energy in sorted(reference.items())},
        "scale_eV": scale if scale > MIN_SCALE_eV else 1.0,
        "avg_n_neighbors": n_edges / sum(map(len, frames)) or 1.0,
    }
