"""Molecules or atoms at random places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from ase.data import atomic_numbers
from ase.formula import Formula
from ase.geometry import cellpar_to_cell
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from alfw.core.errors import SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Float, Frame
from alfw.core.ids import derive_seed
from alfw.core.protocols import Potential
from alfw.core.records import Resources
from alfw.samplers._packing import Packing, Place
from alfw.samplers._structures import check_elements, check_starts, record

AMU_PER_A3_g_PER_cm3 = 1.66053906660  # CODATA 2018
FRESH_STARTS = 20  # of a frame whose last bodies find no room
# Closest distances over the sum of covalent radii: of molecules a short hydrogen bond, of atoms a compressed bond.
BETWEEN_MOLECULES, BETWEEN_ATOMS = 1.8, 0.8
FLATTEST = 0.4  # volume of a cell over that of a box with its edges


class PlacementsSampler(BaseModel):
    """Random structures: molecules in a box or a cluster, or atoms in a crystal cell. No potential is asked.

    Molecules are the starts, rigid, at uniform places and orientations. Atoms are at uniform places in a cell of random
    shape. One body after the other is placed; a place too close to those before is drawn again.

    Attributes
    ----------
    count : int
        Frames.
    molecules : int, or {formula: int}, or None
        How many in a frame: any of the starts at random, or so many of each formula.
    composition : {symbol: int} or None
        Atoms in a crystal cell, e.g. ``{Cu: 3, Au: 1}``; the starts are not looked at.
    box_A : float, three floats or None
        Edges of the box that molecules are put in.
    density_g_cm3 : float or None
        Or its density; the box is a cube.
    radius_A : float or None
        Or the radius of a cluster: no centre of a molecule is farther from the origin.
    pbc : bool
        Whether the box is periodic; a cluster never is.
    volume_A3_per_atom : float, two floats or None
        Of a crystal cell; uniform between two values.
    min_distance_fraction : float or None
        Closest distance of atoms of different molecules, or of any two atoms of a crystal, over the sum of their
        covalent radii; None = 1.8 between molecules (O···H 1.75 Å), 0.8 between atoms of crystals.
    tries : int
        Places tried for each molecule or atom. Without success the frame is begun anew, at most 20 times.
    charge, multiplicity : int
        Of crystals; molecules bring their own charge and unpaired electrons, which are added up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["random"] = "random"
    count: PositiveInt
    molecules: PositiveInt | dict[str, PositiveInt] | None = None
    composition: dict[str, PositiveInt] | None = None
    box_A: PositiveFloat | tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    density_g_cm3: PositiveFloat | None = None
    radius_A: PositiveFloat | None = None
    pbc: bool = True
    volume_A3_per_atom: PositiveFloat | tuple[PositiveFloat, PositiveFloat] | None = None
    min_distance_fraction: Annotated[float, Field(gt=0.0, lt=5.0)] | None = None
    tries: PositiveInt = 1000
    charge: int = 0
    multiplicity: PositiveInt = 1

    @field_validator("molecules")
    @classmethod
    def _formulas(cls, value: int | dict[str, int] | None) -> int | dict[str, int] | None:
        if isinstance(value, dict):
            if not value:
                raise ValueError("there has to be one molecule at least")
            for formula in value:
                formula_counts(formula)
        return value

    @field_validator("composition")
    @classmethod
    def _elements(cls, value: dict[str, int] | None) -> dict[str, int] | None:
        unknown = [symbol for symbol in value or () if atomic_numbers.get(symbol, 0) == 0]
        if value is not None and (unknown or not value):
            raise ValueError(f"{', '.join(unknown) or 'nothing'} is no element; e.g. {{Cu: 3, Au: 1}}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> PlacementsSampler:
        if (self.molecules is None) == (self.composition is None):
            raise ValueError("give molecules (in a box or a cluster), or composition (of a crystal)")
        room = {"box_A": self.box_A, "density_g_cm3": self.density_g_cm3, "radius_A": self.radius_A}
        given = [name for name, value in room.items() if value is not None]
        if self.molecules is not None and (len(given) != 1 or self.volume_A3_per_atom is not None):
            raise ValueError("molecules need exactly one of box_A, density_g_cm3 and radius_A")
        if self.composition is not None and (given or self.volume_A3_per_atom is None):
            raise ValueError(
                "a composition needs volume_A3_per_atom, and no box_A, density_g_cm3 or radius_A"
            )
        if self.molecules is not None and (self.charge, self.multiplicity) != (0, 1):
            raise ValueError("charge and multiplicity are of crystals; molecules bring their own")
        return self

    def run(
        self,
        potential: Potential,
        starts: Sequence[Frame],
        seed: int,
        workdir: Path,
        resources: Resources,
        progress: Callable[[str], None] | None = None,
    ) -> Exploration:
        """The frames, each a walker of its own; no time, no temperature.

        Raises
        ------
        SamplingError
            No starts, a periodic one, none of a formula asked for, an element that the potential does not know, or no
            room for so much.
        """
        if self.molecules is not None:
            check_starts(self.kind, potential, starts)
        made, tried = [], 0
        for i in range(self.count):
            rng = np.random.default_rng(derive_seed(seed, "random", i))
            for _ in range(FRESH_STARTS):
                tried += 1
                bodies = self._bodies(starts, rng)
                packing, place = self._room(bodies, rng)
                if all(packing.add(body, place, self.tries, rng) for body in bodies):
                    break
            else:
                raise SamplingError(self._jammed(i, len(bodies), packing))
            made.append((self._frame(packing), i, 0))
            check_elements(potential.species, made[-1][0])
        return record(made, {"n_rejected_close": tried - self.count})

    def _bodies(self, starts: Sequence[Frame], rng: np.random.Generator) -> list[Frame]:
        """What is placed, in random order."""
        if self.composition is not None:
            atoms = [([atomic_numbers[symbol]], n) for symbol, n in self.composition.items()]
            bodies = [Frame(np.array(number), np.zeros((1, 3))) for number, n in atoms for _ in range(n)]
        else:
            for frame in starts:
                if frame.periodic:
                    raise SamplingError(
                        f"sampler 'random': frame {frame.id[:12]} ({frame.formula}) is periodic; only molecules can be"
                        " placed, crystals are made of a composition"
                    )
            bodies = [some[rng.integers(len(some))] for some, n in self._kinds(starts) for _ in range(n)]
        return [bodies[i] for i in rng.permutation(len(bodies))]

    def _kinds(self, starts: Sequence[Frame]) -> list[tuple[list[Frame], int]]:
        """The starts of each formula asked for, and how many of them are placed."""
        if not isinstance(self.molecules, Mapping):
            return [(list(starts), self.molecules or 0)]
        kinds = []
        for formula, n in self.molecules.items():
            wanted = formula_counts(formula)
            some = [frame for frame in starts if Counter(frame.numbers.tolist()) == wanted]
            if not some:
                raise SamplingError(
                    f"sampler 'random': no start is a {formula}; there are"
                    f" {', '.join(sorted({frame.formula for frame in starts}))}"
                )
            kinds.append((some, n))
        return kinds

    def _room(self, bodies: Sequence[Frame], rng: np.random.Generator) -> tuple[Packing, Place]:
        """An empty cell or free space, and where in it the centres go."""
        if self.radius_A is not None:
            return Packing(None, self._fraction), ball(self.radius_A)
        if self.volume_A3_per_atom is not None:
            per_atom = np.broadcast_to(self.volume_A3_per_atom, 2)
            cell = random_cell(len(bodies) * rng.uniform(*per_atom), rng)
        elif self.density_g_cm3 is not None:
            mass = sum(float(body.masses.sum()) for body in bodies if body.masses is not None)
            cell = np.eye(3) * (mass * AMU_PER_A3_g_PER_cm3 / self.density_g_cm3) ** (1 / 3)
        else:
            cell = np.diag(np.broadcast_to(np.asarray(self.box_A, float), 3))
        return Packing(cell if self.pbc else None, self._fraction), lambda rng: rng.random(3) @ cell

    @property
    def _fraction(self) -> float:
        if self.min_distance_fraction is not None:
            return self.min_distance_fraction
        return BETWEEN_ATOMS if self.molecules is None else BETWEEN_MOLECULES

    def _frame(self, packing: Packing) -> Frame:
        """The packed bodies as one frame; molecules stay whole. Unpaired electrons are taken as parallel."""
        bodies = packing.bodies
        moments = [np.zeros(len(body)) if body.moments is None else body.moments for body in bodies]
        return Frame(
            numbers=packing.numbers,
            positions=packing.positions,
            cell=np.zeros((3, 3)) if packing.cell is None else packing.cell,
            pbc=np.full(3, packing.cell is not None),
            charge=self.charge + sum(body.charge for body in bodies),
            multiplicity=self.multiplicity + sum(body.multiplicity - 1 for body in bodies),
            moments=np.concatenate(moments),
            masses=np.concatenate([body.masses for body in bodies if body.masses is not None]),
        )

    def _jammed(self, i: int, n: int, packing: Packing) -> str:
        what = "molecules" if self.molecules is not None else "atoms"
        roomier = {
            "density_g_cm3": "a lower density_g_cm3",
            "volume_A3_per_atom": "a larger volume_A3_per_atom",
        }
        way = next((text for name, text in roomier.items() if getattr(self, name) is not None), "more room")
        return (
            f"sampler 'random': no room for all {n} {what} of frame {i} ({len(packing.bodies)} were placed) in"
            f" {FRESH_STARTS} times {self.tries} tries; choose {way},"
            f" or a min_distance_fraction below {self._fraction:g}"
        )


def formula_counts(formula: str) -> Counter[int]:
    """How many atoms of each atomic number a formula has; raises ValueError where it is none."""
    found = Formula(formula).count()
    if not found or any(symbol not in atomic_numbers for symbol in found):
        raise ValueError(f"{formula!r} is no formula of a molecule, e.g. H2O")
    return Counter({atomic_numbers[symbol]: n for symbol, n in found.items()})


def ball(radius_A: float) -> Place:
    """Uniform places in a ball about the origin."""

    def place(rng: np.random.Generator) -> Float:
        direction = rng.standard_normal(3)
        return np.asarray(radius_A * rng.random() ** (1 / 3) * direction / np.linalg.norm(direction))

    return place


def random_cell(volume_A3: float, rng: np.random.Generator) -> Float:
    """(3, 3) Å: a cell of this volume, neither long nor flat: edges within a factor of 2, angles of 60° to 120°."""
    while True:
        cell = np.asarray(cellpar_to_cell([*rng.uniform(1.0, 2.0, 3), *rng.uniform(60.0, 120.0, 3)]))
        size = abs(np.linalg.det(cell))
        if np.isfinite(size) and size > FLATTEST * np.linalg.norm(cell, axis=1).prod():
            return np.asarray(cell * (volume_A3 / size) ** (1 / 3))
