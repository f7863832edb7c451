"""Energy–volume curves of crystals: what the model makes of cells that the reference knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import DataError, LabelError
from alfw.core.frame import Float, Frame
from alfw.core.metrics import as_json
from alfw.core.protocols import Labeler, Potential, label
from alfw.core.records import Labeled, Resources
from alfw.core.units import EV_PER_A3_GPa
from alfw.io.imported import Imported

MIN_VOLUMES = 5
TOO_FEW = "{} volumes, at least 5 are needed"
# How far (fractions) coordinates and the shape of the cell may be apart in cells of the same structure.
SAME = 1e-3
# The curves are compared over this part of the volume on both sides, as by the Δ gauge.
DELTA_RANGE = 0.06
VOLUMES = tuple(np.linspace(0.94, 1.06, 7).tolist())


@dataclass(frozen=True)
class BirchMurnaghan:
    """An equation of state of third order.

    Attributes
    ----------
    V0, E0 : float
        Minimum: volume Å^3 and energy eV, both of one atom.
    B0 : float, GPa
    B_prime : float
        dB/dP at the minimum.
    """

    V0: float
    E0: float
    B0: float
    B_prime: float

    def energy(self, volume: Float) -> Float:
        """E(V), eV, in the shape of `volume`, Å^3.

        Source
        ------
        F. Birch, Phys. Rev. 71, 809 (1947), doi:10.1103/PhysRev.71.809, integrated.
        """
        strain = (self.V0 / volume) ** (2 / 3) - 1
        scale = 9 / 16 * self.V0 * self.B0 / EV_PER_A3_GPa
        return np.asarray(self.E0 + scale * strain**2 * (2 + (self.B_prime - 4) * strain))


def fit_birch_murnaghan(volume: Float, energy: Float) -> BirchMurnaghan:
    """The equation of state through M points (Å^3 and eV, of one atom).

    Third order is a polynomial of degree 3 in V^(−2/3), so that the fit is linear and has one answer.

    Raises
    ------
    DataError
        Fewer than `MIN_VOLUMES` volumes, numbers that are not finite, or a curve without minimum.

    Source
    ------
    As ``eosfit.py`` of the Δ gauge: Lejaeghere et al., doi:10.1080/10408436.2013.772503.
    """
    if (few := n_volumes(volume)) < MIN_VOLUMES:
        raise DataError(TOO_FEW.format(few))
    if not np.isfinite(energy).all():
        raise DataError("an energy is not finite")
    polynomial = np.polynomial.Polynomial.fit(volume ** (-2 / 3), energy, 3)
    slope, curvature = polynomial.deriv(), polynomial.deriv(2)
    roots = slope.roots()
    minima = [x for x in roots[np.isreal(roots)].real if x > 0 and curvature(x) > 0]
    if not minima:
        raise DataError("the curve has no minimum")
    x = float(minima[0])  # a cubic has one
    second, third = float(curvature(x)), float(polynomial.deriv(3)(x))
    d2 = 4 / 9 * x**5 * second  # d²E/dV², d³E/dV³ at the minimum
    d3 = -20 / 9 * x**6.5 * second - 8 / 27 * x**7.5 * third
    V0 = x**-1.5
    return BirchMurnaghan(V0, float(polynomial(x)), V0 * d2 * EV_PER_A3_GPa, -1 - V0 * d3 / d2)


def n_volumes(volume: Float) -> int:
    """How many of these volumes (Å^3) differ."""
    return len(np.unique(np.round(volume, 5)))


def delta_eV(one: BirchMurnaghan, other: BirchMurnaghan) -> float:
    """RMS difference (eV per atom) of two curves, shifted to the same minimum, within ±6 % of their mean V0.

    Source
    ------
    Δ gauge: Lejaeghere et al., doi:10.1080/10408436.2013.772503, eq. 1; the range around the mean volume as in its
    ``calcDelta.py``.
    """
    nodes, weights = np.polynomial.legendre.leggauss(32)
    volume = (one.V0 + other.V0) / 2 * (1 + DELTA_RANGE * nodes)
    difference = (one.energy(volume) - one.E0) - (other.energy(volume) - other.E0)
    return float(np.sqrt(weights @ difference**2 / 2))


def energy_volume_curves(potential: Potential, items: Sequence[Labeled | Imported]) -> dict[str, Any]:
    """Curves of every crystal that is there at five volumes or more (isotropic strain), of model and reference.

    Returns
    -------
    dict
        JSON data. `structures`, one entry each: `formula`, `n_atoms`, `indices` (places in `items`),
        `volumes_A3_per_atom`, `reference_eV_per_atom`, `model_eV_per_atom` (the ensemble's mean), ascending in volume;
        `reference_fit`, `model_fit` with `V0_A3_per_atom`, `E0_eV_per_atom`, `B0_GPa`, `B_prime`,
        `fit_rmse_meV_per_atom`, `minimum_in_range`; `difference` with the same four (model − reference) and
        `V0_percent`; `delta_meV_per_atom`, see `delta_eV`. Where a fit is not possible it is None and `problem` says
        why. `not_fitted`: crystals with 2 to 4 volumes, with their `reason`. `n_other`: frames that belong to no curve.
    """
    labelled = [
        (i, Labeled(item.frame, item.label)) for i, item in enumerate(items) if item.label is not None
    ]
    groups = same_structures([item.frame for _, item in labelled])
    structures, rejected = [], []
    for group in groups:
        members = sorted(
            (labelled[g] for g in group), key=lambda pair: abs(np.linalg.det(pair[1].frame.cell))
        )
        frames = [item.frame for _, item in members]
        volume = np.array([abs(np.linalg.det(frame.cell)) / len(frame) for frame in frames])
        about = {"formula": frames[0].formula, "n_atoms": len(frames[0]), "indices": [i for i, _ in members]}
        if (n := n_volumes(volume)) < MIN_VOLUMES:
            if n > 1:  # else the same frame, again
                rejected.append({**about, "reason": TOO_FEW.format(n)})
            continue
        reference = np.array([item.label.energy / len(item.frame) for _, item in members])
        model = potential.predict(frames).energy.mean(0) / len(frames[0])
        structures.append({**about, **_comparison(volume, reference, model)})
    in_groups = sum(len(entry["indices"]) for entry in (*structures, *rejected))
    found: dict[str, Any] = as_json(
        {"structures": structures, "not_fitted": rejected, "n_other": len(items) - in_groups}
    )
    return found


def _comparison(volume: Float, reference: Float, model: Float) -> dict[str, Any]:
    """Both curves of one structure, their fits and how far these are apart."""
    found: dict[str, Any] = {
        "volumes_A3_per_atom": volume,
        "reference_eV_per_atom": reference,
        "model_eV_per_atom": model,
        **dict.fromkeys(("reference_fit", "model_fit", "difference", "delta_meV_per_atom", "problem")),
    }
    fits: dict[str, BirchMurnaghan] = {}
    problems = []
    for name, energy in (("reference", reference), ("model", model)):
        try:
            fits[name] = fit_birch_murnaghan(volume, energy)
            found[f"{name}_fit"] = _described(fits[name], volume, energy)
        except DataError as error:
            problems.append(f"{name}: {error}")
    if problems:
        return {**found, "problem": "; ".join(problems)}
    is_of, should_be = found["model_fit"], found["reference_fit"]
    keys = ("V0_A3_per_atom", "E0_eV_per_atom", "B0_GPa", "B_prime")
    found["difference"] = {key: is_of[key] - should_be[key] for key in keys}
    found["difference"]["V0_percent"] = 100 * (fits["model"].V0 / fits["reference"].V0 - 1)
    found["delta_meV_per_atom"] = 1000 * delta_eV(fits["model"], fits["reference"])
    return found


def _described(fit: BirchMurnaghan, volume: Float, energy: Float) -> dict[str, Any]:
    residual = fit.energy(volume) - energy
    return {
        "V0_A3_per_atom": fit.V0,
        "E0_eV_per_atom": fit.E0,
        "B0_GPa": fit.B0,
        "B_prime": fit.B_prime,
        "fit_rmse_meV_per_atom": 1000 * float(np.sqrt(np.mean(residual**2))),
        "minimum_in_range": bool(volume.min() <= fit.V0 <= volume.max()),
    }


def same_structures(frames: Sequence[Frame]) -> list[list[int]]:
    """Groups of two or more frames that are one crystal at several volumes, each as ascending places in `frames`.

    The same atoms in the same order, fractional coordinates (apart from a common shift) and the shape of the cell
    (apart from a rotation) equal within `SAME`. Frames that are not periodic in all directions are in no group.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    by_atoms: dict[tuple[Any, ...], list[int]] = {}
    for i, frame in enumerate(frames):
        if frame.pbc.all():
            key = (frame.numbers.tobytes(), frame.charge, frame.multiplicity)
            by_atoms.setdefault(key, []).append(i)
    groups = []
    for places in by_atoms.values():
        points = np.array([_shape(frames[i]) for i in places])
        pairs = cKDTree(points).query_pairs(SAME, p=np.inf, output_type="ndarray")
        graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(places), len(places)))
        _, which = connected_components(graph, directed=False)
        groups += [[places[j] for j in np.flatnonzero(which == g)] for g in range(which.max() + 1)]
    return sorted(group for group in groups if len(group) > 1)


