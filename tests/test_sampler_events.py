"""Events of molecular dynamics: frames with a high force, whatever ran them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from alfw.core.frame import Frame
from alfw.samplers._limits import HighForce
from alfw.samplers._physical import Kept, high_force_events

CALM = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]])


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
