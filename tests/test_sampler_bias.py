"""Uncertainty-biased MD: the bias force is what it says, and is in nothing that is recorded."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase.build import molecule
from pydantic import ValidationError
from sampler_toys import Toy
from test_sampler_spread import FOUR, ONE, shallow_nequix

from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError, SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.records import Resources
from alfw.samplers import _jaxmd, _jaxmd_loop
from alfw.samplers._jaxmd_simulation import Simulation
from alfw.samplers.jaxmd import JaxMDSampler

THREE = Frame([1, 1, 1], [[0, 0, 0], [0.78, 0, 0], [0.3, 0.66, 0]])
PAIR = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]])
BOTH = [THREE, PAIR]  # most tests run these two, so that few programs are compiled
DEEP = Toy("bond", [[30.0, 0.74], [34.0, 0.72], [27.0, 0.77]], 5.0, (1,))
BASE: dict[str, Any] = {"temperatures_K": [300.0], "walkers": 2, "n_steps": 400, "keep_every": 20}
AT_ONCE: dict[str, Any] = {"strength": 0.5, "ramp_fs": 0.0, "max_force_eV_per_A": 100.0}


def explore(potential: Any, starts: list[Frame], seed: int = 4, **options: Any) -> Exploration:
    return JaxMDSampler.model_validate(BASE | options).run(potential, starts, seed, Path(), Resources())


def simulated(potential: Any, steps: int, starts: list[Frame] = BOTH, **options: Any) -> Simulation:
    """A run after some steps."""
    sampler = JaxMDSampler.model_validate(BASE | options)
    simulation = Simulation(sampler, potential, _jaxmd.walkers_of(sampler, starts), 4, 0.5)
    simulation.advance(steps)
    return simulation


def trajectory(steps: int, **options: Any) -> Any:
    """Norms of force and bias on each atom of both walkers, (steps + 1, 5) eV/Å, driven by `DEEP`."""
    simulation = simulated(DEEP, 0, **options)
    found = []
    for step in range(steps + 1):
        simulation.advance(step)
        carry = simulation.carry
        found.append([np.linalg.norm(np.asarray(part)[:-1], axis=1) for part in (carry.force, carry.bias)])
    return np.array(found).transpose(1, 0, 2)


def gradient_of_sigma(potential: Any, frame: Frame, start: Frame) -> np.ndarray:
    """(n, 3) eV/Å, from what `predict` says of the members: covariance of E - E(start) and gradient over σ."""
    said = potential.predict([frame, start])
    energy, forces = said.energy[:, 0] - said.energy[:, 1], said.forces[0]
    centred = energy - energy.mean()
    return -np.einsum("k,kix->ix", centred, forces) / len(energy) / energy.std()  # type: ignore[no-any-return]


# --- the force


def test_the_bias_force_is_the_finite_difference_of_tau_sigma() -> None:
    """Of springs (eV/Å²) with a common length: their own σ times the change of half the sum of squared stretches."""
    simulation = simulated(FOUR, 7, bias=AT_ONCE, temperatures_K=[100.0])
    carry, part = simulation.carry, simulation.walkers.slices[0]
    _, force, gradient = np.asarray(carry.memory)[0]
    x, h = np.asarray(carry.position, float)[part], 1e-5

    at_start = 0.0

    def sigma(x: np.ndarray) -> float:
        stretch = [np.linalg.norm(x[i] - x[j]) - 0.74 for i, j in ((0, 1), (0, 2), (1, 2))]
        half = sum(s * s for s in stretch) / 2
        return float(np.std(FOUR.spread.springs)) * abs(half - at_start)

    at_start = sigma(THREE.positions) / float(np.std(FOUR.spread.springs))
    slope = np.empty((3, 3))
    for i, j in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[i, j] = h
        slope[i, j] = (sigma(x + step) - sigma(x - step)) / (2 * h)
    assert np.asarray(carry.bias)[part] == pytest.approx(0.5 * force / gradient * slope, abs=2e-4)
    assert np.abs(slope).max() > 0.1


@pytest.mark.parametrize("potential", [FOUR, DEEP], ids=["shallow", "deep"])
def test_the_bias_force_is_that_of_predict_times_tau(potential: Any) -> None:
    simulation = simulated(potential, 5, bias=AT_ONCE)
    push = np.asarray(simulation.carry.bias)
    for living, part in zip(simulation.living(), simulation.walkers.slices, strict=True):
        _, force, gradient = np.asarray(simulation.carry.memory)[living.walker]
        expected = 0.5 * force / gradient * gradient_of_sigma(potential, living.frame, BOTH[living.walker])
        assert push[part] == pytest.approx(expected, abs=2e-3) and np.abs(expected).max() > 0.05


@pytest.mark.slow
def test_a_shallow_nequix_pushes_along_its_own_uncertainty(tmp_path: Path) -> None:
    potential, start = shallow_nequix(tmp_path), Frame.from_atoms(molecule("CH3CH2OH"))
    no_limits = {"max_force_eV_per_A": 1e6, "min_distance_fraction": 0.0, "max_speed_A_per_fs": 1e3}
    run = simulated(
        potential, 2, [start], walkers=1, dt_fs=1e-3, perturb_A=0.05, bias=AT_ONCE, limits=no_limits
    )
    (frame,), (_, force, gradient) = [one.frame for one in run.living()], np.asarray(run.carry.memory)[0]
    expected = 0.5 * force / gradient * gradient_of_sigma(potential, frame, start)
    assert np.asarray(run.carry.bias)[:-1] == pytest.approx(expected, abs=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_the_bias_is_the_stated_share_of_the_force(strength: float) -> None:
    bias = AT_ONCE | {"strength": strength, "ramp_fs": 20.0, "averaging_fs": 20.0}
    force, push = trajectory(600, bias=bias)
    for part in (slice(0, 3), slice(3, 5)):
        assert push[100:, part].mean() / force[100:, part].mean() == pytest.approx(strength, rel=0.15)


def test_it_begins_after_equilibration_and_grows() -> None:
    force, push = trajectory(260, bias=AT_ONCE | {"ramp_fs": 100.0}, equilibration_steps=50)
    share = push.mean(1) / force.mean(1)
    assert share[:51].max() == 0.0 < share[51]
    assert share[51:71].mean() < 0.05 < 0.3 < share[240:].mean()


def test_no_atom_is_pushed_harder_and_no_momentum_is_made() -> None:
    bias = AT_ONCE | {"max_force_eV_per_A": 0.2, "strength": 1.0}
    _, push = trajectory(100, bias=bias)
    assert push.max() == pytest.approx(0.2, rel=1e-5) and (push[50:, :3].max(1) > 0.1).all()
    simulation = simulated(DEEP, 60, bias=bias)
    for part in simulation.walkers.slices:
        assert np.asarray(simulation.carry.bias)[part].sum(0) == pytest.approx(np.zeros(3), abs=1e-6)


def test_fixed_atoms_feel_none_and_members_that_agree_push_nobody() -> None:
    held = Frame(THREE.numbers, THREE.positions, fixed=np.array([True, False, False]))
    carry = simulated(DEEP, 50, [held, PAIR], bias=AT_ONCE).carry
    push = np.linalg.norm(np.asarray(carry.bias), axis=1)
    assert push[0] == push[5] == 0.0 and push[1:5].min() > 0.01
    assert np.array_equal(np.asarray(carry.position)[0], np.zeros(3))
    same = Toy("bond", [[30.0, 0.74]] * 3, 5.0, (1,))
    assert not np.asarray(simulated(same, 20, bias=AT_ONCE).carry.bias).any()


# --- what it does


def test_walkers_go_where_the_members_disagree() -> None:
    def mean_sigma(**options: Any) -> float:
        pool = explore(FOUR, BOTH, n_steps=4000, keep_every=40, **options)
        assert not any(event.explosion for event in pool.events) and pool.unbiased == ("bias" not in options)
        return float(np.mean([FOUR.predict([frame]).energy.std() for frame in pool.frames]))

    assert mean_sigma(bias=AT_ONCE) > 1.2 * mean_sigma()


def test_what_is_recorded_knows_nothing_of_the_bias() -> None:
    everything = {"quantile": None, "max_force_eV_per_A": 1e-9, "max_events": 1000}
    for potential in (FOUR, DEEP):
        pool = explore(potential, BOTH, bias=AT_ONCE, high_force=everything, keep_every=1, n_steps=50)
        drives = slice(None) if potential is FOUR else [int(pool.counters["driver"])]

        def largest(frame: Frame, potential: Any = potential, drives: Any = drives) -> float:
            force = potential.predict([frame]).forces[0][drives].mean(0)
            return float(np.linalg.norm(force, axis=1).max())

        assert len(pool.events) == len(pool.frames) == 100 == pool.counters["n_high_force"]
        assert pool.counters["n_explosions"] == 0 and pool.counters["n_steps"] == 100
        for event in pool.events:
            assert event.value == pytest.approx(largest(event.good), abs=2e-3)
            assert event.velocities is not None and event.velocities.shape == event.good.positions.shape
        seen = max(*map(largest, BOTH), *(event.value for event in pool.events))
        assert pool.counters["max_force_eV_per_A"] == pytest.approx(seen, rel=1e-4)


def test_the_energy_spread_of_any_ensemble_stops_a_biased_walker() -> None:
    pool = explore(DEEP, BOTH, bias=AT_ONCE, n_steps=1000)
    seen = pool.counters["max_energy_std_eV_per_atom"]
    assert seen > 0 and not pool.events
    limits = {"energy_std_eV_per_atom": 0.7 * seen}
    event, *_ = explore(DEEP, BOTH, bias=AT_ONCE, n_steps=1000, limits=limits).events
    assert event.reason == "uncertain" and not event.explosion and event.bad is not None
    assert event.value == pytest.approx(DEEP.predict([event.bad]).energy.std() / len(event.bad), rel=1e-3)


def test_nan_of_a_biased_walker_reaches_no_other() -> None:
    nan = Toy("nan", [[0.02, 1.5], [0.03, 1.5]], 5.0, (1,))
    near, far = (PAIR.moved(np.array([[0, 0, 0], [r, 0, 0]])) for r in (1.2, 1.499))
    cold = {"temperatures_K": [1.0], "n_steps": 20, "keep_every": 2, "bias": AT_ONCE}
    calm = explore(nan, [near, near], **cold)
    pool = explore(nan, [near, far], **cold, limits={"max_force_eV_per_A": 1e9})
    assert [(event.walker, event.reason) for event in pool.events] == [(1, "nan")]
    of_first = [[f.id for f, w in zip(p.frames, p.walker, strict=True) if w == 0] for p in (calm, pool)]
    assert of_first[0] == of_first[1] != []


# --- the program


def test_same_seed_same_frames_compiled_once_and_nothing_of_it_without_a_bias() -> None:
    first = explore(DEEP, BOTH, bias=AT_ONCE)
    compiled = _jaxmd_loop.advance._cache_size()
    again = explore(DEEP, BOTH, bias=AT_ONCE)
    weaker = explore(DEEP, BOTH, bias={"strength": 0.1, "averaging_fs": 20.0}, equilibration_steps=40)
    assert [f.id for f in first.frames] == [f.id for f in again.frames]
    assert first.frames[-1].id != weaker.frames[-1].id
    assert _jaxmd_loop.advance._cache_size() == compiled
    plain = simulated(DEEP, 20).carry
    assert not np.asarray(plain.memory).any() and not np.asarray(plain.bias).any()


@pytest.mark.parametrize("potential", [FOUR, DEEP], ids=["shallow", "deep"])
def test_types_hold_under_strict_promotion(potential: Any) -> None:
    run = simulated(potential, -1, bias=AT_ONCE)  # nothing done yet
    arrays = (run.params, run.atoms, run.edges, run.reach, run.settings, run.carry.step, run.carry)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        after = jax.eval_shape(partial(_jaxmd_loop.advance, run.surface, run.kind), *arrays)
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, jax.eval_shape(lambda: run.carry))


# --- refused


@pytest.mark.parametrize(
    "options",
    [{"bias": {"strength": 0}}, {"bias": {"strength": 3.0}}, {"bias": {"tau": 1}}, {"bias": {"max_force_eV_per_A": 0}},
     {"bias": {"ramp_fs": -1}}, {"bias": {"averaging_fs": 0}}],
)  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JaxMDSampler.model_validate(BASE | options)


def test_a_bias_without_a_thermostat_is_refused() -> None:
    with pytest.raises(ValidationError, match="bias: needs a thermostat"):
        JaxMDSampler.model_validate(BASE | {"bias": {}, "ensemble": "nve"})


def test_an_ensemble_of_one_has_nothing_to_disagree_about() -> None:
    one = Toy("bond", [[30.0, 0.74]], 5.0, (1,))
    with pytest.raises(SamplingError) as caught:
        explore(one, [PAIR], bias={})
    words = "bias: an ensemble of one has no spread; set model.members or model.heads, or leave this out"
    assert words in str(caught.value) and "\n" not in str(caught.value)
    campaign = {**ONE, "sample": [{"kind": "jaxmd", **BASE, "bias": {}}]}
    with pytest.raises(ConfigError) as refused:
        CampaignConfig(campaign)
    assert f"sample.0.{words}" in str(refused.value) and "\n" not in str(refused.value)
    for model in ({"members": 1, "heads": 8}, {"members": 2}):
        CampaignConfig({**campaign, "model": {"kind": "nequix", **model}})
