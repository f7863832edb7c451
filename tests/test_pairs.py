"""Energies of one file and potentials of another find each other by what they are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.core.units import HARTREE_eV
from alfw.io.esp_npz import EspRow, write_esp_npz
from alfw.io.imported import Imported
from alfw.io.pair_files import Reading, read_pair
from alfw.io.pairs import pair
from alfw.io.plausible import ATOM_ENERGIES_eV
from alfw.io.training_npz import write_training_npz

NAMES = ("CO2", "H2O", "CH3CH2OH", "H2O2", "HCOOH")
CHARGES = {1: 0.31, 6: -0.2, 8: -0.53}


def potential(frame: Frame, points: np.ndarray) -> np.ndarray:
    """Of point charges by element and place in the list, V: known anywhere, in any orientation."""
    q = np.array([CHARGES[int(z)] for z in frame.numbers]) * np.linspace(1.0, 1.3, len(frame))
    return (q / np.linalg.norm(points[:, None] - frame.positions, axis=2)).sum(1) * 14.4


def row(frame: Frame, seed: int) -> EspRow:
    points = Rotation.random(9, random_state=seed).apply([4.0, 0.0, 0.0]) + frame.positions.mean(0)
    return EspRow(frame, potential(frame, points), points)


def item(frame: Frame, energy: float) -> Imported:
    forces = np.random.default_rng(len(frame)).normal(size=(len(frame), 3))
    return Imported(frame, Label(energy, forces))


def shaken(count: int, seed: int, scale: float = 0.1) -> list[Frame]:
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        atoms = molecule(NAMES[i % len(NAMES)])
        atoms.positions += rng.normal(scale=scale, size=(len(atoms), 3))
        frames.append(Frame.from_atoms(atoms))
    return frames


def turned(frame: Frame, seed: int) -> Frame:
    shift = np.random.default_rng(seed).uniform(-9, 9, 3)
    return frame.moved(frame.positions @ Rotation.random(random_state=seed).as_matrix().T + shift)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 30), drop=st.integers(0, 10))
def test_rows_find_each_other_however_turned_and_shuffled(seed: int, count: int, drop: int) -> None:
    rng = np.random.default_rng(seed)
    frames = shaken(count, seed)
    efd = [item(frame, float(i)) for i, frame in enumerate(frames)]
    kept = rng.permutation(count)[min(drop, count - 1) :]
    esp = [row(turned(frames[i], seed + int(i)) if i % 3 else frames[i], int(i)) for i in kept]
    found = pair(efd, esp, "efd.npz", "esp.npz")
    assert [each.label.energy for each in found.items] == list(range(count))
    assert found.n_esp == len(kept) and found.n_unused == 0
    for i, each in enumerate(found.items):
        assert each.frame is frames[i] and (each.label.esp is not None) == (i in kept)
        if each.label.esp is not None:
            again = potential(each.frame, each.label.esp_points)  # the points have followed their molecule
            np.testing.assert_allclose(each.label.esp, again, atol=2e-4)


def test_mirror_images_are_not_the_same() -> None:
    frame = shaken(3, 0)[2]
    mirrored = frame.moved(frame.positions * [1, 1, -1])
    with pytest.raises(DataError, match=r"esp row 0 \(H6C2O\): no row of efd has its elements"):
        pair([item(frame, 0.0)], [row(mirrored, 0)], "efd", "esp")
    both = pair([item(mirrored, 1.0), item(frame, 2.0)], [row(turned(frame, 5), 0)], "efd", "esp")
    assert [each.label.esp is not None for each in both.items] == [False, True]


def test_order_elements_charge_and_size_of_a_change_matter() -> None:
    water = Frame.from_atoms(molecule("H2O"))
    swapped = replace(water, numbers=water.numbers[[1, 0, 2]], positions=water.positions[[1, 0, 2]])
    heavier = replace(water, numbers=[16, 1, 1])
    ion = replace(water, charge=1, multiplicity=2)
    for other in (swapped, heavier, ion, water.moved(water.positions * 1.005)):
        with pytest.raises(DataError, match="no row of efd"):
            pair([item(other, 0.0)], [row(water, 0)], "efd", "esp")
    near = water.moved(water.positions + [[0, 0, 1e-3], [0, 0, 0], [0, 0, 0]])
    assert pair([item(near, 0.0)], [row(water, 0)], "efd", "esp").n_esp == 1


def test_two_rows_of_one_geometry() -> None:
    frame, other = shaken(2, 1)
    first, again = item(frame, -1.0), item(turned(frame, 1), -1.0)
    again = replace(again, label=replace(again.label, forces=first.label.forces))
    both = pair([first, again], [row(turned(frame, 2), 0)], "efd", "esp")
    assert both.n_esp == 2
    wrong = replace(again, label=replace(again.label, energy=-1.1))
    with pytest.raises(DataError, match="efd rows 1 and 2: the same geometry with different energies"):
        pair([item(other, 0.0), first, wrong], [row(turned(frame, 2), 0)], "efd", "esp")
    twice = pair([first], [row(turned(frame, 3), 0), row(turned(frame, 4), 1)], "efd", "esp")
    assert (twice.n_esp, twice.n_unused) == (1, 1)


def test_an_id_that_stands_for_another_geometry_is_refused() -> None:
    frame, _, _, _, _, other = shaken(6, 2)
    with pytest.raises(DataError, match="esp row 0 has the id .* but another geometry"):
        pair([item(frame, 0.0)], [replace(row(other, 0), id=frame.id)], "efd", "esp")


def test_rows_without_points_are_no_potentials() -> None:
    frame, other = shaken(2, 3)
    empty = EspRow(other, np.zeros(0), np.zeros((0, 3)))
    found = pair([item(frame, 0.0), item(turned(other, 0), 0.0)], [empty, row(frame, 0)], "efd", "esp")
    assert str(found) == (
        "2 rows: 1 with a potential, 1 without one (masked: energies, forces and dipoles alone)"
    )


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Two files as the seed has them: no N and no units in one, no ids or units in either; and changes to them."""
    frames = [Frame.from_atoms(molecule(name)) for name in ("CO2", "H2O", "CO2")]
    frames[2] = frames[2].moved(frames[2].positions * 1.02)

    def write(efd: dict[str, Any] | None = None, esp: dict[str, Any] | None = None) -> tuple[Path, Path]:
        energies = [sum(ATOM_ENERGIES_eV[int(z)] for z in frame.numbers) - 5.0 for frame in frames]
        labels = [Label(e, np.full((3, 3), 0.1), dipole=np.ones(3)) for e in energies]
        items = [Imported(frame, label) for frame, label in zip(frames, labels, strict=True)]
        write_training_npz(tmp_path / "efd.npz", items)
        write_esp_npz(tmp_path / "esp.npz", [row(frame, i) for i, frame in enumerate(frames)])
        for name, keys, changes in (("efd", "R Z E F D Dxyz", efd), ("esp", "R Z N esp vdw_surface", esp)):
            with np.load(tmp_path / f"{name}.npz") as data:
                arrays = {key: data[key] for key in keys.split()} | (changes or {})
            np.savez(tmp_path / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})
        return tmp_path / "efd.npz", tmp_path / "esp.npz"

    return write


