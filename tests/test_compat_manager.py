"""`active_learning_manager`, as the document of the PhysNet system has it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from data_sets import Desk, plain_npz, waters
from event_toys import ABOUT, FALLING, older_file
from labelling import fixture

from alfw.core.exploration import Event
from alfw.core.frame import Frame
from alfw.io.frames import read_frames
from alfw.steps.events import save_events

MANAGER = f"{sys.executable} -m alfw.compat.active_learning_manager"
FORCES = [5.12, 5.5, 6.0, 6.9, 7.0, 105.34]
# The block that users read and grep.
SUMMARY = """
======================================================================
ACTIVE LEARNING STRUCTURE SUMMARY
======================================================================
Total structures: 6

By failure reason:
  explosion: 1
  high_force: 5

By instability type:
  force: 1
  warning: 5

Max force statistics (eV/Å):
  Min: 5.12
  Max: 105.34
  Mean: 22.64
  Median: 6.45

Temperatures: [300.0] K

Molecule sizes: [3] atoms

Top 10 most challenging structures (by max force):
  1. unstable_20250102_143022_step114.npz: F_max=105.34 eV/Å (explosion, force)
  2. high_force_20250102_143045_step4.npz: F_max=7.00 eV/Å (high_force, warning)
  3. high_force_20250102_143045_step3.npz: F_max=6.90 eV/Å (high_force, warning)
  4. high_force_20250102_143045_step2.npz: F_max=6.00 eV/Å (high_force, warning)
  5. high_force_20250102_143045_step1.npz: F_max=5.50 eV/Å (high_force, warning)
  6. high_force_20250102_143045_step0.npz: F_max=5.12 eV/Å (high_force, warning)
