"""Nequix ensembles: what a loaded potential predicts. Untrained networks obey every law that trained ones do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.stress import full_3x3_to_voigt_6_stress
from pydantic import ValidationError

from alfw.core.errors import DataError, TrainingError
from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
from alfw.core.protocols import JaxPotential, Model
from alfw.models._nequix_start import first_weights, spec_of
from alfw.models.nequix import NequixModel

TINY = {"hidden_irreps": "4x0e + 2x1o", "n_layers": 2, "radial_mlp_size": 8, "members": 2}
STATISTICS = {
    "species": [1, 6, 8, 29],
    "E0_eV": {"1": -13.5, "6": -1028.0, "8": -2041.0, "29": -3.0},
    "scale_eV": 1.5,
    "avg_n_neighbors": 9.0,
}


@pytest.fixture(autouse=True, scope="module")
def strict() -> Iterator[None]:
    """Mixed dtypes and ranks are errors in our own code; `foreign_code` lifts this inside nequix and e3nn."""
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    return [NequixModel(**TINY).initialise(STATISTICS, seed, folder / str(seed)) for seed in range(2)]


@pytest.fixture(scope="module")
def potential(weights: list[Path]) -> JaxPotential:
    return NequixModel(**TINY).load(weights)


def ethanol(seed: int = 0, noise: float = 0.05) -> Frame:
    atoms = molecule("CH3CH2OH")
    return Frame(atoms.numbers, atoms.positions + noise * np.random.default_rng(seed).standard_normal((9, 3)))


def copper(repeat: int = 1, noise: float = 0.0, shear: float = 0.0) -> Frame:
    atoms = bulk("Cu", "fcc", a=3.6) * (repeat, repeat, repeat)
    atoms.set_cell(atoms.cell @ (np.eye(3) + shear * np.triu(np.ones((3, 3)), 1)), scale_atoms=True)
    atoms.positions += noise * np.random.default_rng(1).standard_normal(atoms.positions.shape)
    return Frame(atoms.numbers, atoms.positions, np.array(atoms.cell), atoms.pbc)


TRICLINIC = copper(2, noise=0.1, shear=0.15)
OXYGEN, FAR_H2 = Frame([8], np.zeros((1, 3))), Frame([1, 1], [[0, 0, 0], [0, 0, 9.0]])
MIXTURE = [
    ethanol(),
    copper(),
    Frame([8], np.zeros((1, 3))),
    TRICLINIC,
    ethanol(1),
    Frame([1, 1], [[0, 0, 0], [0, 0, 9.0]]),
]


def test_the_plug_in_fulfils_its_contract(potential: JaxPotential):
    model: Model = NequixModel()
    assert isinstance(potential, JaxPotential)
    assert (potential.species, potential.cutoff_A, potential.members) == ((1, 6, 8, 29), 4.0, 2)
    assert model.known_species() is None and model.execution_only <= set(NequixModel.model_fields)


def test_shapes_dtypes_and_untouched_inputs(potential: JaxPotential):
    before = [(f.positions.copy(), f.cell.copy(), f.id) for f in MIXTURE]
    said = potential.predict(MIXTURE)
    assert said.energy.shape == (2, len(MIXTURE)) and said.energy.dtype == np.float64
    for frame, forces, stress in zip(MIXTURE, said.forces, said.stress, strict=True):
        assert forces.shape == (2, len(frame), 3) and forces.dtype == np.float64
        assert (
            stress is None if not frame.periodic else stress.shape == (2, 3, 3) and stress.dtype == np.float64
        )
    for frame, (positions, cell, id_) in zip(MIXTURE, before, strict=True):
        assert (frame.positions == positions).all() and (frame.cell == cell).all() and frame.id == id_
    assert potential.predict([]).energy.shape == (2, 0)


def test_batch_equals_single(potential: JaxPotential):
    together = potential.predict(MIXTURE)
    for i, frame in enumerate(MIXTURE):
        alone = potential.predict([frame])
        assert alone.energy[:, 0] == pytest.approx(together.energy[:, i], abs=2e-5)
        assert alone.forces[0] == pytest.approx(together.forces[i], abs=5e-6)
        if frame.periodic:
            assert alone.stress[0] == pytest.approx(together.stress[i], abs=1e-7)


@pytest.mark.parametrize("frame", [ethanol(), TRICLINIC], ids=["molecule", "triclinic"])
def test_forces_are_minus_the_gradient_of_the_energy(potential: JaxPotential, frame: Frame):
    h, atoms = 5e-3, range(min(len(frame), 4))
    moves = [(a, c, s) for a in atoms for c in range(3) for s in (h, -h)]
    frames = []
    for a, c, s in moves:
        positions = frame.positions.copy()
        positions[a, c] += s
        frames.append(frame.moved(positions))
    energy = potential.predict(frames).energy.reshape(2, len(atoms), 3, 2)
    numeric = -(energy[..., 0] - energy[..., 1]) / (2 * h)
    exact = potential.predict([frame]).forces[0][:, : len(atoms)]
    assert numeric == pytest.approx(exact, abs=2e-3 * np.abs(exact).max() + 2e-4)


@pytest.mark.parametrize("frame", [copper(), TRICLINIC], ids=["one atom", "triclinic"])
def test_stress_is_the_derivative_of_the_energy_by_strain(potential: JaxPotential, frame: Frame):
    h = 2e-3
    volume = abs(np.linalg.det(frame.cell))
    numeric = np.zeros((2, 3, 3))
    for i, j in np.ndindex(3, 3):
        e = np.zeros((3, 3))
        e[i, j] += h / 2
        e[j, i] += h / 2
        pair = [
            frame.moved(frame.positions @ (np.eye(3) + s * e), frame.cell @ (np.eye(3) + s * e))
            for s in (1, -1)
        ]
        energy = potential.predict(pair).energy
        numeric[:, i, j] = (energy[:, 0] - energy[:, 1]) / (2 * h * volume)
    exact = potential.predict([frame]).stress[0]
    assert np.abs(exact).max() > 1e-3
    assert exact == pytest.approx(exact.transpose(0, 2, 1), abs=1e-9)
    assert numeric == pytest.approx(exact, abs=5e-3 * np.abs(exact).max())


def test_rotation_translation_and_permutation(potential: JaxPotential):
    frame = ethanol()
    rng = np.random.default_rng(3)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    order = rng.permutation(9)
    said = potential.predict(
        [
            frame,
            frame.moved(frame.positions @ rotation.T),  # proper or not: parity is a symmetry as well
            frame.moved(frame.positions + [3.0, -70.0, 11.0]),
            Frame(frame.numbers[order], frame.positions[order]),
        ]
    )
    assert said.energy[:, 1:] == pytest.approx(said.energy[:, :1].repeat(3, 1), abs=5e-5)
    tolerance = 1e-5 * max(np.abs(said.forces[0]).max(), 1.0)
    assert said.forces[1] == pytest.approx(said.forces[0] @ rotation.T, abs=tolerance)
    assert said.forces[2] == pytest.approx(said.forces[0], abs=tolerance)
    assert said.forces[3] == pytest.approx(said.forces[0][:, order], abs=tolerance)


def test_a_cell_smaller_than_the_cutoff_equals_its_supercell(potential: JaxPotential):
    said = potential.predict([copper(1), copper(3)])
    assert said.energy[:, 1] / 27 == pytest.approx(said.energy[:, 0], abs=2e-5)
    assert said.stress[1] == pytest.approx(said.stress[0], abs=1e-6)
    assert np.abs(said.forces[0]).max() < 1e-5 and np.abs(said.forces[1]).max() < 1e-5


def test_members_differ_and_isolated_atoms_are_apart(potential: JaxPotential):
    said = potential.predict(MIXTURE)
    assert np.abs(said.forces[0][0] - said.forces[0][1]).max() > 1e-2
    assert said.forces[5] == pytest.approx(np.zeros((2, 2, 3)))  # H ... H at 9 Å, beyond the cutoff
    assert abs(said.energy[:, 5] - 2 * -13.5).max() < 50  # E0 is in


@pytest.mark.parametrize("frame", [ethanol(), TRICLINIC], ids=["molecule", "triclinic"])
def test_agrees_with_nequix_own_calculator(potential: JaxPotential, weights: list[Path], frame: Frame):
    from nequix.calculator import NequixCalculator

    said = potential.predict([frame])
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for k, path in enumerate(weights):
            calculator = NequixCalculator(model_path=str(path), use_kernel=False)
            atoms = frame.to_atoms()
            calculator.calculate(atoms)
            # Nequix sums energies of 5000 eV in float32, so its last digits are gone.
            assert calculator.results["energy"] == pytest.approx(said.energy[k, 0], abs=1e-4, rel=3e-7)
            assert calculator.results["forces"] == pytest.approx(said.forces[0][k], abs=1e-5)
            if frame.periodic:
                assert calculator.results["stress"] == pytest.approx(
                    full_3x3_to_voigt_6_stress(said.stress[0][k]), abs=1e-6
                )


def test_atom_energy_function_gives_the_same_energies_without_e0(potential: JaxPotential):
    frame = ethanol()
    energies, params = potential.atom_energy_function()
    edges = neighbours(frame, potential.cutoff_A)
    vectors = edges.vectors(frame.positions, frame.cell).astype(np.float32)
    species = np.searchsorted(potential.species, frame.numbers).astype(np.int32)
    senders, receivers, pad = edges.senders, edges.receivers, np.zeros(3, np.int32)
    beyond = np.array([[9.0, 0.0, 0.0]] * 3, np.float32)
    padded = (np.r_[vectors, beyond], species, np.r_[senders, pad], np.r_[receivers, pad])
    f = jax.jit(energies)
    e0 = sum(STATISTICS["E0_eV"][str(z)] for z in frame.numbers)
    for k in range(2):
        member = jax.tree.map(lambda x, k=k: x[k], params)
        plain = np.asarray(f(member, vectors, species, senders, receivers))
        assert plain.shape == (9,)
        assert plain.sum() + e0 == pytest.approx(potential.predict([frame]).energy[k, 0], abs=1e-5)
        assert np.asarray(f(member, *padded)) == pytest.approx(plain, abs=1e-6)
        no_edges = f(member, vectors[:0], species, pad[:0], pad[:0])
        assert (np.asarray(f(member, beyond, species, pad, pad)) == np.asarray(no_edges)).all()


def test_members_at_once_or_one_by_one_say_the_same(weights: list[Path]):
    """A GPU evaluates all members in one batch; both ways exist on every device."""
    from alfw.models._nequix_potential import NequixPotential

    one_by_one, at_once = (NequixPotential(weights, at_once=way).predict(MIXTURE) for way in (False, True))
    assert at_once.energy == pytest.approx(one_by_one.energy, abs=2e-5)
    for mine, theirs in zip(at_once.forces, one_by_one.forces, strict=True):
        assert mine == pytest.approx(theirs, abs=5e-6)


@pytest.mark.parametrize("atoms", [1, 20, 10_000])
def test_the_batch_size_changes_nothing(potential: JaxPotential, weights: list[Path], atoms: int):
    frames = [ethanol(i) for i in range(11)]
    said = NequixModel(**TINY, atoms_per_batch=atoms).load(weights).predict(frames)
    reference = potential.predict(frames)
    assert said.energy == pytest.approx(reference.energy, abs=2e-5)
    assert np.array(said.forces) == pytest.approx(np.array(reference.forces), abs=5e-6)


def test_what_cannot_be_predicted_is_named(potential: JaxPotential):
    with pytest.raises(TrainingError, match="does not know Si .it knows H, C, O, Cu.") as error:
        potential.predict([ethanol(), Frame([14], np.zeros((1, 3)))])
    assert "\n" not in str(error.value)
    slab = Frame([29], np.zeros((1, 3)), 9 * np.eye(3), [True, True, False])
    with pytest.raises(DataError, match="partial_pbc"):
        potential.predict([slab])


def test_members_of_other_statistics_are_refused(weights: list[Path], tmp_path: Path):
    other = NequixModel(**TINY).initialise({**STATISTICS, "scale_eV": 2.0}, 0, tmp_path)
    with pytest.raises(TrainingError, match="not members of one ensemble"):
        NequixModel(**TINY).load([weights[0], other])
    with pytest.raises(TrainingError, match="cannot be read"):
        NequixModel(**TINY).load([tmp_path / "nowhere.nqx"])
    broken = tmp_path / "broken.nqx"
    broken.write_bytes(weights[0].read_bytes()[:2000])
    with pytest.raises(TrainingError, match="cannot be read"):
        NequixModel(**TINY).load([broken])


def test_a_published_checkpoint_can_be_loaded():
    path = Path(os.environ.get("ALFW_TEST_CHECKPOINT", "~/.cache/nequix/models/nequix-mp-1.nqx")).expanduser()
    if not path.exists():
        pytest.skip("needs nequix-mp-1.nqx: set ALFW_TEST_CHECKPOINT to its path")
    potential = NequixModel().load([path])
    assert len(potential.species) == 89 and potential.cutoff_A == 6.0


def test_options_are_checked():
    for wrong in (
        {"start_from": ""},
        {"members": 0},
        {"hidden_irreps": "16 scalars"},
        {"cutof_A": 3},
    ):
        with pytest.raises(ValidationError):
            NequixModel(**wrong)
    with pytest.raises(ValidationError, match="no scalars"):
        NequixModel(hidden_irreps="8x1o")
    assert NequixModel(start_from=None).members == 4


def test_the_radial_network_begins_as_wide_as_it_is_told():
    begun = []
    for variance in (1.0, 4.0):
        model = NequixModel(**TINY, mlp_init_scale=variance)
        begun.append(first_weights(model, spec_of(model, STATISTICS, None), None, 0))
    (narrow, where), (wide, _) = (jax.tree_util.tree_flatten(weights) for weights in begun)
    grown = [np.allclose(b, 2 * a) and not np.allclose(a, 0) for a, b in zip(narrow, wide, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(narrow, wide, strict=True)]
    assert all(a != b for a, b in zip(grown, same, strict=True)) and any(grown), where


def test_options_are_light():
    heavy = "import sys, alfw.models.nequix; print(sorted({'jax', 'nequix', 'optax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