def test_files_of_the_seed(files: Any) -> None:
    with pytest.raises(DataError, match="without `units`"):
        read_pair(*files())
    found, notes = read_pair(*files(), Reading(units="eV", assumed=True))
    assert found.n_esp == 3 and notes == []
    for each in found.items:
        assert each.label.dipole is not None
        np.testing.assert_allclose(each.label.esp, potential(each.frame, each.label.esp_points), atol=2e-4)


@pytest.mark.parametrize(
    ("efd", "esp", "message"),
    [
        ({"F": None}, {}, "no key F: training needs energies"),
        ({"R": None, "Z": None}, {}, "no key R or Z, without which its rows are not known"),
        ({"E": np.zeros(2)}, {}, "E has 2 rows, but R and Z have 3"),
        ({"F": np.zeros((3, 4, 3))}, {}, r"F is \(3, 4, 3\), but 3 atoms a row"),
        ({"R": np.zeros((3, 4, 3))}, {}, "R .* and Z .* do not fit"),
        ({"E": np.array([-1.0, None, -1.0])}, {}, "E or F are pickled objects, which alfw never reads"),
        ({"E": np.full(3, np.nan)}, {}, "frame 0: energy or forces are not finite"),
        (
            {"units": '{"R": "Bohr", "E": "eV"}'},
            {"units": '{"R": "Angstrom", "esp": "V"}'},
            "mixed units: R is",
        ),
        ({"units": '{"E": "Hartree"}'}, {}, "mixed units: it says E is in Hartree, --units eV says eV"),
        ({"E": np.array([-188.0, -76.0, -188.0])}, {}, "energies are those of free atoms in Hartree"),
        ({"F": np.full((3, 3, 3), 500.0)}, {}, "root mean square force 500 eV/Å"),
        ({}, {"vdw_surface": np.full((3, 9, 3), 30.0)}, "row 0: the centre of its points is 52.0 Å off"),
    ],
)
def test_pairs_that_cannot_be_used(files: Any, efd: Any, esp: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_pair(*files(efd, esp), Reading(units="eV"))
    assert "\n" not in str(error.value)


def test_units_of_a_file_win_over_a_convention(files: Any) -> None:
    paths = files({"units": '{"E": "Hartree", "F": "eV/Angstrom"}', "E": np.array([-188.0, -76.0, -188.0])})
    found, _ = read_pair(*paths, Reading(units="eV", assumed=True))
    assert found.items[0].label.energy == pytest.approx(-188.0 * HARTREE_eV)


def test_points_in_another_frame_are_moved_as_the_seed_does(files: Any) -> None:
    efd, esp = files()
    with np.load(esp) as data:
        arrays = {key: data[key] for key in data.files}
    arrays["vdw_surface"] = arrays["vdw_surface"] + [0.0, 20.0, 0.0]
    np.savez(esp, **arrays)
    found, (note,) = read_pair(efd, esp, Reading(units="eV", origin="auto"))
    assert "moved by up to 2" in note and "--esp-origin file" in note
    for each in found.items:
        np.testing.assert_allclose(each.label.esp_points.mean(0), each.frame.positions.mean(0), atol=1e-9)


def test_only_rows_that_can_be_the_same_are_superimposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: 10,000 rows of ethanol, turned and reversed, pair in 2.3 s."""
    from alfw.io import pairs

    superimposed = []
    original = pairs.proper_rotations
    monkeypatch.setattr(pairs, "proper_rotations", lambda a, b: superimposed.append(len(a)) or original(a, b))
    frames = shaken(1000, 0)
    esp = [EspRow(turned(frame, i), np.ones(1), np.ones((1, 3))) for i, frame in enumerate(frames)]
    found = pair([item(frame, 0.0) for frame in frames], esp[::-1], "efd", "esp")
    assert found.n_esp == 1000
    assert sum(superimposed) < 1100
