"""ASEMDSampler and JaxMDSampler explore alike: the same trajectories, events and counters of the same potential."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from numpy_toys import explore
from sampler_toys import Toy

from alfw.core.exploration import Exploration
from alfw.core.frame import Frame

BOND = Toy("bond", [[30.0, 0.74]], 5.0, (1,))
CALM = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]])
SOLID = Frame.from_atoms(bulk("Ar", "fcc", a=5.3, cubic=True))
BASE: dict[str, Any] = {
    "temperatures_K": [300.0],
    "walkers": 2,
    "n_steps": 60,
    "keep_every": 10,
    "ensemble": "nve",
}
# Counters that one of them does not have, or that hang on rounding.
OWN = {"n_failed_predictions", "max_force_eV_per_A", "max_force_std_eV_per_A"}


def both(potential: Any, starts: list[Frame], **options: Any) -> tuple[Exploration, Exploration]:
    ours, theirs = (explore(kind, potential, starts, **BASE | options) for kind in ("ase-md", "jaxmd"))
    assert {**ours.counters, **dict.fromkeys(OWN, 0)} == {**theirs.counters, **dict.fromkeys(OWN, 0)}
    assert ours.counters["max_force_eV_per_A"] == pytest.approx(
        theirs.counters["max_force_eV_per_A"], rel=1e-3
    )
    for name in ("walker", "step", "time_fs", "temperature_K"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name), equal_nan=True)
    assert ours.life_fs == theirs.life_fs
    in_order = [
        sorted(pool.events, key=lambda e: (e.reason == "high_force", e.walker)) for pool in (ours, theirs)
    ]
    for one, other in zip(*in_order, strict=True):
        assert (one.reason, one.walker, one.step) == (other.reason, other.walker, other.step)
        assert one.value == pytest.approx(other.value, rel=2e-3, nan_ok=True)
        for mine, yours in ((one.good, other.good), (one.bad, other.bad)):
            assert (mine is None) == (yours is None)
            if mine is not None and yours is not None:
                assert mine.positions == pytest.approx(yours.positions, abs=1e-4)
        assert one.velocities == pytest.approx(other.velocities, abs=1e-4)  # type: ignore[arg-type]
    return ours, theirs


CASES: dict[str, tuple[Any, Frame, dict[str, Any]]] = {
    "a crystal at constant energy": (Toy("lj", [[0.0104, 3.4]], 5.0, (18,)), SOLID, {"dt_fs": 4.0}),
    "molecules with chains": (BOND, CALM, {"ensemble": "nvt", "thermostat": "nose-hoover"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_trajectories_without_noise_are_the_same(case: str) -> None:
    potential, start, options = CASES[case]
    ours, theirs = both(potential, [start], **options, temperatures_K=[60.0])
    assert len(ours.frames) == 12
    for one, other in zip(ours.frames, theirs.frames, strict=True):
        assert one.positions == pytest.approx(other.positions, abs=1e-4)
    for v, w in zip(ours.velocities or (), theirs.velocities or (), strict=True):
        assert v == pytest.approx(w, abs=1e-5)


@pytest.mark.slow
def test_events_are_the_same() -> None:
    at = lambda r: CALM.moved(np.array([[0, 0, 0], [r, 0, 0]]))  # noqa: E731
    falling, free = Toy("lj", [[6.0, 0.7]], 5.0, (1,)), Toy("lj", [[0.0, 1.0]], 5.0, (1,))
    nan, two = Toy("nan", [[0.02, 1.5]], 5.0, (1,)), Toy("bond", [[30.0, 0.74], [30.0, 0.66]], 5.0, (1,))
    hot = {"temperatures_K": [5000.0], "n_steps": 120}
    cold = {"temperatures_K": [1.0]}
    fall = cold | {"dt_fs": 0.25, "n_steps": 200, "limits": {"min_distance_fraction": 0.1}}
    cases: list[tuple[str, Any, Frame, dict[str, Any]]] = [
        ("force", falling, at(1.6), fall),
        ("distance", BOND, at(0.2), {}),
        ("growth", free, at(3.0), hot | {"limits": {"max_growth_A": 0.5}}),
        ("speed", free, at(3.0), hot | {"limits": {"max_speed_A_per_fs": 0.02}}),
        ("uncertain", two, CALM, {"limits": {"force_std_eV_per_A": 1.0}}),
        ("nan", nan, at(1.499), cold | {"limits": {"max_force_eV_per_A": 1e9}}),
    ]
    for reason, potential, start, options in cases:
        ours, _ = both(potential, [start], **options)
        assert {event.reason for event in ours.events if event.reason != "high_force"} == {reason}, reason
    again, _ = both(BOND, [at(0.2), CALM], restarts=1)
    assert len(again.frames) == 12 and again.counters["n_walkers"] == 3
