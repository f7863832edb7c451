"""What stops a walker of any molecular dynamics, and what is reported while it goes on."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class MDLimits(BaseModel):
    """What stops a walker; all but `force_std_eV_per_A` are looked at after every step.

    Attributes
    ----------
    max_force_eV_per_A : float
        Norm of the force on an atom, by what drives the run.
    max_speed_A_per_fs : float
        Of an atom, from its momentum and from its displacement in one step.
    force_std_eV_per_A : float or None
        Largest `force_std` over the atoms; None = not looked at. Where it is not set, an ensemble of one is let pass.
        Of a shallow ensemble it costs about as much as of a deep one; `energy_std_eV_per_atom` costs next to nothing.
    energy_std_eV_per_atom : float or None
        Standard deviation over the members of a walker's energy, per atom. Shallow ensembles only (model.heads), or
        any in a biased run.
    min_distance_fraction : float
        Closest distance of two atoms over the sum of their covalent radii (`ase.data.covalent_radii`).
    max_growth_A : float
        Molecules only: growth of the largest distance of an atom from the centroid over its value in the start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_force_eV_per_A: PositiveFloat = 30.0
    max_speed_A_per_fs: PositiveFloat = 1.0
    force_std_eV_per_A: PositiveFloat | None = 3.0
    energy_std_eV_per_atom: PositiveFloat | None = None
    min_distance_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.6
    max_growth_A: PositiveFloat = 10.0


class HighForce(BaseModel):
    """Which of the frames kept are reported as events "high_force"; their walkers go on.

    Attributes
    ----------
    quantile : float or None
        Of the largest forces of all frames kept at the same temperature, so that it is the system's own force
        distribution that says what is high: an absolute threshold of 5 eV/Å is an ordinary thermal force of some
        molecules. It takes 1 / (1 − quantile) frames at least to report one. None = not looked at.
    max_force_eV_per_A : float or None
        An absolute threshold beside it, or instead of it.
    max_events : int
        Of one run; the highest are reported.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    quantile: Annotated[float, Field(gt=0.0, lt=1.0)] | None = 0.999
    max_force_eV_per_A: PositiveFloat | None = None
    max_events: PositiveInt = 100
