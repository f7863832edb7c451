"""Data sets in every format: nothing is lost on the way from one to the next, and what is damaged is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import ase.db
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from data_sets import assert_same, imported, waters, with_label
from hypothesis import given, settings
from hypothesis import strategies as st

from alfw.core.errors import ConfigError, DataError, PluginError
from alfw.core.units import HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.io.datasets import Source, read_dataset, units_of, write_dataset
from alfw.io.frames import read_frames
from alfw.io.hdf5 import read_hdf5
from alfw.io.imported import Imported
from alfw.io.pair_files import Reading
from alfw.steps.data_files import convert_file

FORMATS = ("a.npz", "a.extxyz", "a.h5", "a.db")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_back_every_id_and_number(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, holds_esp = tmp_path_factory.mktemp("formats") / name, name != "a.extxyz"

    @settings(max_examples=10 if name == "a.db" else 40, deadline=None)  # SQLite waits for the disk
    @given(st.lists(imported(), min_size=1, max_size=3))
    def check(items: list[Imported]) -> None:
        path.unlink(missing_ok=True)
        write_dataset(path, items)
        for item, again in zip(items, read_frames(path), strict=True):
            assert_same(item, again, holds_esp)
            assert holds_esp or again.label.esp is None

    check()


@settings(max_examples=15, deadline=None)
@given(st.lists(imported(), min_size=1, max_size=3), st.permutations(FORMATS))
def test_chains_of_formats(
    tmp_path_factory: pytest.TempPathFactory, items: list[Imported], order: list[str]
) -> None:
    folder, esp = tmp_path_factory.mktemp("chain"), True
    for step, name in enumerate(order):
        path = folder / f"{step}{name}"
        write_dataset(path, items)
        esp = esp and name != "a.extxyz"
        items = [replace(i, label=replace(i.label, esp=None, esp_points=None)) for i in items] * (
            not esp
        ) or items
        again = read_frames(path)
        for item, back in zip(items, again, strict=True):
            assert_same(item, back)
        items = again


@pytest.mark.parametrize("name", ["a.extxyz", "a.h5", "a.db"])
def test_frames_without_label(tmp_path: Path, name: str) -> None:
    items = waters(3)
    items[1] = replace(items[1], label=None)
    write_dataset(tmp_path / name, items)
    for item, again in zip(items, read_frames(tmp_path / name), strict=True):
        assert_same(item, again, esp=name != "a.extxyz")
    convert_file(Source(tmp_path / name), tmp_path / "b.h5", Reading())
    with pytest.raises(
        DataError, match=r"frame 1 has no energy with forces \(1 frames in all\).*write .extxyz"
    ):
        convert_file(Source(tmp_path / name), tmp_path / "b.npz", Reading())
    assert not (tmp_path / "b.npz").exists()


@pytest.mark.parametrize("name", ["dipole", "charges", "esp"])
@pytest.mark.parametrize("file", ["a.npz", "a.h5", "a.db"])
def test_numbers_that_are_none(tmp_path: Path, file: str, name: str) -> None:
    items = waters(2)
    broken = np.array(getattr(items[1].label, name))
    broken[0] = np.inf
    write_dataset(tmp_path / file, [items[0], with_label(items[1], **{name: broken})])
    with pytest.raises(DataError, match=f"frame 1: {name} is not finite"):
        read_frames(tmp_path / file)


def test_unknown_suffixes_and_empty_sets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a.csv: a data set is written as .npz, .extxyz, .h5"):
        write_dataset(tmp_path / "a.csv", waters(1))
    for name in ("a.npz", "a.h5", "a.db"):
        with pytest.raises(DataError, match="no frames"):
            write_dataset(tmp_path / name, [])


# ------------------------------------------------------------------------------------------------------------ HDF5


def test_the_layout_of_hdf5(tmp_path: Path) -> None:
    items = waters(2)
    write_dataset(tmp_path / "a.h5", items, about={"made": "here"})
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["offsets"][()].tolist() == [0, 3, 6] and file["forces"].shape == (6, 3)
        assert file["forces"].attrs["unit"] == "eV/Angstrom" and file["energy"].attrs["unit"] == "eV"
        assert file["esp_offsets"][()].tolist() == [0, 12, 24]
        assert file["id"].asstr()[0] == items[0].frame.id
        assert json.loads(file.attrs["about"]) == {"made": "here"}
    assert units_of(tmp_path / "a.h5")["E"] == "eV"


def test_units_of_hdf5_are_its_own(tmp_path: Path) -> None:
    [item] = waters(1)
    write_dataset(tmp_path / "a.h5", [item])
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["energy"][()] /= HARTREE_eV
        file["energy"].attrs["unit"] = "Hartree"
    [again] = read_frames(tmp_path / "a.h5")
    assert again.label.energy == pytest.approx(item.label.energy, abs=1e-9)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for name in file:
            file[name].attrs.pop("unit", None)
    with pytest.raises(DataError, match="without `units`"):
        read_frames(tmp_path / "a.h5")
    assert read_frames(tmp_path / "a.h5", units="eV")[0].label.energy == pytest.approx(
        -2079 / HARTREE_eV, abs=1
    )


def damaged_offsets(file: h5py.File) -> None:
    file["offsets"][1] = 9


def missing_positions(file: h5py.File) -> None:
    del file["positions"]


def short_charge(file: h5py.File) -> None:
    del file["charge"]
    file["charge"] = [0]


def wrong_split(file: h5py.File) -> None:
    file["split"][1] = "holdout"


def no_number(file: h5py.File) -> None:
    file["forces"][4] = np.nan


def unknown_unit(file: h5py.File) -> None:
    file["energy"].attrs["unit"] = "kcal/mol"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged_offsets, "offsets does not fit the 6 rows of numbers"),
        (missing_positions, "no dataset positions; it has"),
        (short_charge, r"charge is \(1,\), 2 rows are needed"),
        (wrong_split, "frame 1: unknown split 'holdout'"),
        (no_number, "frame 1: forces is not finite"),
        (unknown_unit, "unit 'kcal/mol' of E is not known"),
    ],
)
def test_damaged_hdf5(tmp_path: Path, damage, message: str) -> None:
    write_dataset(tmp_path / "a.h5", waters(2))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        damage(file)
    with pytest.raises(DataError, match=message):
        read_frames(tmp_path / "a.h5")


def test_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    write_dataset(tmp_path / "good.h5", waters(2))
    (tmp_path / "cut.h5").write_bytes((tmp_path / "good.h5").read_bytes()[:3000])
    (tmp_path / "text.h5").write_text("words")
    (tmp_path / "text.db").write_text("words")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1.0]
    for name, words in (
        ("cut.h5", "cannot be read as HDF5"),
        ("text.h5", "cannot be read as HDF5"),
        ("text.db", "cannot be read"),
        ("other.h5", "no frames; neither alfw's layout nor groups with `coordinates`: it has /x"),
    ):
        with pytest.raises(DataError, match=words) as error:
            read_frames(tmp_path / name)
        assert "\n" not in str(error.value)


def ani_file(path: Path, **changed: object) -> list[Imported]:
    """A file as ALF writes it, and what it means in eV; periodic in its second group."""
    items = waters(3)
    silicon = bulk("Si", cubic=True)
    with h5py.File(path, "w") as file:
        group = {
            "species": np.array([b"O", b"H", b"H"]),
            "coordinates": np.array([item.frame.positions for item in items]),
            "energy": np.array([item.label.energy for item in items]),
            "forces": np.array([item.label.forces for item in items]),
            "_id": np.array([b"a", b"b", b"c"]),
        }
        for key, value in (group | changed).items():
            if value is not None:
                file[f"H02_O01/{key}"] = value
        file["Si08/atomic_numbers"] = silicon.numbers
        file["Si08/coordinates"] = [silicon.positions]
        file["Si08/cell"] = [np.array(silicon.cell)]
        file["Si08/energies"] = [-40.0]
        file["Si08/forces"] = np.zeros((1, 8, 3))
    return items


@pytest.mark.parametrize(
    ("units", "energy", "force"),
    [
        ("eV", 1.0, 1.0),
        ("hartree", HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A),
        ("ani", HARTREE_eV, HARTREE_eV),
    ],
)
def test_groups_of_ani_and_alf(tmp_path: Path, units: str, energy: float, force: float) -> None:
    items = ani_file(tmp_path / "a.h5")
    *molecules, crystal = read_hdf5(tmp_path / "a.h5", units=units)
    for item, again in zip(items, molecules, strict=True):
        assert again.frame.id == item.frame.id
        assert again.label.energy == pytest.approx(item.label.energy * energy, rel=1e-12)
        np.testing.assert_allclose(again.label.forces, item.label.forces * force, rtol=1e-12)
    assert crystal.frame.pbc.all() and len(crystal.frame) == 8
    assert crystal.label.energy == pytest.approx(-40.0 * energy)
    with pytest.raises(DataError, match="without `units`"):
        read_hdf5(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"species": None}, "group /H02_O01 has coordinates, but neither species nor atomic_numbers"),
        ({"species": np.array([b"O", b"Q", b"H"])}, "species .* are not elements"),
        ({"forces": np.zeros((2, 3, 3))}, r"forces is \(2, 3, 3\), not \(3, 3, 3\)"),
        ({"energy": np.zeros(5)}, r"energy is \(5,\), not \(3,\)"),
        ({"forces": np.full((3, 3, 3), np.inf)}, "frame 0: forces is not finite"),
    ],
)
def test_groups_that_do_not_fit(tmp_path: Path, changed: dict, message: str) -> None:
    ani_file(tmp_path / "a.h5", **changed)
    with pytest.raises(DataError, match=message):
        read_hdf5(tmp_path / "a.h5", units="eV")


def test_hdf5_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "alfw.io._hdf5", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PluginError, match=r"needs the package 'h5py': pip install 'alfw\[hdf5\]'"):
        write_dataset(tmp_path / "a.h5", waters(1))


# ---------------------------------------------------------------------------------------------------- ASE databases


def test_databases_are_searched_with_ase(tmp_path: Path) -> None:
    items = [*waters(2, side="train"), *waters(1, seed=1, theory="007")]
    write_dataset(tmp_path / "a.db", items, about={"made": "here"})
    database = ase.db.connect(tmp_path / "a.db")
    assert database.count(split="train") == 2 and database.count(theory="orca 6: PBE") == 2
    assert database.get(1).energy == items[0].label.energy and database.get(3).data["theory"] == "007"
    assert database.metadata["units"]["E"] == "eV" and database.metadata["about"] == {"made": "here"}


def test_databases_of_others(tmp_path: Path) -> None:
    atoms = Atoms("HF", [[0, 0, 0], [0, 0, 0.92]], cell=[8, 8, 8], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-2.0, forces=np.ones((2, 3)), stress=np.arange(6.0))
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(atoms, split="val", trajectory="md7", multiplicity=3)
        database.write(Atoms("He"))
    first, second = read_frames(tmp_path / "a.db")
    assert (first.side, first.trajectory, first.frame.multiplicity) == ("valid", "md7", 3)
    assert first.label.energy == -2.0 and first.label.stress[1, 2] == 3.0
    assert second.label is None


def test_read_dataset_says_which_labels_it_took(tmp_path: Path) -> None:
    (tmp_path / "a.extxyz").write_text(
        "1\nREF_energy=-1.0 Properties=species:S:1:pos:R:3:REF_forces:R:3\nHe 0 0 0 1 2 3\n"
    )
    [item], [note] = read_dataset(Source(tmp_path / "a.extxyz"), Reading())
    assert item.label.energy == -1.0 and item.label.forces.tolist() == [[1, 2, 3]]
    assert "labels of 1 frames are its REF_energy and REF_forces" in note
