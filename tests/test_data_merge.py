"""`alfw data merge`: each frame once, each trajectory on one side, one theory, nothing overwritten."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_sets import Desk, assert_same, plain_npz, waters, with_label

from alfw.core.units import DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.io.esp_npz import read_esp_npz
from alfw.io.frames import read_frames
from alfw.io.versions import free_names, newest_version, write_new


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_merge_formats_and_count(desk: Desk) -> None:
    a, b, c = waters(4, side="train"), waters(3, seed=1, side="valid"), waters(2, seed=2)
    desk.write(a_npz=a, b_h5=[*a[:2], *b], c_db=c)
    report, items = desk.merged("a.npz", "b.h5", "c.db", "-o", "out.npz")
    assert report["n_frames"] == 9 and report["n_duplicates"] == 2 and report["n_conflicts"] == 0
    assert [each["n_kept"] for each in report["inputs"]] == [4, 3, 2]
    assert report["sides"] == {"train": 4, "valid": 3, "unstated": 2} and report["units"]["E"] == "eV"
    for item, again in zip([*a, *b, *c], items, strict=True):
        assert_same(item, again)
    with np.load(desk.folder / "out.npz") as data:
        assert json.loads(str(data["about"]))["merged"][1] == {"file": "b.h5", "n_frames": 5, "n_kept": 3}
        np.testing.assert_array_equal(data["D"], data["Dxyz"])
    typed = desk.here("data", "merge", "a.npz", "b.h5", "-o", "other.extxyz")
    assert "other.extxyz: 7 frames" in typed.out and "2 duplicates dropped" in typed.out
    assert "potentials on grids: those of 7 frames are left out" in typed.line


def test_folders_and_globs(desk: Desk) -> None:
    """Their data files in order of name; files are in the order given."""
    (desk.folder / "set").mkdir()
    b, a, c = waters(1), waters(1, seed=1), waters(1, seed=2)
    desk.write(**{"set/b_h5": b, "set/a_npz": a, "c_npz": c})
    (desk.folder / "set" / "notes.txt").write_text("words")
    for patterns, wanted in ((["c.npz", "set"], [c, a, b]), (["set/*.h5", "c.npz"], [b, c])):
        _, items = desk.merged(*patterns, "-o", "o.npz")
        assert [item.frame.id for item in items] == [item.frame.id for [item] in wanted]
    (desk.folder / "words").mkdir()
    (desk.folder / "words" / "notes.txt").write_text("words")
    line = desk.here("data", "merge", "words", "-o", "o.npz", code=1).line
    assert "words: no data files there; they end in .npz, .extxyz" in line


def test_nothing_is_overwritten(desk: Desk) -> None:
    desk.write(a_npz=waters(2))
    before = (desk.folder / "a.npz").read_bytes()
    for name in ("a_v2.npz", "a_v3.npz"):
        assert desk.json("data", "merge", "a.npz", "-o", "a.npz")["file"] == name
    assert desk.json("data", "merge", "a.npz", "-o", "a_v2.npz")["file"] == "a_v4.npz"
    pair = desk.json("data", "merge", "a.npz", "-o", "a.npz", "--esp-output", "esp.npz")
    assert (pair["file"], pair["esp_file"]) == ("a_v5.npz", "esp_v5.npz")
    assert (desk.folder / "a.npz").read_bytes() == before
    assert newest_version(desk.folder / "a.npz").name == "a_v5.npz"
    assert not list(desk.folder.glob(".*"))


def test_many_at_once_get_names_of_their_own(tmp_path: Path) -> None:
    def one(number: int) -> Path:
        return write_new((tmp_path / f"{number}" / ".." / "a.txt", lambda p: p.write_text(f"{number}")))[0]

    for number in range(16):
        (tmp_path / f"{number}").mkdir()
    with ThreadPoolExecutor(16) as pool:
        names = list(pool.map(one, range(16)))
    assert sorted(int(path.read_text()) for path in names) == list(range(16))
    assert len({path.name for path in names}) == 16
    assert [path.name for path in free_names([tmp_path / "a.txt", tmp_path / "b_v20.txt"])] == [
        "a_v21.txt",
        "b_v21.txt",
    ]


def test_two_theories_are_refused(desk: Desk) -> None:
    desk.write(
        a_npz=waters(2),
        b_h5=waters(2, seed=1, theory="vasp 6: PBE"),
        c_db=waters(1, seed=2, theory=None),
    )
    line = desk.here("data", "merge", "a.npz", "b.h5", "-o", "out.npz", code=1).line
    assert "labels of 2 theories: orca 6: PBE (a.npz), vasp 6: PBE (b.h5)" in line
    assert not (desk.folder / "out.npz").exists()
    typed = desk.here("data", "merge", "a.npz", "c.db", "-o", "out.npz")
    assert typed.line == "note: theory not stated: c.db (1 frames); merged with orca 6: PBE"
    assert [item.theory for item in read_frames(desk.folder / "out.npz")] == ["orca 6: PBE"] * 2 + [None]
    report, items = desk.merged("a.npz", "b.h5", "-o", "all.npz", "--allow-theories")
    assert report["theories"] == ["orca 6: PBE", "vasp 6: PBE"] and len(items) == 4


def test_a_frame_at_two_theories_is_no_duplicate(desk: Desk) -> None:
    [item] = waters(1)
    other = replace(with_label(item, energy=-1.0), theory="xtb 6: GFN2")
    desk.write(a_npz=[item], b_npz=[other])
    report, items = desk.merged("a.npz", "b.npz", "-o", "o.h5", "--allow-theories")
    assert report["n_duplicates"] == 0 and [i.label.energy for i in items] == [item.label.energy, -1.0]


def test_two_labels_of_one_frame(desk: Desk) -> None:
    a = waters(3)
    shifted = with_label(a[1], energy=a[1].label.energy + 2e-6)
    turned = with_label(a[2], forces=a[2].label.forces + 2e-5)
    near = with_label(a[0], energy=a[0].label.energy + 5e-7, forces=a[0].label.forces + 5e-6)
    desk.write(a_npz=a, b_npz=[shifted, turned, near])
    line = desk.here("data", "merge", "a.npz", "b.npz", "-o", "o.npz", code=1).line
    for words in (
        f"frame {a[1].frame.id[:12]} has two labels",
        "a.npz frame 1",
        "b.npz frame 0",
        "--keep first",
    ):
        assert words in line
    assert f"{a[1].label.energy:.8g} eV" in line and "and 1 more such frames" in line
    for keep, kept in (("first", a[1]), ("last", shifted)):
        report, items = desk.merged("a.npz", "b.npz", "-o", f"{keep}.npz", "--keep", keep)
        assert (report["n_duplicates"], report["n_conflicts"]) == (3, 2)
        assert_same(items[1], kept)


def test_duplicates_complete_each_other(desk: Desk) -> None:
    [item] = waters(1, side="train")
    bare = replace(
        with_label(item, dipole=None, esp=None, esp_points=None, version=""),
        theory=None,
        trajectory=None,
        side=None,
    )
    desk.write(a_npz=[bare], b_npz=[item])
    _, [again] = desk.merged("a.npz", "b.npz", "-o", "o.npz")
    assert_same(item, again)


def test_a_trajectory_is_on_one_side(desk: Desk) -> None:
    """Test wins; what would make it known is left out; between train and valid the first file's side holds."""
    held, known = waters(2, side="test", trajectory="t"), waters(3, seed=1, side="train", trajectory="t")
    loose = waters(1, seed=2, trajectory="t")
    first, later = (
        waters(2, seed=3, side="train", trajectory="u"),
        waters(2, seed=4, side="valid", trajectory="u"),
    )
    new = waters(1, seed=5, trajectory="u")
    desk.write(a_npz=[*known, *first], b_npz=[*held, *loose, *later, *new])
    report, items = desk.merged("a.npz", "b.npz", "-o", "o.npz")
    sides = {(item.trajectory, item.side) for item in items}
    assert sides == {("t", "test"), ("u", "train")} and len(items) == 7
    assert report["n_left_out"] == 4 and report["sides"] == {"train": 5, "test": 2}
    left, moved = report["notes"]
    assert left.startswith("left out 4 frames of test trajectories") and "t (a.npz; test in b.npz)" in left
    assert moved == "moved 2 frames to the side of their trajectory: u to train (b.npz; train in a.npz)"


