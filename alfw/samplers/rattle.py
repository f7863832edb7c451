"""Random displacements of all atoms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from alfw.core.errors import SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.ids import derive_seed
from alfw.core.protocols import Potential
from alfw.core.records import Resources
from alfw.samplers._structures import block, check_starts, rattled, record


class RattleSampler(BaseModel):
    """Normally distributed displacements, independent for each atom that is not fixed.

    Frame i starts from ``starts[i % len(starts)]``; frames are spread evenly over the widths, the first ones at the
    first. Whether a frame makes sense is for the screening to judge, but no atoms come too close.

    Attributes
    ----------
    std_A : tuple of float
        Standard deviations of a coordinate.
    count : int
        Frames in all.
    min_distance_fraction : float
        Closest distance of two atoms over the sum of their covalent radii. Atoms that come closer get other
        displacements; 0 = not looked at.
    tries : int
        How often, before the frame is given up and counted (``n_rejected_close``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["rattle"] = "rattle"
    std_A: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.02, 0.05, 0.1)
    count: PositiveInt
    min_distance_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.6
    tries: PositiveInt = 100

    @model_validator(mode="after")
    def _consistent(self) -> RattleSampler:
        if self.count < len(self.std_A):
            raise ValueError(f"count {self.count} is too small for {len(self.std_A)} values of std_A")
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
        """The frames: walker = index of the start, step = how many of it came before; no time, no temperature.

        Raises
        ------
        SamplingError
            No starts, an element that the potential does not know, or atoms too close in every frame.
        DataError
            A start is periodic in some directions only.
        """
        check_starts(self.kind, potential, starts)
        made: list[tuple[Frame, int, int]] = []
        for i in range(self.count):
            step, walker = divmod(i, len(starts))
            std = self.std_A[block(i, self.count, len(self.std_A))]
            rng = np.random.default_rng(derive_seed(seed, "rattle", i))
            frame = rattled(starts[walker], std, self.min_distance_fraction, self.tries, rng)
            if frame is not None:
                made.append((frame, walker, step))
        if not made:
            raise SamplingError(
                f"sampler 'rattle': atoms are closer than min_distance_fraction {self.min_distance_fraction:g} in all"
                f" {self.count} frames; choose a smaller std_A, or look at the starts"
            )
        return record(made, {"n_rejected_close": self.count - len(made)})
