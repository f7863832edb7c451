"""Relaxations: how far the model's minimum is from the minimum of the reference that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms

from alfw.core.errors import AlfwError, LabelError, SamplingError
from alfw.core.frame import Float, Frame
from alfw.core.metrics import as_json
from alfw.core.protocols import Labeler, Potential, label
from alfw.core.records import Label, Labeled, Resources
from alfw.core.superposition import rotation
from alfw.core.units import EV_PER_A3_GPa
from alfw.io.imported import Imported
from alfw.steps.validation.bonds import Bond, bonds
from alfw.steps.validation.curves import same_structures


@dataclass(frozen=True)
class Relaxations:
    """What is a minimum of the reference, and how the model relaxes from there.

    Attributes
    ----------
    fmax_eV_per_A : float
        Largest force on an atom at the model's minimum.
    max_steps : int
    optimizer : {"BFGS", "FIRE"}
        Of ASE.
    reference_fmax_eV_per_A : float or None
        Labels whose largest force is at most this are minima; None = all frames are given as minima.
    reference_stress_GPa : float
        The cell is relaxed, too, where the largest component of the label's stress is at most this (or all frames are
        given as minima), and the model has stresses. Else it is kept: it may be at rest at another pressure.
    max_frames : int
        Of more minima, as many at even distances in their order.
    """

    fmax_eV_per_A: float = 0.01
    max_steps: int = 500
    optimizer: Literal["BFGS", "FIRE"] = "BFGS"
    reference_fmax_eV_per_A: float | None = 0.05
    reference_stress_GPa: float = 0.5
    max_frames: int = 20

    def run(
        self,
        potential: Potential,
        items: Sequence[Labeled | Imported],
        labeler: Labeler | None = None,
        workdir: Path = Path(),
        resources: Resources = Resources(),  # noqa: B008  (frozen)
        progress: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Relax the minima of the reference among `items` with the model.

        Parameters
        ----------
        labeler : Labeler or None
            The reference: asked for its energy and forces at each of the model's minima, in folders of `workdir`.

        Returns
        -------
        dict
            JSON data. `n_minima` of the reference, `n_relaxed` of them, `n_converged`, `n_connectivity_changed`,
            `rmsd_A`, `max_displacement_A`, `max_bond_change_A`, `volume_change_percent` (each with `median` and
            `largest` of its magnitude over what converged), and `structures`, one each: see `compared`, and
            `index` (place in `items`), `formula`, `n_atoms`, `cell`, `converged`, `n_steps`,
            `energy_change_eV_per_atom` (of the model), `max_force_eV_per_A` (of the model, at the end), `problem`;
            where there is a labeler `reference_energy_eV_per_atom` and `reference_max_force_eV_per_A`: its energy above
            that of its own minimum, and its largest force, both at the model's minimum.
        """
        minima = self.minima(items)
        chosen = np.unique(np.linspace(0, len(minima) - 1, min(len(minima), self.max_frames)).round())
        rows = []
        for number, (index, frame, known) in enumerate(minima[int(i)] for i in chosen):
            row, end = self._relaxed(potential, frame, known)
            if labeler is not None and end is not None:
                row |= _judged(labeler, frame, known, end, workdir / f"relaxed_{index}", resources)
            rows.append({"index": index, "formula": frame.formula, "n_atoms": len(frame), **row})
            if progress is not None:
                progress(f"relaxation {number + 1}/{len(chosen)}: {frame.formula}")
        found: dict[str, Any] = as_json({"n_minima": len(minima), **_summary(rows), "structures": rows})
        return found

    def minima(self, items: Sequence[Labeled | Imported]) -> list[tuple[int, Frame, Label]]:
        """The minima of the reference, with their places in `items`.

        The strained cells of a crystal are none, though symmetry may keep all their atoms at rest: of several volumes
        only those count whose cell is at rest, too.
        """
        found = [(i, item.frame, item.label) for i, item in enumerate(items) if item.label is not None]
        series = {g for group in same_structures([frame for _, frame, _ in found]) for g in group}
        return [
            one
            for g, one in enumerate(found)
            if self._atoms_at_rest(*one[1:]) and (g not in series or self._cell_at_rest(*one[1:]))
        ]

    def _atoms_at_rest(self, frame: Frame, known: Label) -> bool:
        """Whether the label's forces vanish on the atoms that may move, and there is something to relax."""
        if not frame.free.any() or (len(frame) == 1 and not self._cell_at_rest(frame, known)):
            return False
        largest = float(np.linalg.norm(known.forces[frame.free], axis=1).max())
        return self.reference_fmax_eV_per_A is None or largest <= self.reference_fmax_eV_per_A

    def _cell_at_rest(self, frame: Frame, known: Label) -> bool:
        """Whether the label's stress vanishes in a cell that may be relaxed."""
        if not frame.pbc.all() or frame.fixed is not None:
            return False
        if self.reference_fmax_eV_per_A is None or known.stress is None:
            return self.reference_fmax_eV_per_A is None
        return float(np.abs(known.stress).max()) * EV_PER_A3_GPa <= self.reference_stress_GPa

    def _relaxed(
        self, potential: Potential, frame: Frame, known: Label
    ) -> tuple[dict[str, Any], Frame | None]:
        """What became of one minimum, and where it ended."""
        row: dict[str, Any] = {"cell": "none", "converged": False, "n_steps": 0, "problem": None}
        try:
            said = potential.predict([frame])
            has_stress = said.stress is not None and said.stress[0] is not None
            moves_cell = has_stress and self._cell_at_rest(frame, known)
            if frame.periodic:
                row["cell"] = "relaxed" if moves_cell else "kept"
            atoms = frame.to_atoms()
            row["n_steps"], row["converged"] = self._minimise(potential, atoms, moves_cell)
            end = frame.moved(atoms.positions, np.array(atoms.cell))
            last = potential.predict([end])
        except AlfwError as error:
            return {**row, "problem": str(error)}, None
        if not row["converged"]:
            row["problem"] = f"not converged in {self.max_steps} steps"
        change = (last.energy.mean(0)[0] - said.energy.mean(0)[0]) / len(frame)
        forces = last.forces[0].mean(0)[frame.free]
        row["energy_change_eV_per_atom"] = change
        row["max_force_eV_per_A"] = np.linalg.norm(forces, axis=1).max()
        row |= compared(frame, end)
        if not moves_cell:
            row["volume_change_percent"] = None
        return row, end

    def _minimise(self, potential: Potential, atoms: Atoms, moves_cell: bool) -> tuple[int, bool]:
        """Relax `atoms` in place; the number of steps and whether the forces got small enough.

        Raises
        ------
        SamplingError
            A force is not finite.
        """
        from ase import optimize
        from ase.filters import FrechetCellFilter

        from alfw.models.calculator import EnsembleCalculator

        atoms.calc = EnsembleCalculator(potential)
        target = FrechetCellFilter(atoms) if moves_cell else atoms
        optimizer = getattr(optimize, self.optimizer)(target, logfile=None)
        converged = False
        for done in optimizer.irun(fmax=self.fmax_eV_per_A, steps=self.max_steps):
            converged = bool(done)
            if not np.isfinite(atoms.get_forces()).all():
                raise SamplingError(f"a force of the model is not finite after {optimizer.nsteps} steps")
        return optimizer.nsteps, converged


