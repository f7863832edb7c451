"""Errors of an ensemble's mean, and of its members, on a region of a test set: JSON data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from alfw.core.frame import Float
from alfw.core.metrics import (
    bootstrap_interval,
    distribution,
    force_errors,
    frame_force_mse,
    free_numbers,
    mae,
    rmse,
    shifts,
    summarise,
)
from alfw.core.units import EV_PER_A3_GPa
from alfw.steps.validation.predicted import Predicted

WORST = 10


def errors_of(predicted: Predicted) -> dict[str, Any]:
    """All errors of one region.

    Returns
    -------
    dict
        The keys of `core.metrics.ErrorSummary`, and force_rmse_interval_95_eV_per_A, label_force_rms_eV_per_A,
        energy_rmse_eV, energy_mae_eV, energy_shift_removed, elements, members, stress, dipole, esp (None where no
        label has one), worst_frames.
    """
    items, forces = predicted.items, predicted.mean_forces
    energy = predicted.energy.mean(0)
    total = energy - np.array([item.label.energy for item in items])
    errors = force_errors(items, forces)
    labels = [item.label.forces[item.frame.free] for item in items]
    return {
        **summarise(items, energy, forces).as_dict(),
        "force_rmse_interval_95_eV_per_A": bootstrap_interval(frame_force_mse(items, forces)),
        "label_force_rms_eV_per_A": rmse(_stacked(labels)),
        "n_not_finite": sum(
            not (np.isfinite(e) and np.isfinite(f).all()) for e, f in zip(total, errors, strict=True)
        ),
        "energy_rmse_eV": rmse(total),
        "energy_mae_eV": mae(total),
        "energy_shift_removed": shift_removed(predicted, total),
        "elements": _elements(predicted, errors),
        "members": _members(predicted),
        "stress": _stress(predicted),
        "dipole": _by_source(predicted, "dipole", "eA"),
        "esp": _by_source(predicted, "esp", "V"),
        "worst_frames": worst(frames_of(predicted)),
    }


def frames_of(predicted: Predicted) -> list[dict[str, Any]]:
    """One row a frame: where it is from, and its errors; force_std is None of one member."""
    rows = []
    parts = zip(predicted.references, predicted.energy.mean(0), predicted.mean_forces, strict=True)
    for (reference, energy, forces), std in zip(parts, predicted.force_std, strict=True):
        frame, label = reference.item.frame, reference.item.label
        norms = np.linalg.norm(forces - label.forces, axis=1)
        rows.append(
            {
                "id": frame.id,
                "region": reference.region,
                "source": str(reference.source),
                "index": reference.index,
                "formula": frame.formula,
                "n_atoms": len(frame),
                "energy_error_eV": float(energy - label.energy),
                "energy_error_eV_per_atom": float(energy - label.energy) / len(frame),
                "force_rmse_eV_per_A": rmse((forces - label.forces)[frame.free]),
                "force_error_max_eV_per_A": float(norms[frame.free].max(initial=0.0)),
                "force_error_mean_eV_per_A": float(norms.mean()),
                "force_std_eV_per_A": float(std.max(initial=0.0)) if predicted.members > 1 else None,
            }
        )
    return rows


def worst(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The `WORST` frames by force RMSE, the worst first; what is not finite is worse than all."""
    size = np.array([row["force_rmse_eV_per_A"] for row in rows])
    order = np.argsort(-np.where(np.isfinite(size), size, np.inf), kind="stable")
    return [rows[i] for i in order[:WORST]]


def shift_of(predicted: Predicted, errors: Float) -> Float:
    """(B,) float64: what is left of errors of energies when the mean of each composition is taken out.

    NaN where a composition has one frame only: nothing would be left of its error, for no merit of the model.
    """
    formulas = [item.frame.formula for item in predicted.items]
    mean = shifts(errors, formulas)
    return errors - np.array([mean.get(formula, np.nan) for formula in formulas])


