"""JaxMDSampler: true units, temperature, energy, and forces from its own edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, fcc111
from sampler_toys import Toy

from alfw.core.frame import Frame
from alfw.core.records import Resources
from alfw.core.units import AMU_A2_PER_FS2_eV, KB_eV_PER_K
from alfw.samplers import _jaxmd
from alfw.samplers.jaxmd import JaxMDSampler, MDLimits

ARGON = Toy("lj", [[0.0104, 3.4]], 7.0, (18,))
SOLID = Frame.from_atoms(bulk("Ar", "fcc", a=5.3, cubic=True).repeat(2))


def molecule_of(frame: Frame) -> Frame:
    """The same atoms without a cell."""
    return Frame(frame.numbers, frame.positions)


def bond(k: float, r0: float = 0.74) -> Toy:
    return Toy("bond", [[k, r0]], 5.0, (1,))


def hydrogen(r: float) -> Frame:
    return Frame([1, 1], [[0, 0, 0], [0, 0, r]])


def simulation(options: JaxMDSampler, potential: Toy, start: Frame, skin_A: float = 0.5) -> _jaxmd.Simulation:
    return _jaxmd.Simulation(options, potential, _jaxmd.walkers_of(options, [start]), seed=3, skin_A=skin_A)


def test_period_of_an_oscillator_is_the_analytic_one_in_fs() -> None:
    k, mass = 30.0, 1.008
    sampler = JaxMDSampler(
        ensemble="nve", temperatures_K=(1e-6,), walkers=1, dt_fs=0.1, n_steps=2000, keep_every=1
    )
    pool = sampler.run(bond(k), [hydrogen(0.78)], 0, Path(), Resources())
    x = np.array([np.linalg.norm(f.positions[1] - f.positions[0]) for f in pool.frames]) - 0.74
    up = np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0))
    crossings = pool.time_fs[up] - 0.1 * x[up] / (x[up + 1] - x[up])
    period = np.diff(crossings).mean()
    assert period == pytest.approx(2 * np.pi * np.sqrt(mass / 2 * AMU_A2_PER_FS2_eV / k), rel=1e-3)
    assert np.isnan(pool.temperature_K).all()


def kinetic_temperature(sim: _jaxmd.Simulation) -> np.ndarray:
    """(R,) K, of 3 n degrees of freedom."""
    p, m = np.asarray(sim.carry.momentum, float), np.asarray(sim.atoms.mass, float)
    return np.array(
        [(p[s] ** 2 / m[s]).sum() / (3 * (s.stop - s.start) * KB_eV_PER_K) for s in sim.walkers.slices]
    )


def test_each_temperature_is_held() -> None:
    options = JaxMDSampler(
        temperatures_K=(30.0, 60.0), walkers=8, dt_fs=4.0, n_steps=3000, keep_every=50, friction_per_ps=10.0
    )
    sim = simulation(options, ARGON, SOLID)
    sampled = []
    for step in range(600, 3001, 50):
        sim.advance(step)
        sampled.append(kinetic_temperature(sim))
    assert sim.n_alive == 8
    mean = np.mean(sampled, axis=0).reshape(2, 4).mean(1)
    # 4 walkers x 96 degrees of freedom, 49 samples 200 fs apart (twice the friction's memory): sigma about 1 %
    assert mean == pytest.approx([30.0, 60.0], rel=0.03)


def total_energy(sim: _jaxmd.Simulation, potential: Toy) -> float:
    p, m = np.asarray(sim.carry.momentum, float), np.asarray(sim.atoms.mass, float)
    frame = sim.living()[0].frame
    return float((p**2 / m).sum() / 2 + potential.predict([frame]).energy[0, 0])


def energies(dt_fs: float, potential: Toy, start: Frame, T: float, fs: float, n: int) -> np.ndarray:
    options = JaxMDSampler(
        ensemble="nve", temperatures_K=(T,), walkers=1, dt_fs=dt_fs, n_steps=10**6, keep_every=1
    )
    sim = simulation(options, potential, start)
    out = []
    for i in range(n):
        sim.advance(round(i * fs / dt_fs))
        out.append(total_energy(sim, potential))
    return np.array(out)


def test_energy_error_of_nve_scales_as_dt_squared() -> None:
    coarse, fine = (np.ptp(energies(dt, bond(30.0), hydrogen(0.84), 1e-6, 1.0, 60)) for dt in (1.0, 0.5))
    assert coarse / fine == pytest.approx(4.0, rel=0.25)


def test_nve_does_not_drift() -> None:
    energy = energies(4.0, ARGON, SOLID, 40.0, 400.0, 40)
    drift = np.polyfit(np.arange(40) * 0.4, energy, 1)[0] / len(SOLID)
    assert np.abs(energy - energy[0]).max() / len(SOLID) < 3e-5
    assert abs(drift) < 2e-6  # eV per atom and ps


def test_velocities_at_the_start_are_thermal_and_without_drift() -> None:
    options = JaxMDSampler(temperatures_K=(300.0,), walkers=40, n_steps=1, keep_every=1)
    walkers = _jaxmd.walkers_of(options, [SOLID])
    p = walkers.momenta(5)[:-1].reshape(40, len(SOLID), 3)
    assert np.abs(p.sum(1)).max() < 1e-4
    dof = 40 * (3 * len(SOLID) - 3)
    T = (p.astype(float) ** 2 / SOLID.masses[:, None]).sum() / dof / KB_eV_PER_K
    assert pytest.approx(300.0, rel=4 * np.sqrt(2 / dof)) == T


def slab() -> Frame:
    atoms = fcc111("Ar", (2, 2, 3), a=5.3, vacuum=8.0, periodic=True)
    return Frame.from_atoms(atoms)


TRICLINIC = Frame(
    [18] * 2, [[0.1, 0.2, 0.3], [2.3, 2.6, 2.9]], [[4.4, 0, 0], [1.7, 4.3, 0], [-1.1, 0.9, 6.0]], [1, 1, 1]
)
GEOMETRIES = {
    "one-atom cell": Frame.from_atoms(bulk("Ar", "fcc", a=5.3)),
    "triclinic": TRICLINIC,
    "unwrapped": TRICLINIC.moved(TRICLINIC.positions + np.array([[0, 0, 0], [13.2, 0, 0]]) - [9.9, 7, 30]),
    "slab with vacuum": slab(),
    "solid": SOLID,
    "48 atoms without cell": molecule_of(
        Frame.from_atoms(bulk("Ar", "fcc", a=5.3, cubic=True).repeat((3, 2, 2)))
    ),
    "two atoms": Frame([18, 18], [[0, 0, 0], [3.6, 0.2, 0]]),
    "one atom": Frame([18], [[1, 2, 3]]),
    "13 atoms": molecule_of(Frame.from_atoms(bulk("Ar", "fcc", a=5.3, cubic=True).repeat(2)[:13])),
}


def test_forces_of_the_loop_are_those_of_predict_for_all_kinds_of_walkers_at_once() -> None:
    rng = np.random.default_rng(0)
    frames = [f.moved(f.positions + rng.normal(0, 0.15, (len(f), 3))) for f in GEOMETRIES.values()]
    frames.append(
        Frame(SOLID.numbers, frames[4].positions, SOLID.cell, SOLID.pbc, fixed=np.arange(len(SOLID)) < 8)
    )
    expected = ARGON.predict(frames).forces
    for frame, ours, theirs in zip(frames, _jaxmd.loop_forces(ARGON, frames), expected, strict=True):
        assert ours == pytest.approx(theirs[0] * frame.free[:, None], abs=2e-6)


@pytest.mark.parametrize("skin_A", [0.3, 0.004], ids=["usual", "outrun in one step"])
def test_rebuilt_edges_give_the_trajectory_of_edges_that_never_need_it(skin_A: float) -> None:
    options = JaxMDSampler(
        ensemble="nve", temperatures_K=(100.0,), walkers=2, dt_fs=4.0, n_steps=400, keep_every=400,
        limits=MDLimits(max_speed_A_per_fs=0.1),
    )  # fmt: skip
    runs = [simulation(options, ARGON, SOLID, skin) for skin in (skin_A, 4.0)]
    counts = []
    for sim in runs:
        calls: list[float] = []
        rebuild = sim.rebuild
        sim.rebuild = lambda skin, calls=calls, rebuild=rebuild: (calls.append(skin), rebuild(skin))[1]  # type: ignore
        sim.advance(150)
        counts.append(len(calls))
    assert counts[0] > 3 and counts[1] == 0
    few, many = (np.asarray(sim.carry.position) for sim in runs)
    assert np.abs(few[:-1] - np.tile(SOLID.positions, (2, 1))).max() > 0.5
    assert np.abs(few - many).max() < 1e-3
