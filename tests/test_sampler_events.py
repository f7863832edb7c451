"""Events of molecular dynamics: frames with a high force, whatever ran them; what stops a walker of jaxmd, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sampler_toys import Toy

from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.neighbours import closest_fraction
from alfw.core.records import Resources
from alfw.samplers._limits import HighForce
from alfw.samplers._physical import Kept, high_force_events
from alfw.samplers.jaxmd import JaxMDSampler

CALM = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]])

FREE_ATOMS = Toy("lj", [[0.0, 1.0]], 5.0, (1,))
NAN_BEYOND_1_5 = Toy("nan", [[0.02, 1.5]], 5.0, (1,))
BASE: dict[str, Any] = {
    "temperatures_K": [1e-6], "ensemble": "nve", "walkers": 1, "n_steps": 400, "keep_every": 1,
    "high_force": {"quantile": None}, "limits": {"max_force_eV_per_A": 1e9},
}  # fmt: skip


def explore(potential: Any, start: Frame, **options: Any) -> Exploration:
    return JaxMDSampler.model_validate(BASE | options).run(potential, [start], 4, Path(), Resources())


def pair(r: float) -> Frame:
    return CALM.moved(np.array([[0, 0, 0], [r, 0, 0]]))


def length(frame: Frame) -> float:
    return float(np.linalg.norm(frame.positions[1] - frame.positions[0]))


def kept(max_force: Any, temperature_K: Any = 300.0, velocities: bool = False) -> Kept:
    """As many frames as there are forces, all different."""
    n = len(max_force)
    return Kept(
        frames=[CALM.moved(np.array([[0, 0, 0], [0.7 + 1e-4 * i, 0, 0]])) for i in range(n)],
        walker=np.arange(n) % 3,
        step=10 * np.arange(n),
        time_fs=5.0 * np.arange(n),
        temperature_K=np.broadcast_to(temperature_K, n).astype(float),
        max_force=np.asarray(max_force, float),
        velocities=[np.full((2, 3), float(i)) for i in range(n)] if velocities else None,
    )


def found(option: dict[str, Any], of: Kept) -> list[int]:
    return [event.step // 10 for event in high_force_events(HighForce.model_validate(option), of)]


# --- high forces


def test_the_tail_of_the_own_distribution_is_reported_highest_first() -> None:
    force = np.random.default_rng(0).uniform(1, 2, 300)
    assert found({"quantile": 0.99}, kept(force)) == np.argsort(-force)[:3].tolist()
    assert found({"quantile": 0.99, "max_events": 2}, kept(force)) == np.argsort(-force)[:2].tolist()
    assert found({"quantile": None}, kept(force)) == []


def test_a_run_too_short_to_know_its_tail_reports_none() -> None:
    force = np.linspace(1, 2, 1000)
    assert found({}, kept(force)) == [999] and found({}, kept(force[:999])) == []


def test_each_temperature_has_a_distribution_of_its_own() -> None:
    force = np.concatenate([np.linspace(1, 2, 100), np.linspace(4, 5, 100)])
    two = np.repeat([300.0, 700.0], 100)
    assert found({"quantile": 0.99}, kept(force, two)) == [199, 99]
    assert found({"quantile": 0.99}, kept(force, np.nan)) == [199, 198]
    ramp = np.linspace(300, 301, 200)  # a thermostat whose target moves
    assert found({"quantile": 0.99}, kept(force, ramp)) == [199, 198]


def test_an_absolute_threshold_works_alone_and_beside() -> None:
    force = [1.0, 6.0, 5.0, 9.0, np.nan, np.inf, 5.1]
    assert found({"quantile": None, "max_force_eV_per_A": 5.0}, kept(force)) == [3, 1, 6]
    assert found({"quantile": 0.7, "max_force_eV_per_A": 8.0}, kept(force)) == [3, 1]
    assert found({"quantile": 0.5, "max_force_eV_per_A": 5.0}, kept([])) == []


def test_an_event_says_all_that_is_known_of_the_frame() -> None:
    of = kept([1.0, 7.0, 3.0], 500.0, velocities=True)
    (event,) = high_force_events(HighForce(quantile=None, max_force_eV_per_A=5.0), of)
    assert (event.reason, event.walker, event.step, event.time_fs) == ("high_force", 1, 10, 5.0)
    assert event.good.id == of.frames[1].id and event.bad is None and not event.explosion
    assert event.value == 7.0 and event.temperature_K == 500.0
    assert event.velocities is not None and np.array_equal(event.velocities, np.ones((2, 3)))
    (without,) = high_force_events(HighForce(quantile=None, max_force_eV_per_A=5.0), kept([1.0, 7.0]))
    assert without.velocities is None


@pytest.mark.parametrize(
    "option", [{"quantile": 1.0}, {"quantile": 0}, {"max_force_eV_per_A": -1}, {"max_events": 0}, {"high": 1}]
)
def test_wrong_options_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HighForce.model_validate(option)


# --- what stops a walker


def test_nan_in_the_very_first_evaluation_is_an_event() -> None:
    start = pair(1.6)
    pool = explore(NAN_BEYOND_1_5, start, equilibration_steps=100)
    (event,) = pool.events
    assert (event.reason, event.step, event.time_fs, event.good.id) == ("nan", 0, 0.0, start.id)
    assert np.isnan(event.value) and event.explosion and not pool.frames
    assert (pool.counters["n_explosions"], pool.counters["n_high_force"]) == (1, 0)


@pytest.mark.parametrize("equilibration_steps", [0, 300])
def test_nan_at_step_k_is_an_event_at_step_k_during_equilibration_too(equilibration_steps: int) -> None:
    pool = explore(NAN_BEYOND_1_5, pair(1.4), equilibration_steps=equilibration_steps)
    (event,) = pool.events
    assert event.reason == "nan" and 10 < event.step < 300 and event.time_fs == 0.5 * event.step
    assert event.bad is not None and length(event.bad) > 1.5 > length(event.good)
    assert np.isfinite(NAN_BEYOND_1_5.predict([event.good]).forces[0]).all()
    if equilibration_steps:
        assert not pool.frames
    else:
        assert pool.step.max() == event.step - 1 and length(pool.frames[-1]) < 1.5
        assert event.good.id == pool.frames[-1].id


def test_backtracking_goes_to_the_newest_frame_whose_distances_are_physical() -> None:
    """Two free atoms fall towards each other; the ring has every second fs, here every fourth step."""
    pool = explore(FREE_ATOMS, pair(-1.2), temperatures_K=[300.0])
    (event,) = pool.events
    assert event.reason == "distance" and event.bad is not None and event.value < 0.6
    assert closest_fraction(event.bad) == pytest.approx(event.value, abs=1e-4)
    offered = [
        frame
        for frame, step in zip(pool.frames, pool.step.tolist(), strict=True)
        if step % 4 == 0 or step == event.step - 1
    ]
    physical = [frame for frame in offered if closest_fraction(frame) >= 1.1 * 0.6]
    assert len(physical) < len(offered) and event.good.id == physical[-1].id


def test_an_event_has_the_velocities_of_the_last_step_before() -> None:
    pool = explore(FREE_ATOMS, pair(-1.2), temperatures_K=[4000.0])
    (event,) = pool.events
    assert event.velocities is not None and pool.velocities is not None and event.bad is not None
    assert event.velocities == pytest.approx(
        pool.velocities[-1], abs=1e-7
    )  # of free atoms, they never change
    one = event.bad.positions - pool.frames[-1].positions
    assert event.velocities == pytest.approx(one / 0.5, abs=1e-5) and np.abs(one).max() > 0.005


def test_high_forces_are_counted_apart_from_explosions_and_come_before_them() -> None:
    pool = explore(
        NAN_BEYOND_1_5, pair(1.4), high_force={"quantile": None, "max_force_eV_per_A": 0.05, "max_events": 3}
    )
    explosion, *high = pool.events
    assert explosion.reason == "nan" and [event.reason for event in high] == ["high_force"] * 3
    assert all(event.step < explosion.step and event.bad is None for event in high)
    assert (pool.counters["n_explosions"], pool.counters["n_high_force"]) == (1, 3)
    assert pool.counters["n_steps"] == explosion.step
    forces = np.linalg.norm(NAN_BEYOND_1_5.predict([high[0].good]).forces[0][0], axis=1)
    assert high[0].value == pytest.approx(forces.max(), rel=1e-3) and high[0].value >= high[1].value
