"""How much an ensemble disagrees."""

from __future__ import annotations

import numpy as np

from alfw.core.frame import Bool, Float


def force_std(forces: Float) -> Float:
    """Disagreement of an ensemble about the force on each atom.

    Parameters
    ----------
    forces : (K, n, 3) float64, eV/Å
        One slice per member.

    Returns
    -------
    (n,) float64, eV/Å
        sqrt(mean over members of |F_k − mean F|^2); the 1/K mean, as DeePMD-kit. NaN for K = 1.

    Source
    ------
    Model deviation, DeePMD-kit manual; doi:10.1016/j.cpc.2020.107206.
    """
    if len(forces) < 2:
        return np.full(forces.shape[1], np.nan)
    return np.sqrt(((forces - forces.mean(0)) ** 2).sum(-1).mean(0))


def frame_max_force(forces: Float, free: Bool) -> float:
    """Largest norm (eV/Å) of the mean force on the atoms that may move; forces (K, n, 3), free (n,)."""
    return float(np.linalg.norm(forces.mean(0), axis=1)[free].max(initial=0.0))


def frame_force_std(forces: Float, free: Bool) -> float:
    """Largest `force_std` (eV/Å) over the atoms that may move; forces (K, n, 3), free (n,)."""
    return float(force_std(forces)[free].max(initial=0.0)) if free.any() else 0.0
