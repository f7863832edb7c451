"""`alfw frames list` and `alfw frames export`, as users type them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_sets import waters
from event_toys import ABOUT, FALLING, older_file
from scipy.spatial.transform import Rotation
from shell import Shell

from alfw.core.exploration import Event
from alfw.core.frame import Frame
from alfw.core.superposition import rmsd
from alfw.io.datasets import write_dataset
from alfw.io.frames import read_frames
from alfw.steps.events import save_events

H2 = Frame([1, 1], [[0, 0, 0], [0.80, 0, 0]])
BAD = Frame([1, 1], [[0, 0, 0], [0.72, 0, 0]])


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With two events of ours, six high forces and an explosion of the older system, and a data set."""
    events = [
        Event("force", 0, 40, 20.0, 300.0, H2, BAD, 31.0),
        Event("high_force", 1, 60, 30.0, 300.0, H2.moved(H2.positions * 0.99), None, 9.0),
    ]
    save_events(tmp_path / "ours" / "active_learning", events, FALLING, ABOUT)
    old = tmp_path / "md_300K" / "active_learning"
    for i in range(6):
        older_file(old / f"high_force_20250102_14302{i}_step{i}.npz", seed=i, force=5.0 + i)
    older_file(old / "unstable_20250102_143029_step114.npz", 9, "explosion", 1000.0)
    write_dataset(tmp_path / "waters.extxyz", waters(3))
    return Shell(tmp_path)


def test_list_shows_all_there_is(shell: Shell) -> None:
    report = shell.json("frames", "list", "ours/*", "md_*/active_learning", "waters.extxyz")
    assert (report["n_events"], report["n_frames"]) == (9, 12)
    assert (
        report["reasons"] == {"explosion": 2, "high_force": 7}
        and report["max_force_eV_per_A"]["max"] == 1000.0
    )
    [file] = report["files"]
    assert (file["n_frames"], file["n_labelled"], file["formulas"]) == (3, 3, {"H2O": 3})
    ours = next(e for e in report["events"] if e["reason"] == "explosion" and e["good_max_force"] is not None)
    assert (
        ours["max_force"] > ours["good_max_force"] > 0 and ours["walker"] == 0 and ours["model"] == "f" * 64
    )
    assert ours["max_velocity"] is None  # not NaN: this is JSON
    typed = shell.here("frames", "list", shell.folder / "md_300K" / "active_learning", "waters.extxyz")
    assert "waters.extxyz: 3 frames, 3 labelled; H2O (3)" in typed.out and "Total structures: 7" in typed.out
    assert "7 files have times in units of 100 fs" in typed.err and "was 0.01 Å/fs" in typed.err


def test_export_takes_the_last_good_frame_and_leaves_wrecks(shell: Shell) -> None:
    typed = shell.here("frames", "export", "ours/active_learning", "md_300K/active_learning", "-o", "out")
    assert "F_max 1000.00 eV/Å, above " in typed.out and "out: 8 of 9 frames; 1 left out" in typed.out
    assert "note: physical cap: " in typed.err and "--max-force sets another" in typed.err
    assert sorted(p.name for p in (shell.folder / "out").iterdir()) == sorted(
        f"structure_{i:04d}.{suffix}" for i in range(8) for suffix in ("json", "xyz")
    )
    found = {}
    for i in range(8):
        [item] = read_frames(shell.folder / "out" / f"structure_{i:04d}.xyz")
        about = json.loads((shell.folder / "out" / f"structure_{i:04d}.json").read_text())
        assert item.label is None and about["id"] == item.frame.id  # predicted forces are no label
        assert about.keys() >= {"source", "max_force", "max_velocity", "temperature", "time_fs", "reason"}
        assert about.keys() >= {"instability_type", "model_energy"}
        found[item.frame.id] = about
    assert found[H2.id]["frame"] == "good" and found[H2.id]["reason"] == "explosion"
    assert BAD.id not in found


def test_the_bad_frame_is_there_for_those_who_ask(shell: Shell) -> None:
    flags = ("--bad", "--max-force", "1000", "-o", "all.extxyz")
    report = shell.json("frames", "export", "ours/active_learning", "md_300K/active_learning", *flags)
    assert (report["n_exported"], report["excluded"]) == (9, [])
    ids = [item.frame.id for item in read_frames(shell.folder / "all.extxyz")]
    assert BAD.id in ids and H2.id not in ids
    text = (shell.folder / "all.extxyz").read_text()
    assert "source=" in text and "max_force=1000" in text and "reason=explosion" in text


def test_atoms_too_close_are_left_out_where_no_force_is_known(shell: Shell) -> None:
    older_file(shell.folder / "a" / "x.npz", positions=np.array([[0, 0, 0], [0, 0, 0.3], [0, 0, 3.0]]))
    line = shell.here("frames", "export", "a", "-o", "b", code=1)
    assert "two atoms at 0.21 of the sum of their covalent radii" in line.out
    assert "b is not written: none of 1 frames is left" in line.err and not (shell.folder / "b").exists()


def test_without_any_trusted_frame_an_explosion_is_still_none(shell: Shell) -> None:
    older_file(shell.folder / "a" / "x.npz", 1, "explosion", 1000.0)
    older_file(shell.folder / "a" / "y.npz", 2, "explosion", 12.0)
    report = shell.json("frames", "export", "a", "-o", "b")
    assert report["n_exported"] == 1 and report["structures"][0]["max_force"] == pytest.approx(12.0)
    assert report["max_force_eV_per_A"] == 30.0


