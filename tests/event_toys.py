"""Events of toy dynamics, and event files as the older system writes them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses
from sampler_toys import Toy

from alfw.core.exploration import Event
from alfw.core.frame import Float, Frame
from alfw.core.records import Resources
from alfw.core.units import AMU_A2_PER_FS2_eV, KB_eV_PER_K
from alfw.samplers.jaxmd import JaxMDSampler

FALLING = Toy("lj", [[6.0, 0.7], [6.5, 0.7]], 5.0, (1,))
ABOUT = {"ensemble": "nvt", "timestep_fs": 0.25, "model": "f" * 64}
CO2 = np.array([[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]])


@cache
def exploded() -> tuple[Event, ...]:
    """Two walkers that fall upon each other's wall and explode."""
    sampler = JaxMDSampler(
        temperatures_K=[1.0], walkers=2, n_steps=400, keep_every=20, dt_fs=0.25, high_force={"quantile": None},
        limits={"min_distance_fraction": 0.1},
    )  # fmt: skip
    starts = [Frame([1, 1], [[0, 0, 0], [r, 0, 0]]) for r in (1.6, 1.7)]
    return tuple(sampler.run(FALLING, starts, 4, Path(), Resources()).events)


def thermal(numbers: list[int], temperature_K: float, seed: int) -> Float:
    """(n, 3) Å/fs: velocities of this temperature."""
    width = np.sqrt(temperature_K * KB_eV_PER_K / (atomic_masses[numbers] * AMU_A2_PER_FS2_eV))
    return np.random.default_rng(seed).normal(size=(len(numbers), 3)) * width[:, None]


def older_file(
    path: Path,
    seed: int = 0,
    reason: str = "high_force",
    force: float = 6.0,
    mmml: bool = True,
    **changed: Any,
) -> Path:
    """A file of CO2 as `jaxmd_dynamics.py` writes it; `mmml` in its unit of time, else in fs; None leaves a key out."""
    rng = np.random.default_rng(seed)
    forces = rng.uniform(-1, 1, size=(3, 3))
    forces *= force / np.abs(forces).max()
    fs = 100.0 if mmml else 1.0
    velocities = thermal([6, 8, 8], 300.0, seed) * fs
    positions = CO2 + rng.normal(size=(3, 3)) * 0.05 + 25.0
    content = {
        "positions": positions.astype(np.float32),
        "velocities": velocities.astype(np.float32),
        "forces": forces,
        "atomic_numbers": np.array([6, 8, 8]),
        "energy": -10.0,
        "dipole_physnet": np.zeros(3),
        "dipole_dcmnet": np.zeros(3),
        "step": 114,
        "time_fs": 5700.0 / fs,
        "max_force": np.abs(forces).max(),
        "max_velocity": np.abs(velocities).max(),
        "max_position": np.abs(positions).max(),
        "temperature": 300.0,
        "ensemble": "nvt",
        "timestep": 50.0 / fs,
        "reason": reason,
        "instability_type": "force" if reason == "explosion" else "warning",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in (content | changed).items() if value is not None})
    return path
