"""NormalModesSampler: frequencies, equipartition, relaxation, what is clipped and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.vibrations import VibrationsData
from numpy_toys import NeverAsked, Springs, closest_of, explore
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from alfw.core.errors import DataError, SamplingError
from alfw.core.frame import Frame
from alfw.core.units import KB_eV_PER_K
from alfw.models._ase_members import ASEPotential
from alfw.samplers._harmonic import relaxed, vibrations

COPPER = Frame.from_atoms(bulk("Cu", "fcc", a=3.7, cubic=True))
EMTS = ASEPotential("ase.calculators.emt:EMT", [{}, {}], None, (1, 6, 7, 8, 29))


WATER = Frame.from_atoms(molecule("H2O"))
WATER_SPRINGS = Springs(WATER, 25.0, 35.0)  # 30 eV/Å^2 in the mean
MODES: dict[str, Any] = {"temperatures_K": [300.0], "min_frequency_per_cm": 1.0, "min_distance_fraction": 0.0}


def test_frequencies_are_those_of_a_diatomic_molecule_and_of_ase() -> None:
    hydrogen = Frame([1, 1], [[0, 0, 0], [0.3, 0.4, 0.55]])
    found = vibrations(Springs(hydrogen, 30.0), hydrogen, 0.01)
    # omega = sqrt(k / mu), 1 / (2 pi c) of it: 521.47 cm^-1 for 1 eV/Å^2 and 1 amu
    assert found.per_cm() == pytest.approx([521.471 * np.sqrt(30.0 / 0.504)], rel=1e-4)
    atoms = Atoms("Cu4", 0.9 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.1]]))
    frame, done = relaxed(EMTS, Frame.from_atoms(atoms), 1e-3, 500)
    assert done
    ours = vibrations(EMTS, frame, 0.01).per_cm()
    atoms.positions = frame.positions
    assert len(ours) == 6 and ours.min() > 50
    assert ours == pytest.approx(_ase_frequencies(atoms), rel=2e-3)


def _ase_frequencies(atoms: Any) -> np.ndarray:
    """(3n − 6,) cm^−1 by ASE's VibrationsData of a Hessian made here."""
    n, h = len(atoms), 0.005
    hessian = np.zeros((3 * n, 3 * n))
    for i in range(3 * n):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = EMT()
            moved.positions.flat[i] += sign * h
            hessian[i] -= sign * moved.get_forces().ravel() / (2 * h)
    data = VibrationsData.from_2d(atoms, (hessian + hessian.T) / 2)
    return np.sort(np.abs(data.get_frequencies()))[6:]


@pytest.mark.parametrize(("name", "modes"), [("H2O", 3), ("CO2", 4), ("N2", 1), ("C2H2", 7)])
def test_translations_and_rotations_are_taken_out_in_any_orientation(name: str, modes: int) -> None:
    frame = Frame.from_atoms(molecule(name))
    frame = frame.moved(Rotation.random(random_state=1).apply(frame.positions.copy()) + [3.0, -2.0, 5.0])
    found = vibrations(Springs(frame, 20.0), frame, 0.01)
    assert len(found.curvature) == modes
    x, m = frame.positions - frame.positions.mean(0), frame.masses[:, None]
    for mode in found.modes:
        assert np.abs((m * mode).sum(0)).max() < 1e-8
        assert np.abs(np.cross(x - np.average(x, axis=0, weights=frame.masses), m * mode).sum(0)).max() < 1e-5
    gram = np.einsum("ani,n,bni->ab", found.modes, frame.masses, found.modes)
    assert gram == pytest.approx(np.eye(modes), abs=1e-8)


