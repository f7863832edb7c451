"""One walker at constant temperature by ASE, stopped by the same limits as jax-md's: for any potential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from alfw.core.errors import AlfwError
from alfw.core.frame import Float, Frame
from alfw.core.ids import derive_seed
from alfw.core.neighbours import closest_fraction
from alfw.core.protocols import Potential
from alfw.core.records import Prediction
from alfw.core.units import FS
from alfw.samplers._physical import extent
from alfw.samplers._walkers import Walkers
from alfw.samplers.jaxmd import JaxMDSampler


class OneMember:
    """Member `k` of an ensemble alone."""

    def __init__(self, ensemble: Potential, k: int) -> None:
        self.ensemble, self.k = ensemble, k
        self.species, self.cutoff_A, self.members = ensemble.species, ensemble.cutoff_A, 1

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """What this member says."""
        said, k = self.ensemble.predict(frames), self.k
        stress = None if said.stress is None else [None if s is None else s[k : k + 1] for s in said.stress]
        return Prediction(said.energy[k : k + 1], [f[k : k + 1] for f in said.forces], stress)


@dataclass(frozen=True)
class Stop:
    """When and why a walker stopped, in femtoseconds; no cause: it lasted to the end."""

    time_fs: float
    cause: str | None


def walk(
    options: JaxMDSampler, potential: Potential, start: Frame, temperature_K: float, seed: int, w: int
) -> tuple[Stop, list[Frame]]:
    """When walker `w` passed which limit of `options`, and its frames every `keep_every` steps until then.

    Cause ``model``: a calculator that fails on the way.

    Raises
    ------
    TrainingError
        The potential cannot predict the start.
    """
    from ase.md.langevin import Langevin

    from alfw.models.calculator import EnsembleCalculator

    atoms = start.to_atoms()
    atoms.calc = EnsembleCalculator(OneMember(potential, seed % potential.members))
    atoms.set_momenta(Walkers([start], np.array([temperature_K])).momenta(derive_seed(seed, w))[:-1])
    rng = np.random.default_rng(derive_seed(seed, "thermostat", w))
    gamma = options.friction_per_ps / 1000 / FS
    md = Langevin(
        atoms, options.dt_fs * FS, temperature_K=temperature_K, friction=gamma, fixcm=False, rng=rng
    )
    kept: list[Frame] = []
    cause = passed(options, start, atoms, atoms.positions)
    step = 0
    while cause is None and step < options.n_steps:
        before, step = atoms.get_positions(), step + 1
        try:
            md.step()
            cause = passed(options, start, atoms, before)
        except AlfwError:
            cause = "model" if np.isfinite(atoms.positions).all() else "nan"
        if cause is None and step % options.keep_every == 0:
            kept.append(start.moved(atoms.positions))
    return Stop(step * options.dt_fs, cause), kept


def passed(options: JaxMDSampler, start: Frame, atoms: Atoms, before: Float) -> str | None:
    """The first limit that `atoms`, one step after the positions `before` (n, 3) Å, are beyond, in jax-md's order."""
    limits, free = options.limits, start.free
    forces, momenta = atoms.get_forces(apply_constraint=False), atoms.get_momenta()
    if not np.isfinite([forces, momenta, atoms.positions]).all():
        return "nan"
    frame = start.moved(atoms.positions)
    norm = lambda vectors: float(np.linalg.norm(vectors[free], axis=1).max(initial=0.0))  # noqa: E731
    speed = max(norm(atoms.get_velocities()) * FS, norm(atoms.positions - before) / options.dt_fs)
    grown = 0.0 if frame.periodic else extent(frame) - extent(start)
    within = {
        "speed": speed <= limits.max_speed_A_per_fs,
        "distance": closest_fraction(frame) >= limits.min_distance_fraction,
        "force": norm(forces) <= limits.max_force_eV_per_A,
        "growth": grown <= limits.max_growth_A,
    }
    return next((cause for cause, good in within.items() if not good), None)
