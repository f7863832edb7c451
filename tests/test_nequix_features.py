"""Nequix: per-atom features for selection, and shallow ensembles whose members cost one pass."""

from __future__ import annotations

from pathlib import Path

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk, molecule
from nequix.model import bessel_basis, load_model, polynomial_cutoff

import alfw
from alfw.core.errors import DataError, TrainingError
from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
from alfw.core.protocols import HasFeatures, HasSpread, JaxPotential
from alfw.models._nequix_network import load, program, save
from alfw.models._nequix_potential import NequixPotential, ShallowNequixPotential, spread_out
from alfw.models.ensemble import load_ensemble, write_ensemble
from alfw.models.nequix import NequixModel

TINY = {"hidden_irreps": "4x0e + 2x1o", "n_layers": 2, "radial_mlp_size": 8}
STATISTICS = {
    "species": [1, 6, 8, 29],
    "E0_eV": {"1": -13.5, "6": -1028.0, "8": -2041.0, "29": -3.0},
    "scale_eV": 1.5,
    "avg_n_neighbors": 9.0,
}
FOUNDATION = Path(__file__).resolve().parents[2] / "shared" / "models" / "nequix-mp-1.nqx"
K = 6


def ethanol(seed: int = 0) -> Frame:
    atoms = molecule("CH3CH2OH")
    return Frame(atoms.numbers, atoms.positions + 0.05 * np.random.default_rng(seed).standard_normal((9, 3)))


def copper(repeat: int = 1, noise: float = 0.0) -> Frame:
    atoms = bulk("Cu", "fcc", a=3.6) * (repeat, repeat, repeat)
    atoms.positions += noise * np.random.default_rng(1).standard_normal(atoms.positions.shape)
    return Frame(atoms.numbers, atoms.positions, np.array(atoms.cell), atoms.pbc)


MIXTURE = [ethanol(), copper(2, 0.1), Frame([8], np.zeros((1, 3))), ethanol(1), copper()]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two members."""
    folder = tmp_path_factory.mktemp("members")
    model = NequixModel(**TINY, members=2)
    return [model.initialise(STATISTICS, seed, folder / str(seed)) for seed in range(2)]


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    """Readouts in pairs about a mean."""
    rng = np.random.default_rng(0)
    mean, delta = rng.standard_normal(4), 0.3 * rng.standard_normal((K // 2, 4))
    return mean + np.concatenate([delta, -delta])


@pytest.fixture(scope="module")
def many(weights: list[Path], heads: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a shallow ensemble."""
    path = tmp_path_factory.mktemp("shallow") / "member.nqx"
    member = load(weights[0])
    save(path, member.spec, program(member.spec).network(member.params), member.reference, heads)
    return path


# --- features


def recipe(path: Path, frame: Frame) -> np.ndarray:
    """(n, D): all layers of Nequix by its own code, no readout."""
    network, config = load_model(str(path))
    edges = neighbours(frame, config["cutoff"])
    vectors = jnp.asarray(edges.vectors(frame.positions, frame.cell), jnp.float32)
    kinds = {z: i for i, z in enumerate(sorted(config["atomic_numbers"]))}
    species = jnp.asarray([kinds[z] for z in frame.numbers.tolist()])
    n = len(config["atomic_numbers"])

    @jax.jit
    def layers(vectors: jax.Array) -> jax.Array:
        r = jnp.linalg.norm(vectors, axis=1)
        envelope = polynomial_cutoff(r, config["cutoff"], config["radial_polynomial_p"])
        radial = bessel_basis(r, config["radial_basis_size"], config["cutoff"]) * envelope[:, None]
        sh = e3nn.spherical_harmonics(
            e3nn.s2_irreps(config["lmax"]), vectors, True, normalization="component"
        )
        features = e3nn.IrrepsArray(f"{n}x0e", jax.nn.one_hot(species, n))
        for layer in network.layers:
            features = layer(features, species, sh, radial, edges.senders, edges.receivers)
        return features.array

    return np.asarray(layers(vectors))


def check_features(path: Path, width: int, frames: list[Frame]) -> None:
    potential = NequixModel(members=1).load([path])
    assert isinstance(potential, HasFeatures)
    together = potential.features(frames)
    for frame, found in zip(frames, together, strict=True):
        size = float(np.abs(found).max())
        assert found.shape == (len(frame), width) and found.dtype == np.float32
        assert found == pytest.approx(recipe(path, frame), abs=2e-5 * size)
        assert found == pytest.approx(potential.features([frame])[0], abs=2e-5 * size)
    frame, size = frames[0], float(np.abs(together[0]).max())
    rotation, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    order = np.random.default_rng(4).permutation(len(frame))
    turned, shifted, shuffled = potential.features(
        [
            frame.moved(frame.positions @ rotation.T),
            frame.moved(frame.positions + [3.0, -70.0, 11.0]),
            Frame(frame.numbers[order], frame.positions[order]),
        ]
    )
    for same in (turned, shifted, shuffled[np.argsort(order)]):
        assert same == pytest.approx(together[0], abs=1e-4 * size)
    other = potential.features([frame.moved(frame.positions * 1.03)])[0]
    assert np.abs(other - together[0]).max() > 1e-3 * size


