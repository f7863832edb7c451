"""Atomic reference energies E0: the part of an energy that only counts atoms.

They are fitted, subtracted and added in float64, outside the networks: total energies of 10^3 to 10^6 eV would leave a
float32 network no digits for the interactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols

from alfw.core.errors import TrainingError
from alfw.core.frame import Float, Frame, Int

RCOND = 1e-8  # singular values below this share of the largest are rounding: counts are integers


def species_of(frames: Sequence[Frame]) -> tuple[int, ...]:
    """Atomic numbers that occur in the frames, sorted."""
    return tuple(sorted({int(z) for frame in frames for z in np.unique(frame.numbers)}))


def compositions(frames: Sequence[Frame], species: Sequence[int]) -> Int:
    """(B, S) int64: how many atoms of each of the S species a frame has; others are not counted."""
    wanted = np.asarray(species, np.int64)
    counts = [(frame.numbers[:, None] == wanted[None, :]).sum(0) for frame in frames]
    return np.array(counts, np.int64).reshape(len(frames), len(wanted))


def composition_rank(frames: Sequence[Frame]) -> int:
    """Number of independent compositions: how many combinations of E0 the frames determine.

    It equals the number of species when every E0 is determined; ethanol alone has three species and rank 1.
    """
    counts = np.unique(compositions(frames, species_of(frames)), axis=0)
    return int(np.linalg.matrix_rank(counts)) if counts.size else 0


def fit_reference_energies(
    frames: Sequence[Frame],
    energies: Sequence[float] | Float,
    prior: Mapping[int, float] | None = None,
) -> dict[int, float]:
    """Reference energy (eV) of each species by ridge regression of energies on compositions.

    min_e Σ_b (E_b − Σ_s c_bs e_s)² / n_b² + λ |e − e_prior|² in the limit λ → 0: combinations of species that the
    frames determine come out as in ordinary least squares, the others stay at the prior. Rows are divided by the
    number of atoms, so that a large cell does not outweigh a molecule.

    Parameters
    ----------
    frames : sequence of B Frames
    energies : (B,) float64, eV
    prior : {atomic number: eV} or None
        Energies of isolated atoms, or of a checkpoint. A species without one (None: all) gets the mean energy per
        atom of the frames: with one single composition every E0 is then that mean.

    Raises
    ------
    TrainingError
        There are no frames.

    Source
    ------
    Hoerl and Kennard, Technometrics 12, 55 (1970), doi:10.1080/00401706.1970.10488634, here shrunk to a prior.
    """
    if not frames:
        raise TrainingError("no labelled frames to fit atomic reference energies to: add training labels")
    species = species_of(frames)
    sizes = np.array([len(frame) for frame in frames], np.float64)
    energy = np.asarray(energies, np.float64)
    mean = float((energy / sizes).mean())
    center = np.array([(prior or {}).get(z, mean) for z in species], np.float64)
    counts = compositions(frames, species)
    fractions, residual = counts / sizes[:, None], (energy - counts @ center) / sizes
    deviation = np.linalg.lstsq(fractions, residual, rcond=RCOND)[0]  # of all minima the smallest: λ → 0
    return {z: float(value) for z, value in zip(species, center + deviation, strict=True)}


def reference_sums(frames: Sequence[Frame], reference: Mapping[int, float]) -> Float:
    """(B,) float64, eV: the sum of the reference energies of the atoms of each frame.

    Raises
    ------
    TrainingError
        A frame contains an element without a reference energy.
    """
    missing = sorted(set(species_of(frames)) - set(reference))
    if missing:
        raise TrainingError(
            f"the model does not know {', '.join(chemical_symbols[z] for z in missing)}: it has no atomic reference"
            " energy; label frames with it and retrain"
        )
    species = sorted(reference)
    energies = np.array([reference[z] for z in species], np.float64)
    return compositions(frames, species).astype(np.float64) @ energies
