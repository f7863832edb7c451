"""Meshes of k-points: a fixed one, or as dense in every cell."""

from __future__ import annotations

import math
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from alfw.core.frame import Float

Triple = tuple[PositiveInt, PositiveInt, PositiveInt]


class KPoints(BaseModel):
    """Either ``{spacing: 0.25}`` or ``{grid: [4, 4, 4]}``.

    A fixed grid keeps the energy surface smooth where cells differ little (strains, NPT); a spacing suits frames whose
    cells differ in size.

    Attributes
    ----------
    spacing : float, 1/Å
        Largest distance of two k-points, 2π included: N_i = max(1, ⌈|b_i| / spacing⌉) with b_i·a_j = 2π δ_ij, which is
        the rule of VASP's KSPACING.
    grid : three int
    shift : three float
        Of the mesh, in units of its own steps.
    gamma : bool
        Whether the mesh without a shift contains Γ; false: as Monkhorst and Pack have it, where even meshes do not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spacing: Annotated[float, Field(gt=0.0)] | None = None
    grid: Triple | None = None
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gamma: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.spacing is None) == (self.grid is None):
            raise ValueError("either `spacing` (1/Å) or `grid`")
        return self

    def mesh(self, cell: Float) -> tuple[int, int, int]:
        """Points along each reciprocal vector of `cell` (3, 3) Å."""
        if self.grid is not None:
            return self.grid
        reciprocal = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
        a, b, c = (max(1, math.ceil(length / (self.spacing or 1.0) - 1e-6)) for length in reciprocal)
        return a, b, c
