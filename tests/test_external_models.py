"""Models in another interpreter: what goes wrong there, training by a command, the recipe for MACE, a campaign."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import campaigns
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import read
from processes import assert_ends
from ruamel.yaml import YAML

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.records import Resources, TrainingData
from alfw.models.ase import ASEModel
from alfw.steps.start import absolute_paths
from alfw.testing import example_data

HERE = Path(__file__).parent
RECIPES = Path(str(files("alfw.fw_templates"))) / "models"
COPPER = Frame.from_atoms(Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]]))
GOLD = Frame.from_atoms(Atoms("Au2", [[0, 0, 0], [2.5, 0, 0]]))


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other interpreter finds the toy calculators."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def external(toy: str, **options: Any) -> ASEModel:
    return ASEModel(kind="external", python=sys.executable, calculator=f"ase_model_toy:{toy}", **options)


def energy(frame: Frame) -> float:
    atoms = frame.to_atoms()
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())


def test_what_libraries_print_does_not_get_into_the_answers(tmp_path: Path) -> None:
    said = external("Chatty").load([tmp_path]).predict([COPPER, GOLD])
    assert said.energy[0] == pytest.approx([energy(COPPER), energy(GOLD)])


def test_a_crash_is_told_with_its_last_words_and_the_process_started_again(tmp_path: Path) -> None:
    potential = external("Crashing").load([tmp_path])
    with pytest.raises(TrainingError) as caught:
        potential.predict([COPPER, GOLD])
    words = "ended with status 134: before | CUDA error: an illegal memory access was encountered"
    assert str(caught.value).endswith(words) and "\n" not in str(caught.value)
    assert potential.predict([COPPER]).energy[0, 0] == pytest.approx(energy(COPPER))


def test_a_process_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    potential = external("Hanging", timeout_s=2.0).load([tmp_path])
    with pytest.raises(TrainingError, match=r"gave no answer in 2 s: it said nothing$"):
        potential.predict([GOLD])
    assert potential.predict([COPPER]).energy[0, 0] == pytest.approx(energy(COPPER))


def test_in_the_middle_of_a_batch_it_dies_with_its_parent_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = (
        "import sys; from pathlib import Path; from alfw.core.frame import Frame\n"
        "from alfw.models.ase import ASEModel\n"
        "model = ASEModel(kind='external', python=sys.executable, calculator='ase_model_toy:Hanging',"
        " kwargs={'pid': sys.argv[1]})\n"
        "potential = model.load([Path('x')]); print('loaded', flush=True)\n"
        "potential.predict([Frame([79], [[0.0, 0.0, 0.0]])])"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(pid)], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline() == b"loaded\n"
    child = int(pid.read_text())
    time.sleep(0.3)  # it has the batch by now
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert_ends(child)


def test_an_interpreter_without_numpy_is_told_in_a_line(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    model = ASEModel(kind="external", python=str(bare), calculator="ase.calculators.emt:EMT")
    with pytest.raises(TrainingError, match="ended with status 1: .*No module named 'numpy'$") as caught:
        model.load([tmp_path])
    assert "\n" not in str(caught.value)


def test_each_member_has_its_own_weights(tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.json" for k in range(3)]
    for k, path in enumerate(paths):
        path.write_text(json.dumps({"energy": float(k)}))
    model = external("FromFile", members=3, weights_option="path", train_command="true")
    assert model.load(paths).predict([COPPER, GOLD]).energy.tolist() == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]


def test_an_element_outside_its_species_is_named(tmp_path: Path) -> None:
    potential = external("Chatty", species=(1, 29)).load([tmp_path])
    with pytest.raises(TrainingError, match=r"does not know Au .its `species` are H, Cu.: label frames"):
        potential.predict([COPPER, GOLD])


def test_the_training_command_gets_what_it_names(tmp_path: Path) -> None:
    names = ("train", "valid", "seed", "start", "weights", "threads", "device", "python", "recipes")
    script = tmp_path / "tell.py"
    script.write_text("import json, sys\njson.dump(sys.argv[1:], open(sys.argv[5], 'w'))")
    command = f"{{python}} {script} " + " ".join(f"{{{name}}}" for name in names)
    model = external("FromFile", weights_option="path", weights="w.json", train_command=command)
    data, before = example_data(count=6), tmp_path / "before.model"
    work = tmp_path / "with space"
    path = model.train(data, 5, before, work, Resources(device="gpu", threads=3))
    given = dict(zip(names, json.loads(path.read_text()), strict=True))
    assert given == {
        **{"train": "train.extxyz", "valid": "valid.extxyz", "seed": "5", "weights": "w.json"},
        **{"start": str(before), "threads": "3", "device": "gpu"},
        **{"python": sys.executable, "recipes": str(RECIPES)},
    }
    assert [len(read(work / f"{side}.extxyz", ":")) for side in ("train", "valid")] == [4, 2]
    model.train(TrainingData(data.train), 5, None, work, Resources())
    assert (work / "valid.extxyz").read_text() == ""


FAKE_MACE = """
import json, os, shutil, sys
from ase.io import read
given = dict(a[2:].split("=", 1) for a in sys.argv[1:] if "=" in a)
frames = {key: read(given[key + "_file"], ":") for key in ("train", "valid")}
keys = [sorted({*a.info, *a.arrays} & {"REF_energy", "REF_forces", "REF_stress"}) for a in frames["train"]]
if given["name"] == "fail":
    sys.exit("RuntimeError: no luck")
