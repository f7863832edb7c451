"""Validation: errors that are known exactly are found exactly; test sets of many kinds; limits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from validation_toys import Charged, Wrong, crystal, in_regions, shaken, spread_of

from alfw.core.errors import DataError
from alfw.core.records import Labeled
from alfw.core.units import EV_PER_A3_GPa
from alfw.steps.validate import Limits, validate_potential
from alfw.steps.validation.predicted import ATOMIC, DISTRIBUTED, GRID, MODEL
from alfw.steps.validation.testset import UNNAMED, Reading, read_testset

WATER = [shaken("H2O", seed) for seed in range(6)]
METHANE = [shaken("CH4", seed, fixed=[0]) for seed in range(6)]


def report(potential: Any, **regions: Any) -> dict[str, Any]:
    """The report on these regions, which is JSON."""
    found = validate_potential(potential, in_regions(**regions)).report
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_errors_by_region_element_and_frame():
    def forces(item: Labeled) -> np.ndarray:
        wrong = np.zeros((2, len(item.frame), 3))
        wrong[:, item.frame.numbers == 1] = 0.2
        wrong[:, item.frame.numbers == 8] = [0.3, -0.3, 0.3]
        wrong[:, item.frame.numbers == 6] = 99.0  # held fixed
        return wrong

    potential = Wrong([*WATER, *METHANE], lambda item: np.full(2, 0.03 * len(item.frame)), forces)
    found = report(potential, water=WATER, methane=METHANE)
    water, methane = found["regions"]["water"], found["regions"]["methane"]
    assert water["force_rmse_eV_per_A"] == pytest.approx(math.sqrt((2 * 0.04 + 0.09) / 3))
    assert methane["force_rmse_eV_per_A"] == pytest.approx(0.2)
    assert methane["elements"].keys() == {"H"}
    assert water["elements"]["O"]["force_mae_eV_per_A"] == pytest.approx(0.3)
    assert water["elements"]["O"]["percentiles"]["50"] == pytest.approx(0.3)
    assert sum(water["elements"]["H"]["histogram"]) == 6 * 2 * 3
    assert water["energy_rmse_eV_per_atom"] == pytest.approx(0.03)
    assert water["energy_rmse_eV"] == pytest.approx(0.09)
    assert found["all"]["n_frames"] == 12
    assert found["all"]["force_rmse_eV_per_A"] == pytest.approx(
        math.sqrt((6 * 2 * 0.04 + 6 * 0.09 + 6 * 4 * 0.04) / (6 * 2 + 6 + 6 * 4))
    )
    low, high = water["force_rmse_interval_95_eV_per_A"]
    assert low == pytest.approx(high)  # every frame is as wrong as the next
    assert found["frames"][0]["force_error_max_eV_per_A"] == pytest.approx(0.3 * math.sqrt(3))
    assert found["frames"][7]["source"] == "methane.extxyz" and found["frames"][7]["index"] == 1


def test_a_shift_of_a_composition_is_taken_out_where_it_can_be_known():
    alone = shaken("CO", 0)
    shift = {"H2O": 0.5, "H4C": -0.7, "CO": 3.0}
    wobble = iter(np.tile([0.01, -0.01], 100))
    errors = {item.frame.id: next(wobble) for item in [*WATER, *METHANE]}

    def energy(item: Labeled) -> np.ndarray:
        return np.full(1, shift[item.frame.formula] + errors.get(item.frame.id, 0.0))

    potential = Wrong([*WATER, *METHANE, alone], energy, lambda item: np.zeros((1, len(item.frame), 3)))
    found = report(potential, test=[*WATER, *METHANE, alone])["all"]["energy_shift_removed"]
    assert found["n_frames"] == 12
    assert found["shifts_eV"] == pytest.approx({"H2O": 0.5, "H4C": -0.7})
    assert found["mae_eV_per_atom"] == pytest.approx((0.01 / 3 + 0.01 / 5) / 2)


def test_the_worst_frames_come_first_and_what_is_not_finite_before_all():
    bad, worse = WATER[3].frame.id, WATER[5].frame.id

    def forces(item: Labeled) -> np.ndarray:
        return np.full((2, 3, 3), {bad: 1.0, worse: np.nan}.get(item.frame.id, 0.1))

    found = report(Wrong(WATER, forces=forces), test=WATER)
    assert [row["index"] for row in found["all"]["worst_frames"]][:2] == [5, 3]
    assert found["all"]["n_not_finite"] == 1
    assert found["all"]["force_rmse_eV_per_A"] is None
    assert Limits(force_rmse_eV_per_A=9.0).missed(found) == [
        "test: force RMSE not finite, more than --max-force-rmse 9"
    ]


def test_members_are_judged_alone_and_against_their_mean():
    def forces(item: Labeled) -> np.ndarray:
        return np.multiply.outer([0.3, -0.1], np.ones((len(item.frame), 3)))

    members = report(Wrong(WATER, lambda item: np.array([0.3, -0.3]), forces), test=WATER)["all"]["members"]
    assert [m["force_rmse_eV_per_A"] for m in members] == pytest.approx([0.3, 0.1])
    assert [m["force_rms_from_mean_eV_per_A"] for m in members] == pytest.approx([0.2, 0.2])
    assert [m["energy_rmse_eV_per_atom"] for m in members] == pytest.approx([0.1, 0.1])


def test_stress_dipole_and_potential_where_labels_have_them():
    crystals = [crystal(seed) for seed in range(3)]
    found = report(Wrong([*WATER, *crystals], stress_error=0.01), test=[*WATER, *crystals])["all"]
    assert found["stress"]["n_frames"] == 3
    assert found["stress"]["rmse_eV_per_A3"] == pytest.approx(0.01)
    assert found["stress"]["mae_GPa"] == pytest.approx(0.01 * EV_PER_A3_GPa)
    assert found["dipole"] is None and found["esp"] is None
    polar = [shaken("H2O", seed, dipole=np.array([0.0, 0.1, 0.4])) for seed in range(3)]
    found = report(Wrong([*WATER, *polar], dipole_error=0.05), test=[*WATER, *polar])["all"]["dipole"]
    assert found[MODEL]["n_components"] == 9 and found[MODEL]["rmse_eA"] == pytest.approx(0.05)


def test_both_sets_of_charges_are_judged():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 3))
    label: dict[str, Any] = {"dipole": np.ones(3), "esp": points[:, 0], "esp_points": points}
    polar = [shaken("H2O", 1, **label), shaken("H2O", 2, dipole=np.zeros(3)), shaken("H2O", 3)]
    potential = Charged(polar)
    found = report(potential, test=polar)["all"]
    assert found["dipole"][ATOMIC]["rmse_eA"] == pytest.approx(0.2)
    assert found["dipole"][DISTRIBUTED]["mae_eA"] == pytest.approx(0.1)
    assert found["dipole"][ATOMIC]["n_components"] == 6
    assert found["esp"][ATOMIC]["rmse_V"] == pytest.approx(0.1)
    assert found["esp"][DISTRIBUTED]["rmse_V"] == pytest.approx(0.05)
    assert found["esp"][DISTRIBUTED]["n_points"] == 40
    assert potential.asked[-1] == GRID  # filled up, so that grids of other sizes need no other code


def test_a_spread_that_is_half_of_the_errors_is_found_so():
    items = [shaken("CH4", seed) for seed in range(400)]

    def sigma(item: Labeled) -> float:
        return 10.0 ** (-2 + 2 * int(item.frame.id[:4], 16) / 0xFFFF)

    def energy(item: Labeled) -> np.ndarray:
        return np.array([1.0, 1.0, -1.0, -1.0]) * sigma(item)

    potential = Wrong(items, energy, spread_of(2.0, sigma))
    spread = report(potential, a=items[:200], b=items[200:])["all"]["spread"]
    forces, bound = spread["forces"], spread["conformal"]
    assert forces["scale"] == pytest.approx(2.0, rel=0.05)
    assert forces["scale_first_half"] == pytest.approx(2.0, rel=0.05)
    assert forces["spearman"] > 0.7
    assert forces["inside"]["2"]["observed"] == pytest.approx(0.683, abs=0.03)
    assert forces["reliability"]["miscalibration_area"] > 0.1
    assert forces["reliability_scaled"]["miscalibration_area"] < 0.02
    assert bound["n_calibration"] + bound["n_frames"] == 400
    low, high = bound["interval_95"]
    assert low < 0.9 < high or bound["fraction"] > 0.9
    assert sum(part["n_frames"] for part in bound["regions"].values()) == bound["n_frames"]
    assert 1 < bound["width_over_error"] < 3
    assert spread["energy"]["scale"] == pytest.approx(0.0, abs=1e-9)


def test_one_member_has_no_spread_and_says_so():
    alone = Wrong(WATER, lambda item: np.zeros(1), lambda item: np.zeros((1, 3, 3)))
    found = report(alone, test=WATER)
    assert found["note"] == "no spread: one member"
    assert found["all"]["spread"] is None
    assert found["frames"][0]["force_std_eV_per_A"] is None
    assert Limits(spread=True).missed(found) == [
        "no spread: one member, but --require-spread: give an ensemble"
    ]
    assert Limits(spread=True).missed(report(Wrong(WATER), test=WATER)) == []


def test_forces_that_vanish_by_symmetry_say_nothing_of_the_spread():
    noise = spread_of(1.0, lambda item: 0.1)
    still = [shaken("H2O", seed) for seed in range(20, 40)]

    def forces(item: Labeled) -> np.ndarray:
        return 1e-7 * np.ones((4, 3, 3)) if item in still else noise(item)

    potential = Wrong([*WATER, *still], lambda item: np.zeros(4), forces)
    found = report(potential, test=[*WATER, *still])["all"]["spread"]
    assert found["forces"]["n_vanishing"] == 60
    assert found["forces"]["n_atoms"] == 18
    assert found["conformal"]["n_calibration"] + found["conformal"]["n_frames"] == 6


def test_limits_hold_for_each_region_and_a_missed_one_is_named():
    potential = Wrong(
        [*WATER, *METHANE], forces=lambda item: np.full((2, len(item.frame), 3), 0.1 * len(item.frame))
    )
    found = report(potential, water=WATER, methane=METHANE)
    assert Limits(force_rmse_eV_per_A=0.31, energy_rmse_eV_per_atom=1e-6).missed(found) == [
        "methane: force RMSE 0.5 eV/Å, more than --max-force-rmse 0.31"
    ]
    assert Limits(force_rmse_eV_per_A=0.51).missed(found) == []


FRAME = """2
Properties=species:S:1:pos:R:3{column} pbc="F F F"{info}
H 0 0 0{row}
H 0 0 0.8{row}
"""


def written(path: Path, info: str = "", column: str = "", row: str = "") -> str:
    path.write_text(FRAME.format(info=info, column=column, row=row))
    return str(path)


@pytest.mark.parametrize(
    ("info", "column", "row", "taken", "energy"),
    [
        (" energy=-3", ":forces:R:3", " 0 0 1", ("energy", "forces"), -3),
        (" dft_energy=-4", ":forces:R:3", " 0 0 1", ("dft_energy", "forces"), -4),
        (" REF_energy=-5 energy=-3", ":forces:R:3:REF_forces:R:3", " 9 9 9 0 0 1", ("REF_energy", "REF_forces"), -5),
        (" energy=-3 free_energy=-3.5", ":forces:R:3", " 0 0 1", ("energy", "forces"), -3.5),
    ],
)  # fmt: skip
def test_labels_are_found_under_the_names_of_others(tmp_path, info, column, row, taken, energy):
    found = read_testset([written(tmp_path / "a.extxyz", info, column, row)])
    assert dict(found.taken) == {taken: 1}
    label = found.references[0].item.label
    assert label.energy == energy
    assert label.forces.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert f"energy from '{taken[0]}'" in found.said()


def test_given_keys_win(tmp_path):
    path = written(tmp_path / "a.extxyz", " energy=-3 best=-7", ":forces:R:3:grad:R:3", " 9 9 9 0 0 1")
    found = read_testset([path], Reading(energy_key="best", forces_key="grad"))
    assert found.references[0].item.label.energy == -7
    assert dict(found.taken) == {("best", "grad"): 1}


def test_two_energies_and_one_set_of_forces_are_refused(tmp_path):
    path = written(tmp_path / "a.extxyz", " energy=-3 dft_energy=-4", ":forces:R:3", " 0 0 1")
    with pytest.raises(
        DataError, match="frame 0: dft_energy -4.000000 eV and energy -3.000000 eV, but one set"
    ):
        read_testset([path])
    assert read_testset([path], Reading(energy_key="dft_energy")).references[0].item.label.energy == -4


def test_frames_without_labels_are_counted(tmp_path):
    written(tmp_path / "a.extxyz", " energy=-3", ":forces:R:3", " 0 0 1")
    written(tmp_path / "b.extxyz", " energy=-3")
    written(tmp_path / "c.extxyz")
    with pytest.raises(
        DataError, match=r"2 of 3 frames have no energy and forces, the first: .*b.extxyz frame 0"
    ):
        read_testset([str(tmp_path)])


def test_regions_folders_and_what_lies_beside(tmp_path):
    folder = tmp_path / "validation_set"
    folder.mkdir()
    for name in ("a", "b"):
        written(folder / f"{name}.extxyz", " energy=-3", ":forces:R:3", " 0 0 1")
        (folder / f"{name}.extxyz.json").write_text("{}")
    other = written(tmp_path / "x=1.extxyz", " energy=-3", ":forces:R:3", " 0 0 1")
    found = read_testset([f"cold={folder}", other])
    assert found.regions == ["cold", UNNAMED]
    assert [r.source.name for r in found.references] == ["a.extxyz", "b.extxyz", "x=1.extxyz"]
    assert found.n_repeated == 2
    with pytest.raises(DataError, match="no such file"):
        read_testset([f"cold={folder}/*.traj"])
    with pytest.raises(DataError, match="'all' is what all regions together are called"):
        read_testset([f"all={folder}"])


def test_arrays_say_their_units_or_are_told_them(tmp_path):
    water = shaken("H2O", 0)
    arrays: dict[str, Any] = {"R": water.frame.positions[None], "Z": water.frame.numbers[None]}
    arrays |= {"E": np.array([-2.0]), "F": np.zeros((1, 3, 3))}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="without `units`"):
        read_testset([str(tmp_path / "a.npz")])
    found = read_testset([str(tmp_path / "a.npz")], Reading(units="hartree"))
    assert found.references[0].item.label.energy == pytest.approx(-2 * 27.211386, abs=1e-4)
    assert dict(found.taken) == {("E", "F"): 1}
