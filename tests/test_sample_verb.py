"""`alfw sample`: exploration from files into a folder; what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write
from charged_toys import Charged
from sampler_toys import Toy
from shell import Shell
from validation_toys import untrained

from alfw.core.errors import ConfigError, DataError
from alfw.core.frame import Frame
from alfw.core.spectrum import C_CM_PER_FS
from alfw.core.units import AMU_A2_PER_FS2_eV, KB_eV_PER_K
from alfw.io.frames import read_frames
from alfw.io.multi_copy import METADATA, multi_copy, write_multi_copy
from alfw.io.trajectory_npz import read_trajectory
from alfw.steps.md_spectrum import Infrared, read_spectra
from alfw.steps.sample_files import Explored, sample_files
from alfw.steps.sample_run import Run, make_sampler

SPRING, LENGTH, CHARGE = 30.0, 1.63, 0.2
CHLORINE_FLUORIDE = Frame([9, 17], [[0, 0, 0], [0, 0, LENGTH]])
POTENTIAL = Charged({9: -CHARGE, 17: CHARGE}, SPRING, LENGTH, 5.0)
OPTIONS: dict[str, Any] = {
    **{"kind": "jaxmd", "ensemble": "nve", "temperatures_K": [20.0], "walkers": 3},
    **{"dt_fs": 1.0, "n_steps": 4000, "keep_every": 2, "high_force": {"quantile": None}},
}


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Explored]:
    """A run at constant energy of three cold diatomics, with its spectrum."""
    folder = tmp_path_factory.mktemp("md") / "cold"
    run = Run(
        *(POTENTIAL, make_sampler(OPTIONS), [CHLORINE_FLUORIDE]),
        seed=1,
        infrared=Infrared(resolution_per_cm=20.0),
        trajectory="traj",
    )
    return folder, sample_files(run, folder)


def test_a_run_is_a_folder(cold):
    folder, found = cold
    summary = json.loads((folder / "summary.json").read_text())
    trajectories = [f"trajectory_{w:04d}.{kind}" for w in range(3) for kind in ("npz", "traj")]
    pictures = ["results.png", "ir_spectrum_md.png", "ir_spectrum_md.csv", "ir_spectrum_md.npz"]
    assert summary["files"] == sorted([*trajectories, *pictures, "pool.extxyz", "summary.json"])
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == summary["files"]
    assert {p.name for p in folder.parent.iterdir()} == {"cold"}  # nothing half done beside it
    assert len(read_frames(folder / "pool.extxyz")) == 6000 == summary["n_frames"]
    assert summary == found.summary


def test_the_summary_says_how_stable_it_was(cold):
    summary = cold[1].summary
    assert summary["n_explosions"] == 0 and summary["simulated_ns"] == pytest.approx(0.012)
    assert summary["explosions_per_ns"] == summary["explosions_per_ns_lower"] == 0
    assert summary["explosions_per_ns_upper"] == pytest.approx(3.0 / 0.012, rel=0.01)  # the rule of three
    assert summary["median_ps"] is None and summary["median_text"] == "> 4 ps"
    # velocity Verlet keeps the energy: kT is 1.7 meV here
    assert abs(summary["energy_drift_largest_eV_per_atom_per_ps"]) < 1e-6
    assert summary["energy_fluctuation_eV_per_atom"] < 2e-5


def test_the_trajectory_is_in_the_keys_of_the_older_system_and_in_true_units(cold):
    folder, found = cold
    with np.load(folder / "trajectory_0001.npz") as file:
        arrays = {key: file[key] for key in file.files}
    assert arrays["trajectory"].shape == arrays["velocities"].shape == (2000, 2, 3)
    for key in ("times", "energies", "temperatures"):
        assert arrays[key].shape == (2000,)
    assert arrays["dipoles_physnet"].shape == arrays["dipoles_dcmnet"].shape == (2000, 3)
    assert arrays["timestep"] == 1.0 and arrays["times"][0] == 2.0
    x, v, masses = (arrays[key] for key in ("trajectory", "velocities", "masses"))
    # velocities are Å/fs: what the positions do, by central differences
    middle = (x[2:] - x[:-2]) / (2 * 2.0)
    assert np.abs(v[1:-1] - middle).max() < 0.05 * np.abs(v).max()
    r = np.linalg.norm(x[:, 1] - x[:, 0], axis=1)
    kinetic = 0.5 * AMU_A2_PER_FS2_eV * (masses[:, None] * v**2).sum((1, 2))
    assert arrays["energies"] == pytest.approx(kinetic + SPRING / 2 * (r - LENGTH) ** 2, abs=2e-6)
    assert arrays["temperatures"] == pytest.approx(2 * kinetic / (3 * KB_eV_PER_K), rel=1e-3)
    assert np.linalg.norm(arrays["dipoles_physnet"], axis=1) == pytest.approx(CHARGE * r, rel=1e-5)


def test_a_trajectory_comes_back(cold):
    folder, found = cold
    again = read_trajectory(folder / "trajectory_0002.npz")
    track = found.tracks[2]
    assert again.walker == 2 and again.dt_fs == 1.0 and len(again) == len(track)
    assert np.array_equal(again.positions, track.positions)
    assert again.total_eV == pytest.approx(track.total_eV)
    frames = read_frames(folder / "trajectory_0002.npz")
    assert [item.frame.id for item in frames[::500]] == [track.frame(i).id for i in range(0, 2000, 500)]
    atoms = read(folder / "trajectory_0002.traj", index=10)
    assert atoms.get_potential_energy() + atoms.get_kinetic_energy() == pytest.approx(
        track.total_eV[10], abs=1e-6
    )


def test_the_spectrum_has_the_band_where_it_is_known(cold):
    folder, found = cold
    a, b = CHLORINE_FLUORIDE.masses
    omega = np.sqrt(SPRING * (a + b) / (a * b) / AMU_A2_PER_FS2_eV)
    expected = omega / (2 * np.pi * C_CM_PER_FS)
    spectra = read_spectra(folder / "ir_spectrum_md.npz")
    assert set(spectra) == {"physnet", "dcmnet"}
    place, _ = next(peak for peak in spectra["physnet"].peaks() if peak[0] > 300)
    assert abs(place - expected) < spectra["physnet"].resolution_per_cm / 2
    low, high = expected - 100, expected + 100
    assert spectra["dcmnet"].band(low, high) == pytest.approx(
        spectra["physnet"].band(low, high) / 4, rel=1e-6
    )
    csv = (folder / "ir_spectrum_md.csv").read_text().splitlines()
    assert csv[1] == "wavenumber_per_cm,intensity_physnet,intensity_dcmnet"
    assert len(csv) == 2 + len(spectra["physnet"].wavenumber_per_cm)
    assert found.summary["infrared"]["source"].startswith("doi:") and found.summary["notes"] == []


def test_warnings_are_said_before_anything_runs():
    sampler = make_sampler(
        OPTIONS | {"ensemble": "nvt", "friction_per_ps": 5.0, "dt_fs": 1.0, "keep_every": 5, "walkers": 1000}
    )
    run = Run(POTENTIAL, sampler, [CHLORINE_FLUORIDE], infrared=Infrared())
    memory, folded, friction = run.warnings()
    assert "800000 frames are kept in memory" in memory
    assert "every 5 fs show up to 3336 1/cm" in folded
    assert "5/ps widens every band by about 27 1/cm" in friction


def test_a_run_that_is_too_short_for_its_resolution_says_so(cold):
    _, found = cold
    [line] = Infrared(resolution_per_cm=1.0).warnings(2.0, None, found.spectra["physnet"])
    assert "too short for 1 1/cm" in line


@pytest.mark.slow
def test_explosions_are_counted_and_saved(tmp_path):
    """Two atoms on a spring that are pulled far out: their force is beyond the limit."""
    start = Frame([1, 1], [[0, 0, 0], [0, 0, 1.4]])
    options = OPTIONS | {
        "walkers": 4,
        "n_steps": 200,
        "temperatures_K": [2000.0],
        "limits": {"max_force_eV_per_A": 10.0},
    }
    run = Run(Toy("bond", [[15.0, 0.74]], 5.0, (1,)), make_sampler(options), [start], pool="npz")
    summary = sample_files(run, tmp_path / "run").summary
    assert summary["n_explosions"] > 0 and set(summary["causes"]) <= {"force", "speed", "distance"}
    assert summary["median_ps"] is not None and summary["explosions_per_ns_lower"] > 0
    assert len(list((tmp_path / "run" / "active_learning").glob("unstable_*.npz"))) == summary["n_explosions"]
    assert "pool.npz" in summary["files"]


def test_no_spectrum_without_dipole_moments(tmp_path):
    plain = Toy("bond", [[30.0, 0.74]], 5.0, (1,))
    run = Run(plain, make_sampler(OPTIONS), [Frame([1, 1], [[0, 0, 0], [0, 0, 0.74]])], infrared=Infrared())
    object.__setattr__(plain, "dipole", None)
    with pytest.raises(ConfigError, match="Toy has no dipole moment: train one that has charges"):
        sample_files(run, tmp_path / "run")
    cell = Frame([9, 17], [[0, 0, 0], [0, 0, 1.6]], 9 * np.eye(3), [True] * 3)
    for starts, words in (
        ([cell], "a periodic frame"),
        ([CHLORINE_FLUORIDE, Frame([9], [[0, 0, 0]])], "one molecule"),
    ):
        with pytest.raises(ConfigError, match=words):
            Infrared().check(POTENTIAL, starts)
    assert not list(tmp_path.iterdir())


# --- the verb


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Two small networks that have learnt nothing, and two waters."""
    folder = tmp_path_factory.mktemp("sample")
    untrained(folder / "models", 2)
    for i in range(2):
        atoms = molecule("H2O")
        atoms.positions[0, 0] += 0.02 * i
        write(folder / f"water_{i}.xyz", atoms)
    return Shell(folder)


