"""ASEMDSampler: trajectories and ensembles against theory and ASE, limits, events, isolation of walkers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from numpy_toys import Free, Gas, Moody, Springs, explore
from pydantic import ValidationError

from alfw.core.errors import DataError, SamplingError, TrainingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.neighbours import closest_fraction
from alfw.core.records import Prediction
from alfw.models._ase_members import ASEPotential
from alfw.samplers.ase_md import ASEMDSampler

CALM = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]])
BOND = Springs(CALM, 30.0)
ARGON = Frame([18] * 4, 3.8 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.9, 0], [0.5, 0.3, 0.8]]))
COPPER = Frame.from_atoms(bulk("Cu", "fcc", a=3.6, cubic=True))
EMTS = ASEPotential("ase.calculators.emt:EMT", [{}], None, ())
BASE: dict[str, Any] = {"temperatures_K": [300.0], "walkers": 1, "n_steps": 200, "keep_every": 20}
FREE: dict[str, Any] = {
    "max_speed_A_per_fs": 10,
    "max_force_eV_per_A": 1e9,
    "min_distance_fraction": 0,
    "max_growth_A": 1e9,
}


def md(potential: Any, starts: Sequence[Frame], seed: int = 4, **options: Any) -> Exploration:
    return explore("ase-md", potential, starts, seed, **BASE | options)


def of_walker(pool: Exploration, walker: int) -> list[str]:
    return [f.id for f, w in zip(pool.frames, pool.walker, strict=True) if w == walker]


# --- what is kept


def test_walkers_are_spread_over_temperatures_and_starts_and_frames_are_kept_regularly() -> None:
    far = Frame([1, 1, 1], [[0, 0, 0], [0.74, 0, 0], [0.37, 0.64, 0]])
    pool = md(
        Free(1), [CALM, far], temperatures_K=[100.0, 200.0], walkers=4, equilibration_steps=100, limits=FREE
    )
    assert sorted(set(pool.step.tolist())) == list(range(120, 201, 20)) and pool.time_fs == pytest.approx(
        pool.step * 0.5
    )
    found = {
        int(w): (len(f), T) for f, w, T in zip(pool.frames, pool.walker, pool.temperature_K, strict=True)
    }
    assert found == {0: (2, 100.0), 1: (3, 100.0), 2: (2, 200.0), 3: (3, 200.0)}
    assert (
        pool.counters["n_steps"] == 800 and pool.counters["time_ps"] == pytest.approx(0.4) and pool.unbiased
    )
    assert pool.life_fs == {w: 100.0 for w in range(4)}
    x = dict(zip(zip(pool.walker.tolist(), pool.step.tolist(), strict=True), pool.frames, strict=True))
    nve = md(Free(1), [CALM], ensemble="nve")  # free atoms go straight on
    v = [frame.positions for frame in nve.frames]
    assert (v[1] - v[0]) / 10.0 == pytest.approx(nve.velocities[0], abs=2e-7)  # type: ignore[index]
    assert np.isnan(nve.temperature_K).all() and len(x) == 20


def test_same_seed_same_frames() -> None:
    ids = [[f.id for f in md(BOND, [CALM], seed=s, walkers=2).frames] for s in (1, 1, 2)]
    assert ids[0] == ids[1] and not set(ids[0]) & set(ids[2])


def test_driver_is_chosen_by_the_seed_and_alone_moves_the_atoms() -> None:
    both = Springs(CALM, 30.0, 5.0)
    for seed in (2, 3):
        pool = md(both, [CALM], seed=seed)
        alone = md(Springs(CALM, both.k[seed % 2]), [CALM], seed=seed)
        assert pool.counters["driver"] == seed % 2 and [f.id for f in pool.frames] == [
            f.id for f in alone.frames
        ]


def test_the_driver_is_asked_alone_where_it_can_be() -> None:
    class Counting(Springs):
        asked: list[int] = []

        def member(self, k: int) -> Springs:
            alone = Counting(CALM, self.k[k])
            return alone

        def predict(self, frames: Sequence[Frame]) -> Prediction:
            self.asked.append(self.members)
            return super().predict(frames)

    frames = md(
        Counting(CALM, 30.0, 29.0), [CALM], seed=1, n_steps=40, keep_every=20, force_std_every=10
    ).frames
    assert Counting.asked == [2, *[*[1] * 9, 2] * 4]
    whole = md(
        Springs(CALM, 30.0, 29.0), [CALM], seed=1, n_steps=40, keep_every=20, force_std_every=10
    ).frames
    assert [frame.id for frame in frames] == [frame.id for frame in whole]


def test_fixed_atoms_stay() -> None:
    fixed = np.array([True, True, False, False])
    start = Frame(COPPER.numbers, COPPER.positions, COPPER.cell, COPPER.pbc, fixed=fixed)
    for options in ({}, {"thermostat": "nose-hoover"}):
        for frame in md(EMTS, [start], dt_fs=3.0, n_steps=40, keep_every=10, **options).frames:
            assert np.array_equal(frame.positions[fixed], start.positions[fixed])
            assert np.abs(frame.positions[~fixed] - start.positions[~fixed]).max() > 0.005


def test_starts_can_be_displaced() -> None:
    pool = md(Free(1), [CALM], walkers=40, perturb_A=0.05, temperatures_K=[1e-6], n_steps=1, keep_every=1)
    moved = np.array([frame.positions - CALM.positions for frame in pool.frames])
    assert moved.std() == pytest.approx(0.05, rel=4 / np.sqrt(2 * 240))


# --- limits and events


def test_a_walker_that_explodes_stands_still_and_others_do_not_notice() -> None:
    calm = md(BOND, [CALM, CALM, CALM], walkers=3)
    squeezed = CALM.moved(np.array([[0, 0, 0], [1.4, 0, 0]]))
    pool = md(
        BOND,
        [CALM, squeezed, CALM],
        walkers=3,
        limits={"min_distance_fraction": 0.3, "max_force_eV_per_A": 21},
    )
    assert [e.walker for e in pool.events] == [1] and of_walker(pool, 1) == []
    for w in (0, 2):
        assert of_walker(pool, w) == of_walker(calm, w) != []
    (event,) = pool.events
    assert pool.counters["n_explosions"] == 1 and pool.counters["n_steps"] == 400 + event.step
    assert pool.life_fs == {0: 100.0, 1: event.time_fs, 2: 100.0}


def test_good_is_the_last_physical_frame_and_bad_the_first_beyond() -> None:
    soft = Springs(CALM, 1.0)  # a period of 41 fs
    fine = md(soft, [CALM], ensemble="nve", temperatures_K=[6000.0], keep_every=1, limits=FREE)
    force = np.array([np.linalg.norm(f[0], axis=1).max() for f in soft.predict(fine.frames).forces])
    limit = 0.99 * force.max()
    limits = FREE | {"max_force_eV_per_A": limit}
    (event,) = md(soft, [CALM], ensemble="nve", temperatures_K=[6000.0], limits=limits).events
    assert event.reason == "force" and event.bad is not None and event.velocities is not None
    first = int(np.flatnonzero(force > limit)[0])
    assert (event.step, event.bad.id, event.value) == (
        first + 1,
        fine.frames[first].id,
        pytest.approx(force[first]),
    )
    physical = [i for i in range(first) if force[i] <= limit / 2]
    good = [frame.id for frame in fine.frames].index(event.good.id)
    assert force[good] <= limit / 2 and physical[-1] - 4 <= good <= physical[-1]
    assert event.velocities == pytest.approx(fine.velocities[first - 1], abs=1e-6)  # type: ignore[index]


def test_each_limit_is_seen() -> None:
    near = CALM.moved(np.array([[0, 0, 0], [0.2, 0, 0]]))
    (event,) = md(BOND, [near]).events
    assert (event.reason, event.step, event.good.id, event.time_fs) == ("distance", 0, near.id, 0.0)
    assert event.value == pytest.approx(closest_fraction(near)) and event.explosion
    hot = {"temperatures_K": [5000.0], "n_steps": 400}
    (grows,) = md(Free(1), [CALM], **hot, limits=FREE | {"max_growth_A": 1.0}).events
    assert grows.reason == "growth" and 1.0 < grows.value < 1.2
    (fast,) = md(Free(1), [CALM], **hot, limits=FREE | {"max_speed_A_per_fs": 0.02}).events
    assert fast.reason == "speed" and fast.step == 0
    two = Springs(CALM, 30.0, 5.0)
    pool = md(two, [CALM.moved(CALM.positions * 1.2)], limits={"force_std_eV_per_A": 1.0}, force_std_every=10)
    assert (pool.events[0].reason, pool.events[0].step) == ("uncertain", 0) and pool.counters[
        "n_explosions"
    ] == 0
    assert pool.events[0].value == pytest.approx(12.5 * 0.148, rel=1e-4) and pool.counters["n_uncertain"] == 1


def test_nan_of_one_walker_reaches_no_other_also_from_the_first_step() -> None:
    nan = Springs(CALM, 30.0, broken=1.0)
    calm = md(nan, [CALM, CALM], walkers=2, limits=FREE)
    for r, step in ((1.3, 0), (0.42, None)):
        pool = md(nan, [CALM, CALM.moved(np.array([[0, 0, 0], [r, 0, 0]]))], walkers=2, limits=FREE)
        (event,) = pool.events
        assert (event.walker, event.reason) == (1, "nan") and np.isnan(event.value)
        assert event.step == step if step is not None else event.step > 5
        assert np.isfinite(event.good.positions).all() and of_walker(pool, 0) == of_walker(calm, 0) != []


def test_a_prediction_that_fails_stops_its_walker_but_not_in_the_start() -> None:
    far = CALM.moved(np.array([[0, 0, 0], [0.42, 0, 0]]))
    pool = md(Moody(CALM, 30.0, broken=1.0), [CALM, far], walkers=2, limits=FREE)
    assert [(e.walker, e.reason) for e in pool.events] == [(1, "nan")] and len(of_walker(pool, 0)) == 10
    assert pool.counters["n_failed_predictions"] == 1
    with pytest.raises(TrainingError, match="no convergence"):
        md(Moody(CALM, 30.0, broken=0.5), [CALM, far], walkers=2, limits=FREE)
    with pytest.raises(TrainingError, match="no convergence"):  # all at once: it is not for where they are
        md(
            Moody(CALM, 30.0, broken=0.76),
            [CALM],
            walkers=1,
            n_steps=100,
            limits=FREE,
            temperatures_K=[900.0],
        )


def test_cells_and_atoms_that_are_lost_stop_their_walker_in_words() -> None:
    cell = Frame([18], [[0, 0, 0]], np.eye(3) * 5, [True] * 3)
    options = {"ensemble": "npt", "tau_pressure_fs": 1.0, "compressibility_per_GPa": 1.0, "limits": FREE}
    for pressure in (-50.0, 50.0):
        (event,) = md(Gas(cell, 0.0), [cell], pressure_GPa=pressure, **options).events
        assert event.reason == "growth" and event.bad is None and event.good.id == cell.id
        assert (event.value > 10.0) == (pressure < 0)
    (event,) = md(Free(1), [CALM], temperatures_K=[1e12], limits=FREE).events
    assert (event.reason, event.step, event.bad is not None) == ("speed", 0, True)


def test_the_mean_of_a_shallow_ensemble_drives_and_its_spread_is_known_in_every_step() -> None:
    class Shallow(Springs):
        def atom_energy_function(self) -> Any: ...

        def atom_spread_function(self) -> Any: ...

    start = CALM.moved(CALM.positions * 1.1)
    pool = md(Shallow(CALM, 20.0, 40.0), [start], ensemble="nve")
    alone = md(BOND, [start], ensemble="nve")
    assert [f.id for f in pool.frames] == [f.id for f in alone.frames] and "driver" not in pool.counters
    energies = Shallow(CALM, 20.0, 40.0).predict([start]).energy[:, 0]
    assert pool.counters["max_energy_std_eV_per_atom"] >= energies.std() / 2 > 0
    limits = {"energy_std_eV_per_atom": 0.99 * energies.std() / 2}
    (event,) = md(Shallow(CALM, 20.0, 40.0), [start], ensemble="nve", limits=limits).events
    assert (event.reason, event.step) == ("uncertain", 0) and event.value == pytest.approx(energies.std() / 2)


def test_high_forces_are_reported_and_walkers_go_on() -> None:
    pool = md(BOND, [CALM], walkers=4, keep_every=2, high_force={"quantile": 0.99})
    high = [event for event in pool.events if event.reason == "high_force"]
    forces = [np.linalg.norm(f[0], axis=1).max() for f in BOND.predict(pool.frames).forces]
    assert (
        len(pool.frames) == 400
        and len(high) == 4 == pool.counters["n_high_force"]
        and not pool.counters["n_explosions"]
    )
    assert [event.value for event in high] == pytest.approx(sorted(forces)[::-1][:4], rel=1e-3)


def test_stopped_walkers_begin_again_from_other_starts() -> None:
    squeezed = CALM.moved(np.array([[0, 0, 0], [0.2, 0, 0]]))
    pool = md(BOND, [squeezed, CALM], restarts=1)
    assert [(e.walker, e.step) for e in pool.events] == [(0, 0)] and set(pool.walker.tolist()) == {1}
    assert pool.step.tolist() == [i - 1 for i in range(20, 201, 20)] and pool.counters["n_walkers"] == 2
    assert pool.life_fs == {0: 0.0, 1: 99.5}


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 0}, {"walkers": 0}, {"temperatures_K": []}, {"temperatures_K": [300, 400], "walkers": 1},
        {"keep_every": 401}, {"ensemble": "npt"}, {"ensemble": "nve", "friction_per_ps": 1.0}, {"tau_fs": 10.0},
        {"ramp_K": [1, 2]}, {"pressure_GPa": 1.0}, {"ensemble": "nph"}, {"bias": {}}, {"limits": {"max_force": 3}},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        md(BOND, [CALM], **options)


def test_what_cannot_be_run_is_refused_in_one_line() -> None:
    slab = Frame([1, 1], CALM.positions, np.eye(3) * 9, [True, True, False])
    npt = {"ensemble": "npt", "pressure_GPa": 0.0}
    fixed = Frame([18], [[0, 0, 0]], np.eye(3) * 5, [True] * 3, fixed=np.array([True]))
    cell = Frame([18], [[0, 0, 0]], np.eye(3) * 5, [True] * 3)
    for error, words, potential, starts, options in (
        (SamplingError, "no frame to start from", BOND, [], {}),
        (SamplingError, r"does not know the elements Z = \[8\]", BOND, [Frame([8], [[0, 0, 0]])], {}),
        (DataError, "some directions only", BOND, [slab], {}),
        (
            SamplingError,
            "an ensemble of one has no spread",
            BOND,
            [CALM],
            {"limits": {"force_std_eV_per_A": 1.0}},
        ),
        (SamplingError, "has no cell; use 'nvt'", BOND, [CALM], npt),
        (SamplingError, "has fixed atoms", Gas(fixed, 1.0), [fixed], npt),
        (SamplingError, "says no stress", Free(18), [cell], npt),
    ):
        with pytest.raises(error, match=words) as caught:
            md(potential, starts, **options)
        assert "\n" not in str(caught.value)
    assert ASEMDSampler.model_validate(BASE | npt).stress_needs() == ("ensemble",)
    assert ASEMDSampler.model_validate(BASE).stress_needs() == ()