def test_min_force_is_of_the_event(shell: Shell) -> None:
    """A good frame is calm; the explosion after it was not."""
    least = read_event_force(shell)
    report = shell.json("frames", "export", "ours/active_learning", "--min-force", least - 0.1, "-o", "out")
    assert report["structures"][0]["id"] == H2.id
    assert report["structures"][0]["max_force"] < least <= report["structures"][0]["event_max_force"] + 1e-9


def read_event_force(shell: Shell) -> float:
    events = shell.json("frames", "list", "ours/active_learning")["events"]
    return next(event["max_force"] for event in events if event["reason"] == "explosion")


def test_duplicates_and_diversity(shell: Shell) -> None:
    rng = np.random.default_rng(0)
    folder = shell.folder / "al"
    shapes = [np.array([[0, 0, 0], [0, 0, r], [0, 0, -1.2]]) for r in (1.1, 1.3, 1.5, 1.9)]
    for i, shape in enumerate(shapes):
        for k in range(3):
            turned = Rotation.random(rng=rng).apply(shape)[[0, 2, 1] if k == 1 else [0, 1, 2]]
            older_file(folder / f"high_force_{i}{k}.npz", force=6.0 + k - i * 0.1, positions=turned)
    flags = ("--deduplicate", "--rmsd-threshold", "0.02")
    report = shell.json("frames", "export", "al", *flags, "-o", "out")
    assert [Path(s["source"]).stem for s in report["structures"]] == [f"high_force_{i}0" for i in range(4)]
    assert {Path(m["kept"]).stem: sorted(Path(n).stem for n in m["merged"]) for m in report["merged"]} == {
        f"high_force_{i}0": [f"high_force_{i}1", f"high_force_{i}2"] for i in range(4)
    }
    typed = shell.here("frames", "export", "al", "--deduplicate", "-o", "few")
    assert "a smaller --rmsd-threshold keeps more of them" in typed.err and "stands for" in typed.out
    two = shell.json("frames", "export", "al", *flags, "--max-structures", 2, "-o", "two")
    assert {Path(s["source"]).stem[-2] for s in two["structures"]} == {"0", "3"}  # the two that differ most
    hard = shell.json("frames", "export", "al", "--max-structures", 2, "--order", "force", "-o", "hard")
    assert [Path(s["source"]).stem for s in hard["structures"]] == ["high_force_02", "high_force_12"]
    frames = [read_frames(shell.folder / "out" / f"structure_{i:04d}.xyz")[0].frame for i in range(4)]
    assert min(rmsd(a, b) for i, a in enumerate(frames) for b in frames[:i]) > 0.02


def test_nothing_is_overwritten_by_accident(shell: Shell) -> None:
    line = ("frames", "export", "md_300K/active_learning", "-o")
    shell.here(*line, "out")
    assert "out holds structures already" in shell.here(*line, "out", code=1).err
    shell.here(*line, "out", "--force", "--max-structures", 2)
    assert len(list((shell.folder / "out").iterdir())) == 4
    (shell.folder / "out" / "notes.txt").write_text("mine")
    assert "out holds other files (notes.txt)" in shell.here(*line, "out", "--force", code=1).err
    shell.here(*line, "x.extxyz")
    assert "x.extxyz is there already" in shell.here(*line, "x.extxyz", code=1).err
    assert "ends in .extxyz" in shell.here(*line, "x.npz", code=1).err


def test_what_cannot_be_read_is_counted(shell: Shell) -> None:
    folder = shell.folder / "md_300K" / "active_learning"
    older_file(folder / "z_pickled.npz", forces=np.array([None]))
    older_file(folder / "z_shapes.npz", velocities=np.zeros((2, 3)))
    older_file(folder / "z_extra.npz", colour="red")
    typed = shell.here("frames", "list", folder, code=2)
    assert "z_pickled.npz: forces is a pickled object, which alfw never reads" in typed.err
    assert "z_shapes.npz: velocities has the shape (2, 3), and should have (3, 3)" in typed.err
    assert "2 unreadable" in typed.err and "keys that mean nothing here are ignored: colour (1)" in typed.err
    assert "Total structures: 8" in typed.out
    report = shell.json("frames", "export", folder, "-o", "out", code=2)
    assert (report["n_exported"], len(report["unreadable"])) == (7, 2)
    assert "nowhere: no such file" in shell.here("frames", "list", "nowhere", code=1).err


def test_an_ambiguous_file_is_read_as_the_others_of_its_run(shell: Shell) -> None:
    folder = shell.folder / "md_300K" / "active_learning"
    hot = np.full((3, 3), 3.0)  # neither 300 K in Å/fs nor in Å/(100 fs)
    older_file(folder / "z.npz", velocities=hot)
    older_file(shell.folder / "alone" / "z.npz", velocities=hot)
    report = shell.json("frames", "list", folder)
    assert {event["velocity_unit"] for event in report["events"]} == {"mmml"}
    assert any("the unit of the other files of its folder" in note for note in report["notes"])
    assert "ambiguous" in shell.here("frames", "list", "alone", code=1).err
    report = shell.json("frames", "list", "alone", "--velocity-unit", "A/fs")
    assert report["events"][0]["velocity_unit"] == "A/fs"
