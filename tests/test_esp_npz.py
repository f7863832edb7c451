"""Electrostatic potentials on grids in files of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.io.esp_npz import EspRow, read_esp_npz, write_esp_npz

WATER = Frame(
    numbers=[8, 1, 1], positions=[[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]]
)
CATION = Frame(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 1.06]], charge=1, multiplicity=2)


def _rows() -> list[EspRow]:
    rng = np.random.default_rng(0)
    return [
        EspRow(WATER, rng.normal(size=4), rng.normal(size=(4, 3))),
        EspRow(CATION, rng.normal(size=7), rng.normal(size=(7, 3))),
        EspRow(WATER.moved(WATER.positions + 1.0), np.zeros(0), np.zeros((0, 3))),
    ]


def _foreign(path: Path, **more: object) -> Path:
    """A file as the seed has it: no units, no ids, no n_grid."""
    arrays: dict[str, object] = {
        "R": np.pad(WATER.positions[None], ((0, 0), (0, 2), (0, 0))),
        "Z": np.pad(WATER.numbers[None], ((0, 0), (0, 2))),
        "N": np.array([3]),
        "esp": np.array([[0.1, 0.0, 0.3]]),
        "vdw_surface": np.arange(9.0).reshape(1, 3, 3),
    }
    kept = {key: value for key, value in (arrays | more).items() if value is not None}
    np.savez(path, **kept)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("unit", ["Hartree/e", "V"])
def test_rows_come_back(tmp_path: Path, unit: str) -> None:
    rows = _rows()
    write_esp_npz(tmp_path / "esp.npz", rows, unit)  # type: ignore[arg-type]
    for row, back in zip(rows, read_esp_npz(tmp_path / "esp.npz"), strict=True):
        assert back.id == back.frame.id == row.frame.id
        np.testing.assert_allclose(back.esp, row.esp, rtol=1e-14)
        np.testing.assert_array_equal(back.points, row.points)
    with np.load(tmp_path / "esp.npz", allow_pickle=False) as data:
        assert {"R", "Z", "N", "esp", "vdw_surface"} <= set(data.files)
        assert data["Z"].tolist() == [[8, 1, 1], [1, 1, 0], [8, 1, 1]] and data["n_grid"].tolist() == [
            4,
            7,
            0,
        ]
        assert json.loads(str(data["units"])) == {"R": "Angstrom", "esp": unit}
        factor = HARTREE_eV if unit == "Hartree/e" else 1.0
        np.testing.assert_allclose(data["esp"][1] * factor, rows[1].esp)


def test_files_of_others_need_units_from_somewhere(tmp_path: Path) -> None:
    path = _foreign(tmp_path / "esp.npz")
    with pytest.raises(DataError, match="without `units`; say whether they are eV or hartree"):
        read_esp_npz(path)
    (row,) = read_esp_npz(path, units="eV")
    assert row.frame.id == WATER.id and row.id is None
    np.testing.assert_allclose(row.esp, np.array([0.1, 0.0, 0.3]) * HARTREE_eV)
    (row,) = read_esp_npz(_foreign(path, units='{"R": "bohr", "esp": "V"}'))
    np.testing.assert_allclose(row.points, np.arange(9.0).reshape(3, 3) * BOHR_A)
    np.testing.assert_allclose(row.esp, [0.1, 0.0, 0.3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"esp": None}, "no esp with its points"),
        ({"esp": np.array([[0.1, np.nan, 0.3]])}, "row 0: potentials or their points are not finite"),
        ({"esp": np.array([[0.1, 0.3]])}, r"row 0: esp \(2,\) and its points \(3, 3\) do not fit"),
        ({"esp": np.zeros((2, 3))}, "esp has 2 rows, but R and Z have 1"),
        ({"N": np.array([4])}, "frame 0: 4 atoms by N, 3 by Z"),
        ({"N": np.array([2])}, "frame 0: 2 atoms by N, 3 by Z"),
        ({"Z": np.array([[8, 1, 1, 0, 0]], dtype=object)}, "no key Z; .*pickled, which alfw never reads: Z"),
        ({"units": '{"esp": "kcal"}'}, "unit 'kcal' of esp is not known"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_esp_npz(_foreign(tmp_path / "esp.npz", **changes), units="eV")


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no potentials"):
        write_esp_npz(tmp_path / "esp.npz", [])
    with pytest.raises(DataError, match="row 0"):
        write_esp_npz(tmp_path / "esp.npz", [EspRow(WATER, np.zeros(2), np.zeros((3, 3)))])
