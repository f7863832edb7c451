"""`alfw data info` and `convert`, and what all data verbs say of bad input."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_sets import Desk, assert_same, plain_npz, waters, with_label

from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.io.frames import read_frames
from alfw.io.imported import Imported


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_info(desk: Desk) -> None:
    items = waters(4, side="train")
    items[3] = items[0]
    ion = Frame(numbers=[9], positions=np.zeros((1, 3)), charge=-1)
    items.append(Imported(ion, Label(-2700.0, np.zeros((1, 3)))))
    desk.write(a_npz=items)
    [report] = desk.json("data", "info", "a.npz")["files"]
    assert report["n_frames"] == report["n_labeled"] == 5
    assert report["atoms_per_frame"] == {"min": 1, "max": 3, "mean": 2.6}
    assert report["elements"] == {"H": 8, "O": 4, "F": 1} and report["compositions"] == {"H2O": 4, "F": 1}
    assert report["charges"] == {"0": 4, "-1": 1} and report["n_periodic"] == 0
    energies = [item.label.energy / len(item.frame) for item in items]
    assert report["energy_eV_per_atom"]["min"] == min(energies) == -2700.0
    forces = np.concatenate([item.label.forces for item in items])
    assert report["force_rms_eV_per_A"] == pytest.approx(np.sqrt(np.mean(forces**2)))
    assert report["max_force_eV_per_A"] == pytest.approx(np.linalg.norm(forces, axis=1).max())
    assert report["properties"] == {"energy": 5, "forces": 5, "dipole": 4, "charges": 4, "esp": 4}
    assert report["sides"] == {"train": 4, "unstated": 1}
    assert report["theories"] == {"orca 6: PBE": 4, "unstated": 1} and report["trajectories"]["md0"] == 4
    assert report["units"]["E"] == "eV" and report["duplicates"] == [[0, 3]] and report["suspicious"] == []
    text = desk.here("data", "info", "a.npz").out
    assert "the same frame: 0, 3" in text and "elements: H (8), O (4), F (1)" in text


def test_info_lists_rows_that_look_wrong(desk: Desk) -> None:
    items = waters(4)
    close = items[1].frame.positions.copy()
    close[1] = close[0] + [0.3, 0, 0]
    items[1] = replace(items[1], frame=items[1].frame.moved(close))
    items[3] = with_label(items[3], forces=np.diag([51.0, 0, 0]))
    energies = np.array([item.label.energy for item in items])
    plain_npz(desk.folder / "a.npz", items, E=np.where(np.arange(4) == 2, np.nan, energies))
    [report] = desk.json("data", "info", "a.npz", "--units", "eV")["files"]
    found = {row["frame"]: row["why"] for row in report["suspicious"]}
    assert list(found) == [1, 2, 3] and report["n_frames"] == 4 and report["n_labeled"] == 3
    assert "two atoms at 0.31 of the sum of their covalent radii" in found[1]
    assert "not finite" in found[2] and found[3] == "force of 51.0 eV/Å"
    assert report["units"] is None and report["theories"] == {"unstated": 3}
    assert "units: not stated" in desk.here("data", "info", "a.npz", "--units", "eV").out
    [report] = desk.json("data", "info", "a.npz", "--units", "hartree")["files"]
    assert "energies are those of free atoms in eV, not in Hartree" in report["contradiction"]


# --------------------------------------------------------------------------------------------- convert, bad input


def test_convert_does_not_overwrite_unasked(desk: Desk) -> None:
    a = waters(3)
    desk.write(a_npz=a)
    report = desk.json("data", "convert", "a.npz", "-o", "b.h5")
    assert report["n_frames"] == 3 and report["notes"] == [] and report["properties"]["esp"] == 3
    assert "b.h5 is there already" in desk.here("data", "convert", "a.npz", "-o", "b.h5", code=1).line
    desk.here("data", "convert", "a.npz", "-o", "b.h5", "--force")
    report = desk.json("data", "convert", "b.h5", "-o", "c.extxyz")
    assert "esp" not in report["properties"] and "no place for potentials" in report["notes"][0]
    desk.here("data", "convert", "c.extxyz", "-o", "d.db")
    for item, again in zip(a, read_frames(desk.folder / "d.db"), strict=True):
        assert_same(item, again, esp=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.npz", "nowhere.npz: no such file"),
        ("empty.npz", "empty.npz: cannot be read as NPZ|no frames, the file is empty"),
        ("no_forces.npz", "no_forces.npz: no key F: training needs energies .* and forces"),
        ("no_forces.extxyz", "no_forces.extxyz frame 0 has no energy with forces"),
        ("nan.npz", "nan.npz frame 1: energy or forces are not finite"),
        ("pickled.npz", "pickled.npz: E or F are pickled objects, which alfw never reads"),
        ("short.npz", "short.npz: F has 1 rows, but R and Z have 2"),
        ("atoms.npz", r"atoms.npz: F is \(2, 4, 3\), but 3 atoms a row need \(2, 3, 3\)"),
    ],
)
def test_bad_input_costs_one_line(desk: Desk, name: str, words: str) -> None:
    items, folder = waters(2), desk.folder
    (folder / "empty.npz").touch()
    (folder / "no_forces.extxyz").write_text("1\nenergy=1.0\nHe 0 0 0\n")
    plain_npz(folder / "no_forces.npz", items, F=None)
    plain_npz(folder / "nan.npz", items, E=np.array([-2079.0, np.nan]))
    plain_npz(folder / "pickled.npz", items, E=np.array([-2079.0, -2079.0], object))
    plain_npz(folder / "short.npz", items, F=np.zeros((1, 3, 3)))
    plain_npz(folder / "atoms.npz", items, F=np.zeros((2, 4, 3)))
    typed = desk.here("data", "merge", name, "-o", "o.npz", "--units", "eV", code=1)
    assert typed.out == ""
    assert re.search(words, typed.line), typed.line
    assert not (folder / "o.npz").exists() and not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("merge a.npz -o o.csv", "o.csv: a data set is written as .npz, .extxyz, .h5"),
        ("merge a.npz a.npz -o o.npz", "a.npz is given twice"),
        ("merge a.npz -o o.npz --esp-output o.npz", "o.npz: energies and potentials need two names"),
        ("merge a.npz -o o.npz --esp-output e.h5", "e.h5: potentials are written as .npz"),
        ("merge bare.npz -o o.npz --esp-output e.npz", "e.npz: no frame has a potential"),
        ("convert a.npz -o a.npz", "a.npz is there already"),
        ("merge a.npz -o o.npz --units kcal", "--units"),
        ("merge -o o.npz", "FILE"),
    ],
)
def test_mistakes_cost_one_line(desk: Desk, arguments: str, words: str) -> None:
    bare = [with_label(item, esp=None, esp_points=None) for item in waters(1)]
    desk.write(a_npz=waters(1), bare_npz=bare)
    assert words in desk.here("data", *arguments.split(), code=1).line
    assert not (desk.folder / "o.npz").exists()
