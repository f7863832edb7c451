"""How long MD lasts: the same verdicts by jax-md and by ASE, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from sampler_toys import Toy

from alfw.core.errors import SamplingError, TrainingError
from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.records import Label, Labeled, Prediction
from alfw.io.imported import Imported
from alfw.models.ase import ASEModel
from alfw.models.nequix import NequixModel
from alfw.steps.validation.langevin import OneMember, Stop
from alfw.steps.validation.stability import Stability, calm_starts, in_one_piece, lifetimes

SHORT = Stability(temperatures_K=(300.0,), walkers=4, time_ps=0.02)


def hydrogen(length: float) -> Frame:
    return Frame.from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, length]]))


class Plain:
    """A potential that jax-md cannot drive."""

    def __init__(self, potential: Potential) -> None:
        self.potential, self.members = potential, potential.members
        self.species, self.cutoff_A = potential.species, potential.cutoff_A

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        return self.potential.predict(frames)


def spring(k: float = 30.0, kind: str = "bond", r0: float = 0.8) -> Toy:
    return Toy(kind, [[k, r0]], 4.0, (1,))


def emt(calculator: str = "ase.calculators.emt:EMT", **kwargs: Any) -> Potential:
    return ASEModel(calculator=calculator, kwargs=kwargs).load([Path("none")])


# what is wrong: the potential, the length of the bond at the start, options, and what must be said
CASES: dict[str, tuple[Toy, float, dict[str, Any]]] = {
    "force": (spring(), 1.85, {}),
    "distance": (spring(), 0.36, {}),
    "speed": (spring(), 0.8, {"limits": {"max_speed_A_per_fs": 1e-4}}),
    "growth": (spring(k=0.0), 0.8, {"limits": {"max_growth_A": 0.02}, "temperatures_K": (3000.0,)}),
    "nan": (spring(k=1e-3, kind="nan", r0=0.81), 0.8, {"temperatures_K": (3000.0,)}),
    "pieces": (spring(k=0.0), 0.8, {"temperatures_K": (20000.0,)}),
}


@pytest.mark.parametrize("cause", CASES)
def test_jax_md_and_ase_stop_a_walker_for_the_same_cause(cause: str) -> None:
    toy, length, changes = CASES[cause]
    options = Stability(**{**vars(SHORT), **changes})
    for engine, potential in (("jax-md", toy), ("ase", Plain(toy))):
        said = options.run(potential, [hydrogen(length)], seed=5)
        (row,) = said["temperatures"]
        assert said["engine"] == engine
        assert row["causes"] == {cause: 4}, engine
        assert all(
            (one["time_ps"] == 0) == (cause in ("force", "distance", "speed")) for one in row["walkers"]
        )
        assert row["n_failed"] == 4 and row["survival"]["survival"][-1] == 0


def test_walkers_that_last_and_those_that_do_not_are_counted_by_temperature() -> None:
    options = Stability(temperatures_K=(100.0, 300.0), walkers=4, time_ps=0.02)
    starts = [hydrogen(0.8), hydrogen(1.85)]  # every second one is beyond the limit on forces
    said = options.run(spring(), starts, seed=1)
    assert said == options.run(spring(), starts, seed=1)
    json.dumps(said, allow_nan=False)
    assert [row["temperature_K"] for row in said["temperatures"]] == [100, 300]
    for row in said["temperatures"]:
        assert [one["start"] for one in row["walkers"]] == [0, 1, 0, 1]
        assert [one["cause"] for one in row["walkers"]] == [None, "force", None, "force"]
        assert [one["time_ps"] for one in row["walkers"]] == [0.02, 0, 0.02, 0]
        assert row["survival"]["at_risk"] == [4] and row["survival"]["survival"] == [0.5]
        assert row["median_ps"] == 0 and row["simulated_ps"] == pytest.approx(0.04)
        assert row["failures_per_ns"] == pytest.approx(2 / 0.04 * 1000)
        assert row["failures_per_ns_upper"] == pytest.approx(6.2958 / 0.04 * 1000, rel=1e-4)
    again = options.run(spring(), starts[:1], seed=2)["temperatures"][1]
    assert again["n_failed"] == 0 and again["median_ps"] is None and again["median_text"] == "> 0.02 ps"
    assert again["failures_per_ns"] == 0
    assert again["failures_per_ns_upper"] == pytest.approx(-np.log(0.05) / 0.08 * 1000)


def test_lifetimes_are_those_of_kaplan_and_meier() -> None:
    stops = [Stop(1000.0, "force"), Stop(2000.0, "pieces"), Stop(2000.0, "force"), *[Stop(5000.0, None)] * 3]
    said = lifetimes(stops, 5.0)
    assert said["causes"] == {"force": 2, "pieces": 1}
    assert said["survival"]["time_ps"].tolist() == [1, 2]
    assert said["survival"]["survival"] == pytest.approx([5 / 6, 0.5])
    assert said["median_ps"] == 2 and said["median_text"] == "2 ps"
    assert said["simulated_ps"] == 20 and said["failures_per_ns"] == pytest.approx(150)


def test_an_atom_that_comes_back_was_never_lost() -> None:
    sampler = Stability(time_ps=1.0)._sampler()
    whole, apart = hydrogen(0.8), hydrogen(2.0)
    end = Stop(1000.0, None)
    assert in_one_piece(sampler, whole, end, [whole, apart, whole, apart, whole]) == end
    looked = sampler.keep_every * sampler.dt_fs
    assert in_one_piece(sampler, whole, end, [whole, apart, whole, apart, apart]) == Stop(
        4 * looked, "pieces"
    )
    assert in_one_piece(sampler, apart, end, [apart, whole, apart]) == end  # two pieces from the start
    assert in_one_piece(sampler, whole, Stop(0.5, "force"), []) == Stop(0.5, "force")


def test_a_calculator_that_fails_on_the_way_is_a_failure_and_one_that_cannot_start_an_error() -> None:
    copper = Frame.from_atoms(bulk("Cu"))
    options = Stability(temperatures_K=(2000.0,), walkers=2, time_ps=0.1, dt_fs=2.0)
    said = options.run(emt("wrong_calculators:Failing", reach_A=0.02), [copper], seed=0)["temperatures"][0]
    assert said["causes"] == {"model": 2} and said["simulated_ps"] > 0
    said = options.run(emt("wrong_calculators:Broken", reach_A=0.02), [copper], seed=0)["temperatures"][0]
    assert said["causes"] == {"nan": 2}
    with pytest.raises(TrainingError, match="No EMT-potential for U"):
        options.run(emt(), [Frame.from_atoms(Atoms("U2", [[0, 0, 0], [0, 0, 2.5]]))], seed=0)
    with pytest.raises(SamplingError, match="no frame to start from"):
        options.run(emt(), [], seed=0)


def test_one_member_drives() -> None:
    both = ASEModel(
        calculator="ase.calculators.lj:LennardJones",
        members=2,
        member_kwargs=({"epsilon": 0.1}, {"epsilon": 0.2}),
    ).load([Path("a"), Path("b")])
    pair = Frame.from_atoms(Atoms("Ar2", [[0, 0, 0], [0, 0, 1.3]]))
    said, one = both.predict([pair]), OneMember(both, 1).predict([pair])
    assert one.energy.shape == (1, 1) and one.energy[0, 0] == said.energy[1, 0] != said.energy[0, 0]
    np.testing.assert_array_equal(one.forces[0], said.forces[0][1:])
    assert SHORT.run(both, [pair], seed=7)["driver"] == 1


def test_starts_are_calm_ones_each_once() -> None:
    def item(i: int, force: float) -> Labeled:
        return Labeled(hydrogen(0.7 + 0.01 * i), Label(0.0, np.full((2, 3), force)))

    items = [item(i, 0.1 * i) for i in range(10)]
    chosen = calm_starts([*items, items[0]], seed=3)
    assert sorted(frame.id for frame in chosen) == sorted(i.frame.id for i in items[:9])
    assert [f.id for f in calm_starts([*items, items[0]], seed=3)] == [f.id for f in chosen]
    assert len(calm_starts(items, seed=3, most=4)) == 4
    assert len(calm_starts([Imported(hydrogen(0.7)), Imported(hydrogen(0.8))], seed=0)) == 2


def test_ethanol_lasts_by_tight_binding() -> None:
    pytest.importorskip("tblite")
    xtb = emt("tblite.ase:TBLite", method="GFN2-xTB", verbosity=0)
    said = Stability(walkers=2, time_ps=0.05, dt_fs=1.0).run(xtb, [Frame.from_atoms(molecule("CH3CH2OH"))], 0)
    (row,) = said["temperatures"]
    assert row["n_failed"] == 0 and row["simulated_ps"] == pytest.approx(0.1)


@pytest.mark.slow
def test_an_untrained_network_does_not_hold_ethanol_together(tmp_path: Path) -> None:
    model = NequixModel(members=2, hidden_irreps="8x0e + 4x1o", cutoff_A=4.0, radial_mlp_size=8)
    e0 = {str(z): -1.0 * z for z in (1, 6, 8)}
    statistics = {"species": [1, 6, 8], "E0_eV": e0, "scale_eV": 1.0, "avg_n_neighbors": 10.0}
    potential = model.load([model.initialise(statistics, k, tmp_path / str(k)) for k in range(2)])
    options = Stability(temperatures_K=(300.0, 1000.0), walkers=4, time_ps=0.25)
    said = options.run(potential, [Frame.from_atoms(molecule("CH3CH2OH"))], seed=3)
    assert said["engine"] == "jax-md" and said["driver"] == 1
    for row in said["temperatures"]:
        assert row["n_failed"] == 4 == sum(row["causes"].values())
        assert row["simulated_ps"] == pytest.approx(sum(one["time_ps"] for one in row["walkers"]))
