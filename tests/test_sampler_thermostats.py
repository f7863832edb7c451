"""JaxMDSampler: Nosé–Hoover chains, ramps, displaced starts, walkers that begin again, and that each is alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from pydantic import ValidationError
from sampler_toys import Toy
from test_sampler_physics import ARGON, SOLID, simulation

from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.neighbours import closest_fraction
from alfw.core.records import Resources
from alfw.core.units import FS, AMU_A2_PER_FS2_eV, KB_eV_PER_K
from alfw.samplers import _jaxmd
from alfw.samplers.jaxmd import JaxMDSampler

BOND = Toy("bond", [[30.0, 0.74]], 5.0, (1,))
CALM = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]])
SQUEEZED = CALM.moved(np.array([[0, 0, 0], [1.4, 0, 0]]))  # 20 eV/Å: stopped by the limit of `EXPLODES`
EXPLODES = {"limits": {"min_distance_fraction": 0.3, "max_force_eV_per_A": 12.0}}
SMALL = Frame.from_atoms(bulk("Ar", "fcc", a=5.3, cubic=True))
COARSE = Toy("lj", [[0.0104, 3.4]], 5.0, (18,))  # argon, with few neighbours
BASE: dict[str, Any] = {"temperatures_K": [300.0], "walkers": 1, "n_steps": 400, "keep_every": 20}
CHAINS = {"thermostat": "nose-hoover", "tau_fs": 200.0, "dt_fs": 4.0}


def options_of(**options: Any) -> JaxMDSampler:
    return JaxMDSampler.model_validate(BASE | options)


def explore(potential: Any, starts: list[Frame], seed: int = 4, **options: Any) -> Exploration:
    return options_of(**options).run(potential, starts, seed, Path(), Resources())


def kinetic(sim: _jaxmd.Simulation) -> np.ndarray:
    """(R,) eV."""
    p, mass = np.asarray(sim.carry.momentum, float), np.asarray(sim.atoms.mass, float)
    return np.array([(p[part] ** 2 / mass[part]).sum() / 2 for part in sim.walkers.slices])


# --- options


@pytest.mark.parametrize(
    "options",
    [
        {"ramp_K": [100, 200]}, {"temperatures_K": [], "ramp_K": [100]}, {"temperatures_K": [], "ramp_K": [0, 100]},
        {"temperatures_K": [], "ramp_K": [100, 200], "ensemble": "nve"}, {"tau_fs": 50}, {"restarts": -1},
        {"thermostat": "nose-hoover", "ensemble": "nve"}, {"thermostat": "nose-hoover", "friction_per_ps": 1},
        {"thermostat": "berendsen"}, {"perturb_A": -0.1}, {"ensemble": "nve", "friction_per_ps": 1},
    ],
)  # fmt: skip
def test_options_that_contradict_or_would_be_ignored_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options_of(**options)


# --- Nosé–Hoover


def conserved(sim: _jaxmd.Simulation) -> np.ndarray:
    """(R,) eV: energy of each walker and of its chain (doi:10.1080/00268979600100761, eq. 4.1)."""
    kT, freedom = np.asarray(sim.atoms.kT, float)[0, :-1, None], np.asarray(sim.atoms.freedom, float)[:-1]
    energy = ARGON.predict([one.frame for one in sim.living()]).energy[0]
    position, momentum = np.asarray(sim.carry.chain, float)[:-1].transpose(1, 0, 2)
    weight = np.stack([freedom, np.ones_like(freedom), np.ones_like(freedom)], 1)
    mass = weight * kT * (CHAINS["tau_fs"] * FS) ** 2
    return energy + kinetic(sim) + (momentum**2 / (2 * mass)).sum(1) + (weight * kT * position).sum(1)


@pytest.mark.slow
def test_error_of_the_conserved_quantity_scales_as_dt_squared_in_every_walker() -> None:
    def spread(dt_fs: float) -> np.ndarray:
        options = options_of(
            **CHAINS | {"dt_fs": dt_fs}, temperatures_K=[30.0, 60.0], walkers=2, n_steps=10**6
        )
        sim = simulation(options, ARGON, SOLID)
        seen = []
        for i in range(50):
            sim.advance(round(40 * i / dt_fs))
            seen.append(conserved(sim))
        return np.ptp(seen, axis=0)

    coarse, fine = spread(8.0), spread(4.0)
    assert (coarse < 5e-4).all()  # of 0.4 eV that go back and forth
    assert coarse / fine == pytest.approx([4.0, 4.0], rel=0.3)


@pytest.mark.slow
def test_a_chain_for_each_walker_gives_each_the_canonical_kinetic_energies_of_its_own_temperature() -> None:
    temperatures = [30.0, 90.0]
    options = options_of(**CHAINS, temperatures_K=temperatures, walkers=2, n_steps=10**6)
    sim = simulation(options, COARSE, SMALL)
    seen = []
    for step in range(1000, 25001, 50):
        sim.advance(step)
        seen.append(kinetic(sim))
    reduced = (
        2 * np.array(seen) / (KB_eV_PER_K * np.array(temperatures))
    )  # chi-squared of 9 degrees of freedom
    assert reduced.mean(0) == pytest.approx([9.0, 9.0], rel=0.07)
    assert reduced.var(0) == pytest.approx([18.0, 18.0], rel=0.35)


# --- ramps


@pytest.mark.slow
def test_a_ramp_takes_the_target_from_the_first_to_the_second_and_frames_say_it() -> None:
    options = options_of(
        temperatures_K=[], ramp_K=[20.0, 80.0], walkers=64, dt_fs=4.0, n_steps=1000, keep_every=25, friction_per_ps=20
    )  # fmt: skip
    pool = options.run(COARSE, [SMALL], 3, Path(), Resources())
    assert pool.temperature_K == pytest.approx(20.0 + 60.0 * pool.step / 1000)
    assert pool.velocities is not None
    twice = [(SMALL.masses[:, None] * v.astype(float) ** 2).sum() for v in pool.velocities]
    measured = np.array(twice) * AMU_A2_PER_FS2_eV / (3 * len(SMALL) * KB_eV_PER_K)
    slope, first = np.polyfit(pool.step / 1000, measured, 1)
    assert (first, first + slope) == (pytest.approx(20.0, abs=3.0), pytest.approx(80.0, abs=4.0))
    down = options_of(temperatures_K=[], ramp_K=[80.0, 20.0], walkers=8)
    p = simulation(down, ARGON, SOLID).carry.momentum
    start_K = (np.asarray(p, float)[:-1] ** 2).sum() / SOLID.masses[0] / (8 * (3 * 32 - 3) * KB_eV_PER_K)
    assert start_K == pytest.approx(80.0, rel=0.15)


# --- displaced starts


def test_starts_are_displaced_for_each_walker_by_itself_but_fixed_atoms_stay() -> None:
    fixed = np.arange(len(SOLID)) < 8
    start = Frame(SOLID.numbers, SOLID.positions, SOLID.cell, SOLID.pbc, fixed=fixed)
    options = options_of(perturb_A=0.1, walkers=3)
    walkers = _jaxmd.walkers_of(options, [start])
    sim = _jaxmd.Simulation(options, ARGON, walkers, 7, 0.5)
    moved = np.asarray(sim.carry.position, float)[:-1].reshape(3, -1, 3) - SOLID.positions
    assert np.abs(moved[:, fixed]).max() < 1e-6
    assert moved[:, ~fixed].std() == pytest.approx(0.1, rel=0.2)
    assert np.abs(moved[0] - moved[1]).max() > 0.1
    again = _jaxmd.Simulation(options, ARGON, walkers, 7, 0.5)
    assert np.array_equal(again.carry.position, sim.carry.position)
    other = _jaxmd.Simulation(options, ARGON, walkers, 8, 0.5)
    assert np.abs(np.asarray(other.carry.position) - np.asarray(sim.carry.position)).max() > 0.1


def test_displacements_that_bring_atoms_too_close_are_drawn_again_smaller() -> None:
    options = options_of(perturb_A=0.5, walkers=40)
    sim = _jaxmd.Simulation(options, BOND, _jaxmd.walkers_of(options, [CALM]), 0, 0.5)
    frames = [CALM.moved(x) for x in np.asarray(sim.carry.position, float)[:-1].reshape(40, 2, 3)]
    assert min(map(closest_fraction, frames)) >= 0.6
    assert len({frame.id for frame in frames}) == 40
    close = CALM.moved(
        np.array([[0, 0, 0], [0.2, 0, 0]])
    )  # nothing helps: it is used as it is, and stopped at once
    (event,) = explore(BOND, [close], perturb_A=0.001).events
    assert (event.reason, event.step) == ("distance", 0)


# --- equilibration


def test_limits_hold_from_the_very_first_step_of_an_equilibration() -> None:
    late = {"n_steps": 400, "equilibration_steps": 300}
    (event,) = explore(BOND, [SQUEEZED], **late, **EXPLODES).events
    assert (event.reason, event.step) == ("force", 0)
    nan = Toy("nan", [[0.02, 1.5]], 5.0, (1,))
    near = CALM.moved(np.array([[0, 0, 0], [1.499, 0, 0]]))
    (event,) = explore(nan, [near], **late, limits={"max_force_eV_per_A": 1e9}, temperatures_K=[1.0]).events
    assert event.reason == "nan" and event.step < 300


# --- beginning again


def test_a_walker_begins_again_from_another_start_as_another_walker() -> None:
    three = Frame([1, 1, 1], [[0, 0, 0], [0.74, 0, 0], [0.37, 0.64, 0]])
    starts = [SQUEEZED, CALM, three]
    pool = explore(BOND, starts, walkers=3, restarts=2, equilibration_steps=40, **EXPLODES)
    assert [(event.walker, event.step) for event in pool.events] == [(0, 0)]
    assert pool.events[0].good.id == SQUEEZED.id
    # one step goes into looking at the new start: 0, and 1 to begin again
    assert pool.life_fs == {0: 0.0, 3: 199.5, 1: 200.0, 2: 200.0}
    assert set(pool.walker.tolist()) == {1, 2, 3}
    for frame, w in zip(pool.frames, pool.walker, strict=True):
        assert len(frame) == (3 if w == 2 else 2)
        assert np.linalg.norm(frame.positions[1] - frame.positions[0]) < 1.2
    new, old = (pool.walker == 3), (pool.walker == 1)
    assert pool.step[new].tolist() == (pool.step[old] - 1).tolist() and pool.step[old].min() == 60
    assert pool.counters["n_walkers"] == 4 and pool.counters["n_explosions"] == 1
    assert pool.counters["n_steps"] == 1199 and pool.counters["time_ps"] == pytest.approx(0.5995)
    without = explore(BOND, starts, walkers=3, equilibration_steps=40, **EXPLODES)
    for w in (1, 2):  # others do not notice
        ids = [[f.id for f, v in zip(p.frames, p.walker, strict=True) if v == w] for p in (pool, without)]
        assert ids[0] == ids[1] != []
    assert without.counters["n_walkers"] == 3 and 3 not in without.life_fs


def test_a_walker_begins_again_as_often_as_it_may_and_never_from_where_it_exploded() -> None:
    pool = explore(BOND, [SQUEEZED], restarts=3, perturb_A=0.01, **EXPLODES)
    assert [(event.walker, event.step) for event in pool.events] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert len({event.bad.id for event in pool.events if event.bad is not None}) == 4  # displaced anew
    assert len(pool.frames) == 0 and pool.counters["n_steps"] == 0 and pool.counters["n_walkers"] == 4
    hot = {"temperatures_K": [9000.0], "limits": {"max_force_eV_per_A": 3.0, "min_distance_fraction": 0.3}}
    pool = explore(BOND, [CALM], seed=1, restarts=50, walkers=2, **hot)
    assert len(pool.events) > 4
    assert all(event.time_fs == pool.life_fs[event.walker] for event in pool.events)
    assert pool.counters["n_steps"] * 0.5 == sum(pool.life_fs.values()) <= 2 * 200.0
    late = [event for event in pool.events if event.walker > 1]
    for event in late:  # what came before is its own: the last good frame is of this life
        assert event.bad is not None and event.good.id != event.bad.id
        assert np.abs(event.good.positions - CALM.positions).max() < event.time_fs * 1.0 + 1e-6


# --- alone


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param(CHAINS, marks=pytest.mark.slow),
        pytest.param({"ensemble": "npt", "pressure_GPa": 0.1, "dt_fs": 4.0}, marks=pytest.mark.slow),
    ],
    ids=["langevin", "nose-hoover", "npt"],
)
def test_a_walker_does_not_know_who_else_is_there(options: dict[str, Any]) -> None:
    others = [
        SMALL,
        Frame.from_atoms(bulk("Ar", "fcc", a=5.5)),
        SMALL.moved(SMALL.positions * 1.02, SMALL.cell * 1.02),
    ]
    steps = {"n_steps": 100, "keep_every": 100, "temperatures_K": [40.0]}
    (alone,) = explore(COARSE, [SMALL], **steps, **options).frames
    first, *_ = explore(COARSE, others, walkers=3, **steps, **options).frames
    again, *_ = explore(COARSE, others, walkers=3, **steps, **options).frames
    assert first.id == again.id
    assert np.abs(first.positions - SMALL.positions).max() > 0.05
    assert np.abs(first.positions - alone.positions).max() < 1e-4
    assert np.abs(first.cell - alone.cell).max() < 1e-4
