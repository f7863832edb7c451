"""Molecular dynamics of many walkers at once on any potential."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from alfw.core.errors import SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import HasSpread, Potential, spread_lacking
from alfw.core.records import Resources
from alfw.core.registry import private
from alfw.samplers._limits import HighForce, MDLimits
from alfw.samplers._md_options import check_options, limits_need


class ASEMDSampler(BaseModel):
    """MD on whatever `Potential.predict` says: for potentials that jax-md cannot drive, ASE's calculators first of all.

    Options, methods, limits and events are those of `JaxMDSampler`, which is faster where it works; a bias there is
    not. All walkers move together, so that the potential gets them as one batch in every step.

    Member ``seed % potential.members`` drives; force_std is of all members. A prediction that fails for one walker (an
    ASE calculator that does not converge) stops this walker, as NaN does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    execution_only: ClassVar[frozenset[str]] = frozenset()
    driven: ClassVar[bool] = True

    kind: Literal["ase-md"] = "ase-md"
    ensemble: Literal["nvt", "nve", "npt"] = "nvt"
    thermostat: Literal["langevin", "nose-hoover"] = "langevin"
    temperatures_K: tuple[PositiveFloat, ...] = ()
    ramp_K: tuple[PositiveFloat, PositiveFloat] | None = None
    friction_per_ps: PositiveFloat = 5.0
    tau_fs: PositiveFloat = 100.0
    pressure_GPa: float | None = None
    tau_pressure_fs: PositiveFloat = 1000.0
    compressibility_per_GPa: PositiveFloat = 0.1
    perturb_A: NonNegativeFloat = 0.0
    walkers: PositiveInt
    dt_fs: PositiveFloat = 0.5
    n_steps: PositiveInt
    keep_every: PositiveInt
    equilibration_steps: NonNegativeInt = 0
    restarts: NonNegativeInt = 0
    force_std_every: PositiveInt = 10
    limits: MDLimits = MDLimits()
    high_force: HighForce = HighForce()

    @model_validator(mode="after")
    def _consistent(self) -> ASEMDSampler:
        check_options(self)
        return self

    @property
    def thermostatted(self) -> bool:
        """Whether there is a target temperature."""
        return self.ensemble != "nve"

    def stress_needs(self) -> tuple[str, ...]:
        """See `NeedsStress`."""
        return ("ensemble",) if self.ensemble == "npt" else ()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return limits_need(self.limits)

    def run(
        self,
        potential: Potential,
        starts: Sequence[Frame],
        seed: int,
        workdir: Path,
        resources: Resources,
        progress: Callable[[str], None] | None = None,
    ) -> Exploration:
        """The frames kept and the events met; the same on one machine for the same arguments.

        Raises
        ------
        SamplingError
            No starts, an element that the potential does not know, a limit on a spread that it does not have, or "npt"
            with a start that has no cell, has fixed atoms, or of which the potential says no stress.
        DataError
            A start is periodic in some directions only.
        TrainingError
            The potential cannot predict the starts.
        """
        lacking = spread_lacking(self, potential.members, isinstance(potential, HasSpread))
        if lacking:
            raise SamplingError(f"sampler 'ase-md': {lacking}")
        module: Any = private("alfw.samplers._ase_md", "ase-md")
        return module.explore(self, potential, starts, seed, progress or _silent)  # type: ignore[no-any-return]


def _silent(text: str) -> None:
    """Nothing."""