def test_a_trajectory_is_where_a_duplicate_puts_it(desk: Desk) -> None:
    items = waters(3, side="train", trajectory="t")
    desk.write(a_npz=items, b_npz=[replace(items[1], side="test")])
    report, [again] = desk.merged("a.npz", "b.npz", "-o", "o.npz")
    assert (again.frame.id, again.side) == (items[1].frame.id, "test") and report["n_left_out"] == 2
    assert report["notes"][0].endswith("t (a.npz; test in b.npz)")


def test_a_test_frame_stays_one(desk: Desk) -> None:
    [item] = waters(1, side="train", trajectory=None)
    desk.write(a_npz=[item], b_npz=[replace(item, side="test")])
    for order in (("a.npz", "b.npz"), ("b.npz", "a.npz")):
        _, [again] = desk.merged(*order, "-o", "o.npz", "--keep", "last")
        assert again.side == "test"


def test_units_are_each_files_own(desk: Desk) -> None:
    a, b = waters(2), waters(2, seed=1)
    desk.write(a_npz=a)
    hartree = {
        "E": np.array([item.label.energy for item in b]) / HARTREE_eV,
        "F": np.array([item.label.forces for item in b]) / HARTREE_PER_BOHR_eV_PER_A,
        "Dxyz": np.array([item.label.dipole for item in b]) / DEBYE_eA,
    }
    units = json.dumps({"E": "Hartree", "F": "Hartree/Bohr", "Dxyz": "Debye"})
    plain_npz(desk.folder / "b.npz", b, **hartree, units=units)
    plain_npz(desk.folder / "c.npz", b, **hartree)
    assert "without `units`" in desk.here("data", "merge", "a.npz", "c.npz", "-o", "o.npz", code=1).line
    for name, more in (("b.npz", []), ("c.npz", ["--units", "hartree"])):
        _, items = desk.merged("a.npz", name, "-o", "o.npz", *more)
        np.testing.assert_allclose(
            [i.label.energy for i in items[2:]], [i.label.energy for i in b], rtol=1e-14
        )
        np.testing.assert_allclose(items[3].label.forces, b[1].label.forces, rtol=1e-12)
        np.testing.assert_allclose(items[3].label.dipole, b[1].label.dipole, rtol=1e-12)
        assert_same(items[0], a[0])
    line = desk.here("data", "merge", "a.npz", "c.npz", "-o", "o.npz", "--units", "eV", code=1).line
    assert "c.npz: its energies are those of free atoms in Hartree" in line


