"""What moves walkers besides forces, in numpy: thermostats, and a barostat, of each walker alone.

The same methods as in `_jaxmd_ensembles`, so that both samplers explore the same distribution. Units inside are eV, Å,
amu and therefore sqrt(amu Å^2/eV) = 10.18 fs for time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alfw.core.frame import Bool, Float, Frame, Int
from alfw.core.units import FS, EV_PER_A3_GPa
from alfw.samplers._walkers import Walkers, drifts_not

CHAIN = 3  # thermostats in the chain of a walker


@dataclass
class Motion:
    """What an ensemble moves, of N atoms of R walkers.

    Attributes
    ----------
    position, momentum : (N, 3) float64, Å and sqrt(amu eV)
    chain : (R, 2, CHAIN) float64
        Positions (no unit) and momenta of the thermostats of each walker; 0 without any.
    scale : (R,) float64
        Edge lengths of the cell over those in the start.
    """

    position: Float
    momentum: Float
    chain: Float
    scale: Float

    def copy(self) -> Motion:
        """The same, to be moved on."""
        return Motion(self.position.copy(), self.momentum.copy(), self.chain.copy(), self.scale.copy())


@dataclass(frozen=True, eq=False)
class Clock:
    """What time it is for each walker (R,): the length of this step (0: it only looks), and the thermostat's target."""

    dt: Float
    kT: Float


class Ensemble:
    """The steps of an ensemble for some walkers; `options` is a sampler of molecular dynamics.

    "langevin" and, without friction, NVE: BAOAB (doi:10.1063/1.4921684). "npt": BAO, the cell, AB. "nose-hoover": half
    a step of the chains, velocity Verlet, and the other half (doi:10.1080/00268979600100761).
    """

    def __init__(self, options: Any, walkers: Walkers) -> None:
        starts = walkers.starts
        self.kind = "npt" if options.ensemble == "npt" else "langevin"
        if options.ensemble == "nvt":
            self.kind = options.thermostat
        self.gamma = 0.0 if options.ensemble == "nve" else options.friction_per_ps / 1000 / FS
        self.tau = options.tau_fs * FS
        self.pressure = (options.pressure_GPa or 0.0) / EV_PER_A3_GPa
        per_pressure = options.compressibility_per_GPa * EV_PER_A3_GPa
        self.mobility = per_pressure / (options.tau_pressure_fs * FS)
        self.slices = walkers.slices
        self.owner: Int = np.repeat(np.arange(len(starts)), [len(frame) for frame in starts])
        self.mass: Float = np.concatenate([masses_of(frame) for frame in starts])[:, None]
        self.free: Bool = np.concatenate([frame.free for frame in starts])[:, None]
        self.freedom = np.array(
            [max(3.0 * frame.free.sum() - 3.0 * drifts_not(frame), 1.0) for frame in starts]
        )
        self.volume = np.array([abs(np.linalg.det(frame.cell)) or 1.0 for frame in starts])

    def drift(
        self, clock: Clock, now: Motion, force: Float, virial: Float, noise: Sequence[np.random.Generator]
    ) -> None:
        """Move on by the first part of a step, up to where new forces are needed."""
        dt = clock.dt[self.owner][:, None]
        if self.kind == "nose-hoover":
            self._chains(clock, now)
        now.momentum += dt / 2 * force
        now.position += dt / 2 * now.momentum / self.mass
        if self.kind != "nose-hoover" and self.gamma > 0:
            self._friction(clock, now, noise)
        if self.kind == "npt":
            self._dilate(clock, now, virial, noise)
        now.position += dt / 2 * now.momentum / self.mass

    def kick(self, clock: Clock, now: Motion, force: Float) -> None:
        """Do the rest of the step, with the new forces."""
        now.momentum += clock.dt[self.owner][:, None] / 2 * force
        if self.kind == "nose-hoover":
            self._chains(clock, now)

    def twice_kinetic(self, momentum: Float) -> Float:
        """(R,) eV: twice the kinetic energy of each walker."""
        twice = np.bincount(self.owner, (momentum**2 / self.mass).sum(1), len(self.slices))
        return twice.astype(np.float64)

    def _friction(self, clock: Clock, now: Motion, noise: Sequence[np.random.Generator]) -> None:
        """Friction and noise of one step, exactly: the O of BAOAB."""
        keep = np.exp(-self.gamma * clock.dt)[self.owner][:, None]
        variance = (-clock.kT * np.expm1(-2 * self.gamma * clock.dt))[self.owner][:, None]
        sizes = (part.stop - part.start for part in self.slices)
        normal = np.concatenate([rng.standard_normal((n, 3)) for rng, n in zip(noise, sizes, strict=True)])
        now.momentum = (keep * now.momentum + np.sqrt(variance * self.mass) * normal) * self.free

    def _dilate(self, clock: Clock, now: Motion, virial: Float, noise: Sequence[np.random.Generator]) -> None:
        """Rescale cells, positions and momenta: one step of isotropic stochastic cell rescaling.

        d ln V = β/τ (P − P₀) dt + sqrt(2 kT β/(V τ)) dW with P = (2 K − virial)/(3 V).

        Source
        ------
        Bernetti and Bussi, doi:10.1063/5.0020514, eq. 7 and 9.
        """
        volume = self.volume * now.scale**3
        pressure = (self.twice_kinetic(now.momentum) - virial) / (3 * volume)
        step = self.mobility * clock.dt
        normal = np.array([rng.standard_normal() for rng in noise])
        factor = np.exp(
            (step * (pressure - self.pressure) + np.sqrt(2 * clock.kT * step / volume) * normal) / 3
        )
        now.position *= factor[self.owner][:, None]
        now.momentum /= factor[self.owner][:, None]
        now.scale *= factor

    def _chains(self, clock: Clock, now: Motion) -> None:
        """Half a step of each walker's Nosé–Hoover chain."""
        half, kT = clock.dt / 2, clock.kT
        x, p = now.chain[:, 0], now.chain[:, 1]
        mass = (kT * self.tau**2)[:, None] * np.stack([self.freedom, *[np.ones_like(kT)] * (CHAIN - 1)], 1)
        twice = self.twice_kinetic(now.momentum)

        def push(j: int) -> None:
            damped = np.exp(-half / 4 * p[:, j + 1] / mass[:, j + 1]) if j + 1 < CHAIN else 1.0
            pull = twice - self.freedom * kT if j == 0 else p[:, j - 1] ** 2 / mass[:, j - 1] - kT
            p[:, j] = (p[:, j] * damped + half / 2 * pull) * damped

        for j in reversed(range(CHAIN)):
            push(j)
        factor = np.exp(-half * p[:, 0] / mass[:, 0])
        x += half[:, None] * p / mass
        now.momentum *= factor[self.owner][:, None]
        twice = twice * factor**2
        for j in range(CHAIN):
            push(j)


def masses_of(frame: Frame) -> Float:
    """(n,) amu."""
    return np.ones(len(frame)) if frame.masses is None else frame.masses