"""
ADDITION = "\nMedian time to explosion: 5.7 ps (of those that exploded)\n"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """With what two runs of the older system saved."""
    for i, force in enumerate(FORCES[:-1]):
        folder = tmp_path / f"md_{i % 2}" / "active_learning"
        older_file(folder / f"high_force_20250102_143045_step{i}.npz", i, force=force)
    older_file(
        tmp_path / "md_0" / "active_learning" / "unstable_20250102_143022_step114.npz",
        9,
        "explosion",
        FORCES[-1],
    )
    return Desk(tmp_path)


@pytest.mark.slow
def test_the_lines_of_the_document(desk: Desk) -> None:
    """Typed in a shell, which expands the pattern; the second run of a model has nothing to list."""
    typed = desk.bash(f"{MANAGER} --source ./md_*/active_learning --list")
    assert typed.out == SUMMARY + ADDITION and "6 files have times in units of 100 fs" in typed.err
    line = "--export-xyz --deduplicate --min-force 3.0 --max-structures 100 --output ./qm_candidates"
    typed = desk.bash(f"{MANAGER} --source ./md_*/active_learning {line}")
    assert "unstable_20250102_143022_step114.npz: F_max 105.34 eV/Å, above" in typed.out
    names = sorted(path.name for path in (desk.folder / "qm_candidates").iterdir())
    assert names[:2] == ["structure_0000.json", "structure_0000.xyz"] and len(names) < 12
    about = json.loads((desk.folder / "qm_candidates" / "structure_0000.json").read_text())
    seed_keys = (
        "source",
        "max_force",
        "max_velocity",
        "temperature",
        "time_fs",
        "reason",
        "instability_type",
    )
    assert list(about)[:8] == [*seed_keys, "model_energy"]
    assert about["time_fs"] == 5700.0 and about["max_velocity"] < 0.02  # true units
    line = (
        "--xyz-dir ./qm_candidates --qm-software orca --method PBE0 --basis def2-TZVP --output ./orca_inputs"
    )
    desk.bash(f"{sys.executable} -m alfw.compat.prepare_qm_inputs {line}")
    assert (desk.folder / "orca_inputs" / "structure_0000.inp").is_file()
    (desk.folder / "test_retrained" / "active_learning").mkdir(parents=True)
    typed = desk.bash(f"{MANAGER} --source ./test_retrained/active_learning --list", code=1)
    assert "no structures in ./test_retrained/active_learning" in typed.err and not typed.out


def test_additions_come_after_the_summary(desk: Desk) -> None:
    good = Frame([1, 1], [[0, 0, 0], [0.8, 0, 0]])
    bad = good.moved(np.array([[0, 0, 0], [0.72, 0, 0]]))
    save_events(desk.folder / "new", [Event("force", 0, 40, 20.0, 300.0, good, bad, 31.0)], FALLING, ABOUT)
    out = desk.compat_here("active_learning_manager", "--source", "md_?/active_learning", "new", "--list").out
    assert "Total structures: 7" in out and "Molecule sizes: [2, 3] atoms" in out
    top, _, rest = out.partition("Explosions with their last good frame: 1")
    assert "  7. high_force" in top and "Models: " + "f" * 12 in rest
    flags = ("--source", "md_?/active_learning", "new", "--list", "--export-xyz", "--json")
    report = json.loads(desk.compat_here("active_learning_manager", *flags).out)
    assert report["list"]["n_events"] == 7 and report["export"]["n_exported"] == 6
    assert (desk.folder / "al_export").is_dir()  # the default of --output


def test_forces_and_the_older_order(desk: Desk) -> None:
    def sources(*flags: str) -> list[str]:
        line = (
            "--source",
            str(desk.folder / "md_*/active_learning"),
            "--export-xyz",
            "--force",
            "--json",
            *flags,
        )
        report = json.loads(desk.compat_here("active_learning_manager", *line).out)["export"]
        return [Path(each["source"]).stem.rpartition("step")[2] for each in report["structures"]]

    assert sources("--max-force", "1000", "--max-structures", "2", "--order", "force") == ["114", "4"]
    assert sources("--max-structures", "2", "--order", "force") == ["4", "3"]
    assert sorted(sources("--min-force", "5.9")) == ["2", "3", "4"]
    assert sources("--max-force", "5.3") == ["0"]
    assert len(sources("--deduplicate", "--rmsd-threshold", "0.001")) == 5
    listed = desk.compat_here(
        "active_learning_manager", "--source", "md_0/*", "--list", "--max-force", "100"
    ).out
    assert "Total structures: 3" in listed


def test_unreadable_files_are_counted(desk: Desk) -> None:
    (desk.folder / "md_0" / "active_learning" / "a.npz").write_bytes(b"PK nothing")
    older_file(desk.folder / "md_0" / "active_learning" / "b.npz", energy=np.array({"a": 1}))
    typed = desk.compat_here("active_learning_manager", "--source", "md_*/active_learning", "--list", code=2)
    assert "md_0/active_learning/a.npz: no NPZ file but damaged" in typed.err and "2 unreadable" in typed.err
    assert "b.npz: energy is a pickled object, which alfw never reads" in typed.err
    assert "Total structures: 6" in typed.out


def test_a_data_set_of_results(desk: Desk) -> None:
    """Of outputs of a QM program, good and cut off, without any --source; and of NPZ files."""
    good = fixture("orca/orca6_dvb_gopt.out")
    (desk.folder / "runs").mkdir()
    (desk.folder / "runs" / "structure_0000.out").write_bytes(good)
    (desk.folder / "runs" / "structure_0001.out").write_bytes(good[:2000])
    line = ("--create-dataset", "--qm-results", "runs/*.out", "--output", "set")
    typed = desk.compat_here("active_learning_manager", *line, code=2)
    assert "set/training_data.npz: " in typed.out and "runs/structure_0001.out: " in typed.out
    n = len(read_frames(desk.folder / "set" / "training_data.npz"))
    with np.load(desk.folder / "set" / "training_data.npz") as data:
        assert len(data["E"]) == n > 0 and json.loads(str(data["units"]))["E"] == "eV"
    plain_npz(desk.folder / "x.npz", waters(3))
    plain_npz(desk.folder / "y.npz", waters(2, seed=1))
    line = ("--create-dataset", "--qm-results", "x.npz", "y.npz", "--output", "both.npz")
    assert "both.npz: 5 structures of 2 files" in desk.compat_here("active_learning_manager", *line).out
    assert len(read_frames(desk.folder / "both.npz")) == 5


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--source md_0/active_learning", "nothing to do: --list, --export-xyz or --create-dataset"),
        ("--list", "--source is needed"),
        ("--create-dataset", "--create-dataset needs --qm-results"),
        ("--source nowhere --list", "no structures in nowhere"),
        ("--source md_0/active_learning --list --min-force 2000", "none of 4 has such a force"),
        ("--source md_0/active_learning --export-xyz --max-structures 0", "--max-structures 0: at least 1"),
        ("--source md_0/active_learning --list --velocity-unit km/h", "invalid choice"),
        ("--create-dataset --qm-results nowhere.out", "nowhere.out: no such file"),
    ],
)
def test_mistakes_cost_one_line(desk: Desk, flags: str, words: str) -> None:
    err = desk.compat_here("active_learning_manager", *flags.split(), code=1).err
    assert words in err.splitlines()[-1] and "Traceback" not in err
