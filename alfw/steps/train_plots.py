"""Pictures of what a trained ensemble says of the valid side, beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from alfw.core.protocols import HasElectrostatics, Potential
from alfw.core.records import Labeled
from alfw.core.registry import private
from alfw.io.files import write_file
from alfw.models.ensemble import load_ensemble

PLOTS = "plots"


def parity_plots(folder: Path, items: Sequence[Labeled], n_esp: int) -> list[Path]:
    """PNG files in ``plots``: predicted against labelled energies, forces, and dipoles and potentials where there.

    Parameters
    ----------
    folder : Path
        Of the ensemble.
    items : sequence of Labeled
    n_esp : int
        Of how many molecules the potential is shown.

    Raises
    ------
    PluginError
        Matplotlib is not installed.
    """
    drawing = private("alfw.io._plots", "plots")
    potential = load_ensemble(folder)
    said = potential.predict([item.frame for item in items])
    energies = [np.array([item.label.energy / len(item.frame) for item in items])]
    energies.append(said.energy.mean(0) / [len(item.frame) for item in items])
    forces = [np.concatenate([item.label.forces.ravel() for item in items])]
    forces.append(np.concatenate([f.mean(0).ravel() for f in said.forces]))
    symbols = [chemical_symbols[z] for item in items for z in np.repeat(item.frame.numbers, 3)]
    pictures = {
        "energy": drawing.parity({"energy per atom": (*energies, None)}, "energy", "eV/atom"),
        "forces": drawing.parity({"force components": (*forces, symbols)}, "force", "eV/Å"),
    }
    for name, unit, panels in (
        ("dipole", "e·Å", _dipoles(potential, items)),
        ("esp", "V", _potentials(potential, items, n_esp)),
    ):
        if panels:
            pictures[name] = drawing.parity(panels, name, unit)
    for name, data in pictures.items():
        write_file(folder / PLOTS / f"{name}.png", data)
    return [folder / PLOTS / f"{name}.png" for name in pictures]


def _dipoles(potential: Potential, items: Sequence[Labeled]) -> dict[str, Any]:
    """Components of atomic and of distributed charges, by panel."""
    labels = [(item.frame, item.label.dipole) for item in items if item.label.dipole is not None]
    if not labels or not isinstance(potential, HasElectrostatics):
        return {}
    said = potential.dipoles([frame for frame, _ in labels])
    known = np.array([dipole for _, dipole in labels]).ravel()
    return {
        f"{whose} charges": (known, dipole.mean(0).ravel(), None)
        for whose, dipole in zip(("atomic", "distributed"), said, strict=True)
    }


def _potentials(potential: Potential, items: Sequence[Labeled], count: int) -> dict[str, Any]:
    """Of the first molecules that have one, of distributed charges, by panel."""
    if not isinstance(potential, HasElectrostatics):
        return {}
    panels = {}
    for item in [item for item in items if item.label.esp is not None][:count]:
        said = potential.esp(item.frame, np.asarray(item.label.esp_points))[1].mean(0)
        panels[f"{item.frame.formula} {item.frame.id[:8]}"] = (np.asarray(item.label.esp), said, None)
    return panels