def test_features_are_what_the_readout_sees(weights: list[Path]):
    check_features(weights[0], 4, MIXTURE)
    both = NequixModel(members=2).load(weights)
    assert both.features(MIXTURE)[1] == pytest.approx(
        NequixModel(members=1).load(weights[:1]).features(MIXTURE)[1], abs=1e-5
    )
    assert both.features([]) == [] and both.predict([ethanol()]).features is None


def test_features_of_a_supercell_repeat(weights: list[Path]):
    one, eight = NequixModel(members=1).load(weights[:1]).features([copper(), copper(2)])
    assert eight == pytest.approx(np.repeat(one, 8, 0), abs=1e-5)


def test_what_has_no_features_is_named(weights: list[Path]):
    potential = NequixModel(members=2).load(weights)
    with pytest.raises(TrainingError, match="does not know Si"):
        potential.features([Frame([14], np.zeros((1, 3)))])
    with pytest.raises(DataError, match="partial_pbc"):
        potential.features([Frame([29], np.zeros((1, 3)), 9 * np.eye(3), [True, True, False])])


@pytest.mark.slow
def test_a_published_checkpoint_gives_its_frozen_features():
    if not FOUNDATION.is_file():
        pytest.skip(f"needs nequix-mp-1.nqx: {FOUNDATION}")
    check_features(FOUNDATION, 128, [ethanol(), copper()])


# --- shallow ensembles


def test_only_a_shallow_ensemble_has_a_cheap_spread(weights: list[Path], many: Path):
    deep, shallow = NequixModel(members=2).load(weights), NequixModel(members=1).load([many])
    assert isinstance(deep, JaxPotential) and not isinstance(deep, HasSpread)
    assert isinstance(shallow, HasSpread) and shallow.members == K


def test_a_shallow_ensemble_predicts_what_its_readouts_as_networks_do(weights: list[Path], many: Path):
    """One pass for all energies, and one backward pass for each independent readout, against K networks."""
    apart = NequixPotential([many]).predict(MIXTURE)
    for at_once in (False, True):
        said = ShallowNequixPotential([many], at_once=at_once).predict(MIXTURE)
        assert said.energy == pytest.approx(apart.energy, abs=5e-5)
        for mine, theirs in zip(said.forces, apart.forces, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-5)
        for frame, mine, theirs in zip(MIXTURE, said.stress, apart.stress, strict=True):
            assert (mine is None) == (not frame.periodic)
            assert mine is None or mine == pytest.approx(theirs, abs=1e-6)
    assert apart.energy.std(0).min() > 1e-2


def test_the_spread_function_gives_mean_and_deviations_of_the_members(many: Path, heads: np.ndarray):
    frame, potential = ethanol(), NequixModel(members=1).load([many])
    function, params = potential.atom_spread_function()
    edges = neighbours(frame, potential.cutoff_A)
    vectors = edges.vectors(frame.positions, frame.cell).astype(np.float32)
    species = np.searchsorted(potential.species, frame.numbers).astype(np.int32)
    mean, deviations = jax.jit(function)(params, vectors, species, edges.senders, edges.receivers)
    assert mean.shape == (9,) and deviations.shape == (K, 9)
    e0 = sum(STATISTICS["E0_eV"][str(z)] for z in frame.numbers)
    said = potential.predict([frame]).energy[:, 0]
    assert float(mean.sum()) + e0 == pytest.approx(said.mean(), abs=1e-4)
    assert np.asarray(deviations).sum(1) == pytest.approx(said - said.mean(), abs=1e-4)
    energies, members = potential.atom_energy_function()
    one = jax.tree.map(lambda x: x[2], members)
    alone = jax.jit(energies)(one, vectors, species, edges.senders, edges.receivers)
    assert np.asarray(alone) == pytest.approx(np.asarray(mean + deviations[2]), abs=1e-5)
    assert len(spread_out(load(many))) == K == len(heads)


def test_a_shallow_ensemble_works_as_a_calculator(many: Path, tmp_path: Path):
    write_ensemble(tmp_path / "model", [many])
    assert isinstance(load_ensemble(tmp_path / "model"), HasSpread)
    atoms = ethanol().to_atoms()
    atoms.calc = alfw.calculator(tmp_path / "model")
    assert np.isfinite(atoms.get_forces()).all()
    results = atoms.calc.results
    assert results["member_energies"].shape == (K,) and results["member_forces"].shape == (K, 9, 3)
    assert results["force_std"] > 1e-2 and results["energy_std"] > 1e-2
