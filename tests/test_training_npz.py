"""Electrostatic potentials, charges and versions in training sets, ours and those of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.core.units import HARTREE_eV
from alfw.io.frames import read_frames, write_extxyz
from alfw.io.imported import Imported
from alfw.io.training_npz import read_training_npz, write_training_npz

WATER = Frame(
    numbers=[8, 1, 1], positions=[[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]]
)


def test_potentials_come_back_from_npz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = [
        Label(-1.0, np.zeros((3, 3)), esp=rng.normal(size=g), esp_points=rng.normal(size=(g, 3)))
        for g in (4, 7)
    ]
    items = [Imported(WATER, label) for label in labels] + [Imported(WATER, Label(-1.0, np.zeros((3, 3))))]
    for unit in ("V", "Hartree/e"):
        write_training_npz(tmp_path / "a.npz", items, esp_unit=unit)
        again = read_training_npz(tmp_path / "a.npz")
        assert again[2].label is not None and again[2].label.esp is None and again[2].label.esp_points is None
        for item, back in zip(items[:2], again[:2], strict=True):
            np.testing.assert_allclose(back.label.esp, item.label.esp, rtol=1e-14)
            np.testing.assert_array_equal(back.label.esp_points, item.label.esp_points)
        with np.load(tmp_path / "a.npz") as data:
            assert data["n_grid"].tolist() == [4, 7, 0] and data["vdw_surface"].shape == (3, 7, 3)
            factor = HARTREE_eV if unit == "Hartree/e" else 1.0
            np.testing.assert_allclose(data["esp"][1] * factor, labels[1].esp)


def test_potentials_of_other_files(tmp_path: Path) -> None:
    """Padded with zeros, in Hartree/e, without n_grid; a row of zeros is no potential."""
    esp, points = np.zeros((2, 5)), np.zeros((2, 5, 3))
    esp[0, :3], points[0, :3] = [0.1, 0.0, 0.3], np.arange(9.0).reshape(3, 3)
    arrays = {
        "R": np.array([WATER.positions] * 2),
        "Z": np.array([WATER.numbers] * 2),
        "E": np.zeros(2),
        "F": np.zeros((2, 3, 3)),
        "esp": esp,
        "vdw_surface": points,
    }
    np.savez(tmp_path / "a.npz", **arrays)
    first, second = read_training_npz(tmp_path / "a.npz", units="eV")
    np.testing.assert_allclose(first.label.esp, np.array([0.1, 0.0, 0.3]) * HARTREE_eV)
    np.testing.assert_array_equal(first.label.esp_points, np.arange(9.0).reshape(3, 3))
    assert second.label.esp is None
    np.savez(tmp_path / "b.npz", units='{"E": "eV", "F": "eV/Angstrom"}', **arrays)
    with pytest.raises(DataError, match="says nothing of esp"):
        read_training_npz(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", **arrays | {"vdw_surface": points[:, :4]})
    with pytest.raises(DataError, match="frame 0: esp .* do not fit together"):
        read_training_npz(tmp_path / "c.npz", units="hartree")


def test_charges_versions_and_both_names_of_the_dipole(tmp_path: Path) -> None:
    forces = np.zeros((3, 3))
    labels = [
        Label(-1.0, forces, charges=np.array([-0.6, 0.3, 0.3]), dipole=np.arange(3.0), version="orca 6.0.0"),
        Label(-2.0, forces),
    ]
    write_training_npz(
        tmp_path / "a.npz", [Imported(WATER, label) for label in labels], about={"code": "orca"}
    )
    write_extxyz(tmp_path / "a.extxyz", [Imported(WATER, label) for label in labels])
    for name in ("a.npz", "a.extxyz"):
        first, second = (item.label for item in read_frames(tmp_path / name))
        np.testing.assert_array_equal(first.charges, labels[0].charges)
        assert (first.version, second.version) == ("orca 6.0.0", "") and second.charges is None
    with np.load(tmp_path / "a.npz") as data:
        np.testing.assert_array_equal(data["D"], data["Dxyz"])
        assert str(data["about"]) == '{"code": "orca"}'
