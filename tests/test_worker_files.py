"""The worker and queue files of a working folder, as FireWorks reads them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import fireworks.fw_config
import pytest
from fireworks import FWorker, LaunchPad
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
from jinja2 import StrictUndefined, Template
from ruamel.yaml import YAML

WORKER = files("alfw.fw_templates").joinpath("worker")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with all files, made for a path with a blank."""
    folder = tmp_path / "my folder"
    folder.mkdir()
    for source in WORKER.iterdir():
        text = source.read_text(encoding="utf-8")
        if source.name.endswith(".in"):
            text = Template(text, undefined=StrictUndefined).render(folder=folder, bin="/venv/bin")
        (folder / source.name.removesuffix(".in")).write_text(text, encoding="utf-8")
    return folder


def settings(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return content


def test_each_stage_has_a_worker_and_one_takes_everything(folder: Path) -> None:
    workers = {path.stem: FWorker.from_file(str(path)) for path in folder.glob("my_fworker*.yaml")}
    categories = {"control", "md", "train", "qm"}
    assert {name: worker.category for name, worker in workers.items()} == {
        "my_fworker": "",
        **{f"my_fworker_{category}": category for category in categories},
    }
    assert "spec._category" not in workers["my_fworker"].query
    assert workers["my_fworker_qm"].query["spec._category"] == "qm"


def test_fireworks_knows_each_setting(folder: Path) -> None:
    config = settings(folder / "FW_config.yaml")
    assert all(hasattr(fireworks.fw_config, key) for key in config)
    assert (config["PING_TIME_SECS"], config["RUN_EXPIRATION_SECS"], config["RAPIDFIRE_SLEEP_SECS"]) == (
        60,
        300,
        5,
    )


def test_the_launchpad_file_is_local_without_a_password(folder: Path) -> None:
    for path in (folder / "my_launchpad.yaml", Path(__file__).parents[1] / "my_launchpad.yaml"):
        launchpad = LaunchPad.from_file(str(path))  # connects when it is used, not before
        assert (launchpad.host, launchpad.port, launchpad.name) == ("localhost", 27117, "alfw")
        assert launchpad.password is None
        launchpad.connection.close()


@pytest.mark.parametrize("name", ["my_qadapter", "my_qadapter_sge", "my_qadapter_pbs"])
def test_the_batch_script_ends_with_exec_so_that_sigterm_arrives(folder: Path, name: str) -> None:
    adapter = CommonAdapter.from_file(str(folder / f"{name}.yaml"))
    lines = [line for line in adapter.get_script_str("/launch").splitlines() if line]
    commands = [line for line in lines if not line.startswith("#")]
    assert commands == [
        f'export FW_CONFIG_FILE="{folder}/FW_config.yaml"',
        "cd /launch",
        f'exec "/venv/bin/rlaunch" -c "{folder}" -l "{folder}/my_launchpad.yaml" singleshot',
    ]
    limit = {"my_qadapter": "#SBATCH --time=04:00:00", "my_qadapter_sge": "#$ -l h_rt=04:00:00"}
    assert limit.get(name, "#PBS -l walltime=04:00:00") in lines
    assert name != "my_qadapter" or "#SBATCH --signal=B:TERM@120" in lines
