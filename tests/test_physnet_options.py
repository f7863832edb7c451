"""The options of the seed's trainer: losses, points, reference energies, sources of dipoles, mixed Coulomb energy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("e3x", reason="needs e3x: pip install 'alfw[physnet]'")

import jax.numpy as jnp
from ase.build import molecule
from physnet_water import TINY, springs

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.models._physnet_coulomb import SOFT_A
from alfw.models._physnet_data import as_graphs, points_that_count
from alfw.models._physnet_files import load, save
from alfw.models._physnet_network import networks
from alfw.models._physnet_step import Deviation, loss_of, rate
from alfw.models.physnet import PhysNetModel, PhysNetTraining, SEED_ENERGIES_eV

SHORT = {"epochs": 3, "batch_size": 4}
NAMES = ("energy", "forces", "mono", "dipole_physnet", "dipole_dcmnet", "dipole_mixed")
NAMES += ("esp_physnet", "esp_dcmnet", "esp_mixed")
COULOMB = HARTREE_eV * BOHR_A


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dipole_loss_sources": ["physnet"], "esp_loss_sources": ["physnet", "mixed"]},
        {"dipole_metric": "mae", "esp_metric": "rmse", "dipole_loss_sources": ["mixed"]},
        {"dipole_metric": "rmse", "esp_metric": "mae", "esp_weight": 7.0, "energy_weight": 0.5},
    ],
)
def test_the_loss_is_the_seed_s(options: dict[str, Any]) -> None:
    """Half squares as optax.l2_loss has them, but whole ones for potentials; what does not count is left out."""
    chosen, rng = PhysNetTraining(**options), np.random.default_rng(0)
    errors = {name: rng.standard_normal((3, 5)).astype(np.float32) for name in NAMES}
    counts = np.array([[1, 1, 1, 0, 0]] * 3, np.float32)
    found = {name: Deviation(jnp.asarray(error), jnp.asarray(counts)) for name, error in errors.items()}

    def mean(metric: str, name: str, unit: float = 1.0) -> float:
        error = errors[name][:, :3] / unit
        square = float((error**2).mean())
        return {"l2": square, "mae": float(np.abs(error).mean()), "rmse": square**0.5}[metric]

    half = 0.5 if chosen.dipole_metric == "l2" else 1.0
    expected = (
        0.5 * chosen.energy_weight * mean("l2", "energy")
        + 0.5 * 50.0 * mean("l2", "forces")
        + 0.5 * 100.0 * mean("l2", "mono")
        + sum(half * 25.0 * mean(chosen.dipole_metric, f"dipole_{s}") for s in chosen.dipole_loss_sources)
        + sum(
            chosen.esp_weight * mean(chosen.esp_metric, f"esp_{s}", HARTREE_eV)
            for s in chosen.esp_loss_sources
        )
    )
    assert float(loss_of(chosen, found)) == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_rises_and_falls_over_the_steps_there_are() -> None:
    options = PhysNetTraining(learning_rate=0.1)
    rates = [float(rate(options, jnp.float32(k), jnp.float32(200))) for k in (0, 10, 105, 200)]
    np.testing.assert_allclose(rates, [0.01, 0.1, 0.0505, 0.001], rtol=1e-5)


def test_points_in_the_density_too_close_or_too_strong_do_not_count() -> None:
    frame = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, -0.96]])
    at = np.array([[0, 0, z] for z in (1.3, 1.4, 2.0, 3.0)])
    item = Labeled(
        frame, Label(0.0, np.zeros((2, 3)), esp=HARTREE_eV * np.array([0.4, 0.3, 0.2, 0.1]), esp_points=at)
    )

    def counting(**options: Any) -> list[bool]:
        return points_that_count(item, PhysNetTraining(**options)).tolist()  # type: ignore[no-any-return]

    assert counting() == [False, True, True, True]  # twice the covalent radius of oxygen is 1.32 Å
    assert counting(esp_min_distance_A=1.5) == [False, False, True, True]
    assert counting(esp_max_value=0.15) == [False, False, False, True]


def test_reference_energies_fitted_given_or_the_seed_s() -> None:
    data = TrainingData(springs(5, 0))

    def energies(**options: Any) -> dict[str, float]:
        return PhysNetModel(**options).statistics(data)["E0_eV"]  # type: ignore[no-any-return]

    assert 2 * energies()["1"] + energies()["8"] == pytest.approx(-40.0, abs=0.2)
    assert energies(atomic_energies_eV="seed") == {"1": SEED_ENERGIES_eV["H"], "8": SEED_ENERGIES_eV["O"]}
    assert energies(atomic_energies_eV={"H": -13.0, 8: -2040.0}) == {"1": -13.0, "8": -2040.0}
    assert energies(subtract_atom_energies=False) == {"1": 0.0, "8": 0.0}
    with pytest.raises(TrainingError, match="atomic_energies_eV lacks O: add them"):
        energies(atomic_energies_eV={"H": -13.0})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"atomic_energies_eV": {"Xx": 1.0}}, "Xx: neither a chemical symbol nor an atomic number"),
        ({"atomic_energies_eV": "seed", "subtract_atom_energies": False}, "of no use with"),
        ({"dipole_source": "mixed"}, "only learnt when training.dipole_loss_sources has mixed"),
        ({"training": {"esp_loss_sources": []}}, "at least 1 item"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PhysNetModel(**options)


@pytest.fixture(scope="module")
def coulomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with everything that is not the default, and total energies that the network has to make."""
    model = PhysNetModel(
        **TINY,
        mix_coulomb_energy=True,
        subtract_atom_energies=False,
        dipole_source="mixed",
        training={**SHORT, "epochs": 12, "learning_rate": 1e-2, "dipole_loss_sources": ["physnet", "mixed"]},
    )
    data, folder = TrainingData(springs(8, 0, offset_eV=-2070.0)), tmp_path_factory.mktemp("coulomb")
    return model.train(data, 0, None, folder, Resources())


