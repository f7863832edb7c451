"""The spread of a shallow ensemble in MD, and what an ensemble of one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from sampler_toys import Toy

from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError, SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import HasSpread
from alfw.core.records import Resources
from alfw.core.uncertainty import frame_force_std
from alfw.models._nequix_network import load, program, save
from alfw.models.nequix import NequixModel
from alfw.samplers import _jaxmd
from alfw.samplers.jaxmd import JaxMDSampler

CALM = Frame([1, 1], [[0, 0, 0], [0.74, 0, 0]])
BASE: dict[str, Any] = {"temperatures_K": [300.0], "walkers": 1, "n_steps": 200, "keep_every": 20}
K, STRETCH = 4, 0.05


class Springs:
    """The energy of K springs (eV/Å^2) that have a length in common, from one pass: equal objects compile once."""

    def __init__(self, springs: tuple[float, ...], length: float) -> None:
        self.springs, self.length = springs, length

    def __hash__(self) -> int:
        return hash((self.springs, self.length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Springs) and hash(other) == hash(self)

    def __call__(self, params: Any, vectors: Any, species: Any, senders: Any, receivers: Any) -> Any:
        square = (vectors**2).sum(1)
        inside = square < 25.0
        r = jnp.sqrt(jnp.where(inside, square, jnp.float32(1)))
        half = jnp.where(inside, (r - params) ** 2 / 4, jnp.float32(0))
        per_atom = jax.ops.segment_sum(half, receivers, species.shape[0])
        mean = float(np.mean(self.springs))
        return mean * per_atom, (jnp.asarray(self.springs, jnp.float32) - mean)[:, None] * per_atom[None]


class Shallow(Toy):
    """A toy whose members differ by their springs alone."""

    def __init__(self, springs: tuple[float, ...], length: float = 0.74) -> None:
        super().__init__("bond", [[k, length] for k in springs], 5.0, (1,))
        self.spread = Springs(springs, length)

    def atom_spread_function(self) -> tuple[Any, Any]:
        return self.spread, jnp.float32(self.spread.length)


FOUR = Shallow((20.0, 28.0, 32.0, 40.0))
SIGMA = float(np.std(FOUR.spread.springs))


def explore(potential: Any, starts: list[Frame], seed: int = 4, **options: Any) -> Exploration:
    return JaxMDSampler.model_validate(BASE | options).run(potential, starts, seed, Path(), Resources())


def stretched(by: float) -> Frame:
    return CALM.moved(np.array([[0, 0, 0], [0.74 + by, 0, 0]]))


# --- the MD


def test_the_mean_drives_the_run() -> None:
    one = Toy("bond", [[30.0, 0.74]], 5.0, (1,))
    assert isinstance(FOUR, HasSpread) and not isinstance(one, HasSpread)
    for seed in (4, 5):
        pool, alone = explore(FOUR, [stretched(0.1)], seed), explore(one, [stretched(0.1)], seed)
        assert pool.frames[-1].positions == pytest.approx(alone.frames[-1].positions, abs=1e-4)
        assert "driver" in alone.counters and "driver" not in pool.counters
        assert "max_energy_std_eV_per_atom" not in alone.counters


def test_the_spread_of_energies_is_known_in_every_step() -> None:
    """A walker at rest starts stretched, so that its energies are never farther apart than at the start."""
    cold = {"temperatures_K": [1e-6], "ensemble": "nve", "limits": {"force_std_eV_per_A": None}}
    pool = explore(FOUR, [stretched(STRETCH), stretched(2 * STRETCH)], walkers=2, **cold)
    expected = SIGMA * (2 * STRETCH) ** 2 / 2 / 2  # eV per atom, of the second walker
    assert pool.counters["max_energy_std_eV_per_atom"] == pytest.approx(expected, rel=1e-3)
    assert not pool.events


def test_a_walker_beyond_the_limit_is_uncertain_and_others_go_on() -> None:
    sigma = SIGMA * STRETCH**2 / 4
    cold = {"temperatures_K": [1e-6], "ensemble": "nve"}
    limits = {"force_std_eV_per_A": None, "energy_std_eV_per_atom": 2 * sigma}
    pool = explore(FOUR, [stretched(STRETCH), stretched(2 * STRETCH)], walkers=2, limits=limits, **cold)
    (event,) = pool.events
    assert (event.reason, event.walker, event.step) == ("uncertain", 1, 0)
    assert event.value == pytest.approx(4 * sigma, rel=1e-3)
    assert pool.counters["n_uncertain"] == 1 and pool.counters["n_explosions"] == 0
    assert set(pool.walker.tolist()) == {0}


def test_an_uncertain_step_between_two_looks_at_force_std_is_seen() -> None:
    limits = {"force_std_eV_per_A": None, "energy_std_eV_per_atom": 1e-3}
    pool = explore(FOUR, [CALM], limits=limits, force_std_every=1000)
    (event,) = pool.events
    assert event.reason == "uncertain" and event.step % 10 and 1e-3 < event.value < 5e-3
    r = np.linalg.norm(event.bad.positions[1] - event.bad.positions[0])
    assert event.value == pytest.approx(SIGMA * (r - 0.74) ** 2 / 4, rel=1e-2)


def test_force_std_of_a_shallow_ensemble_is_that_of_predict() -> None:
    both = [stretched(0.05), stretched(0.08)]
    cold = {"temperatures_K": [1e-6], "n_steps": 20, "force_std_every": 1000}
    pool = explore(FOUR, both, walkers=2, **cold)  # asked in step 0
    expected = max(
        frame_force_std(f, frame.free) for f, frame in zip(FOUR.predict(both).forces, both, strict=True)
    )
    assert pool.counters["max_force_std_eV_per_A"] == pytest.approx(expected, rel=1e-4) and expected > 0.5
    (event,) = explore(FOUR, both, walkers=2, limits={"force_std_eV_per_A": 0.9 * expected}, **cold).events
    assert event.reason == "uncertain" and event.value == pytest.approx(expected, rel=1e-4)


def test_types_hold_under_strict_promotion() -> None:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        pool = explore(FOUR, [CALM], n_steps=20, limits={"energy_std_eV_per_atom": 1.0})
    assert len(pool.frames) == 1


def shallow_nequix(folder: Path) -> Any:
    """A small untrained network with K readouts."""
    model = NequixModel(members=1, heads=K, hidden_irreps="4x0e + 2x1o", n_layers=2, radial_mlp_size=8)
    E0 = {str(z): -1.0 * z for z in (1, 6, 8)}
    statistics = {"species": [1, 6, 8], "E0_eV": E0, "scale_eV": 1.0, "avg_n_neighbors": 9.0}
    member = load(model.initialise(statistics, 0, folder))
    delta = np.random.default_rng(0).standard_normal((K // 2, 4))
    path, network = folder / "heads.nqx", program(member.spec).network(member.params)
    save(path, member.spec, network, member.reference, np.concatenate([delta, -delta]) + 0.5)
    return model.load([path])


@pytest.mark.slow
def test_a_shallow_nequix_drives_and_says_how_uncertain_it_is(tmp_path: Path) -> None:
    potential = shallow_nequix(tmp_path)
    assert isinstance(potential, HasSpread)
    frame = Frame.from_atoms(molecule("CH3CH2OH"))
    said = potential.predict([frame])
    (force,) = _jaxmd.loop_forces(potential, [frame])
    assert force == pytest.approx(said.forces[0].mean(0), abs=2e-5 * np.abs(said.forces[0]).max())
    one_step = BASE | {"n_steps": 1, "keep_every": 1, "temperatures_K": [1e-6], "dt_fs": 1e-3}
    pool = explore(
        potential, [frame], **one_step, limits={"max_force_eV_per_A": 1e6, "force_std_eV_per_A": 1e6}
    )
    counters = pool.counters
    assert counters["max_energy_std_eV_per_atom"] == pytest.approx(said.energy[:, 0].std() / 9, rel=1e-3)
    assert counters["max_force_std_eV_per_A"] == pytest.approx(
        frame_force_std(said.forces[0], frame.free), rel=1e-3
    )


# --- an ensemble of one


def test_a_limit_on_a_spread_that_is_not_there_is_refused() -> None:
    one, two = (Toy("bond", [[30.0, 0.74]] * n, 5.0, (1,)) for n in (1, 2))
    for potential, limits, words in (
        (one, {"force_std_eV_per_A": 3.0}, "limits.force_std_eV_per_A: an ensemble of one has no spread"),
        (two, {"energy_std_eV_per_atom": 0.1}, "limits.energy_std_eV_per_atom: needs a shallow ensemble"),
    ):
        with pytest.raises(SamplingError) as caught:
            explore(potential, [CALM], limits=limits)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    assert explore(one, [CALM]).frames and explore(one, [CALM], limits={"force_std_eV_per_A": None}).frames


ONE: dict[str, Any] = {
    "schema_version": 1, "name": "alone", "data": {"initial": [{"path": "x.xyz"}]}, "label": {"kind": "tblite"},
    "model": {"kind": "nequix", "members": 1}, "sample": [{"kind": "jaxmd", **BASE}],
    "select": {"kind": "environments"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample": [{"kind": "jaxmd", **BASE, "limits": {"force_std_eV_per_A": 2.0}}]},
         "sample.0.limits.force_std_eV_per_A: an ensemble of one has no spread"),
        ({"sample": [{"kind": "jaxmd", **BASE, "limits": {"energy_std_eV_per_atom": 0.1}}]},
         "sample.0.limits.energy_std_eV_per_atom: needs a shallow ensemble"),
        ({"select": {"kind": "environments", "band_eV_per_A": [0.1, 3.0]}},
         "select.band_eV_per_A: an ensemble of one has no spread"),
        ({"select": {"kind": "random", "band_eV_per_A": [None, 3.0]}},
         "select.band_eV_per_A: an ensemble of one has no spread"),
        ({"select": {"kind": "force-std"}}, "select.kind: an ensemble of one has no spread"),
    ],
)  # fmt: skip
def test_a_campaign_that_needs_a_spread_refuses_an_ensemble_of_one(
    changes: dict[str, Any], words: str
) -> None:
    CampaignConfig(ONE)
    with pytest.raises(ConfigError) as caught:
        CampaignConfig({**ONE, **changes})
    assert words in str(caught.value) and "\n" not in str(caught.value)
    CampaignConfig({**ONE, **changes, "model": {"kind": "nequix", "members": 1, "heads": 8}})
