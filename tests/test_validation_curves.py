"""Energy–volume curves: copper by EMT against itself, and against one that is wrong by a known amount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.eos import EquationOfState, birchmurnaghan

from alfw.core.errors import DataError, ExecutableError
from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.records import Label, Labeled, Resources
from alfw.core.units import EV_PER_A3_GPa
from alfw.io.imported import Imported
from alfw.labelers.ase import ASELabeler
from alfw.models.ase import ASEModel
from alfw.steps.validation.curves import (
    BirchMurnaghan,
    energy_volume_curves,
    fit_birch_murnaghan,
    labelled_curve,
    strained,
)

COPPER = Frame.from_atoms(bulk("Cu", a=3.6, cubic=True))
WIDER = 1.01


def model(calculator: str = "ase.calculators.emt:EMT", **kwargs: Any) -> Potential:
    return ASEModel(calculator=calculator, kwargs=kwargs).load([Path("none")])


def labelled(frames: list[Frame]) -> list[Labeled]:
    items = []
    for frame in frames:
        atoms = frame.to_atoms()
        atoms.calc = EMT()
        items.append(Labeled(frame, Label(atoms.get_potential_energy(), atoms.get_forces())))
    return items


@pytest.fixture(scope="module")
def copper() -> list[Labeled]:
    return labelled(strained(COPPER))


def test_the_fit_gets_back_what_it_was_given_and_agrees_with_ase(copper: list[Labeled]) -> None:
    made = BirchMurnaghan(11.8, -3.7, 140.0, 4.9)
    volume = np.linspace(10.5, 13, 9)
    np.testing.assert_allclose(
        made.energy(volume), birchmurnaghan(volume, -3.7, 140 / EV_PER_A3_GPa, 4.9, 11.8), atol=1e-13
    )
    fit = fit_birch_murnaghan(volume, made.energy(volume))
    assert (fit.V0, fit.E0, fit.B0, fit.B_prime) == pytest.approx((11.8, -3.7, 140.0, 4.9), rel=1e-9)
    volume = np.array([np.linalg.det(item.frame.cell) / 4 for item in copper])
    energy = np.array([item.label.energy / 4 for item in copper])
    volume_0, energy_0, bulk_modulus = EquationOfState(volume, energy, eos="birchmurnaghan").fit()
    ours = fit_birch_murnaghan(volume, energy)
    expected = (volume_0, energy_0, bulk_modulus * EV_PER_A3_GPa)
    np.testing.assert_allclose((ours.V0, ours.E0, ours.B0), expected, rtol=1e-5)


def test_a_model_that_is_the_reference_has_no_error(copper: list[Labeled]) -> None:
    said = energy_volume_curves(model(), copper)
    (one,) = said["structures"]
    assert one["formula"] == "Cu4" and one["indices"] == list(range(7)) and said["n_other"] == 0
    assert one["model_eV_per_atom"] == pytest.approx(one["reference_eV_per_atom"], abs=1e-9)
    assert one["delta_meV_per_atom"] == pytest.approx(0, abs=1e-6)
    assert one["model_fit"]["minimum_in_range"] and one["problem"] is None
    assert 11 < one["model_fit"]["V0_A3_per_atom"] < 12 and 120 < one["model_fit"]["B0_GPa"] < 150
    assert one["model_fit"]["fit_rmse_meV_per_atom"] < 1


def test_a_model_that_is_one_percent_too_wide_is_found_so(copper: list[Labeled]) -> None:
    (one,) = energy_volume_curves(model("wrong_calculators:Swollen", factor=WIDER), copper)["structures"]
    reference, difference = one["reference_fit"], one["difference"]
    # the fits are through other parts of the curve: equal to about a percent of the difference
    assert difference["V0_percent"] == pytest.approx(100 * (WIDER**3 - 1), rel=0.01)
    assert difference["V0_A3_per_atom"] == pytest.approx(
        one["model_fit"]["V0_A3_per_atom"] - reference["V0_A3_per_atom"]
    )
    assert difference["E0_eV_per_atom"] == pytest.approx(0, abs=1e-4)
    assert difference["B0_GPa"] == pytest.approx(reference["B0_GPa"] * (WIDER**-3 - 1), rel=0.2)
    curves = [
        birchmurnaghan(
            np.linspace(0.94, 1.06, 4001) * (reference["V0_A3_per_atom"] + difference["V0_A3_per_atom"] / 2),
            0.0, fit["B0_GPa"] / EV_PER_A3_GPa, fit["B_prime"], fit["V0_A3_per_atom"],
        )
        for fit in (one["model_fit"], reference)
    ]  # fmt: skip
    rms = 1000 * np.sqrt(np.mean((curves[0] - curves[1]) ** 2))
    assert one["delta_meV_per_atom"] == pytest.approx(rms, rel=2e-3) and rms > 5


def rotated(frame: Frame) -> Frame:
    atoms = frame.to_atoms()
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    return Frame.from_atoms(atoms)


def test_cells_of_one_crystal_find_each_other_in_any_order(copper: list[Labeled]) -> None:
    frames = [item.frame for item in copper]
    moved = frames[2].moved(frames[2].positions + [0.3, -0.1, 5.0])
    wrapped = frames[3].to_atoms()
    wrapped.positions += [-0.02, 0.01, 0.0]
    wrapped.wrap()
    mixed = [rotated(frames[6]), frames[0], moved, frames[1], Frame.from_atoms(wrapped), frames[5], frames[4]]
    warm = COPPER.moved(COPPER.positions + 0.05 * np.random.default_rng(0).standard_normal((4, 3)))
    skew = Frame.from_atoms(Atoms("Cu4", COPPER.positions, cell=COPPER.cell * [1, 1, 1.02], pbc=True))
    others = [warm, skew, Frame.from_atoms(molecule("H2O")), *strained(Frame.from_atoms(bulk("Au", a=4.06)))]
    items: list[Labeled | Imported] = [
        *labelled([*others, *mixed, *strained(Frame.from_atoms(bulk("Ni", a=3.5)))[:3]]),
        Imported(frames[0]),
    ]
    said = energy_volume_curves(model(), items)
    assert [one["formula"] for one in said["structures"]] == ["Au", "Cu4"]
    assert said["structures"][1]["indices"] == [11, 13, 12, 14, 16, 15, 10]  # ascending in volume
    assert [one["reason"] for one in said["not_fitted"]] == ["3 volumes, at least 5 are needed"]
    assert said["n_other"] == 4  # warm, skew, the molecule, and the one without label


def test_a_curve_without_minimum_or_with_one_outside_is_said_so(copper: list[Labeled]) -> None:
    falling = [
        Labeled(item.frame, Label(-0.5 * np.linalg.det(item.frame.cell), item.label.forces))
        for item in copper
    ]
    (one,) = energy_volume_curves(model(), falling)["structures"]
    assert one["problem"] == "reference: the curve has no minimum"
    assert one["reference_fit"] is None and one["delta_meV_per_atom"] is None and one["model_fit"] is not None
    compressed = labelled(strained(COPPER, np.linspace(0.8, 0.95, 6)))
    (one,) = energy_volume_curves(model(), compressed)["structures"]
    assert not one["reference_fit"]["minimum_in_range"] and one["problem"] is None
    with pytest.raises(DataError, match="4 volumes, at least 5"):
        fit_birch_murnaghan(np.array([1.0, 2, 3, 3, 4]), np.ones(5))


def test_a_reference_makes_the_cells_and_their_labels(copper: list[Labeled], tmp_path: Path) -> None:
    emt = ASELabeler(calculator="ase.calculators.emt:EMT")
    items, failures = labelled_curve(emt, COPPER, tmp_path, Resources())
    assert not failures
    assert [item.frame.id for item in items] == [item.frame.id for item in copper]
    assert [item.label.energy for item in items] == pytest.approx([item.label.energy for item in copper])
    volumes = [np.linalg.det(item.frame.cell) / np.linalg.det(COPPER.cell) for item in items]
    assert volumes == pytest.approx(np.linspace(0.94, 1.06, 7), abs=1e-6)
    with pytest.raises(DataError, match="not a crystal"):
        labelled_curve(emt, Frame.from_atoms(molecule("H2O")), tmp_path, Resources())
    charged = Frame(COPPER.numbers, COPPER.positions, COPPER.cell, COPPER.pbc, charge=1, multiplicity=2)
    items, failures = labelled_curve(emt, charged, tmp_path, Resources())
    assert not items and len(failures) == 7 and failures[0].startswith("0.940 of the volume: ")
    with pytest.raises(ExecutableError):  # it would be the same for every cell
        labelled_curve(ASELabeler(calculator="no.such:EMT"), COPPER, tmp_path, Resources())
