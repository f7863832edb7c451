"""EMT, wrong in a way that is known exactly, or broken."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT


class Swollen(Calculator):
    """E(x) = E_EMT(x / factor): every minimum is the one of EMT, longer by that factor in each direction."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        smaller = self.atoms.copy()
        smaller.set_constraint()
        smaller.set_cell(smaller.cell / self.factor)
        smaller.positions /= self.factor
        smaller.calc = EMT()
        energy = smaller.get_potential_energy()
        self.results = {"energy": energy, "free_energy": energy, "forces": smaller.get_forces() / self.factor}
        if self.atoms.pbc.all():
            self.results["stress"] = smaller.get_stress() / self.factor**3


class Broken(EMT):
    """EMT whose forces are not finite once an atom has gone further than `reach_A` from the first geometry."""

    def __init__(self, reach_A: float) -> None:
        super().__init__()
        self.reach_A = reach_A
        self.first: np.ndarray | None = None

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        self.first = self.atoms.positions.copy() if self.first is None else self.first
        if np.abs(self.atoms.positions - self.first).max() > self.reach_A:
            self.results["forces"] = np.full_like(self.results["forces"], np.nan)


class Failing(Broken):
    """The same, but it gives up there."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        if np.isnan(self.results["forces"]).any():
            raise RuntimeError("SCF not converged")
