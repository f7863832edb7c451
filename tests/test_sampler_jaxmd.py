"""JaxMDSampler: limits, events, isolation of walkers, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase.build import bulk
from pydantic import ValidationError
from sampler_toys import Toy

from alfw.core.errors import DataError, PluginError, SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.neighbours import closest_fraction
from alfw.core.records import Resources
from alfw.core.registry import plugin_class
from alfw.samplers import _jaxmd, _jaxmd_loop
from alfw.samplers._jaxmd_edges import grown
from alfw.samplers._jaxmd_events import recent_frames
from alfw.samplers.jaxmd import JaxMDSampler

BOND = Toy("bond", [[30.0, 0.74]], 5.0, (1,))
FREE_ATOMS = Toy("lj", [[0.0, 1.0]], 5.0, (1,))
CALM = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]])
BASE: dict[str, Any] = {"temperatures_K": [300.0], "walkers": 1, "n_steps": 400, "keep_every": 20}


def explore(potential: Any, starts: list[Frame], seed: int = 4, **options: Any) -> Exploration:
    sampler = JaxMDSampler.model_validate(BASE | options)
    return sampler.run(potential, starts, seed, Path(), Resources())


def of_walker(pool: Exploration, walker: int) -> list[str]:
    return [f.id for f, w in zip(pool.frames, pool.walker, strict=True) if w == walker]


# --- options


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 0}, {"n_steps": -5}, {"walkers": 0}, {"dt_fs": 0}, {"dt_fs": float("nan")}, {"keep_every": 0},
        {"temperatures_K": []}, {"temperatures_K": [0]}, {"temperatures_K": [300, 400], "walkers": 1},
        {"keep_every": 401}, {"equilibration_steps": 390}, {"equilibration_steps": -1}, {"friction": 1},
        {"limits": {"max_force": 3}}, {"limits": {"max_force_eV_per_A": 0}}, {"force_std_every": 0},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JaxMDSampler.model_validate(BASE | options)


def test_other_ensembles_are_refused_in_words() -> None:
    with pytest.raises(ValidationError, match="not available in this version"):
        JaxMDSampler.model_validate(BASE | {"ensemble": "nph"})
    assert plugin_class("alfw.samplers", "jaxmd") is JaxMDSampler


def test_what_it_cannot_run_is_refused_in_one_line() -> None:
    class NoJax:
        species, cutoff_A, members = (1,), 5.0, 1

        def predict(self, frames: Any) -> Any: ...

    slab = Frame([1, 1], CALM.positions, np.eye(3) * 9, [True, True, False])
    for error, potential, starts in (
        (PluginError, NoJax(), [CALM]),
        (SamplingError, BOND, []),
        (SamplingError, BOND, [Frame([8], [[0, 0, 0]])]),
        (DataError, BOND, [slab]),
    ):
        with pytest.raises(error) as caught:
            explore(potential, starts)
        assert "\n" not in str(caught.value)


# --- what is kept


def test_walkers_are_spread_over_temperatures_and_starts_and_frames_are_kept_regularly() -> None:
    three = Frame([1, 1, 1], [[0, 0, 0], [0.74, 0, 0], [0.37, 0.64, 0]])
    texts: list[str] = []
    options = {"temperatures_K": [100.0, 200.0], "walkers": 4, "equilibration_steps": 100}
    sampler = JaxMDSampler.model_validate(BASE | options)
    pool = sampler.run(BOND, [CALM, three], 0, Path(), Resources(), texts.append)
    assert sorted(set(pool.step.tolist())) == list(range(120, 401, 20))
    assert pool.time_fs == pytest.approx(pool.step * 0.5)
    by_walker = {
        int(w): (len(f), T) for f, w, T in zip(pool.frames, pool.walker, pool.temperature_K, strict=True)
    }
    assert by_walker == {0: (2, 100.0), 1: (3, 100.0), 2: (2, 200.0), 3: (3, 200.0)}
    assert pool.counters["n_steps"] == 1600 and pool.counters["time_ps"] == pytest.approx(0.8)
    assert pool.counters["n_walkers"] == 4 and not pool.events and pool.unbiased
    assert texts and texts[-1].startswith("MD step 400/400")


def test_same_seed_same_frames_and_the_program_is_compiled_once() -> None:
    first = explore(BOND, [CALM], walkers=2)
    compiled = _jaxmd_loop.advance._cache_size()
    again = explore(BOND, [CALM], walkers=2)
    other = explore(
        Toy("bond", [[29.0, 0.75]], 5.0, (1,)), [CALM], seed=5, walkers=2, temperatures_K=[50.0, 90.0], n_steps=900,
        keep_every=70, friction_per_ps=1.0, limits={"max_force_eV_per_A": 20}, force_std_every=7,
    )  # fmt: skip
    assert [f.id for f in first.frames] == [f.id for f in again.frames]
    assert first.frames[0].id != other.frames[0].id
    assert _jaxmd_loop.advance._cache_size() == compiled


def test_types_hold_under_strict_promotion() -> None:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        pool = explore(BOND, [CALM, Frame([1], [[0, 0, 0]])], walkers=2, n_steps=20)
    assert len(pool.frames) == 2


def test_driver_is_chosen_by_the_seed_and_alone_moves_the_atoms() -> None:
    both = Toy("bond", [[30.0, 0.74], [5.0, 0.9]], 5.0, (1,))
    limits = {"limits": {"force_std_eV_per_A": None}}
    for seed in (2, 3):
        pool = explore(both, [CALM], seed=seed, **limits)
        alone = explore(
            Toy("bond", [np.asarray(both.params)[seed % 2]], 5.0, (1,)), [CALM], seed=seed, **limits
        )
        assert pool.counters["driver"] == seed % 2
        assert pool.frames[-1].positions == pytest.approx(alone.frames[-1].positions, abs=1e-4)


def test_fixed_atoms_stay_and_are_left_out_of_checks() -> None:
    solid = bulk("Ar", "fcc", a=5.3, cubic=True)
    fixed = np.array([True, True, False, False])
    positions = solid.positions.copy()
    positions[1] = [0.0, 1.0, 0.0]  # clashes with the other fixed atom, which is nobody's business
    start = Frame(solid.numbers, positions, np.array(solid.cell), [True] * 3, fixed=fixed)
    pool = explore(Toy("lj", [[0.0104, 3.4]], 5.0, (18,)), [start], temperatures_K=[40.0], dt_fs=4.0)
    assert not pool.events and len(pool.frames) == 20
    for frame in pool.frames:
        assert np.array_equal(frame.positions[fixed], np.round(start.positions[fixed].astype(np.float32), 6))
        assert np.abs(frame.positions[~fixed] - start.positions[~fixed]).max() > 0.01


# --- limits


def test_a_walker_that_explodes_stands_still_and_others_do_not_notice() -> None:
    calm = explore(BOND, [CALM, CALM, CALM], walkers=3)
    squeezed = CALM.moved(np.array([[0, 0, 0], [1.4, 0, 0]]))  # 20 eV/Å, more on the way back
    pool = explore(BOND, [CALM, squeezed, CALM], walkers=3, limits={"min_distance_fraction": 0.3})
    assert [e.walker for e in pool.events] == [1] and of_walker(pool, 1) == []
    for w in (0, 2):
        assert of_walker(pool, w) == of_walker(calm, w) != []
    assert pool.counters["n_explosions"] == 1 and pool.counters["n_steps"] == 800 + pool.events[0].step


def test_nan_of_one_walker_reaches_no_other() -> None:
    nan = Toy("nan", [[0.02, 1.5]], 5.0, (1,))
    near, far = (CALM.moved(np.array([[0, 0, 0], [r, 0, 0]])) for r in (1.2, 1.499))
    calm = explore(nan, [near, near], walkers=2, temperatures_K=[1.0], n_steps=20, keep_every=2)
    pool = explore(
        nan, [near, far], walkers=2, temperatures_K=[1.0], n_steps=20, keep_every=2,
        limits={"max_force_eV_per_A": 1e9},
    )  # fmt: skip
    assert [(e.walker, e.reason) for e in pool.events] == [(1, "nan")]
    assert np.isnan(pool.events[0].value) and np.isfinite(pool.events[0].good.positions).all()
    assert of_walker(pool, 0) == of_walker(calm, 0) != []


def test_good_is_the_last_physical_frame_and_bad_the_first_beyond() -> None:
    falling = Toy("lj", [[6.0, 0.7]], 5.0, (1,))
    start = Frame([1, 1], [[0, 0, 0], [1.6, 0, 0]])
    pool = explore(falling, [start], temperatures_K=[1.0], dt_fs=0.25, limits={"min_distance_fraction": 0.1})
    (event,) = pool.events
    assert event.reason == "force" and event.value > 30 and event.bad is not None
    force = lambda frame: np.linalg.norm(falling.predict([frame]).forces[0][0], axis=1).max()  # noqa: E731
    assert force(event.good) <= 15 < 30 < force(event.bad) == pytest.approx(event.value, rel=1e-4)
    distance = lambda frame: np.linalg.norm(frame.positions[1] - frame.positions[0])  # noqa: E731
    assert distance(start) > distance(event.good) > distance(event.bad)
    # the wall is hit within a few fs: the ring must offer something newer than the start
    fine = explore(falling, [start], temperatures_K=[1.0], dt_fs=0.25, n_steps=event.step - 1, keep_every=1)
    ids = [f.id for f in fine.frames]
    physical = [s for s, f in zip(fine.step, fine.frames, strict=True) if force(f) <= 15]
    assert ids[int(event.step) - 2] in ids and fine.step[ids.index(event.good.id)] >= max(physical) - 8


def test_event_in_the_start_itself_has_the_start_as_good_and_bad() -> None:
    start = CALM.moved(np.array([[0, 0, 0], [0.2, 0, 0]]))
    (event,) = explore(BOND, [start]).events
    assert (event.reason, event.step, event.good.id, event.time_fs) == ("distance", 0, start.id, 0.0)
    assert event.bad is not None and event.value == pytest.approx(closest_fraction(start), rel=1e-5)


def test_growth_speed_and_uncertainty_are_seen() -> None:
    far = Frame([1, 1], [[0, 0, 0], [3.0, 0, 0]])
    (grows,) = explore(FREE_ATOMS, [far], temperatures_K=[5000.0], limits={"max_growth_A": 1.0}).events
    assert grows.reason == "growth" and 1.0 < grows.value < 1.2
    (fast,) = explore(FREE_ATOMS, [far], temperatures_K=[5000.0], limits={"max_speed_A_per_fs": 0.02}).events
    assert fast.reason == "speed" and fast.step == 0
    two = Toy("bond", [[30.0, 0.74], [30.0, 0.66]], 5.0, (1,))
    pool = explore(two, [CALM], limits={"force_std_eV_per_A": 1.0}, force_std_every=10)
    assert pool.events[0].reason == "uncertain" and pool.events[0].value == pytest.approx(1.2, abs=1e-3)
    assert pool.counters["n_uncertain"] == 1 and pool.counters["n_explosions"] == 0
    assert not explore(two, [CALM], limits={"force_std_eV_per_A": 1.3}).events


def test_a_periodic_walker_may_diffuse() -> None:
    cell = Frame([1], [[0, 0, 0]], np.eye(3) * 4.0, [True] * 3, fixed=None)
    pool = explore(
        FREE_ATOMS, [cell, cell], walkers=2, temperatures_K=[20000.0], limits={"max_growth_A": 0.1}
    )
    assert not pool.events and max(np.abs(f.positions).max() for f in pool.frames) > 4.0


def test_capacity_never_leaves_an_edge_out() -> None:
    for needed in (0, 1, 63, 64, 1000, 12345):
        assert needed <= grown(1, needed) <= max(64, 1.35 * needed)
        assert grown(grown(1, needed), needed) == grown(1, needed)
    solid = Frame.from_atoms(bulk("Ar", "fcc", a=5.3, cubic=True))
    options = JaxMDSampler(temperatures_K=(40.0,), walkers=1, n_steps=9, keep_every=9)
    argon = Toy("lj", [[0.0104, 3.4]], 5.0, (18,))
    sim = _jaxmd.Simulation(options, argon, _jaxmd.walkers_of(options, [solid]), 0, 0.5)
    capacity = sim.capacity
    sim.rebuild(3.0)
    assert sim.capacity > capacity
    n_real = int((np.asarray(sim.edges.receivers) < len(solid)).sum())
    assert n_real > capacity


@pytest.mark.parametrize("growth", [0.3, 12.0], ids=["before the ring is full", "after"])
def test_ring_holds_every_second_fs_of_the_last_hundred(growth: float) -> None:
    far = Frame([1, 1], [[0, 0, 0], [3.0, 0, 0]])
    options = BASE | {
        "temperatures_K": [5000.0],
        "n_steps": 2000,
        "keep_every": 1,
        "limits": {"max_growth_A": growth},
    }
    sampler = JaxMDSampler.model_validate(options)
    sim = _jaxmd.Simulation(sampler, FREE_ATOMS, _jaxmd.walkers_of(sampler, [far]), 4, 0.5)
    trajectory = {}
    for step in range(601):
        sim.advance(step)
        trajectory |= {living.frame.id: step for living in sim.living()}
    event = int(np.asarray(sim.carry.event_step)[0])
    assert 0 < event < 600 and (event > 200) == (growth > 1)
    carry = sim.carry._replace(ring=np.asarray(sim.carry.ring))
    steps = [trajectory[f.id] for f in recent_frames(far, carry, 0, slice(0, 2), event, 4)]
    newest = (event - 1) // 4 * 4
    assert steps == sorted({event - 1, *range(max(0, newest - 49 * 4), newest + 1, 4)}, reverse=True)
