"""A calculator whose weights are a file: the energy it was told, no forces."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator


class FromFile(Calculator):
    """The same energy for everything."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, path: str) -> None:
        super().__init__()
        with open(path) as file:
            self.energy = json.load(file)["energy"]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = ()) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": self.energy, "forces": np.zeros((len(atoms), 3))}
