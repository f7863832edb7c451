"""How walkers are pushed to where the members of an ensemble disagree."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat


class UncertaintyBias(BaseModel):
    """Uncertainty-biased dynamics: beside the force, the gradient of σ, by how much the members disagree on the energy.

    The bias energy is −τ·σ of the whole walker, with σ the standard deviation over the members of the energy less that
    of the walker's start: what members differ by everywhere is no uncertainty of forces. τ follows running means of
    both forces, so that the bias force is a given share of the force. Recorded forces, and the limit on them, are
    without the bias, and so is the pressure on a cell; but the frames are samples of no ensemble: no audit labels are
    drawn from such a run.

    A shallow ensemble (model.heads) needs one more pass back through the network in each step; an ensemble of K
    networks has to ask them all in each step, which costs K times as much.

    Attributes
    ----------
    strength : float
        Mean norm of the bias force over that of the force.
    max_force_eV_per_A : float
        No atom is pushed harder; where one would be, its whole walker is pushed less.
    averaging_fs : float
        Time of the running means.
    ramp_fs : float
        The bias begins after `equilibration_steps` and grows to its full strength in this time.

    Source
    ------
    van der Oord et al., npj Comput. Mater. 9, 168 (2023), arXiv:2210.04225; Zaverkin et al., npj Comput. Mater. 10, 83
    (2024), arXiv:2312.01416.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strength: Annotated[float, Field(gt=0.0, le=2.0)] = 0.25
    max_force_eV_per_A: PositiveFloat = 2.0
    averaging_fs: PositiveFloat = 100.0
    ramp_fs: NonNegativeFloat = 100.0