MD = ("--set", "temperatures_K=[100]", "--set", "walkers=2", "--set", "n_steps=20", "--set", "keep_every=5")


@pytest.mark.slow
def test_sample_from_the_command_line(shell):
    words = ("sample", "models", "--structures", "water_0.xyz", "water_1.xyz", *MD, "-o", "out")
    report = shell.json(*words)
    assert report["n_frames"] == 8 and report["starts"] == 2 and report["members"] == 2
    assert (shell.folder / "out" / "trajectory_0001.npz").is_file()
    assert "has a run already: --force replaces it" in shell.here(*words, code=1).line
    again = shell.here(*words, "--seed", "1", "--force", "--trajectory", "extxyz")
    assert "out: 2 walkers, 0.02 ps, 8 frames" in again.out
    assert len(read(shell.folder / "out" / "trajectory_0000.extxyz", index=":")) == 4
    other = shell.json(*words[:-1], "other")
    compared = shell.json("compare-md", "out", "other")
    assert compared["rate_p_value"] == 1.0 and compared["notes"] == []
    assert compared["runs"]["first"]["simulated_ns"] == other["simulated_ns"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "walkers=2"), "jaxmd.n_steps: missing"),
        ((*MD, "--set", "stepps=3"), "jaxmd.stepps: unknown key; did you mean n_steps?"),
        (("--sampler", "jazzmd"), "unknown sampler 'jazzmd'; known:"),
        ((*MD, "--set", "nonsense"), "--set nonsense: has to be KEY=VALUE"),
        ((*MD, "--set", "ensemble=nve", "--ir"), "--ir: NequixPotential has no dipole moment"),
    ],
)
def test_wrong_options_are_refused_in_one_line(shell, words, said):
    typed = shell.here("sample", "models", "--structures", "water_0.xyz", *words, "-o", "bad", code=1)
    assert said in typed.line
    assert not (shell.folder / "bad").exists()


