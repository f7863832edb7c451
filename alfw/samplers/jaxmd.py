"""Molecular dynamics of many walkers at once with jax-md."""

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
from alfw.samplers._md_options import check_options, limits_need

ENSEMBLES = ("nvt", "nve", "npt")


class JaxMDSampler(BaseModel):
    """MD of many walkers in one program: at constant energy, temperature, or temperature and pressure.

    Walkers are spread evenly over the temperatures, the first ones at the first temperature; walker w starts from
    ``starts[w % len(starts)]``. They know nothing of each other: each has its own thermostat, barostat and noise.

    Attributes
    ----------
    ensemble : {"nvt", "nve", "npt"}
        "nve" is velocity Verlet; `temperatures_K` then only sets the velocities at the start. "npt" is for periodic
        systems without fixed atoms: the cell keeps its shape, its size changes by stochastic cell rescaling
        (doi:10.1063/5.0020514), with a Langevin thermostat; frames have the cells of their own time.
    thermostat : {"langevin", "nose-hoover"}
        Of "nvt": Langevin (BAOAB, doi:10.1063/1.4921684), or a Nosé–Hoover chain of three for each walker
        (doi:10.1080/00268979600100761), which disturbs the dynamics less and reaches its temperature later; its
        temperature is that of 3n - 3 degrees of freedom.
    temperatures_K : sequence of float
        One, or a ladder; or else `ramp_K`.
    ramp_K : (float, float) or None
        The thermostat's target of every walker goes from the first to the second, linearly over its own `n_steps`
        (equilibration included); velocities at the start are of the first.
    friction_per_ps : float
        Of Langevin dynamics.
    tau_fs : float
        Time constant of the Nosé–Hoover chains.
    pressure_GPa : float
        Of "npt", which needs it.
    tau_pressure_fs, compressibility_per_GPa : float
        Of "npt": only their ratio matters. The volume relaxes in tau · (bulk modulus · compressibility)^-1; any ratio
        gives the same distribution.
    perturb_A : float
        Standard deviation of displacements of each walker's free atoms in the start; where atoms get closer than
        `limits.min_distance_fraction` they are drawn again, half as large.
    n_steps : int
        Of every walker, `equilibration_steps` included.
    equilibration_steps : int
        No frames are kept from these first steps; limits hold in them as well.
    keep_every : int
        One frame of every living walker is kept each time this many steps are done.
    restarts : int
        How often a walker that stopped begins again, with new velocities, from another of the starts with as many
        atoms, for the steps that are left. It is another walker from then on, with another number, that counts its own
        steps: the k-th time walker w begins again, it is number k · walkers + w.
    force_std_every : int
        How often (steps) all members are asked.
    bias : UncertaintyBias or None
        Pushes walkers to where the ensemble disagrees; needs a thermostat, which takes up the heat. It pushes
        atoms, not cells: the pressure of "npt" is that without it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    execution_only: ClassVar[frozenset[str]] = frozenset()
    driven: ClassVar[bool] = True

    kind: Literal["jaxmd"] = "jaxmd"
    ensemble: str = "nvt"
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
        needs = limits_need(self.limits)
        if self.bias is not None:
            needs.pop("limits.energy_std_eV_per_atom", None)  # a biased run knows it of any ensemble
            needs["bias"] = "members"
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