def test_each_mode_has_half_kT_and_atoms_share_it() -> None:
    pool = explore(
        "normal-modes", WATER_SPRINGS, [WATER], count=3000, **MODES | {"temperatures_K": [50.0, 200.0]}
    )
    found = vibrations(WATER_SPRINGS, WATER, 0.01)
    assert pool.temperature_K.tolist() == [50.0] * 1500 + [200.0] * 1500
    u = np.array([frame.positions - WATER.positions for frame in pool.frames])
    q = np.einsum("bni,n,mni->bm", u, WATER.masses, found.modes)
    for T, part in ((50.0, q[:1500]), (200.0, q[1500:])):
        half = (found.curvature * part**2 / 2).mean(0) / (KB_eV_PER_K * T)
        assert half == pytest.approx([0.5] * 3, abs=4 * 0.5 * np.sqrt(2 / 1500))
        assert np.corrcoef(part.T) == pytest.approx(np.eye(3), abs=4 / np.sqrt(1500))
    # the true energy of the springs at the lower temperature, where they are harmonic: 3 kT / 2
    energy = WATER_SPRINGS.predict(pool.frames[:1500]).energy.mean(0)
    assert energy.mean() == pytest.approx(1.5 * KB_eV_PER_K * 50.0, rel=0.12)
    assert pool.counters["n_modes"] == 3 and pool.counters["n_modes_clipped"] == 0 and not pool.unbiased


def test_wigner_has_zero_point_motion_and_the_classical_limit() -> None:
    found = vibrations(WATER_SPRINGS, WATER, 0.01)
    omega = found.per_cm() * 1.8836516e-4  # rad/fs
    hbar = 0.6582119569
    mass = 103.64269652680505  # amu Å^2/fs^2 in eV
    cold = found.widths(1.0, "wigner", 1.0)
    assert cold**2 * mass * omega**2 == pytest.approx(hbar * omega / 2, rel=1e-4)
    assert found.widths(1e6, "wigner", 1.0) == pytest.approx(found.widths(1e6, "classical", 1.0), rel=1e-3)
    assert (found.widths(300.0, "wigner", 1.0) > 1.9 * found.widths(300.0, "classical", 1.0)).all()
    pool = explore("normal-modes", WATER_SPRINGS, [WATER], count=800, statistics="wigner", **MODES)
    q = np.einsum(
        "bni,n,mni->bm", [f.positions - WATER.positions for f in pool.frames], WATER.masses, found.modes
    )
    assert q.std(0) == pytest.approx(found.widths(300.0, "wigner", 1.0), rel=4 / np.sqrt(2 * 800))


def test_starts_are_relaxed_first_and_the_cell_stays() -> None:
    shaken = COPPER.moved(COPPER.positions + np.random.default_rng(0).normal(0, 0.05, (4, 3)))
    pool = explore("normal-modes", EMTS, [shaken], count=6, temperatures_K=[1e-4])
    assert pool.counters["n_not_relaxed"] == 0 and pool.counters["n_modes"] == 9
    for frame in pool.frames:
        assert np.linalg.norm(EMTS.predict([frame]).forces[0][0], axis=1).max() < 0.06
        assert np.array_equal(frame.cell, COPPER.cell)
    early = explore("normal-modes", EMTS, [shaken], count=6, temperatures_K=[1e-4], relax_steps=1)
    assert early.counters["n_not_relaxed"] == 1 and len(early.frames) == 6
    there = explore("normal-modes", EMTS, [shaken], count=6, temperatures_K=[1e-6], relax_steps=0)
    assert there.frames[0].positions == pytest.approx(shaken.positions, abs=1e-4)


def test_soft_and_imaginary_modes_are_clipped_and_counted() -> None:
    saddle = Frame([1, 1, 1], [[-0.9, 0, 0], [0, 0, 0], [0.9, 0, 0]])
    outer = Frame([1, 1, 1], [[-0.8, 0, 0], [0, 0, 0], [0.8, 0, 0]])
    springs = Springs(outer, 20.0)  # compressed springs push the middle atom aside: bending is imaginary
    springs.length = springs.length * 1.3
    found = vibrations(springs, saddle, 0.01)
    n_soft = int((found.curvature < 0).sum())
    assert n_soft >= 1
    pool = explore(
        "normal-modes", springs, [saddle], count=400, temperatures_K=[20.0], relax_steps=0, min_frequency_per_cm=800.0,
        min_distance_fraction=0.0,
    )  # fmt: skip
    assert pool.counters["n_modes_clipped"] == (found.per_cm() < 800).sum() >= n_soft
    u = np.array([f.positions - saddle.positions for f in pool.frames])
    q = np.einsum("bni,n,mni->bm", u, saddle.masses, found.modes)
    width = found.widths(20.0, "classical", 800.0)
    assert (
        q.std(0) == pytest.approx(width, rel=4 / np.sqrt(800))
        and width.max() == width[found.curvature < 0].max()
    )
    omega = (
        100 * 1.8836516e-4
    )  # rad/fs: imaginary modes have the amplitudes of the softest real ones let pass
    expected = np.sqrt(KB_eV_PER_K * 20.0 / 103.64269652680505) / omega
    assert (found.per_cm() < -150).any()
    assert found.widths(20.0, "classical", 100.0)[found.curvature < 0] == pytest.approx(expected, rel=1e-5)


