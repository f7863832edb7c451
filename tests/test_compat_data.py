"""`merge_datasets` and `update_dataset`, as the documents of the older systems have them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from data_sets import Desk, assert_same, plain_npz, waters, with_label
from labelling import fixture
from vasp_outputs import FORCES, KBAR, QUARTZ, made

from alfw.core.units import HARTREE_eV
from alfw.io.datasets import write_dataset
from alfw.io.esp_npz import read_esp_npz
from alfw.io.frames import read_frames, write_extxyz
from alfw.io.imported import Imported
from alfw.steps.data_update import update

OLD = "energies_forces_dipoles_train"
# The lines of the documents.
MERGE = f"--original ../train/{OLD}.npz --new ./qm_training_data.npz --output ../train/{OLD}_v2.npz"
UPDATE = "--new data/dft_results/ --dataset data/training_set/"


# --------------------------------------------------------------------------------------------------- merge_datasets


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """With the seed's training set, which has no N and does not state units, and four new structures of alfw's."""
    for name in ("train", "work"):
        (tmp_path / name).mkdir()
    old, new = waters(5), waters(4, seed=1, theory="orca 6: pbe0")
    plain_npz(tmp_path / "train" / f"{OLD}.npz", old)
    write_dataset(tmp_path / "work" / "qm_training_data.npz", [*new, replace(old[2], theory="orca 6: pbe0")])
    grids = {
        "R": np.array([item.frame.positions for item in old])[::-1],
        "Z": np.array([item.frame.numbers for item in old])[::-1],
        "N": np.full(5, 3),
        "esp": np.array([item.label.esp for item in old])[::-1] / HARTREE_eV,
        "vdw_surface": np.array([item.label.esp_points for item in old])[::-1],
    }
    np.savez(tmp_path / "train" / "grids_esp_train.npz", **grids)
    return Desk(tmp_path / "work")


def test_the_line_of_the_document(desk: Desk) -> None:
    before = (desk.folder / f"../train/{OLD}.npz").read_bytes()
    typed = desk.compat("merge_datasets", *MERGE.split())
    assert f"{OLD}_v2.npz: 9 structures (5 of 5 of" in typed.out and "1 duplicates dropped" in typed.out
    assert (
        "units taken for files that do not say: R Å, E eV, F eV/Å, D and Dxyz e·Å, esp Hartree/e" in typed.err
    )
    assert "theory not stated" in typed.err and "4 structures" not in typed.out
    with np.load(desk.folder / f"../train/{OLD}_v2.npz") as data:
        assert {"R", "Z", "N", "E", "F", "D", "Dxyz", "id", "units"} <= set(data.files)
        np.testing.assert_array_equal(data["D"], data["Dxyz"])
        assert json.loads(str(data["units"]))["E"] == "eV"
    items = read_frames(desk.folder / f"../train/{OLD}_v2.npz")
    for item, again in zip([*waters(5), *waters(4, seed=1)], items, strict=True):
        assert item.frame.id == again.frame.id and item.label.energy == again.label.energy
        np.testing.assert_array_equal(item.label.forces, again.label.forces)
    assert (desk.folder / f"../train/{OLD}.npz").read_bytes() == before
    line = desk.compat_here("merge_datasets", *MERGE.split(), code=1).line
    assert f"{OLD}_v2.npz is there already: nothing is overwritten; ../train/{OLD}_v3.npz is free" in line


def test_every_row_keeps_its_labels(desk: Desk) -> None:
    """Energies and forces of a toy potential, computed again after merging, are those of their rows."""
    for name, seed in (("a", 3), ("b", 4)):
        items = []
        for item in waters(6, seed=seed):
            atoms = item.frame.to_atoms()
            atoms.calc = LennardJones(sigma=0.8)
            items.append(with_label(item, energy=atoms.get_potential_energy(), forces=atoms.get_forces()))
        plain_npz(desk.folder / f"{name}.npz", [items[i] for i in (3, 0, 5, 1, 4, 2)])
    desk.compat_here("merge_datasets", "--original", "a.npz", "--new", "b.npz", "--output", "c.npz")
    items = read_frames(desk.folder / "c.npz")
    assert len(items) == 12
    for item in items:
        atoms = item.frame.to_atoms()
        atoms.calc = LennardJones(sigma=0.8)
        assert item.label.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-4)
        np.testing.assert_allclose(item.label.forces, atoms.get_forces(), rtol=1e-3, atol=1e-3)


def test_potentials_follow(desk: Desk) -> None:
    """The rows of the ESP file are in another order; afterwards both files are in one."""
    esp = "--original-esp ../train/grids_esp_train.npz --output-esp ../train/grids_esp_train_v2.npz"
    typed = desk.compat_here("merge_datasets", *MERGE.split(), *esp.split(), "--esp-origin", "file")
    assert "grids_esp_train_v2.npz: 9 potentials" in typed.out
    rows = read_esp_npz(desk.folder / "../train/grids_esp_train_v2.npz")
    old = waters(5)
    assert [row.frame.id for row in rows[:5]] == [item.frame.id for item in old]
    for item, row in zip(old, rows, strict=False):
        np.testing.assert_allclose(row.esp, item.label.esp, rtol=1e-12)
        np.testing.assert_allclose(row.points, item.label.esp_points, atol=1e-9)
    with np.load(desk.folder / "../train/grids_esp_train_v2.npz") as data:
        assert json.loads(str(data["units"])) == {"R": "Angstrom", "esp": "Hartree/e"}
        assert {"R", "Z", "N", "id", "vdw_surface"} <= set(data.files)


def test_files_in_hartree_are_noticed(desk: Desk) -> None:
    items = waters(3, seed=7)
    energies = np.array([item.label.energy for item in items]) / HARTREE_eV
    plain_npz(desk.folder / "qm_training_data.npz", items, E=energies)
    line = desk.compat_here("merge_datasets", *MERGE.split(), code=1).line
    assert "qm_training_data.npz: its energies are those of free atoms in Hartree" in line
    plain_npz(desk.folder / "qm_training_data.npz", items, F=np.full((3, 3, 3), 900.0))
    assert (
        "root mean square force 900 eV/Å" in desk.compat_here("merge_datasets", *MERGE.split(), code=1).line
    )
    assert not (desk.folder / f"../train/{OLD}_v2.npz").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--original a.npz --new b.npz --output c.txt", "has to end in .npz"),
        ("--original a.npz --new bare.npz --output c.npz", "bare.npz: no key R or Z, without which"),
        ("--original a.npz --new nowhere.npz --output c.npz", "nowhere.npz: no such file"),
        ("--original a.npz --new conflict.npz --output c.npz", "has two labels: "),
        ("--original a.npz --new b.npz --original-esp e.npz --output c.npz", "--output-esp is needed"),
        ("--original a.npz --output c.npz", "--new"),
    ],
)
def test_mistakes_cost_one_line(desk: Desk, flags: str, words: str) -> None:
    items = waters(2)
    plain_npz(desk.folder / "a.npz", items)
    plain_npz(desk.folder / "b.npz", waters(2, seed=1))
    plain_npz(desk.folder / "bare.npz", items, R=None, Z=None)
    plain_npz(desk.folder / "conflict.npz", [with_label(item, energy=-2078.0) for item in items])
    assert words in desk.compat_here("merge_datasets", *flags.split(), code=1).line
    assert not (desk.folder / "c.npz").exists()


# --------------------------------------------------------------------------------------------------- update_dataset


@pytest.fixture
def dft(tmp_path: Path) -> Desk:
    """With what launch_dft.sh leaves: a good result, an empty one, one that was cut off, and one without OUTCAR."""
    results = tmp_path / "data" / "dft_results"
    results.mkdir(parents=True)
    good = fixture("vasp/OUTCAR")
    for name, data in (("frame_3", good), ("frame_4", b""), ("frame_5", good[: len(good) // 2])):
        (results / f"{name}_OUTCAR").write_bytes(data)
        (results / f"{name}_CONTCAR").write_bytes(b"Si\n")
        (results / f"{name}_log").write_bytes(b" vasp.6.4.2 runs\n")
    (results / "frame_6_log").write_bytes(b" killed\n")
    return Desk(tmp_path)


def test_update_a_folder(dft: Desk) -> None:
    folder = dft.folder / "data" / "training_set"
    folder.mkdir()
    old = Imported(
        QUARTZ,
        with_label(waters(1)[0], energy=-20.0, forces=FORCES, dipole=None, esp=None, esp_points=None).label,
    )
    write_extxyz(folder / "start.extxyz", [old])
    typed = dft.compat("update_dataset", *UPDATE.split(), code=2)
    assert "data/training_set/update_0001.extxyz: 3 new labels; 4 in all; in eV, eV/Å, Å" in typed.out
    for name, words in (
        ("frame_4_OUTCAR", "empty"),
        ("frame_5_OUTCAR", ""),
        ("frame_6", "no frame_6_OUTCAR"),
    ):
        assert any(name in line and words in line for line in typed.out.splitlines()), (name, typed.out)
    items = read_frames(folder / "update_0001.extxyz")
    assert len({item.trajectory for item in items}) == 1 and items[0].theory.startswith("vasp 6: ")
    assert_same(read_frames(folder / "start.extxyz")[0], old)
    typed = dft.compat_here("update_dataset", *UPDATE.split(), code=2)
    assert "nothing new, 3 were there already; 4 labels as before" in typed.out
    assert sorted(path.name for path in folder.iterdir()) == ["start.extxyz", "update_0001.extxyz"]


def test_job_folders_and_structures(tmp_path: Path) -> None:
    """Job folders of VASP, labelled structures, and structures whose label is in the JSON file beside them."""
    for place, files in (
        ("good", made(QUARTZ, -20.0, FORCES, KBAR)),
        ("hard", made(QUARTZ, -20.0, FORCES, KBAR, cycles=100, ended="aborting loop EDIFF was not reached")),
    ):
        (tmp_path / "runs" / place).mkdir(parents=True)
        for name, data in files.items():
            (tmp_path / "runs" / place / name).write_bytes(data)
    atoms = QUARTZ.moved(QUARTZ.positions + 0.01).to_atoms()
    ase.io.write(tmp_path / "runs" / "a.extxyz", atoms)
    (tmp_path / "runs" / "a.extxyz.json").write_text(json.dumps({"energy": -19.5, "forces": FORCES.tolist()}))
    atoms.positions += 0.01
    ase.io.write(tmp_path / "runs" / "b.extxyz", atoms)
    ase.io.write(tmp_path / "runs" / "c.extxyz", atoms)
    (tmp_path / "runs" / "c.extxyz.json").write_text(json.dumps({"parsed": False}))
    report = update(tmp_path / "set", tmp_path / "runs")
    refused = {Path(each.name).name: each for each in report["refused"]}
    assert refused.keys() == {"OUTCAR", "b.extxyz frame 0", "c.extxyz"}
    assert refused["OUTCAR"].name.endswith("hard/OUTCAR")
    assert refused["OUTCAR"].failure_class == "SCF_NOT_CONVERGED"
    items = read_frames(tmp_path / "set" / "update_0001.extxyz")
    assert sorted(item.label.energy for item in items) == [-20.0, -19.5]


def test_packed_outputs_and_what_gets_lost(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "frame_1_OUTCAR.gz").write_bytes(
        gzip.compress(made(QUARTZ, -20.0, FORCES, KBAR)["OUTCAR"])
    )
    (tmp_path / "new" / "frame_1_log").write_bytes(b" vasp.6.4.2 runs\n")
    (tmp_path / "new" / "frame_2_OUTCAR.gz").write_bytes(b"\x1f\x8bnonsense")
    write_dataset(tmp_path / "new" / "a.h5", waters(1, theory=None))
    report = update(tmp_path / "set", tmp_path / "new")
    assert report["n_new"] == 2 and [Path(each.name).name for each in report["refused"]] == [
        "frame_2_OUTCAR.gz"
    ]
    assert any("no place for potentials on grids: those of 1 frames" in note for note in report["notes"])


def test_update_a_file_writes_its_next_version(tmp_path: Path) -> None:
    start, first, second = waters(3), waters(2, seed=1), waters(2, seed=2)
    write_dataset(tmp_path / "set.npz", start)
    for number, items in enumerate((first, second), 1):
        (tmp_path / f"new{number}").mkdir()
        write_dataset(tmp_path / f"new{number}" / "a.h5", [*items, start[0]])
    report = update(tmp_path / "set.npz", tmp_path / "new1")
    assert (Path(report["file"]).name, report["n_new"], report["n_known"]) == ("set_v2.npz", 2, 1)
    report = update(tmp_path / "set.npz", tmp_path / "new2")
    assert (
        Path(report["file"]).name == "set_v3.npz"
        and "newest version set_v2.npz is taken" in report["notes"][0]
    )
    for item, again in zip([*start, *first, *second], read_frames(tmp_path / "set_v3.npz"), strict=True):
        assert_same(item, again)
    assert len(read_frames(tmp_path / "set.npz")) == 3


def test_another_theory_or_another_label(dft: Desk) -> None:
    folder = dft.folder / "set"
    folder.mkdir()
    (dft.folder / "new").mkdir()
    items = waters(3)
    write_dataset(folder / "a.extxyz", [with_label(item, esp=None, esp_points=None) for item in items])
    write_dataset(dft.folder / "new" / "b.h5", [replace(items[0], theory="vasp 6: PBE")])
    line = dft.compat_here("update_dataset", "--new", "new", "--dataset", "set", code=1).line
    assert "labels of 2 theories: orca 6: PBE (set/a.extxyz), vasp 6: PBE (new/b.h5)" in line
    (dft.folder / "new" / "b.h5").unlink()
    write_dataset(dft.folder / "new" / "b.h5", [with_label(items[1], energy=-2000.0), *waters(1, seed=5)])
    typed = dft.compat_here("update_dataset", "--new", "new", "--dataset", "set", code=2)
    assert "1 new labels; 4 in all" in typed.out and "SUSPECT: frame " in typed.out
    assert (
        f"{items[1].label.energy:.8g} eV in set/a.extxyz frame 1, -2000 eV in new/b.h5 frame 0" in typed.out
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--new nowhere --dataset set", "nowhere: no such folder"),
        ("--new empty --dataset set", "empty: no outputs of QM programs and no labelled structures in it"),
        ("--new data/dft_results --dataset set.csv", "set.csv: a data set is written as .npz, .extxyz"),
        ("--new data/dft_results", "--dataset"),
    ],
)
def test_mistakes_of_update_cost_one_line(dft: Desk, flags: str, words: str) -> None:
    (dft.folder / "empty").mkdir()
    assert words in dft.compat_here("update_dataset", *flags.split(), code=1).line