def test_pairs_of_files(desk: Desk) -> None:
    a, b = waters(3), waters(2, seed=1)
    b[1] = with_label(b[1], esp=None, esp_points=None)
    desk.write(a_npz=a, b_npz=b)
    for name in "ab":
        desk.json(
            "data", "convert", f"{name}.npz", "-o", f"{name}_efd.npz", "--esp-output", f"{name}_esp.npz"
        )
    assert read_frames(desk.folder / "a_efd.npz")[0].label.esp is None
    assert [row.id for row in read_esp_npz(desk.folder / "b_esp.npz")] == [b[0].frame.id]
    esp = ["--esp", "b_esp.npz", "--esp", "a_esp.npz"]
    report, items = desk.merged("b_efd.npz", "a_efd.npz", *esp, "-o", "o.npz")
    assert report["properties"]["esp"] == 4
    for item, again in zip([*b, *a], items, strict=True):
        assert_same(item, again)
    files = ["-o", "efd.npz", "--esp-output", "esp.npz", "--esp-unit", "Hartree/e"]
    desk.json("data", "merge", "b_efd.npz", "a_efd.npz", *esp, *files)
    rows = read_esp_npz(desk.folder / "esp.npz")
    assert [row.id for row in rows] == [item.frame.id for item in (b[0], *a)]
    np.testing.assert_allclose(rows[0].esp, b[0].label.esp, rtol=1e-14)
    with np.load(desk.folder / "esp.npz") as data:
        np.testing.assert_allclose(data["esp"][0] * HARTREE_eV, b[0].label.esp, rtol=1e-14)
    line = desk.here("data", "merge", "b_efd.npz", "--esp", "a_esp.npz", "-o", "x.npz", code=1).line
    assert "a_esp.npz row 0 (H2O): no row of b_efd.npz has its elements, charge and geometry" in line
    line = desk.here(
        "data", "merge", "a_efd.npz", "b_efd.npz", "--esp", "a_esp.npz", "-o", "x.npz", code=1
    ).line
    assert "--esp is given 1 times for 2 data sets" in line
    report, _ = desk.merged("a_efd.npz", "b_efd.npz", "--esp", "a_esp.npz", "--esp", "-", "-o", "x.npz")
    assert report["properties"]["esp"] == 3
