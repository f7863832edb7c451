"""JaxMDSampler at constant pressure: virial, distribution of volumes, compressibility, cells of frames, refusals."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from pydantic import ValidationError
from sampler_toys import Toy
from scipy.optimize import minimize_scalar
from test_sampler_physics import ARGON, SOLID, simulation

from alfw.core.errors import SamplingError
from alfw.core.frame import Frame
from alfw.core.records import Resources
from alfw.core.units import EV_PER_A3_GPa, KB_eV_PER_K
from alfw.samplers import _jaxmd
from alfw.samplers.jaxmd import JaxMDSampler, MDLimits

BASE: dict[str, Any] = {
    "ensemble": "npt", "pressure_GPa": 0.0, "temperatures_K": [20.0], "walkers": 1, "dt_fs": 4.0, "n_steps": 10**6,
    "keep_every": 10, "friction_per_ps": 10.0, "tau_pressure_fs": 500.0, "compressibility_per_GPa": 0.3,
}  # fmt: skip


def npt(**options: Any) -> JaxMDSampler:
    return JaxMDSampler.model_validate(BASE | options)


def volumes(sim: _jaxmd.Simulation) -> np.ndarray:
    """(R,) Å^3."""
    return (np.asarray(sim.carry.scale, float) ** 3 * np.asarray(sim.atoms.volume, float))[:-1]


# --- options


@pytest.mark.parametrize(
    "options",
    [
        {"pressure_GPa": None}, {"pressure_GPa": float("inf")}, {"tau_pressure_fs": 0}, {"thermostat": "nose-hoover"},
        {"ensemble": "nvt"}, {"ensemble": "nve"}, {"compressibility_per_GPa": -1},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        npt(**options)


def test_molecules_and_fixed_atoms_are_refused_in_one_line() -> None:
    fixed = Frame(SOLID.numbers, SOLID.positions, SOLID.cell, SOLID.pbc, fixed=np.arange(len(SOLID)) < 3)
    for start, what in ((Frame([18], [[0, 0, 0]]), "has no cell"), (fixed, "has fixed atoms")):
        with pytest.raises(SamplingError, match=f"^sampler 'jaxmd', ensemble 'npt': frame .*{what}.*$"):
            npt().run(ARGON, [SOLID, start], 0, Path(), Resources())


# --- physics


def test_virial_of_each_walker_is_the_derivative_of_its_energy_by_its_strain() -> None:
    rng = np.random.default_rng(0)
    skew = np.array([[1.1, 0.2, 0], [0, 0.9, 0.1], [0, 0, 1]])
    shaken = [SOLID.moved(SOLID.positions + rng.normal(0, 0.1, SOLID.positions.shape)) for _ in range(2)]
    frames = [
        frame.moved(frame.positions @ m, frame.cell @ m)
        for frame, m in zip(shaken, (np.eye(3), skew), strict=True)
    ]

    def energy(frame: Frame, factor: float) -> float:
        return float(ARGON.predict([frame.moved(frame.positions * factor, frame.cell * factor)]).energy[0, 0])

    sim = _jaxmd.Simulation(npt(walkers=2), ARGON, _jaxmd.walkers_of(npt(walkers=2), frames), 0, 0.5)
    sim.advance(0)
    expected = [(energy(frame, 1.001) - energy(frame, 0.999)) / 0.002 for frame in frames]
    assert np.asarray(sim.carry.virial)[:-1] == pytest.approx(expected, abs=2e-3)
    assert abs(expected[0] - expected[1]) > 1.0


@pytest.mark.slow
def test_volume_of_an_ideal_gas_has_the_gamma_distribution() -> None:
    """p(V) ∝ V^n exp(-PV/kT): mean and variance tell n + 1 from n, and so whether every factor is right."""
    n, T, volume = 4, 300.0, 1000.0
    corners = np.array([[1, 1, 1], [6, 1, 1], [1, 6, 1], [1, 1, 6]])
    gas = Frame([18] * n, corners, np.eye(3) * 10, [True] * 3, masses=np.full(n, 1e6))  # too heavy to meet
    kT_per_P = volume / (n + 1)
    options = npt(
        pressure_GPa=KB_eV_PER_K * T / kT_per_P * EV_PER_A3_GPa, temperatures_K=[T], walkers=64, dt_fs=1.0,
        tau_pressure_fs=100.0, compressibility_per_GPa=40.0, friction_per_ps=100.0,
        limits=MDLimits(min_distance_fraction=0.0, max_growth_A=1e3),
    )  # fmt: skip
    sim = simulation(options, Toy("lj", [[0.0, 1.0]], 0.5, (18,)), gas)
    seen = []
    for step in range(500, 3001, 50):
        sim.advance(step)
        seen.append(volumes(sim))
    assert sim.n_alive == 64
    # relaxation takes 120 fs: about 64 x 2500 / 240 independent values, 2 % of the mean's own width of 45 %
    assert np.mean(seen) / kT_per_P == pytest.approx(n + 1, rel=0.07)
    assert np.var(seen) / kT_per_P**2 == pytest.approx(n + 1, rel=0.25)


@pytest.mark.slow
def test_a_crystal_under_pressure_shrinks_as_its_compressibility_says() -> None:
    """Cold, so that the volume is that of the least enthalpy of the perfect crystal."""

    def enthalpy(factor: float, pressure: float) -> float:
        strained = SOLID.moved(SOLID.positions * factor, SOLID.cell * factor)
        volume = float(np.linalg.det(strained.cell))
        return float(ARGON.predict([strained]).energy[0, 0]) + pressure * volume

    for GPa in (0.0, 1.0):
        sim = simulation(npt(pressure_GPa=GPa, temperatures_K=[0.5], walkers=2), ARGON, SOLID)
        seen = []
        for step in range(500, 1001, 25):
            sim.advance(step)
            seen.append(volumes(sim))
        of = partial(enthalpy, pressure=GPa / EV_PER_A3_GPa)
        factor = minimize_scalar(of, bounds=(0.9, 1.1), method="bounded", options={"xatol": 1e-5}).x
        expected = factor**3 * np.linalg.det(SOLID.cell)
        assert np.mean(seen) == pytest.approx(expected, rel=5e-3)
    assert expected < 0.85 * np.linalg.det(SOLID.cell)


@pytest.mark.slow
def test_temperature_is_held_while_the_cell_changes() -> None:
    sim = simulation(npt(walkers=8, pressure_GPa=0.3, temperatures_K=[30.0, 60.0]), ARGON, SOLID)
    found = []
    for step in range(500, 2001, 50):
        sim.advance(step)
        p, mass = np.asarray(sim.carry.momentum, float)[:-1], np.asarray(sim.atoms.mass, float)[:-1]
        found.append((p**2 / mass).reshape(8, -1).sum(1) / (3 * len(SOLID) * KB_eV_PER_K))
    assert np.mean(found, axis=0).reshape(2, 4).mean(1) == pytest.approx([30.0, 60.0], rel=0.05)


# --- cells


def test_frames_have_the_cells_of_their_own_time_and_edges_follow_a_cell_that_shrinks() -> None:
    wide = SOLID.moved(SOLID.positions * 1.1, SOLID.cell * 1.1)
    options = npt(walkers=2, pressure_GPa=1.0, temperatures_K=[5.0], n_steps=400, keep_every=40)
    pool = options.run(ARGON, [wide], 1, Path(), Resources())
    lengths = np.array([frame.cell[0, 0] for frame in pool.frames])
    for w in (0, 1):
        assert (np.diff(lengths[pool.walker == w])[:3] < -0.01).all() and lengths[pool.walker == w][-1] < 10.3
    for frame in pool.frames:  # atoms and cell go together
        assert np.abs(frame.positions / frame.cell[0, 0] - wide.positions / wide.cell[0, 0]).max() < 0.03
    sim = simulation(options, ARGON, wide)
    rebuilt: list[float] = []
    rebuild = sim.rebuild
    sim.rebuild = lambda skin: (rebuilt.append(skin), rebuild(skin))[1]  # type: ignore[assignment]
    sim.advance(400)
    assert len(rebuilt) > 1
    (end, _) = sim.living()
    force = np.asarray(sim.carry.force)[sim.walkers.slices[0]]
    assert force == pytest.approx(ARGON.predict([end.frame]).forces[0][0], abs=1e-5)


def test_a_crystal_that_evaporates_is_stopped_by_its_growth_with_the_cells_of_the_time() -> None:
    options = npt(pressure_GPa=-2.0, n_steps=4000, limits={"max_growth_A": 3.0})
    pool = options.run(ARGON, [SOLID], 2, Path(), Resources())
    (event,) = pool.events
    assert event.reason == "growth" and event.bad is not None
    assert 3.0 < event.value == pytest.approx(event.bad.cell[0, 0] - SOLID.cell[0, 0], abs=1e-3)
    assert SOLID.cell[0, 0] + 2.0 < event.good.cell[0, 0] < SOLID.cell[0, 0] + 3.0
    assert pool.life_fs == {0: event.time_fs}


def test_a_pressure_that_no_crystal_withstands_stops_the_walker_and_does_not_hang() -> None:
    pool = npt(pressure_GPa=1e5, n_steps=400).run(ARGON, [SOLID], 2, Path(), Resources())
    (event,) = pool.events
    assert event.reason in ("distance", "force") and 0 < event.step < 20
    assert event.bad is not None and event.bad.cell[0, 0] < event.good.cell[0, 0] < SOLID.cell[0, 0]


@pytest.mark.slow
def test_types_hold_under_strict_promotion_and_numbers_compile_nothing() -> None:
    import jax

    from alfw.samplers._jaxmd_loop import advance

    small = Frame.from_atoms(bulk("Ar", "fcc", a=5.3))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        npt(n_steps=20).run(ARGON, [small], 0, Path(), Resources())
    npt(n_steps=20).run(ARGON, [small], 0, Path(), Resources())
    compiled = advance._cache_size()
    npt(n_steps=20, pressure_GPa=0.2, tau_pressure_fs=90, temperatures_K=[9.0]).run(
        ARGON, [small], 1, Path(), Resources()
    )
    assert advance._cache_size() == compiled