def shift_removed(predicted: Predicted, total: Float) -> dict[str, Any]:
    """Errors of energies apart from a constant for each composition (which no force or barrier depends on)."""
    sizes = np.array([len(item.frame) for item in predicted.items])
    left = shift_of(predicted, total)
    known = ~np.isnan(left)
    return {
        "n_frames": int(known.sum()),
        "rmse_eV_per_atom": rmse((left / sizes)[known]),
        "mae_eV_per_atom": mae((left / sizes)[known]),
        "shifts_eV": shifts(total, [item.frame.formula for item in predicted.items]),
    }


def _elements(predicted: Predicted, errors: Sequence[Float]) -> dict[str, Any]:
    """Force errors of each element: per component, and how their sizes are distributed."""
    numbers, components = free_numbers(predicted.items), _stacked(errors)
    found = {}
    for z in np.unique(numbers):
        own = components[numbers == z]
        found[chemical_symbols[z]] = {
            "n_atoms": len(own),
            "force_rmse_eV_per_A": rmse(own),
            "force_mae_eV_per_A": mae(own),
            **distribution(own),
        }
    return found


def _members(predicted: Predicted) -> list[dict[str, float]]:
    """Errors of each member alone, and how far it is from the mean of all."""
    items, mean = predicted.items, predicted.mean_forces
    sizes = np.array([len(item.frame) for item in items])
    labels = np.array([item.label.energy for item in items])
    rows = []
    for k, energy in enumerate(predicted.energy):
        own = [forces[k] for forces in predicted.forces]
        apart = [(a - b)[item.frame.free] for a, b, item in zip(own, mean, items, strict=True)]
        rows.append(
            {
                "force_rmse_eV_per_A": rmse(_stacked(force_errors(items, own))),
                "energy_rmse_eV_per_atom": rmse((energy - labels) / sizes),
                "force_rms_from_mean_eV_per_A": rmse(_stacked(apart)),
            }
        )
    return rows


def _stress(predicted: Predicted) -> dict[str, Any] | None:
    """Errors of the six components of stresses, where both label and model have one."""
    pairs = [
        (said, item.label.stress)
        for said, item in zip(predicted.stress, predicted.items, strict=True)
        if said is not None and item.label.stress is not None
    ]
    if not pairs:
        return None
    errors = np.array([full_3x3_to_voigt_6_stress(said - label) for said, label in pairs])
    return {
        "n_frames": len(pairs),
        "rmse_eV_per_A3": rmse(errors),
        "mae_eV_per_A3": mae(errors),
        "rmse_GPa": rmse(errors) * EV_PER_A3_GPa,
        "mae_GPa": mae(errors) * EV_PER_A3_GPa,
        "label_rms_GPa": rmse(np.array([full_3x3_to_voigt_6_stress(label) for _, label in pairs]))
        * EV_PER_A3_GPa,
    }


def pairs_by_source(predicted: Predicted, what: str) -> dict[str, tuple[Float, Float]]:
    """{source: (label, predicted)}: dipoles (B', 3) e·Å or potentials (points,) V, where there are both."""
    found = {}
    values: dict[str, list[Float | None]] = predicted.dipoles if what == "dipole" else predicted.esp
    for source, said in values.items():
        chosen = [i for i, value in enumerate(said) if value is not None]
        if chosen:
            labels = [np.asarray(getattr(predicted.items[i].label, what)) for i in chosen]
            join = np.stack if what == "dipole" else np.concatenate
            found[source] = (join(labels), join([np.asarray(said[i]) for i in chosen]))
    return found


def _by_source(predicted: Predicted, what: str, unit: str) -> dict[str, Any] | None:
    """Errors of dipoles (per component) or potentials (per point), by where they come from."""
    found: dict[str, Any] = {}
    for source, (label, said) in pairs_by_source(predicted, what).items():
        found[source] = {
            "n_components" if what == "dipole" else "n_points": int(label.size),
            f"rmse_{unit}": rmse(said - label),
            f"mae_{unit}": mae(said - label),
            f"label_rms_{unit}": rmse(label),
        }
    return found or None


def _stacked(parts: Sequence[Float]) -> Float:
    """(N, 3) float64 of many (n, 3), also of none."""
    return np.concatenate([np.empty((0, 3)), *parts])
