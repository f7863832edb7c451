"""JaxMDSampler drives real Nequix networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from alfw.core.frame import Frame
from alfw.core.protocols import JaxPotential
from alfw.core.records import Resources
from alfw.core.uncertainty import frame_force_std
from alfw.models.nequix import NequixModel
from alfw.samplers import _jaxmd, _jaxmd_loop
from alfw.samplers.jaxmd import JaxMDSampler

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> JaxPotential:
    """Two untrained members."""
    model = NequixModel(members=2, hidden_irreps="8x0e + 4x1o", cutoff_A=4.0, radial_mlp_size=8)
    E0 = {str(z): -1.0 * z for z in (1, 6, 8, 29)}
    statistics = {"species": [1, 6, 8, 29], "E0_eV": E0, "scale_eV": 1.0, "avg_n_neighbors": 10.0}
    folders = [tmp_path_factory.mktemp(f"member{k}") for k in range(2)]
    return model.load([model.initialise(statistics, k, folder) for k, folder in enumerate(folders)])  # type: ignore[return-value]


def chain() -> Atoms:
    """Four ethanols in a row: 36 atoms without a cell."""
    atoms = Atoms()
    for i in range(4):
        other = molecule("CH3CH2OH")
        other.translate([4.4 * i, 0.3 * i, 0])
        atoms += other
    return atoms


def frames() -> list[Frame]:
    rng = np.random.default_rng(1)
    skew = Atoms(
        "Cu2", [[0, 0, 0], [1.2, 1.9, 1.6]], cell=[[2.6, 0, 0], [1.1, 3.4, 0], [-0.7, 0.8, 3.5]], pbc=True
    )
    slab = fcc111("Cu", (1, 1, 3), vacuum=5.0, periodic=True)
    atoms = [molecule("CH3CH2OH"), bulk("Cu"), skew, slab, chain(), molecule("H2O")]
    for a in atoms:
        a.rattle(0.05, rng=rng)
    return [Frame.from_atoms(a) for a in atoms]


def test_forces_of_the_loop_are_those_of_predict(potential: JaxPotential) -> None:
    assert isinstance(potential, JaxPotential)
    expected = potential.predict(frames()).forces
    for driver in (0, 1):
        ours = _jaxmd.loop_forces(potential, frames(), driver)
        for got, want in zip(ours, expected, strict=True):
            assert got == pytest.approx(want[driver], abs=2e-5 * max(1.0, np.abs(want).max()))


def test_kept_frames_and_force_std_are_those_of_predict(potential: JaxPotential) -> None:
    sampler = JaxMDSampler(
        temperatures_K=(200.0, 400.0), walkers=6, n_steps=20, keep_every=20, force_std_every=20,
        limits={"max_force_eV_per_A": 500.0, "force_std_eV_per_A": 500.0, "min_distance_fraction": 0.1},
    )  # fmt: skip
    pool = sampler.run(potential, frames(), 1, Path(), Resources())
    assert [len(f) for f in pool.frames] == [9, 1, 2, 3, 36, 3] and not pool.events
    both = [*frames(), *pool.frames]  # all members are asked in steps 0 and 20
    forces = potential.predict(both).forces
    std = max(frame_force_std(f, frame.free) for f, frame in zip(forces, both, strict=True))
    assert pool.counters["max_force_std_eV_per_A"] == pytest.approx(std, rel=1e-4)
    compiled = _jaxmd_loop.advance._cache_size()
    again = sampler.run(potential, frames(), 1, Path(), Resources())
    assert [f.id for f in again.frames] == [f.id for f in pool.frames]
    assert _jaxmd_loop.advance._cache_size() == compiled
