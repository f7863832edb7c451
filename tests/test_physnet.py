"""PhysNet with DCMNet on small water molecules labelled with PySCF here: laws, losses, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("e3x", reason="needs e3x: pip install 'alfw[physnet]'")

from physnet_water import SMALL, small_model, waters

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.models.physnet import PhysNetModel


@pytest.fixture(scope="module")
def water() -> list[Labeled]:
    return waters()


@pytest.fixture(scope="module")
def trained(water: list[Labeled]) -> tuple[PhysNetModel, Path]:
    return small_model()


def predicted(trained: tuple[PhysNetModel, Path], frames: list[Frame]) -> Any:
    model, weights = trained
    return model.load([weights]).predict(frames)


@pytest.mark.slow
def test_distributed_charges_give_a_better_potential_than_atomic_ones(
    trained: Any, water: list[Labeled]
) -> None:
    import json

    metrics = json.loads((trained[1].parent / "metrics.json").read_text())
    assert metrics["valid_esp_dcmnet_rmse"] < metrics["valid_esp_physnet_rmse"]
    assert metrics["valid_dipole_dcmnet_rmse"] < 0.02
    spread = np.sqrt(np.mean([item.label.forces**2 for item in water]))
    assert metrics["valid_forces_rmse"] < 0.4 * spread


@pytest.mark.slow
def test_forces_are_minus_the_gradient_of_the_energy(trained: Any, water: list[Labeled]) -> None:
    frame, step = water[0].frame, 2e-3
    moved = [
        frame.moved(frame.positions + sign * step * np.eye(9)[i].reshape(3, 3))
        for i in range(9)
        for sign in (1, -1)
    ]
    energies = predicted(trained, moved).energy[0].reshape(9, 2)
    slope = -(energies[:, 0] - energies[:, 1]) / (2 * step)
    np.testing.assert_allclose(predicted(trained, [frame]).forces[0][0].ravel(), slope, atol=2e-2)


@pytest.mark.slow
def test_what_turns_with_the_molecule_and_what_does_not(trained: Any, water: list[Labeled]) -> None:
    frame, turn = water[1].frame, Rotation.random(random_state=3).as_matrix()
    other = frame.moved(frame.positions @ turn.T + [1.0, -2.0, 0.5])
    one, two = predicted(trained, [frame, other]), None
    two = predicted(trained, [other])
    assert one.energy[0, 0] == pytest.approx(two.energy[0, 0], abs=1e-4)
    np.testing.assert_allclose(two.forces[0][0], one.forces[0][0] @ turn.T, atol=1e-3)
    np.testing.assert_allclose(two.dipole[0, 0], one.dipole[0, 0] @ turn.T, atol=1e-4)
    order = [2, 0, 1]
    mixed = predicted(
        trained, [replace(frame, numbers=frame.numbers[order], positions=frame.positions[order])]
    )
    np.testing.assert_allclose(mixed.forces[0][0], one.forces[0][0][order], atol=1e-4)


@pytest.mark.slow
def test_the_charge_of_the_molecule_is_kept_exactly(trained: Any, water: list[Labeled]) -> None:
    potential = trained[0].load([trained[1]])
    ion = replace(water[0].frame, charge=1, multiplicity=2)
    for frame, q in ((water[0].frame, 0.0), (ion, 1.0)):
        assert potential.charges([frame])[0][0].sum() == pytest.approx(q, abs=1e-14)
    far = np.array([[500.0, 0.0, 0.0]])
    for values in potential.esp(ion, far):
        assert values[0, 0] == pytest.approx(HARTREE_eV * BOHR_A / 500.0, rel=5e-3)


@pytest.mark.slow
def test_labels_without_dipole_or_potential_train_on_what_they_have(
    water: list[Labeled], tmp_path: Path
) -> None:
    bare = [Labeled(item.frame, Label(item.label.energy, item.label.forces)) for item in water[:6]]
    model = PhysNetModel(**SMALL, training={"epochs": 2, "batch_size": 4})
    assert model.train(TrainingData([*bare, *water[6:8]]), 0, None, tmp_path, Resources()).exists()


@pytest.mark.slow
def test_files_without_pickle_and_whole_or_refused(
    trained: Any, water: list[Labeled], tmp_path: Path
) -> None:
    model, weights = trained
    model.export([weights], tmp_path / "model", {"campaign": "x"})
    import alfw

    atoms = water[0].frame.to_atoms()
    atoms.calc = alfw.calculator(tmp_path / "model")
    expected = predicted(trained, [water[0].frame])
    assert atoms.get_potential_energy() == pytest.approx(expected.energy[0, 0])
    np.testing.assert_allclose(atoms.get_dipole_moment(), expected.dipole[0, 0])
    (tmp_path / "cut.npz").write_bytes(weights.read_bytes()[:-200])
    (tmp_path / "pickle.npz").write_bytes(b"\x80\x04N.")
    for name in ("cut", "pickle"):
        with pytest.raises(TrainingError, match=f"{name}.npz: cannot be read as PhysNet weights"):
            model.load([tmp_path / f"{name}.npz"])


def test_crystals_are_refused(tmp_path: Path) -> None:
    from ase.build import bulk

    item = Labeled(Frame.from_atoms(bulk("Cu")), Label(0.0, np.zeros((1, 3))))
    with pytest.raises(TrainingError, match="is periodic: model 'physnet' is for molecules"):
        PhysNetModel(**SMALL).train(TrainingData([item]), 0, None, tmp_path, Resources())
