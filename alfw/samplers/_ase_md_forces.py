"""What a potential says of walkers, and whether they are within the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alfw.core.errors import AlfwError, SamplingError
from alfw.core.frame import Float, Frame
from alfw.core.neighbours import closest_fraction
from alfw.core.protocols import HasMembers, HasSpread, Potential
from alfw.core.records import Prediction
from alfw.core.uncertainty import frame_force_std
from alfw.samplers._limits import MDLimits

NAN = float("nan")
MEASURED = ("force", "force_std", "energy_std")


@dataclass(frozen=True, eq=False)
class Said:
    """What a potential says of one frame.

    Attributes
    ----------
    force : (n, 3) float64, eV/Å
        What drives the walker; zero on fixed atoms.
    force_std : float, eV/Å
        0 where it was not asked for.
    energy_std : float, eV per atom
        0 but of a shallow ensemble.
    virial : float, eV
        Trace of stress times volume; 0 where it was not asked for.
    """

    force: Float
    force_std: float = 0.0
    energy_std: float = 0.0
    virial: float = 0.0

    @property
    def max_force(self) -> float:
        """Largest norm, eV/Å."""
        return float(np.linalg.norm(self.force, axis=1).max())

    @property
    def measured(self) -> dict[str, float]:
        """What the largest values of a run are reported of, by the names in `MEASURED`."""
        return dict(zip(MEASURED, (self.max_force, self.force_std, self.energy_std), strict=True))

    @property
    def finite(self) -> bool:
        """Whether all of it is."""
        numbers = [self.force_std, self.energy_std, self.virial, float(self.force.sum())]
        return bool(np.isfinite(numbers).all())


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface that walkers move on.

    Attributes
    ----------
    potential : Potential
    driver : int or None
        The member that drives; None = the mean of a shallow ensemble.
    alone : Potential or None
        This member, where it can be asked for less than all of them.
    stress : bool
        Whether it is needed.
    """

    potential: Potential
    driver: int | None
    alone: Potential | None
    stress: bool

    @classmethod
    def of(cls, potential: Potential, seed: int, stress: bool) -> Surface:
        """The surface of a run."""
        if isinstance(potential, HasSpread):
            return cls(potential, None, None, stress)
        driver = seed % potential.members
        alone = (
            potential.member(driver) if isinstance(potential, HasMembers) and potential.members > 1 else None
        )
        return cls(potential, driver, alone, stress)

    def ask(self, frames: Sequence[Frame], all_members: bool, first: bool) -> list[Said | None]:
        """What is said of each frame; None where the prediction fails, of single walkers and not in the `first` step.

        Raises
        ------
        AlfwError
            As `Potential.predict`.
        SamplingError
            A stress is needed that the potential does not have.
        """
        try:
            return self._said(frames, all_members)
        except AlfwError:
            if first:
                raise
        answers: list[Said | None] = []
        for frame in frames:
            try:
                answers += self._said([frame], all_members)
            except AlfwError:
                answers.append(None)
                if len(answers) == len(frames) > 1 and not any(answers):
                    raise  # of all walkers at once: it is not for where they are
        return answers

    def _said(self, frames: Sequence[Frame], all_members: bool) -> list[Said | None]:
        if self.alone is None or all_members:
            said, driver = self.potential.predict(frames), self.driver
        else:
            said, driver = self.alone.predict(frames), 0
        return [self._of_frame(frame, said, b, driver, all_members) for b, frame in enumerate(frames)]

    def _of_frame(
        self, frame: Frame, said: Prediction, b: int, driver: int | None, all_members: bool
    ) -> Said:
        forces = said.forces[b]
        force = forces.mean(0) if driver is None else forces[driver]
        energy_std = float(said.energy[:, b].std()) / len(frame) if driver is None else 0.0
        return Said(
            force=np.where(frame.free[:, None], force, 0.0),
            force_std=frame_force_std(forces, frame.free) if all_members and len(forces) > 1 else 0.0,
            energy_std=energy_std,
            virial=_virial(frame, said, b, driver) if self.stress else 0.0,
        )


def _virial(frame: Frame, said: Prediction, b: int, driver: int | None) -> float:
    """Trace of stress times volume, eV."""
    stress = None if said.stress is None else said.stress[b]
    if stress is None:
        raise SamplingError(
            f"sampler 'ase-md', ensemble 'npt': the potential says no stress of frame {frame.id[:12]}; use 'nvt'"
        )
    own = stress.mean(0) if driver is None else stress[driver]
    return float(np.trace(own) * abs(np.linalg.det(frame.cell)))


@dataclass(frozen=True)
class Verdict:
    """The first limit that is passed, and what was measured."""

    reason: str
    value: float


def judged(limits: MDLimits, frame: Frame, said: Said | None, speed: float, growth: float) -> Verdict | None:
    """What stops a walker that is at `frame` now, in the order of `_jaxmd_state.REASONS`; None = nothing.

    Parameters
    ----------
    speed : float, Å/fs
    growth : float, Å
        Of the cell, or of the extent of a molecule.
    """
    if said is None or not said.finite or not np.isfinite(speed):
        return Verdict("nan", NAN)
    if speed > limits.max_speed_A_per_fs:
        return Verdict("speed", speed)
    closest = closest_fraction(frame) if limits.min_distance_fraction > 0 else 1.0
    if closest < limits.min_distance_fraction:
        return Verdict("distance", closest)
    measured = (
        ("force", said.max_force, limits.max_force_eV_per_A),
        ("growth", growth, limits.max_growth_A),
        ("uncertain", said.force_std, limits.force_std_eV_per_A),
        ("uncertain", said.energy_std, limits.energy_std_eV_per_atom),
    )
    return next(
        (Verdict(why, value) for why, value, most in measured if most is not None and value > most), None
    )
