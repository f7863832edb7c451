"""Any ensemble as an ASE calculator, so that users' own scripts run on what a campaign trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.uncertainty import force_std, frame_force_std
from alfw.models.ensemble import load_models


class EnsembleCalculator(Calculator):
    """Mean of an ensemble, and how far its members are apart.

    `results` has, beside ASE's energy, free_energy, forces, stress and dipole (where the model has them):

    | key | |
    |---|---|
    | force_std | float, eV/Å: max over atoms of sqrt(mean_k |F_k − mean F|²); NaN for one member |
    | force_std_per_atom | (n,) eV/Å |
    | energy_std | float, eV: over members |
    | member_energies, member_forces | (K,) eV, (K, n, 3) eV/Å |
    """

    implemented_properties: ClassVar[list[str]] = [
        *("energy", "free_energy", "forces", "stress", "dipole"),
        *("force_std", "force_std_per_atom", "energy_std", "member_energies", "member_forces"),
    ]

    def __init__(self, potential: Potential, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all properties of `atoms`; ASE calls it."""
        super().calculate(atoms, properties, system_changes)
        frame = Frame.from_atoms(self.atoms)
        said = self.potential.predict([frame])
        forces, energy = said.forces[0], said.energy[:, 0]
        self.results = {
            "energy": float(energy.mean()),
            "free_energy": float(energy.mean()),
            "forces": forces.mean(0),
            "force_std": frame_force_std(forces, frame.free),
            "force_std_per_atom": force_std(forces),
            "energy_std": float(energy.std()) if len(energy) > 1 else float("nan"),
            "member_energies": energy,
            "member_forces": forces,
        }
        stress = None if said.stress is None else said.stress[0]
        if stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress.mean(0))
        if said.dipole is not None:
            self.results["dipole"] = said.dipole[:, 0].mean(0)
        lacking = [name for name in properties or () if name not in self.results]
        if lacking:
            raise PropertyNotImplementedError(f"the model gives no {', '.join(lacking)} of this structure")


def calculator(path: str | Path) -> EnsembleCalculator:
    """An ASE calculator over the ensemble in this folder (as ``alfw export ensemble`` writes it), or a file of weights.

    Raises
    ------
    TrainingError
        There is no ensemble, or it cannot be read.
    """
    folder = Path(path)
    if not folder.exists():
        raise TrainingError(f"{folder}: no such folder; alfw export ensemble NAME -o {folder} writes one")
    return EnsembleCalculator(load_models([folder]))
