"""Random strains of periodic cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, model_validator

from alfw.core.errors import SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Float, Frame
from alfw.core.ids import derive_seed
from alfw.core.protocols import Potential
from alfw.core.records import Resources
from alfw.samplers._structures import check_starts, close_atoms, rattled, record

RATTLE_TRIES = 10  # of one strain, before another is drawn


class StrainSampler(BaseModel):
    """Homogeneous strains of crystals, the same in all orientations: cell and atoms, fixed ones too, go along.

    The strain ε is symmetric (no rotation): a hydrostatic part, uniform within ± `max_strain`, and a shear without
    change of volume to first order, of uniform direction in the space of traceless symmetric tensors, whose largest
    principal strain is uniform up to `max_strain`. Frame i starts from ``starts[i % len(starts)]``.

    Attributes
    ----------
    count : int
        Frames in all.
    max_strain : float
        Of each part; 0.05 = 5 % in length.
    hydrostatic, shear : bool
        Which parts there are.
    rattle_std_A : float
        Standard deviation of displacements on top, see `RattleSampler`.
    min_distance_fraction : float
        Closest distance of two atoms over the sum of their covalent radii; another strain is drawn where atoms are
        closer. 0 = not looked at.
    tries : int
        How often, before the frame is given up and counted (``n_rejected_close``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["strain"] = "strain"
    count: PositiveInt
    max_strain: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    hydrostatic: bool = True
    shear: bool = True
    rattle_std_A: NonNegativeFloat = 0.0
    min_distance_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.6
    tries: PositiveInt = 100

    @model_validator(mode="after")
    def _consistent(self) -> StrainSampler:
        if not (self.hydrostatic or self.shear):
            raise ValueError("hydrostatic and shear are both false: there is no strain left")
        return self

    def stress_needs(self) -> tuple[str, ...]:
        """See `NeedsStress`: strained cells teach a model its stress, or nothing."""
        return ("kind",)

    def run(
        self,
        potential: Potential,
        starts: Sequence[Frame],
        seed: int,
        workdir: Path,
        resources: Resources,
        progress: Callable[[str], None] | None = None,
    ) -> Exploration:
        """The frames: walker = index of the start, step = how many of it came before; no time, no temperature.

        Raises
        ------
        SamplingError
            No starts, one that is not periodic in all directions, an element that the potential does not know, or
            atoms too close in every frame.
        """
        check_starts(self.kind, potential, starts)
        for frame in starts:
            if not frame.pbc.all():
                raise SamplingError(
                    f"sampler 'strain': frame {frame.id[:12]} ({frame.formula}) is not periodic in all directions and"
                    " has no cell to strain; start from crystals only, or use kind rattle"
                )
        made: list[tuple[Frame, int, int]] = []
        for i in range(self.count):
            step, walker = divmod(i, len(starts))
            strained = self._strained(starts[walker], np.random.default_rng(derive_seed(seed, "strain", i)))
            if strained is not None:
                made.append((strained, walker, step))
        if not made:
            raise SamplingError(
                f"sampler 'strain': atoms are closer than min_distance_fraction {self.min_distance_fraction:g} in all"
                f" {self.count} frames; choose a smaller max_strain, or look at the starts"
            )
        return record(made, {"n_rejected_close": self.count - len(made)})

    def _strained(self, frame: Frame, rng: np.random.Generator) -> Frame | None:
        """The frame, strained; None where atoms are too close whatever is tried."""
        for _ in range(self.tries):
            deformation = np.eye(3) + self._strain(rng)
            strained = frame.moved(frame.positions @ deformation, frame.cell @ deformation)
            if self.rattle_std_A > 0:
                shaken = rattled(strained, self.rattle_std_A, self.min_distance_fraction, RATTLE_TRIES, rng)
                if shaken is not None:
                    return shaken
            elif not len(close_atoms(strained, self.min_distance_fraction)):
                return strained
        return None

    def _strain(self, rng: np.random.Generator) -> Float:
        """(3, 3) symmetric strain, drawn as the class says."""
        strain = np.zeros((3, 3))
        if self.hydrostatic:
            strain += rng.uniform(-self.max_strain, self.max_strain) * np.eye(3)
        if self.shear:
            # Symmetrized normal numbers have the same density along all orientations, and so has their traceless part.
            a = rng.standard_normal((3, 3))
            direction = (a + a.T) / 2 - np.trace(a) / 3 * np.eye(3)
            largest = np.abs(np.linalg.eigvalsh(direction)).max()
            strain += rng.uniform(0.0, self.max_strain) * direction / largest
        return strain