def _shape(frame: Frame) -> Float:
    """What isotropic strain, rotation and a common shift leave as it is: metric tensor, fractional coordinates.

    Fractions are on a circle, so that 0 and 1 are the same; a small change of one is as large there.
    """
    volume = np.linalg.det(frame.cell)
    metric = frame.cell @ frame.cell.T / abs(volume) ** (2 / 3)
    fractions = frame.positions @ np.linalg.inv(frame.cell)
    angle = 2 * np.pi * (fractions - fractions[0]).ravel()
    circle = np.concatenate([np.cos(angle), np.sin(angle)]) / (2 * np.pi)
    return np.concatenate([metric[np.triu_indices(3)], circle, [np.sign(volume)]])


def strained(frame: Frame, volumes: Sequence[float] = VOLUMES) -> list[Frame]:
    """The frame strained isotropically to these fractions of its volume, fractional coordinates unchanged.

    Raises
    ------
    DataError
        The frame is not periodic in all directions.
    """
    if not frame.pbc.all():
        raise DataError(f"frame {frame.id[:12]} is not a crystal: it has no volume")
    return [frame.moved(frame.positions * v ** (1 / 3), frame.cell * v ** (1 / 3)) for v in volumes]


def labelled_curve(
    labeler: Labeler,
    frame: Frame,
    workdir: Path,
    resources: Resources,
    volumes: Sequence[float] = VOLUMES,
) -> tuple[list[Labeled], list[str]]:
    """The strained cells of a crystal with labels made here, and what was said of those that have none.

    Raises
    ------
    DataError
        The frame is not periodic in all directions.
    LabelError
        Of policy ``pause``: no frame can be labelled here.
    """
    items, failures = [], []
    for number, cell in enumerate(strained(frame, volumes)):
        folder = workdir / f"volume_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            items.append(Labeled(cell, label(labeler, cell, folder, resources)))
        except LabelError as error:
            if error.policy == "pause":
                raise
            failures.append(f"{volumes[number]:.3f} of the volume: {error}")
    return items, failures