def compared(start: Frame, end: Frame) -> dict[str, Any]:
    """How far two geometries of the same atoms, in the same order, are apart.

    Returns
    -------
    dict
        `rmsd_A`, `max_displacement_A` of the atoms that may move: of a molecule after superposition, of a periodic
        frame at the fractional coordinates of `end` in the cell of `start`, a common shift taken out; where atoms are
        fixed just as they are. `max_bond_change_A` over the bonds of `start` (None without bonds), `bonds_broken`,
        `bonds_formed` as pairs of atoms, `connectivity_changed`; `volume_change_percent` (None: no cell).
    """
    distance = np.linalg.norm(displacements(start, end), axis=1)[start.free]
    before, after = bonds(start), bonds(end)
    change = _lengths(end, sorted(before)) - _lengths(start, sorted(before))
    volume = abs(np.linalg.det(end.cell) / np.linalg.det(start.cell)) if start.pbc.all() else None
    return {
        "rmsd_A": np.sqrt(np.mean(distance**2)),
        "max_displacement_A": distance.max(),
        "max_bond_change_A": np.abs(change).max() if before else None,
        "bonds_broken": [bond[:2] for bond in sorted(before - after)],
        "bonds_formed": [bond[:2] for bond in sorted(after - before)],
        "connectivity_changed": before != after,
        "volume_change_percent": None if volume is None else 100 * (volume - 1),
    }


def displacements(start: Frame, end: Frame) -> Float:
    """(n, 3) float64, Å: see `compared`."""
    if start.periodic:
        inverse = np.linalg.pinv(start.cell), np.linalg.pinv(end.cell)
        shift = end.positions @ inverse[1] - start.positions @ inverse[0]
        moved = np.asarray((shift - np.round(shift)) @ start.cell, np.float64)
        return moved if start.fixed is not None else moved - moved.mean(0)
    if start.fixed is not None:
        return np.asarray(end.positions - start.positions, np.float64)
    turn = rotation(end.positions, start.positions)
    turned = (end.positions - end.positions.mean(0)) @ turn.T
    return np.asarray(turned - (start.positions - start.positions.mean(0)), np.float64)


def _lengths(frame: Frame, keys: Sequence[Bond]) -> Float:
    """(M,) Å: lengths of these bonds in this geometry."""
    i, j, *shift = np.array(keys, int).reshape(-1, 5).T
    vectors = frame.positions[i] - frame.positions[j] + np.stack(shift, 1) @ frame.cell
    return np.asarray(np.linalg.norm(vectors, axis=1), np.float64)


def _judged(
    labeler: Labeler, frame: Frame, known: Label, end: Frame, workdir: Path, resources: Resources
) -> dict[str, Any]:
    """What the reference says at the model's minimum."""
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        there = label(labeler, end, workdir, resources)
    except LabelError as error:
        if error.policy == "pause":
            raise
        return {"problem": f"reference at the model's minimum: {error}"}
    return {
        "reference_energy_eV_per_atom": (there.energy - known.energy) / len(frame),
        "reference_max_force_eV_per_A": np.linalg.norm(there.forces[frame.free], axis=1).max(),
    }


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts, and medians and extremes of what converged."""
    good = [row for row in rows if row["converged"]]
    found: dict[str, Any] = {
        "n_relaxed": len(rows),
        "n_converged": len(good),
        "n_connectivity_changed": sum(row["connectivity_changed"] for row in good),
    }
    for key in ("rmsd_A", "max_displacement_A", "max_bond_change_A", "volume_change_percent"):
        values = np.abs([row[key] for row in good if row[key] is not None])
        found[key] = {"median": np.median(values), "largest": values.max()} if len(values) else None
    return found