@pytest.mark.parametrize(("given", "told"), [((), True), (("--set", "ensemble=nvt"), False)])
def test_spectra_are_of_constant_energy_unless_told_otherwise(shell, given, told):
    words = ("sample", "models", "--structures", "water_0.xyz", *MD, *given, "--ir", "-o", "bad")
    said = shell.here(*words, code=1).err  # these networks have no dipole moment
    assert ("at constant energy (ensemble=nve)" in said) is told


def test_frames_without_dynamics_are_a_pool(shell):
    rattle = ("--sampler", "rattle", "--set", "count=6", "--set", "std_A=[0.05]")
    words = ("sample", "models", "--structures", "water_0.xyz", "water_1.xyz", *rattle, "-o")
    report = shell.json(*words, "shaken")
    assert report["n_frames"] == 6 and report["files"] == ["pool.extxyz", "summary.json"]
    assert len(read_frames(shell.folder / "shaken" / "pool.extxyz")) == 6
    assert "has no time: --sampler jaxmd has" in shell.here(*words, "again", "--ir", code=1).line


def test_folders_of_others_are_left_alone(shell):
    (shell.folder / "mine").mkdir()
    (shell.folder / "mine" / "thesis.tex").write_text("")
    words = ("sample", "models", "--structures", "water_0.xyz", *MD, "-o", "mine", "--force")
    assert "has files that are not of such a run" in shell.here(*words, code=1).line
    assert (shell.folder / "mine" / "thesis.tex").exists()


