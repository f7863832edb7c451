"""The pictures of a validation: which there are, and what each shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from alfw.core.frame import Float
from alfw.core.metrics import HISTOGRAM_EDGES, rmse
from alfw.core.registry import private
from alfw.io.report import Picture
from alfw.steps.validation.errors import pairs_by_source
from alfw.steps.validation.predicted import Predicted
from alfw.steps.validation.spread import atoms_of, frame_maxima, not_vanishing

MAX_POINTS = 200_000  # of a cloud; of more, every so many
MAX_CURVES = 12


def pictures(report: Mapping[str, Any], predicted: Predicted) -> list[Picture]:
    """All pictures that this report has the numbers for.

    Raises
    ------
    PluginError
        matplotlib is not installed.
    """
    plots = private("alfw.io._plots", "report")
    return [*_errors(plots, report, predicted), *_spread(plots, report, predicted), *_physics(plots, report)]


def _errors(plots: Any, report: Mapping[str, Any], predicted: Predicted) -> Iterator[Picture]:
    whole = report["all"]
    said, label = _energies(predicted)
    regions = [reference.region for reference in predicted.references]
    title = f"energies: RMSE {1000 * rmse(said - label):.3g} meV/atom"
    drawn = plots.parity({title: (label, said, regions)}, "energy − mean", "(eV/atom)")
    yield Picture(
        "errors",
        "energies",
        drawn,
        "Energies per atom, less the mean of the labels of the same composition. One point a frame.",
    )
    force = [np.concatenate([part.ravel() for part in parts]) for parts in _forces(predicted)]
    title = f"forces: RMSE {rmse(force[1] - force[0]):.3g} eV/Å"
    drawn = plots.parity({title: (*_thinned(*force), None)}, "force component", "(eV/Å)")
    yield Picture(
        "errors", "forces", drawn, "Force components of the atoms that may move; fixed ones do not count."
    )
    if any(found["histogram"] for found in whole["elements"].values()):
        drawn = plots.error_distributions(whole["elements"], HISTOGRAM_EDGES)
        caption = "How large errors of force components are, by element; in brackets the number of atoms."
        yield Picture("errors", "elements", drawn, caption)
    for what, name, unit in (("dipole", "dipole component", "(e·Å)"), ("esp", "potential", "V")):
        panels = {}
        for source, (reference, value) in pairs_by_source(predicted, what).items():
            size = f"RMSE {rmse(value - reference):.3g} {unit.strip('()')}"
            panels[f"{source}\n{size}"] = (*_thinned(reference.ravel(), value.ravel()), None)
        if panels:
            caption = (
                "Dipoles about the centre of mass." if what == "dipole" else "At the points of the labels."
            )
            yield Picture("errors", what, plots.parity(panels, name, unit), caption)


def _energies(predicted: Predicted) -> tuple[Float, Float]:
    """Both (B,) eV/atom: predicted and labelled, less the mean of the labels of the frame's composition."""
    formulas, index = np.unique([item.frame.formula for item in predicted.items], return_inverse=True)
    label = np.array([item.label.energy for item in predicted.items])
    mean = np.bincount(index, label, len(formulas)) / np.bincount(index, minlength=len(formulas))
    sizes = np.array([len(item.frame) for item in predicted.items])
    return (predicted.energy.mean(0) - mean[index]) / sizes, (label - mean[index]) / sizes


def _forces(predicted: Predicted) -> tuple[list[Float], list[Float]]:
    """Labelled and predicted forces on the free atoms of each frame."""
    items = predicted.items
    labels = [item.label.forces[item.frame.free] for item in items]
    return labels, [f[item.frame.free] for item, f in zip(items, predicted.mean_forces, strict=True)]


def _thinned(*arrays: Float) -> tuple[Float, ...]:
    """At most `MAX_POINTS` of each, the same ones."""
    every = -(-len(arrays[0]) // MAX_POINTS) or 1
    return tuple(array[::every] for array in arrays)


def _spread(plots: Any, report: Mapping[str, Any], predicted: Predicted) -> Iterator[Picture]:
    found = report["all"]["spread"]
    if found is None:
        return
    errors, std = atoms_of(predicted)
    atoms = _visible(std, np.linalg.norm(errors, axis=1))
    frames = _visible(*frame_maxima(predicted)[::-1])
    factor = found["conformal"]["factor"]
    bins = found["forces"]["bins"]
    if atoms[0].size:
        drawn = plots.errors_against_spread(atoms, frames, bins, factor)
        bound = (
            f" The bound is to hold for {found['conformal']['promised']:.0%} of the frames." if factor else ""
        )
        caption = "Errors of the mean force against the spread of the members, on logarithmic axes." + bound
        yield Picture("spread", "spread", drawn, caption)
    forces = found["forces"]
    if forces["reliability"] is not None:
        drawn = plots.reliability_diagram(
            forces["reliability"], forces["reliability_scaled"], forces["scale"]
        )
        caption = (
            "How often errors of force components lie inside the central intervals of a normal distribution. Below the"
            " diagonal they are larger than the spread says. Blue: scaled on one half of the frames, tested on the"
            " other."
        )
        yield Picture("spread", "reliability", drawn, caption)


def _visible(sigma: Float, error: Float) -> tuple[Float, ...]:
    """Pairs to be shown: what vanishes by symmetry would stretch the axes over ten decades."""
    shown = not_vanishing(error, sigma) & np.isfinite(error) & np.isfinite(sigma)
    return _thinned(sigma[shown], error[shown])


def _physics(plots: Any, report: Mapping[str, Any]) -> Iterator[Picture]:
    curves = (report.get("curves") or {}).get("structures", [])
    if curves:
        more = "" if len(curves) <= MAX_CURVES else f" The first {MAX_CURVES} of {len(curves)}."
        caption = "Energy against volume, each curve from its lowest point." + more
        yield Picture("curves", "curves", plots.curves(curves[:MAX_CURVES]), caption)
    stability = report.get("stability")
    if stability and stability["temperatures"]:
        caption = "Walkers that have not failed (Kaplan–Meier), with 95 % intervals."
        drawn = plots.survival(stability["temperatures"], stability["time_ps"])
        yield Picture("stability", "survival", drawn, caption)