told = {"given": given, "keys": keys, "n": {k: len(f) for k, f in frames.items()}, "argv": sys.argv[1:]}
json.dump(told, open(os.path.join(given["model_dir"], given["name"] + ".model"), "w"))
"""


@pytest.fixture
def fake_mace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mace_run_train that only tells what it was given."""
    package = tmp_path / "fake" / "mace" / "cli"
    package.mkdir(parents=True)
    (package / "run_train.py").write_text(FAKE_MACE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'fake'}:{HERE}")


def recipe(**changes: Any) -> ASEModel:
    options = YAML(typ="safe").load((RECIPES / "mace.yaml").read_text())["model"]
    text = json.dumps(options).replace(">>mace_python<<", sys.executable).replace(">>mace_device<<", "cpu")
    return ASEModel(**{**json.loads(text), **changes})


@pytest.mark.usefixtures("fake_mace")
def test_the_recipe_for_mace_gives_it_what_it_needs(tmp_path: Path) -> None:
    model = recipe(species=(29, 79))
    data = example_data(count=6)
    told = json.loads(model.train(data, 2**40 + 3, None, tmp_path / "a", Resources(device="gpu")).read_text())
    assert told["n"] == {"train": 4, "valid": 2} and told["keys"][0] == ["REF_energy", "REF_forces"]
    given = told["given"]
    assert given["seed"] == "3" and given["device"] == "cuda" and given["E0s"] == "average"
    assert given["default_dtype"] == "float64" and given["compute_stress"] == "False"
    assert told["argv"][told["argv"].index("--num_channels") + 1] == "64"
    crystals = TrainingData([item for item in data.train if item.label.stress is not None])
    told = json.loads(model.train(crystals, 0, None, tmp_path / "b", Resources()).read_text())
    assert told["keys"] == [["REF_energy", "REF_forces", "REF_stress"]]
    assert told["n"]["train"] == told["n"]["valid"] == 1  # no valid side: its best epoch on the train side
    assert told["given"]["compute_stress"] == "True" and "foundation_model" not in told["given"]
    command = model.train_command.replace("{start}", "small")
    told = json.loads(
        recipe(train_command=command).train(data, 0, None, tmp_path / "c", Resources()).read_text()
    )
    assert told["given"]["foundation_model"] == "small" and told["given"]["multiheads_finetuning"] == "False"
    with pytest.raises(TrainingError, match="ended with status 1: .*RuntimeError: no luck"):
        recipe(train_command=command + " --name=fail").train(data, 0, None, tmp_path / "d", Resources())


def test_mace_itself(tmp_path: Path) -> None:
    python = os.environ.get("ALFW_TEST_MACE_PYTHON")
    if not python:
        pytest.skip("needs an interpreter with mace-torch: set ALFW_TEST_MACE_PYTHON to its path")
    model = recipe(python=python, species=(29, 79), members=1)
    small = "--r_max 4.0 --num_channels 4 --max_L 0 --max_num_epochs 2 --batch_size 4"
    model = model.model_copy(
        update={"train_command": model.train_command.partition("-- ")[0] + "-- " + small}
    )
    data = example_data()
    weights = model.train(data, 0, None, tmp_path, Resources())
    said = model.load([weights]).predict([item.frame for item in data.valid])
    assert np.isfinite(said.energy).all() and said.energy.shape == (1, 4)


def external_campaign(folder: Path, **more: Any) -> campaigns.CampaignConfig:
    """The crystal campaign with springs for a model, that explores frames from a file."""
    raw = campaigns.raw_copper(folder)
    command = "{python} " + str(HERE / "ase_model_toy.py") + " {train} {valid} {seed} {start} {weights}"
    raw["model"] = {
        **{"kind": "external", "members": 2, "python": sys.executable, "calculator": "ase_model_toy:Springs"},
        **{"train_command": command, "weights_option": "path", "weights": "springs.json"},
        **more,
    }
    atoms = read(folder / "initial.extxyz", 0)
    frames = []
    for seed in range(12):
        copy = atoms.copy()
        copy.rattle(0.08, seed=seed)
        frames.append(copy)
    from ase.io import write

    write(folder / "pool.extxyz", frames)
    raw["sample"] = [{"kind": "files", "paths": [str(folder / "pool.extxyz")], "unbiased": True}]
    return campaigns.CampaignConfig(absolute_paths(raw, folder))


@pytest.mark.slow
def test_a_campaign_with_an_external_model_starts_each_member_from_itself(
    launchpad: Any, tmp_path: Path
) -> None:
    store = campaigns.begin(launchpad, external_campaign(tmp_path, warm_start=True))
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, "copper")
    trained = [
        [
            json.loads(store.get_blob(store.get_result("copper", r, "train", k)["outputs"]["member"]))
            for k in (0, 1)
        ]
        for r in (0, 1)
    ]
    assert not any(member["warm"] for member in trained[0]) and all(member["warm"] for member in trained[1])
    for before, after in zip(*trained, strict=True):
        assert after["k"] == pytest.approx(before["k"] + 0.01) and after["n"] > before["n"]
    assert trained[0][0]["k"] != trained[0][1]["k"]
    select = store.get_result("copper", 1, "select", 0)
    assert select["counts"]["n_selected"] > 0