# --- molecular dynamics files of the older system


def test_copies_in_two_files_come_back(cold, tmp_path):
    tracks = cold[1].tracks[:2]
    write_multi_copy(tmp_path, multi_copy(tracks, 3, {"temperature": 20.0}))
    with np.load(tmp_path / "multi_copy_traj_3x.npz") as file:
        assert file["positions"].shape == (2000, 3, 2, 3) and np.isnan(file["positions"][:, 2]).all()
    frames = read_frames(tmp_path / "multi_copy_traj_3x.npz")
    assert len(frames) == 4000
    assert {item.trajectory for item in frames} == {"multi_copy_traj_3x/w0", "multi_copy_traj_3x/w1"}
    (tmp_path / METADATA).unlink()
    with pytest.raises(DataError, match=r"multi_copy_metadata\.npz: cannot be read"):
        read_frames(tmp_path / "multi_copy_traj_3x.npz")


def test_rows_of_zeros_after_an_early_stop_are_left_out(tmp_path):
    """The older system's own file: no units, and zeros where it stopped."""
    positions = np.zeros((5, 2, 3), np.float32)
    positions[:3, 1, 2] = 1.6
    old = {
        "trajectory": positions,
        "times": np.arange(5.0),
        "atomic_numbers": [9, 17],
        "masses": [19.0, 35.5],
    }
    np.savez(tmp_path / "trajectory.npz", **old)
    assert len(read_frames(tmp_path / "trajectory.npz")) == 3
    with pytest.raises(DataError, match="no trajectory that alfw wrote: steps"):
        read_trajectory(tmp_path / "trajectory.npz")


@pytest.mark.parametrize(
    "change",
    [{"trajectory": np.zeros((5, 3, 3))}, {"atomic_numbers": np.array([9, {}], object)}, {"trajectory": "a"}],
)
def test_damaged_trajectories_are_refused(tmp_path, change):
    good = {"trajectory": np.ones((5, 2, 3)), "times": np.arange(5.0), "atomic_numbers": [9, 17]}
    np.savez(tmp_path / "trajectory.npz", allow_pickle=True, **{**good, **change})
    with pytest.raises(DataError, match=r"trajectory\.npz"):
        read_frames(tmp_path / "trajectory.npz")