@pytest.mark.slow
def test_total_energies_can_be_learnt_and_mixtures_too(coulomb: Path) -> None:
    found, items = load(coulomb), springs(4, 3, offset_eV=-2070.0)
    mixing = found.params["mixing"]
    assert float(mixing["coulomb"]) != 0.1 and float(mixing["dipole"]) != 0.0 and float(mixing["esp"]) == 0.0
    potential = PhysNetModel(**TINY).load([coulomb])
    frames = [item.frame for item in items]
    said = potential.predict(frames)
    assert np.abs(said.energy[0] + 2070.0).max() < 2.0
    atomic, distributed = potential.dipoles(frames)
    share = 1.0 / (1.0 + np.exp(-float(mixing["dipole"])))
    np.testing.assert_allclose(said.dipole, share * distributed + (1 - share) * atomic, atol=1e-5)
    for source, expected in (("physnet", atomic), ("dcmnet", distributed)):
        other = coulomb.parent / f"{source}.npz"
        save(other, replace(found.sizes, dipole_source=source), found.params, found.reference)
        np.testing.assert_allclose(
            PhysNetModel(**TINY).load([other]).predict(frames).dipole, expected, atol=1e-6
        )


@pytest.mark.slow
def test_the_coulomb_energy_is_that_of_all_pairs_of_charges(coulomb: Path) -> None:
    """By hand in float64, of the charges that dipoles are made of; and it vanishes from the energy with its weight."""
    found, frame = load(coulomb), springs(1, 4)[0].frame
    nets = networks(found.sizes)
    graphs, positions = as_graphs([frame], found.sizes)
    graphs = type(graphs)(*map(jnp.asarray, graphs))
    state = nets.electrostatics(found.params, graphs, jnp.zeros(1))
    q = np.asarray(state.monopoles, np.float64)[0, :3].ravel()
    places = (positions[0, :3, None] + np.asarray(state.away, np.float64)[0, :3]).reshape(-1, 3)
    apart = np.sqrt(((places[:, None] - places) ** 2).sum(-1) + SOFT_A**2)
    expected = 0.5 * COULOMB * (np.outer(q, q) / apart)[~np.eye(len(q), dtype=bool)].sum()
    flat = graphs.vectors[0], graphs.species[0], graphs.senders[0], graphs.receivers[0]
    without = {**found.params, "mixing": {**found.params["mixing"], "coulomb": jnp.float32(0.0)}}
    energies = [
        np.asarray(nets.atom_energies(p, *flat))[:3].sum(dtype=float) for p in (found.params, without)
    ]
    weight = float(found.params["mixing"]["coulomb"])
    assert energies[0] - energies[1] == pytest.approx(weight * expected, abs=2e-3)
    assert abs(weight * expected) > 2e-2


@pytest.mark.slow
def test_forces_with_a_coulomb_energy_and_in_md(coulomb: Path) -> None:
    from alfw.samplers._jaxmd import loop_forces

    potential, step = PhysNetModel(**TINY).load([coulomb]), 5e-3
    frames = [item.frame for item in springs(2, 6)]
    moved = [
        frames[0].moved(frames[0].positions + sign * step * np.eye(9)[i].reshape(3, 3))
        for i in range(9)
        for sign in (1, -1)
    ]
    energies = potential.predict(moved).energy[0].reshape(9, 2)
    slope = -(energies[:, 0] - energies[:, 1]) / (2 * step)
    forces = [f[0] for f in potential.predict(frames).forces]
    np.testing.assert_allclose(forces[0].ravel(), slope, atol=0.1)  # float32 energies of 2000 eV
    for one, two in zip(loop_forces(potential, frames), forces, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-3)


@pytest.mark.slow
def test_a_coulomb_energy_is_for_whole_neutral_molecules(coulomb: Path) -> None:
    potential, frame = PhysNetModel(**TINY).load([coulomb]), springs(1, 4)[0].frame
    with pytest.raises(TrainingError, match="has charge 1: mix_coulomb_energy is for neutral molecules"):
        potential.predict([replace(frame, charge=1, multiplicity=2)])
    far = molecule("H2O")
    far.positions[2] += 100.0
    with pytest.raises(TrainingError, match="60 Å apart or more, too far for mix_coulomb_energy"):
        potential.predict([Frame.from_atoms(far)])
