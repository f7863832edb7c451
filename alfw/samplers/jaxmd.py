"""Molecular dynamics of many walkers at once with jax-md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from alfw.core.errors import PluginError, SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import HasSpread, JaxPotential, Potential, spread_lacking
from alfw.core.records import Resources
from alfw.core.registry import private
from alfw.samplers._bias import UncertaintyBias
from alfw.samplers._limits import HighForce, MDLimits

ENSEMBLES = ("nvt", "nve")


class JaxMDSampler(BaseModel):
    """Constant-temperature MD (Langevin, BAOAB), all walkers in one program.

    Walkers are spread evenly over the temperatures, the first ones at the first temperature; walker w starts from
    ``starts[w % len(starts)]``.

    Attributes
    ----------
    ensemble : {"nvt", "nve"}
        "nve" is velocity Verlet; `temperatures_K` then only sets the velocities at the start.
    n_steps : int
        Of every walker, `equilibration_steps` included.
    equilibration_steps : int
        No frames are kept from these first steps.
    keep_every : int
        One frame of every living walker is kept each time this many steps are done.
    force_std_every : int
        How often (steps) all members are asked.
    bias : UncertaintyBias or None
        Pushes walkers to where the ensemble disagrees; needs a thermostat, which takes up the heat.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["jaxmd"] = "jaxmd"
    ensemble: str = "nvt"
    temperatures_K: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    friction_per_ps: PositiveFloat = 5.0
    walkers: PositiveInt
    dt_fs: PositiveFloat = 0.5
    n_steps: PositiveInt
    keep_every: PositiveInt
    equilibration_steps: NonNegativeInt = 0
    force_std_every: PositiveInt = 10
    limits: MDLimits = MDLimits()
    high_force: HighForce = HighForce()
    bias: UncertaintyBias | None = None

    @field_validator("ensemble")
    @classmethod
    def _known_ensemble(cls, value: str) -> str:
        if value not in ENSEMBLES:
            raise ValueError(
                f"ensemble {value!r} is not available in this version; known: {', '.join(ENSEMBLES)}"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> JaxMDSampler:
        if self.walkers < len(self.temperatures_K):
            raise ValueError(
                f"walkers {self.walkers} are too few for {len(self.temperatures_K)} temperatures"
            )
        if self.equilibration_steps + self.keep_every > self.n_steps:
            raise ValueError("no frame would be kept: equilibration_steps + keep_every is above n_steps")
        if self.bias is not None and self.ensemble == "nve":
            raise ValueError("bias: heats the walkers, and ensemble 'nve' has no thermostat")
        return self

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        needs: dict[str, Literal["members", "heads"]] = {}
        if (
            self.limits.force_std_eV_per_A is not None
            and "force_std_eV_per_A" in self.limits.model_fields_set
        ):
            needs["limits.force_std_eV_per_A"] = "members"
        if self.bias is not None:
            needs["bias"] = "members"
        elif self.limits.energy_std_eV_per_atom is not None:  # a biased run knows it of any ensemble
            needs["limits.energy_std_eV_per_atom"] = "heads"
        return needs

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

        Member ``seed % potential.members`` drives the run (counter ``driver``); of a shallow ensemble the mean does,
        and the largest spread of energies met is a counter (``max_energy_std_eV_per_atom``).

        Raises
        ------
        PluginError
            jax-md cannot drive this potential, or is not installed.
        SamplingError
            No starts, an element that the potential does not know, or a limit on a spread that it does not have.
        DataError
            A start is periodic in some directions only.
        """
        if not isinstance(potential, JaxPotential):
            raise PluginError(
                f"sampler 'jaxmd' cannot drive {type(potential).__name__}: it has no atom_energy_function"
                " (model kind 'nequix' has one)"
            )
        lacking = spread_lacking(self, potential.members, isinstance(potential, HasSpread))
        if lacking:
            raise SamplingError(f"sampler 'jaxmd': {lacking}")
        module: Any = private("alfw.samplers._jaxmd", "jaxmd")
        return module.explore(self, potential, starts, seed, progress or _silent)  # type: ignore[no-any-return]


def _silent(text: str) -> None:
    """Nothing."""
