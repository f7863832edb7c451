"""Which unit the velocities and times of an event file are in.

The molecular dynamics of the older system (`jaxmd_dynamics.py`) takes 0.01036427 for what 1 amu (Å/fs)² is in eV; it is
103.6427. What it prints as 1 fs are therefore 100 fs, and what it prints as 1 Å/fs is 1 Å in 100 fs. Temperatures are
right, so that they tell one unit from the other: the two readings of the same velocities differ by 10⁴ in kinetic
temperature.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from alfw.core.errors import DataError
from alfw.core.frame import Float
from alfw.core.units import AMU_A2_PER_FS2_eV, KB_eV_PER_K

VelocityUnit = Literal["A/fs", "mmml"]
UNIT_FS = {"A/fs": 1.0, "mmml": 100.0}  # what one unit of time is
# A kinetic temperature is credible within this factor of the target's; that of a few atoms fluctuates, and walkers that
# are about to explode are hot.
CREDIBLE = 30.0
# Where the target is not stated.
CREDIBLE_K = (10.0, 10_000.0)


class AmbiguousUnitError(DataError):
    """Velocities that are credible in no unit: only the user, or other files of the same run, can know it."""


def kinetic_temperature(velocities: Float, masses: Float) -> float:
    """Kinetic temperature (K) of 3 n degrees of freedom; velocities (n, 3) Å/fs, masses (n,) amu."""
    twice = float((masses[:, None] * velocities**2).sum()) * AMU_A2_PER_FS2_eV
    return twice / (3 * len(masses) * KB_eV_PER_K)


def velocity_unit(velocities: Float, masses: Float, target_K: float) -> VelocityUnit | None:
    """The only unit in which these velocities (n, 3) are credible; None where neither is.

    Parameters
    ----------
    masses : (n,) float64, amu
    target_K : float
        Temperature of the thermostat; NaN = not known.
    """
    low, high = CREDIBLE_K
    if np.isfinite(target_K) and target_K > 0:
        low, high = target_K / CREDIBLE, target_K * CREDIBLE
    nominal = kinetic_temperature(velocities, masses)
    units: tuple[VelocityUnit, VelocityUnit] = ("A/fs", "mmml")
    credible = [unit for unit in units if low <= nominal / UNIT_FS[unit] ** 2 <= high]
    return credible[0] if len(credible) == 1 else None
