"""One geometry and what identifies it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, chemical_symbols
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.ids import content_id

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
DECIMALS = 6  # positions and cell are rounded to 1e-6 Å, so that an id survives a round trip through text


@dataclass(frozen=True, eq=False)
class Frame:
    """One geometry; arrays are read-only and rounded, so equal content means equal id.

    Attributes
    ----------
    numbers : (n,) int64
        Atomic numbers.
    positions : (n, 3) float64, Å
    cell : (3, 3) float64, Å
        Rows are lattice vectors; zero where not periodic.
    pbc : (3,) bool
    charge : int, e
    multiplicity : int
        2S + 1.
    fixed : (n,) bool or None
        Atoms that samplers keep still and that force_std and RMSE leave out.
    moments : (n,) float64 or None, μ_B
        Initial magnetic moments.
    masses : (n,) float64, amu
        Not part of the identity: an isotope moves differently, its energy surface is the same.
    """

    numbers: Int
    positions: Float
    cell: Float = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: Bool = field(default_factory=lambda: np.zeros(3, bool))
    charge: int = 0
    multiplicity: int = 1
    fixed: Bool | None = None
    moments: Float | None = None
    masses: Float | None = None

    def __post_init__(self) -> None:
        set_field = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (frozen)
        numbers = _readonly(self.numbers, np.int64, (-1,))
        n = len(numbers)
        if n == 0:
            raise DataError("frame without atoms")
        pbc = _readonly(self.pbc, np.bool_, (3,))
        positions = np.round(np.asarray(self.positions, np.float64), DECIMALS) + 0.0
        cell = np.round(np.asarray(self.cell, np.float64), DECIMALS) + 0.0
        if positions.shape != (n, 3) or not np.isfinite(positions).all() or not np.isfinite(cell).all():
            raise DataError(
                f"frame of {n} atoms: positions must be ({n}, 3) finite numbers and the cell finite"
            )
        cell = cell * pbc[:, None]
        if pbc.all() and abs(np.linalg.det(cell)) < 1e-3:
            raise DataError("periodic frame with a cell of zero volume")
        set_field("numbers", numbers)
        set_field("positions", _readonly(positions, np.float64, (n, 3)))
        set_field("cell", _readonly(cell, np.float64, (3, 3)))
        set_field("pbc", pbc)
        set_field("charge", int(self.charge))
        set_field("multiplicity", int(self.multiplicity))
        fixed = (
            None if self.fixed is None or not np.any(self.fixed) else _readonly(self.fixed, np.bool_, (n,))
        )
        set_field("fixed", fixed)
        moments = None if self.moments is None or not np.any(self.moments) else self.moments
        set_field("moments", None if moments is None else _readonly(moments, np.float64, (n,)))
        masses = atomic_masses[numbers] if self.masses is None else self.masses
        set_field("masses", _readonly(masses, np.float64, (n,)))

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def id(self) -> str:
        """SHA-256 of numbers, positions, cell, pbc, charge, multiplicity, fixed and moments."""
        content: dict[str, Any] = {
            "numbers": self.numbers,
            "positions": self.positions,
            "cell": self.cell,
            "pbc": self.pbc,
            "charge": self.charge,
            "multiplicity": self.multiplicity,
        }
        if self.fixed is not None:
            content["fixed"] = self.fixed
        if self.moments is not None:
            content["moments"] = self.moments
        return content_id("frame", content)

    @property
    def periodic(self) -> bool:
        """Whether any direction is periodic."""
        return bool(self.pbc.any())

    @cached_property
    def formula(self) -> str:
        """Formula in order of atomic number, e.g. ``H6C2O``."""
        species, counts = np.unique(self.numbers, return_counts=True)
        return "".join(
            chemical_symbols[z] + (str(c) if c > 1 else "") for z, c in zip(species, counts, strict=True)
        )

    @property
    def free(self) -> Bool:
        """(n,) bool: atoms that may move and that count in force_std and RMSE."""
        return np.ones(len(self), bool) if self.fixed is None else ~self.fixed

    def moved(self, positions: Float, cell: Float | None = None) -> Self:
        """The same atoms at other positions (Å), and in another cell if one is given."""
        return replace(self, positions=positions, cell=self.cell if cell is None else cell)

    def to_atoms(self) -> Atoms:
        """ASE Atoms; charge and multiplicity in `info`, fixed atoms as a constraint."""
        from ase.constraints import FixAtoms

        atoms = Atoms(self.numbers, self.positions, cell=self.cell, pbc=self.pbc, masses=self.masses)
        atoms.info.update(charge=self.charge, multiplicity=self.multiplicity)
        if self.moments is not None:
            atoms.set_initial_magnetic_moments(self.moments)
        if self.fixed is not None:
            atoms.set_constraint(FixAtoms(mask=self.fixed))
        return atoms

    @classmethod
    def from_atoms(cls, atoms: Atoms, charge: int = 0, multiplicity: int = 1) -> Self:
        """Frame of ASE Atoms; its own `info["charge"]`, `info["multiplicity"]` win over the defaults."""
        from ase.constraints import FixAtoms

        fixed = np.zeros(len(atoms), bool)
        for constraint in atoms.constraints:
            if isinstance(constraint, FixAtoms):
                fixed[constraint.index] = True
            else:
                raise DataError(f"constraint {type(constraint).__name__} is not supported: only FixAtoms is")
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=np.array(atoms.cell),
            pbc=atoms.pbc,
            charge=int(atoms.info.get("charge", charge)),
            multiplicity=int(atoms.info.get("multiplicity", multiplicity)),
            fixed=fixed,
            moments=atoms.get_initial_magnetic_moments(),
            masses=atoms.get_masses(),
        )


def _readonly(value: Any, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A read-only C-ordered copy of `value` in this dtype and shape."""
    array = np.array(value, dtype=dtype, order="C").reshape(shape)
    array.flags.writeable = False
    return array