def test_starts_in_turn_the_first_ones_only_and_same_seed_same_frames() -> None:
    starts = [WATER, WATER.moved(WATER.positions + 1.0), WATER.moved(WATER.positions - 1.0)]
    pool = explore("normal-modes", WATER_SPRINGS, starts, count=5, max_starts=2, **MODES)
    assert pool.walker.tolist() == [0, 1, 0, 1, 0] and pool.step.tolist() == [0, 0, 1, 1, 2]
    pools = [explore("normal-modes", WATER_SPRINGS, starts, seed=s, count=5, **MODES) for s in (1, 1, 2)]
    ids = [[frame.id for frame in pool.frames] for pool in pools]
    assert ids[0] == ids[1] and not set(ids[0]) & set(ids[2])


def test_fixed_atoms_stay_and_nothing_is_too_close() -> None:
    slab = fcc111("Cu", (1, 1, 3), vacuum=6.0, periodic=True)
    fixed = np.array([True, False, False])
    start = Frame(slab.numbers, slab.positions, np.array(slab.cell), [True] * 3, fixed=fixed)
    pool = explore(
        "normal-modes", EMTS, [start], count=30, temperatures_K=[2000.0], min_distance_fraction=0.85
    )
    assert pool.counters["n_modes"] == 6
    assert all(np.array_equal(frame.positions[0], start.positions[0]) for frame in pool.frames)
    assert min(map(closest_of, pool.frames)) >= 0.85
    loose = explore(
        "normal-modes", EMTS, [start], count=30, temperatures_K=[2000.0], min_distance_fraction=0.0
    )
    assert min(map(closest_of, loose.frames)) < 0.85


def test_starts_without_finite_forces_are_left_out_and_counted() -> None:
    nan = Springs(WATER, 30.0, broken=1.7)
    far = WATER.moved(WATER.positions * 1.2)
    pool = explore("normal-modes", nan, [far, WATER], count=4, **MODES)
    assert pool.walker.tolist() == [1] * 4 and pool.counters["n_starts_not_finite"] == 1
    with pytest.raises(SamplingError, match="of 1 starts came no frame: n_starts_not_finite 1") as caught:
        explore("normal-modes", nan, [far], count=4, **MODES)
    assert "\n" not in str(caught.value)
    close = WATER.moved(WATER.positions * 0.4)
    with pytest.raises(SamplingError, match="n_starts_too_close 1"):
        explore("normal-modes", WATER_SPRINGS, [close], count=4, temperatures_K=[300.0], relax_steps=0)


@pytest.mark.parametrize(
    "options",
    [{"temperatures_K": []}, {"temperatures_K": [0.0]}, {"count": 1, "temperatures_K": [1, 2]}, {"statistics": "bose"},
     {"displacement_A": 1e-5}, {"relax_steps": -1}, {"amplitude": 1}],
)  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        explore("normal-modes", WATER_SPRINGS, [WATER], **{"count": 5, "temperatures_K": [300.0]} | options)


def test_what_cannot_be_run_is_refused_in_one_line() -> None:
    slab = Frame.from_atoms(fcc111("Cu", (1, 1, 2), vacuum=6.0))
    for error, words, potential, starts in (
        (SamplingError, "no frame to start from", EMTS, []),
        (SamplingError, r"does not know the elements Z = \[29\]", NeverAsked(1), [COPPER]),
        (DataError, "some directions only", EMTS, [slab]),
    ):
        with pytest.raises(error, match=words) as caught:
            explore("normal-modes", potential, starts, count=4, temperatures_K=[300.0])
        assert "\n" not in str(caught.value)
