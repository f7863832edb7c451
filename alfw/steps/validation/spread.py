"""How well the spread of an ensemble knows its errors, on a region of a test set: JSON data.

Of forces: an error is |ΔF| of one atom (eV/Å), its σ the `force_std` of that atom; a component of the error is compared
with force_std / √3. The 1/K mean is used as it stands everywhere in alfw; `scale` takes up what it lacks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alfw.core.calibration import (
    binned,
    calibration_error,
    conformal_factor,
    coverage_of,
    first_half,
    fraction_inside,
    reliability,
    scale,
    spearman,
    standardised,
)
from alfw.core.frame import Bool, Float
from alfw.core.metrics import force_errors
from alfw.steps.validation.errors import shift_of
from alfw.steps.validation.predicted import Predicted

ONE_MEMBER = "no spread: one member"
# Where error and σ of a force are both smaller, it vanishes by symmetry: nothing was predicted that could be wrong.
NEGLIGIBLE_eV_per_A = 1e-5


def spread_of(predicted: Predicted, coverage: float) -> dict[str, Any] | None:
    """Order, size and coverage of force_std and of the standard deviation of energies; None of one member.

    Parameters
    ----------
    coverage : float
        Which fraction of new frames the conformal bound shall hold for.

    Returns
    -------
    dict
        forces, energy, energy_shift_removed (spearman, scale, inside, reliability, …), conformal.
    """
    if predicted.members < 2 or not predicted.items:
        return None
    sizes = np.array([len(item.frame) for item in predicted.items])
    labels = np.array([item.label.energy for item in predicted.items])
    half = first_half([item.frame.id for item in predicted.items])
    left = np.array([shift_of(predicted, member - labels) for member in predicted.energy])
    known = np.isfinite(left).all(0)
    return {
        "forces": _forces(predicted, half),
        "conformal": conformal(predicted, half, coverage),
        "energy": _quality(
            (predicted.energy.mean(0) - labels) / sizes, predicted.energy.std(0) / sizes, half
        ),
        "energy_shift_removed": _quality(
            (left.mean(0) / sizes)[known], (left.std(0) / sizes)[known], half[known]
        ),
    }


def atoms_of(predicted: Predicted) -> tuple[Float, Float]:
    """(N, 3) eV/Å, (N,) eV/Å: errors of the mean force on the free atoms, and their force_std."""
    errors = force_errors(predicted.items, predicted.mean_forces)
    return np.concatenate([np.empty((0, 3)), *errors]), np.concatenate([np.empty(0), *predicted.force_std])


def _forces(predicted: Predicted, half: Bool) -> dict[str, Any]:
    errors, std = atoms_of(predicted)
    size = np.linalg.norm(errors, axis=1)
    counts = not_vanishing(size, std)
    atom_half = np.repeat(half, [len(part) for part in predicted.force_std])[counts]
    errors, std, size = errors[counts], std[counts], size[counts]
    frame_error, frame_std = frame_maxima(predicted)
    frames = not_vanishing(frame_error, frame_std)
    # a component has a third of the mean square of the vector, on both sides
    return {
        **_quality(errors, std[:, None] / np.sqrt(3), atom_half),
        "n_atoms": len(std),
        "n_vanishing": int((~counts).sum()),
        "spearman": spearman(std, size),
        "spearman_frames": spearman(frame_std[frames], frame_error[frames]),
        "mean_force_std_eV_per_A": float(std.mean()) if std.size else None,
        "mean_error_eV_per_A": float(size.mean()) if size.size else None,
        "bins": _bins(std, size),
    }


def not_vanishing(error: Float, sigma: Float) -> Bool:
    """Where error or σ is more than `NEGLIGIBLE_eV_per_A`; what is not finite is."""
    return ~((error < NEGLIGIBLE_eV_per_A) & (sigma < NEGLIGIBLE_eV_per_A))


def _bins(sigma: Float, errors: Float) -> list[dict[str, float]]:
    return [{"n": b.n, "sigma_rms": b.sigma_rms, "error_rms": b.error_rms} for b in binned(sigma, errors)]


def _quality(errors: Float, sigma: Float, half: Bool) -> dict[str, Any]:
    """Of errors (N, …) and their σ: `scale` is fitted on the first half of the frames and tested on the second."""
    z = standardised(errors, sigma)
    factor = scale(z[half])
    tested = z[~half] / factor if np.isfinite(factor) and factor > 0 else None
    flat = np.broadcast_to(sigma, errors.shape).ravel()
    pairs = binned(flat, errors.ravel())
    return {
        "n": int(errors.size),
        "spearman": spearman(flat, np.abs(errors).ravel()),
        "scale": scale(z),
        "scale_first_half": factor,
        "inside": fraction_inside(z),
        "reliability": reliability(z).as_dict() if z.size else None,
        "reliability_scaled": reliability(tested).as_dict() if tested is not None and tested.size else None,
        "calibration_error": calibration_error(pairs),
        "bins": _bins(flat, errors.ravel()),
    }


def frame_maxima(predicted: Predicted) -> tuple[Float, Float]:
    """Both (B,) eV/Å: the largest |ΔF| over the free atoms of each frame, and its force_std."""
    errors = force_errors(predicted.items, predicted.mean_forces)
    size = [np.linalg.norm(part, axis=1).max(initial=0.0) for part in errors]
    return np.array(size), np.array([std.max(initial=0.0) for std in predicted.force_std])


def conformal(predicted: Predicted, half: Bool, coverage: float) -> dict[str, Any]:
    """A bound on the largest force error of a frame: factor · force_std, and how often it held.

    The factor is the conformal one of the first half of the frames; the coverage is that on the second half, on all
    and by region, and with a factor of each region's own.
    """
    error, std = frame_maxima(predicted)
    counts = not_vanishing(error, std)
    scores = standardised(error, std)
    half, tested = half & counts, ~half & counts
    factor = conformal_factor(scores[half], coverage)
    names = np.array([reference.region for reference in predicted.references])
    regions = {}
    for name in dict.fromkeys(names.tolist()):
        own = names == name
        own_factor = conformal_factor(scores[half & own], coverage)
        regions[name] = {
            **coverage_of(scores[tested & own], factor).as_dict(),
            "own_factor": own_factor,
            "own": coverage_of(scores[tested & own], own_factor).as_dict(),
        }
    mean_error = float(error[tested].mean()) if tested.any() else 0.0
    return {
        "promised": coverage,
        "score": "largest |ΔF| over the atoms of a frame / force_std of the frame",
        "factor": factor,
        "n_calibration": int(half.sum()),
        **coverage_of(scores[tested], factor).as_dict(),
        "width_over_error": factor * float(std[tested].mean()) / mean_error if mean_error else None,
        "regions": regions,
    }
