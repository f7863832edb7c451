"""Reference labels under the names that others give them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from alfw.core.errors import DataError

# What people put before the names of reference values, to keep them apart from those of a potential.
PREFIXES = ("dft_", "DFT_", "REF_", "ref_")
SAME_eV = 1e-6  # two energies of one frame that differ by less are one


class ReferenceKeys:
    """Finds the labels of ASE Atoms, makes them the results of their calculator, and counts where they were.

    Names that say that they are references (``dft_energy``, ``REF_forces`` …) win over plain ones (``energy``,
    ``forces``, the results of a calculator); given names win over all.

    Attributes
    ----------
    energy, forces : str or None
        The only names to look for.
    taken : Counter of (str, str)
        Names of energy and forces, and of how many frames.
    """

    def __init__(self, energy: str | None = None, forces: str | None = None) -> None:
        self.energy, self.forces = energy, forces
        self.taken: Counter[tuple[str, str]] = Counter()

    def __call__(self, atoms: Atoms) -> None:
        """Give `atoms` a calculator with the labels found; without both energy and forces it is left as it is.

        Raises
        ------
        DataError
            It cannot be told to which of two energies the forces belong.
        """
        plain = _plain(atoms)
        named = {**atoms.info, **atoms.arrays}
        energy = _first(named, plain, "energy", self.energy)
        forces = _first(named, plain, "forces", self.forces)
        if energy is None or forces is None:
            return
        if energy in named and forces not in named and self.energy is None:
            _check_one_energy(energy, float(named[energy]), plain)
        self.taken[energy, forces] += 1
        values = dict(plain) if energy in plain or forces in plain else {}
        for name in ("stress", "dipole"):
            found = _first(named, {}, name, None)
            values = values | ({name: np.asarray(named[found], float)} if found else {})
        values |= {"energy": float({**plain, **named}[energy])}
        values |= {"forces": np.asarray({**plain, **named}[forces], float)}
        if energy in named:
            values.pop("free_energy", None)
        atoms.calc = SinglePointCalculator(atoms, **values)


def _plain(atoms: Atoms) -> dict[str, Any]:
    """What a calculator left, as it stands in the file; `free_energy` where there is one."""
    results: dict[str, Any] = dict(atoms.calc.results) if atoms.calc is not None else {}
    if results.get("free_energy") is not None:
        results["energy"] = results["free_energy"]
    return {key: value for key, value in results.items() if value is not None}


def _first(named: dict[str, Any], plain: dict[str, Any], what: str, given: str | None) -> str | None:
    """The name under which a frame has this value, or None."""
    if given is not None:
        return given if given in named or given in plain else None
    names = [prefix + what for prefix in PREFIXES if prefix + what in named]
    return names[0] if names else what if what in plain else None


def _check_one_energy(name: str, energy: float, plain: dict[str, Any]) -> None:
    """Forces without a name of their own belong to the plain energy, which has to be the same."""
    other = plain.get("energy")
    if other is not None and abs(float(other) - energy) > SAME_eV:
        raise DataError(
            f"{name} {energy:.6f} eV and energy {float(other):.6f} eV, but one set of forces: say which energy"
            " they belong to"
        )
