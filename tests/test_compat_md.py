"""`python -m alfw.compat.run_production_md` and `jaxmd_dynamics`: the older system's flags, files and Python call."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write
from charged_toys import Charged
from shell import Shell
from toy_electrostatics import toy

from alfw.compat import jaxmd_dynamics, run_production_md
from alfw.compat._dynamics import Dynamics
from alfw.compat.jaxmd_dynamics import KEYS, run_jaxmd_simulation
from alfw.core.errors import AlfwError, ConfigError
from alfw.core.records import Labeled, Resources, TrainingData
from alfw.core.units import AMU_A2_PER_FS2_eV, KB_eV_PER_K
from alfw.models.ensemble import write_ensemble
from alfw.samplers.jaxmd import JaxMDSampler

CO2 = Charged({6: 0.7, 8: -0.35}, 90.0, 1.1658, 1.6)
HCl = Charged({1: 0.2, 17: -0.2}, 30.0, 1.27, 5.0)
DEFAULTS: dict[Any, dict[str, Any]] = {
    run_production_md: {
        **{"molecule": "CO2", "geometry": None, "output_dir": Path("production_md"), "ensemble": "nve"},
        **{"temperature": 300.0, "nsteps": 500000, "equilibration_steps": 0, "analyze_ir": False},
        **{"convert_to_ase": True, "timestep": 0.5},  # the seed's 0.01 fs were 1 fs
    },
    jaxmd_dynamics: {
        **{"molecule": "CO2", "output_dir": Path("jaxmd_sim"), "ensemble": "nvt", "temperature": 300.0},
        **{"timestep": 0.5, "nsteps": 100000, "save_interval": 10, "cutoff": 10.0, "friction": 0.01},
        **{"tau_t": 100.0, "equilibration_steps": 2000, "seed": 42, "multi_replicas": 1},
        **{"multi_ensemble": "nvt", "multi_translation": 25.0},
    },
}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a command here, in a fresh folder, on toy molecules instead of a checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ckpt").mkdir()
    for module in (run_production_md, jaxmd_dynamics):
        monkeypatch.setattr(module, "load_models", lambda paths: CO2)

    def run(module: Any, line: str) -> None:
        assert module.work(module.parser().parse_args(["--checkpoint", "ckpt", *line.split()])) == 0

    return run


@pytest.mark.parametrize("module", DEFAULTS)
def test_defaults_are_the_older_systems(module):
    given = vars(module.parser().parse_args(["--checkpoint", "x"]))
    assert {key: given[key] for key in DEFAULTS[module]} == DEFAULTS[module]


def options(**more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"ensemble": "nvt", "integrator": None, "temperature": 300.0, "timestep": 0.5}
    return Dynamics(**{**base, "nsteps": 100, "save_interval": 10, **more}).options()


def test_flags_are_options_of_the_sampler():
    langevin = options(friction=0.01, equilibration_steps=50)
    assert langevin["friction_per_ps"] == pytest.approx(10.0)
    assert langevin["n_steps"] == 150 and langevin["equilibration_steps"] == 50
    chain = options(integrator="nose-hoover", tau_t=40.0)
    assert (chain["thermostat"], chain["tau_fs"]) == ("nose-hoover", 40.0)
    nve = options(ensemble="nve", integrator="langevin", equilibration_steps=50)
    assert "friction_per_ps" not in nve and nve["n_steps"] == 100
    for found in (langevin, chain, nve):
        limits = JaxMDSampler.model_validate({"kind": "jaxmd", **found}).limits
        assert limits.max_force_eV_per_A == 10.0 and limits.max_speed_A_per_fs == 1.0
        assert limits.max_growth_A == 100.0 and found["high_force"]["max_force_eV_per_A"] == 5.0


@pytest.mark.parametrize("integrator", ["berendsen", "velocity-rescale"])
def test_what_samples_no_ensemble_is_replaced_and_it_is_said(integrator):
    asked = Dynamics("nvt", integrator, 300.0, 0.5, 100, 10, tau_t=50.0)
    assert asked.options()["friction_per_ps"] == pytest.approx(20.0)
    [note] = asked.notes()
    assert "no known ensemble" in note and "20/ps takes its place" in note


def test_a_temperature_needs_a_thermostat():
    with pytest.raises(ConfigError, match="velocity-verlet keeps the energy: --ensemble nve"):
        options(integrator="velocity-verlet")


def test_a_production_run_has_the_files_of_the_document(command, capsys):
    command(run_production_md, "--nsteps 400 --analyze-ir --output-dir md --temperature 50")
    said = capsys.readouterr()
    assert "--timestep 0.5 fs: true femtoseconds" in said.err and "0.01 fs were 1 fs" in said.err
    assert "--save-interval 4: every 2 fs, for the spectrum" in said.err
    names = {path.name for path in Path("md").iterdir()}
    assert names >= {"trajectory.npz", "jaxmd_nve_results.png", "trajectory.traj", "CO2_optimized.xyz"}
    assert names >= {"ir_spectrum_md.png", "summary.json"}
    with np.load("md/trajectory.npz") as file:
        assert set(KEYS) <= set(file.files)
        assert file["trajectory"].shape == (100, 3, 3) and file["times"][-1] == 200.0
        kinetic = 0.5 * AMU_A2_PER_FS2_eV * (file["masses"][:, None] * file["velocities"] ** 2).sum((1, 2))
        # without drift of the molecule
        assert file["temperatures"] == pytest.approx(2 * kinetic / (6 * KB_eV_PER_K), rel=1e-3)
        assert np.ptp(file["energies"]) < 1e-3
    assert len(read("md/trajectory.traj", index=":")) == 100
    assert json.loads(Path("md/summary.json").read_text())["explosions_per_ns"] == 0
    assert "explosions: 0" in said.out
    with pytest.raises(ConfigError, match="md: has a run already: --force replaces it"):
        command(run_production_md, "--nsteps 10 --output-dir md")


@pytest.mark.slow
def test_what_can_be_left_out_and_another_geometry(command, capsys, monkeypatch):
    monkeypatch.setattr(run_production_md, "load_models", lambda paths: HCl)
    write("hcl.xyz", molecule("HCl"))
    command(
        run_production_md,
        "--geometry hcl.xyz --nsteps 40 --save-interval 8 --no-convert-to-ase --no-analyze-ir --ensemble nvt"
        " --integrator nose-hoover --equilibration-steps 8 --output-dir md",
    )
    names = {path.name for path in Path("md").iterdir()}
    assert "trajectory.traj" not in names and not any(name.startswith("ir_") for name in names)
    assert {"HCl_optimized.xyz", "jaxmd_nvt_results.png"} <= names
    with np.load("md/trajectory.npz") as file:
        assert file["steps"].tolist() == [16, 24, 32, 40, 48]


@pytest.mark.slow
def test_copies_of_a_molecule(command):
    command(
        jaxmd_dynamics,
        "--nsteps 20 --equilibration-steps 0 --save-interval 5 --multi-replicas 3 --output-dir md",
    )
    with np.load("md/multi_copy_traj_3x.npz") as file:
        assert file["positions"].shape == (4, 3, 3, 3)
    with np.load("md/multi_copy_metadata.npz") as file:
        assert file["num_replicas"] == 3 and file["energies"].shape == (4, 3) and file["timestep_fs"] == 0.5
        assert file["multi_ensemble"] == "nvt" and file["atomic_numbers"].tolist() == [6, 8, 8]
    assert Path("md/trajectory_0002.npz").is_file() and Path("md/jaxmd_nvt_results.png").is_file()


def test_the_python_call_gives_the_trajectory_and_saves_what_failed(tmp_path):
    start = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.5]])
    events = tmp_path / "my_al_data"
    found = run_jaxmd_simulation(
        HCl, None, start, [1, 17], [2.014, 35.45], np.eye(3) * 50, ensemble="nve", nsteps=200, save_interval=1,
        timestep=0.2, temperature=10.0, save_unstable_structures=True, active_learning_dir=events,
    )  # fmt: skip
    assert set(KEYS) <= set(found)
    assert found["masses"].tolist() == [2.014, 35.45]
    assert found["trajectory"].shape == found["velocities"].shape == (200, 2, 3)
    # 30 eV/Å² · 0.23 Å = 6.9 eV/Å: above the warning, below the explosion
    saved = [np.load(path) for path in events.glob("high_force_*.npz")]
    assert saved and not list(events.glob("unstable_*.npz"))
    assert all(file["reason"] == "high_force" and file["max_force"] > 3.0 for file in saved)
    assert [path.name for path in tmp_path.iterdir()] == [
        "my_al_data"
    ]  # no output_dir: nothing else is written


def test_the_python_call_refuses_what_it_cannot_use(tmp_path):
    with pytest.raises(ConfigError, match=r"params: alfw's models have their weights.*--trust"):
        run_jaxmd_simulation(HCl, {"params": 1}, [[0, 0, 0]], [1])
    with pytest.raises(ConfigError, match="positions and atomic_numbers are needed"):
        run_jaxmd_simulation(HCl)
    (tmp_path / "best_params.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(AlfwError, match=r"never loaded as a model.*alfw convert checkpoint --trust"):
        run_jaxmd_simulation(tmp_path, positions=[[0, 0, 0]], atomic_numbers=[1])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--nsteps 0", "n_steps: must be greater than 0"),
        ("--molecule CH4", "--molecule CH4: known are CO2, H2O; others by --geometry"),
        ("--ensemble nvt --integrator velocity-verlet", "velocity-verlet keeps the energy"),
        ("--geometry nowhere.xyz", "nowhere.xyz: no such file"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(command, line, said):
    with pytest.raises(AlfwError, match=said):
        command(run_production_md, line)


# The line of the document, but for the number of steps.
PRODUCTION = "--checkpoint ./retrained --nsteps 400 --analyze-ir --output-dir ./test_retrained"


@pytest.mark.slow
def test_the_lines_of_the_document(tmp_path):
    """A small PhysNet that knows little: it runs, explodes, and what failed is listed."""
    physnet_water = pytest.importorskip("physnet_water")
    model = physnet_water.PhysNetModel(
        **physnet_water.TINY, training={"epochs": 100, "batch_size": 10, "learning_rate": 5e-3}
    )
    items = [Labeled(item.frame, item.label) for item in (toy("CO2", i) for i in range(50))]
    data = TrainingData(items[:40], items[40:])
    weights = model.train(data, 0, None, tmp_path / "work", Resources())
    write_ensemble(tmp_path / "retrained", [weights], model=model.model_dump(mode="json"))
    shell = Shell(tmp_path)
    said = shell.compat("run_production_md", *PRODUCTION.split())
    assert "true femtoseconds" in said.err
    # where it explodes at once there is no spectrum, and that is said
    assert "infrared, physnet: strongest at" in said.out or "none, the run ended too soon" in said.err
    summary = json.loads((tmp_path / "test_retrained" / "summary.json").read_text())
    listed = shell.compat("active_learning_manager", *["--source", "./test_retrained/active_learning", "--list"],
                          code=0 if summary["n_events"] else 1)  # fmt: skip
    if summary["n_events"]:
        assert f"Total structures: {summary['n_events']}" in listed.out
