"""A PhysNet + DCMNet checkpoint of the mmml project as an ASE calculator: of an external model, see the .yaml file.

Run by the interpreter that has mmml; alfw need not be there. Its PYTHONPATH needs the folder of this file, and
mmml/examples/co2/dcmnet_physnet_train, where trainer.py is.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import trainer
from ase import Atoms
from ase.calculators.calculator import all_changes
from mmml.calculators.simple_inference import SimpleInferenceCalculator


class JointCalculator(SimpleInferenceCalculator):
    """mmml's own calculator, with the energies of free atoms that its trainer had subtracted."""

    def __init__(self, *args: Any, subtracted_eV: dict[str, float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subtracted_eV = subtracted_eV

    def calculate(self, atoms: Atoms, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Energy in eV, forces in eV/Å, dipole in e·Å, charges in e; ASE calls it."""
        super().calculate(atoms, properties, system_changes)
        free = sum(self.subtracted_eV.get(symbol, 0.0) for symbol in atoms.symbols)
        self.results["energy"] = float(self.results["energy"]) + free


def calculator(
    weights: str, dipole: str = "dcmnet", subtracted_eV: dict[str, float] | None = None
) -> JointCalculator:
    """The calculator of an NPZ that `alfw convert checkpoint --trust` wrote.

    `dipole`: of the distributed charges (dcmnet), or of the atomic ones (physnet). `subtracted_eV`: by element.
    """
    with np.load(weights, allow_pickle=False) as file:
        header = json.loads(str(file["header"]))
        arrays = {name: file[name] for name in file.files if name != "header"}
    configs = header["configs"]
    network = getattr(trainer, header["network"])(**configs, mix_coulomb_energy=header["mix_coulomb_energy"])
    cutoff = max(float(config.get("cutoff", 0.0)) for config in configs.values())
    return JointCalculator(
        network,
        tree(arrays),
        cutoff=cutoff,
        use_dcmnet_dipole=dipole == "dcmnet",
        subtracted_eV=subtracted_eV or {},
    )


def tree(arrays: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries of arrays that are named by their path: ``params/physnet/Dense_0/0+/kernel``."""
    root: dict[str, Any] = {}
    for path, array in arrays.items():
        *above, last = path.split("/")
        node = root
        for key in above:
            node = node.setdefault(key, {})
        node[last] = array
    return root
