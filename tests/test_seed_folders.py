"""`alfw init --template nequix-al` and `physnet`: the scripts of the older systems, their lines typed as they were."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule
from shell import Shell

from alfw.cli.folder import SCRIPTS, make_folder
from alfw.config import CampaignConfig
from alfw.io.files import write_file


@pytest.fixture(params=SCRIPTS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """A folder of this template, and the interpreter of this environment as `python`."""
    make_folder(tmp_path / "work", request.param)
    shell = Shell(tmp_path / "work")
    shell.path(Path(sys.executable).parent)
    shell.template = request.param
    return shell


def test_the_campaign_of_the_template_is_valid(shell: Shell) -> None:
    from ruamel.yaml import YAML

    raw = YAML(typ="safe").load(shell.folder / "campaign.yaml")["campaign"]
    assert CampaignConfig(raw).name == shell.template
    assert len(ase.io.read(shell.folder / "initial.extxyz", ":")) >= 8


def test_every_script_knows_its_flags(shell: Shell) -> None:
    for name in SCRIPTS[shell.template]:
        program = "bash" if name.endswith(".sh") else "python"
        said = shell(program, name, "--help")
        assert f"alfw.compat.{Path(name).stem}" in said.out


def test_lines_of_the_documents(tmp_path: Path) -> None:
    make_folder(tmp_path / "a", "nequix-al")
    shell = Shell(tmp_path / "a")
    shell.path(Path(sys.executable).parent)
    ase.io.write(shell.folder / "water.xyz", molecule("H2O"))
    row = {"E_mean": 0.0, "E_var": 0.0, "F_mean": [], "F_var": 0.0, "index": 0, "force_std_max": 0.1}
    rows = [{**row, "source": "water.xyz", "frame": 0}]
    write_file(shell.folder / "ensemble_results.json", json.dumps(rows).encode())
    line = "--ensemble ensemble_results.json --threshold 0.08 --output selected_structures/"
    said = shell.bash(f"python select_high_uncertainty.py {line}")
    assert "1 of 1 structures, threshold 0.08 eV/Å" in said.out
    make_folder(tmp_path / "b", "physnet")
    shell = Shell(tmp_path / "b")
    shell.path(Path(sys.executable).parent)
    (shell.folder / "qm_candidates").mkdir()
    ase.io.write(shell.folder / "qm_candidates" / "structure_0000.xyz", molecule("CO2"))
    flags = (
        "--xyz-dir ./qm_candidates --qm-software orca --method PBE0 --basis def2-TZVP --output ./orca_inputs"
    )
    shell.bash(f"python prepare_qm_inputs.py {flags}")
    assert "PBE0" in (shell.folder / "orca_inputs" / "structure_0000.inp").read_text()
    said = shell.bash(
        "python -c 'from jaxmd_dynamics import run_jaxmd_simulation as run; print(run.__module__)'"
    )
    assert said.out.startswith("alfw.compat.")
