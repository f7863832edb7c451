"""What a user may do wrong with models: each mistake is told in one line that names it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

import alfw
from alfw.cli.app import main
from alfw.core.errors import AlfwError, PluginError, SamplingError, TrainingError
from alfw.core.frame import Frame
from alfw.core.records import Labeled, Resources, TrainingData
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.models.ase import ASEModel
from alfw.models.ensemble import load_models
from alfw.models.nequix import NequixModel
from alfw.models.physnet import PhysNetModel
from alfw.samplers.jaxmd import JaxMDSampler
from alfw.testing import example_data

TINY = NequixModel(hidden_irreps="4x0e + 2x1o", n_layers=2, radial_mlp_size=8, members=2)
STATISTICS = {"species": [29, 79], "E0_eV": {"29": -1.0, "79": -2.0}, "scale_eV": 1.5, "avg_n_neighbors": 9.0}
SMALL = PhysNetModel(
    **dict.fromkeys(("physnet_features", "dcmnet_features", "physnet_basis", "dcmnet_basis"), 8),
    **{"physnet_iterations": 1, "physnet_n_res": 1, "n_dcm": 1, "max_degree": 1, "members": 2},
    training={"epochs": 1, "batch_size": 4},
)
COMMAND = ASEModel(
    calculator="ase_model_toy:Springs",
    weights_option="path",
    train_command=f"{sys.executable} -c 'raise SystemExit(9)'",
)
DATA = example_data(periodic=False, count=6)
CLUSTER, SILVER = DATA.train[0].frame, Frame([47, 29], [[0, 0, 0], [2.4, 0, 0]])
SLOW = pytest.mark.slow
TRAINERS = [
    pytest.param(TINY, id="nequix"),
    pytest.param(SMALL, id="physnet"),
    pytest.param(COMMAND, id="ase"),
]


def one_line(error: Any) -> str:
    """The message of what was caught."""
    text = str(error.value)
    assert text and "\n" not in text
    return text


@pytest.fixture(scope="module")
def nequix(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("nequix")
    return [TINY.initialise(STATISTICS, seed, folder / str(seed)) for seed in range(2)]


@pytest.fixture(scope="module")
def physnet(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    pytest.importorskip("e3x", reason="needs e3x: pip install 'alfw[physnet]'")
    from alfw.models import _physnet_files

    folder = tmp_path_factory.mktemp("physnet")
    data = replace(DATA, valid=(), statistics=SMALL.statistics(DATA))
    path = SMALL.train(data, 0, None, folder, Resources())
    sizes, params, reference = _physnet_files.load(path)
    _physnet_files.save(folder / "other.npz", sizes, params, {z: 0.0 for z in reference})
    return [path, path, folder / "other.npz"]


# Training ---------------------------------------------------------------------------------------------------------


def without_forces(item: Labeled) -> Labeled:
    return replace(item, label=replace(item.label, forces=None))  # type: ignore[arg-type]


def one_force(item: Labeled) -> Labeled:
    return replace(item, label=replace(item.label, forces=np.zeros((1, 3))))


def bad(name: str, value: Any) -> Callable[[Labeled], Labeled]:
    return lambda item: replace(item, label=replace(item.label, **{name: value}))


LABELS: dict[str, tuple[Callable[[Labeled], Labeled], str]] = {
    "no forces": (without_forces, "has no forces of its"),
    "one force for all": (one_force, "has no forces of its"),
    "energy NaN": (bad("energy", float("nan")), "is not finite"),
    "force infinite": (lambda i: bad("forces", i.label.forces * np.inf)(i), "is not finite"),
    "dipole NaN": (bad("dipole", np.full(3, np.nan)), "is not finite"),
}


@pytest.mark.parametrize("model", TRAINERS)
@pytest.mark.parametrize("side", ["train", "valid"])
@pytest.mark.parametrize("fault", LABELS)
def test_labels_that_cannot_be_trained_on(model: Any, side: str, fault: str, tmp_path: Path) -> None:
    change, words = LABELS[fault]
    statistics = TINY.statistics(DATA)
    items = [change(getattr(DATA, side)[0]), *getattr(DATA, side)[1:]]
    data = replace(DATA, **{side: items, "statistics": statistics})
    with pytest.raises(TrainingError, match=words) as caught:
        model.train(data, 0, None, tmp_path, Resources())
    assert items[0].frame.id[:12] in one_line(caught)


@pytest.mark.parametrize("model", TRAINERS)
def test_nothing_to_train_on(model: Any, tmp_path: Path) -> None:
    empty = TrainingData((), DATA.valid)
    with pytest.raises(TrainingError, match="no training labels: add labelled frames to the train side"):
        model.statistics(empty)
    with pytest.raises(TrainingError, match="no training labels: add labelled frames to the train side"):
        model.train(replace(empty, statistics=STATISTICS), 0, None, tmp_path, Resources())


@pytest.mark.parametrize("model", TRAINERS)
def test_an_element_that_only_the_valid_side_has(model: Any, tmp_path: Path) -> None:
    silver = Labeled(SILVER, replace(DATA.train[0].label, forces=np.zeros((2, 3))))
    data = replace(DATA, valid=(silver,), statistics=model.statistics(DATA))
    with pytest.raises(TrainingError, match=r"\bAg\b") as caught:
        model.train(data, 0, None, tmp_path, Resources())
    assert SILVER.id[:12] in one_line(caught)


# Prediction -------------------------------------------------------------------------------------------------------


def test_an_element_outside_the_training_set_nequix(nequix: list[Path], tmp_path: Path) -> None:
    potential = TINY.load(nequix)
    with pytest.raises(TrainingError, match=r"does not know Ag\b") as caught:
        potential.predict([CLUSTER, SILVER])
    one_line(caught)
    md = JaxMDSampler(temperatures_K=[300], walkers=1, n_steps=10, keep_every=5, dt_fs=1.0, friction_per_ps=5)
    with pytest.raises(SamplingError, match="does not know") as caught:
        md.run(potential, [SILVER], 1, tmp_path, Resources())
    assert SILVER.id[:12] in one_line(caught)
    TINY.export(nequix, tmp_path / "model", {})
    atoms = SILVER.to_atoms()
    atoms.calc = alfw.calculator(tmp_path / "model")
    with pytest.raises(TrainingError, match=r"does not know Ag\b"):
        atoms.get_potential_energy()


@SLOW
def test_an_element_outside_the_training_set_physnet(physnet: list[Path]) -> None:
    with pytest.raises(TrainingError, match=r"does not know Ag\b") as caught:
        SMALL.load(physnet[:2]).predict([CLUSTER, SILVER])
    one_line(caught)


def campaign(folder: Path, frames: list[Frame], model: dict[str, Any]) -> Path:
    """campaign.yaml beside initial.extxyz with these frames."""
    write_extxyz(folder / "initial.extxyz", [Imported(frame, None) for frame in frames])
    content = {
        "schema_version": 1,
        "name": "bad",
        "data": {"initial": [{"path": "initial.extxyz", "theory": "ignore"}]},
        "model": model,
        "sample": [{"kind": "files", "paths": ["initial.extxyz"]}],
        "select": {"kind": "random", "max_frames": 1},
        "label": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
    }
    task = {"_fw_name": "{{alfw.firetasks.StartCampaign}}", "campaign": content}
    with (folder / "campaign.yaml").open("w") as file:
        YAML(typ="safe").dump({"name": "bad", "spec": {"_tasks": [task]}}, file)
    return folder / "campaign.yaml"


def test_an_element_outside_the_models_alfw_check(
    tmp_path: Path, nequix: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [CLUSTER.moved(CLUSTER.positions + 0.01 * i) for i in range(4)] + [SILVER]
    shutil.copy(nequix[0], tmp_path / "start.nqx")
    for model in (
        {"kind": "nequix", "start_from": "start.nqx"},
        {"kind": "external", "python": sys.executable, "calculator": "x:Y", "species": [29, 79]},
    ):
        monkeypatch.setattr(sys, "argv", ["alfw", "check", str(campaign(tmp_path, frames, model))])
        with pytest.raises(SystemExit) as ended:
            main()
        [line] = capsys.readouterr().err.splitlines()
        assert ended.value.code == 1 and line.endswith("frame 4: the model does not know Ag")


# Files of an ensemble ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "statistics", "key"),
    [
        (TINY.model_copy(update={"cutoff_A": 5.0}), STATISTICS, "cutoff"),
        (TINY, {**STATISTICS, "scale_eV": 2.0}, "scale"),
        (TINY, {**STATISTICS, "avg_n_neighbors": 3.0}, "avg_n_neighbors"),
        (TINY, {**STATISTICS, "E0_eV": {"29": -1.0, "79": -2.5}}, "atom_energies|reference|E0"),
        (TINY, {**STATISTICS, "species": [29], "E0_eV": {"29": -1.0}}, "atomic_numbers"),
    ],
)
def test_members_that_do_not_belong_together(
    nequix: list[Path], tmp_path: Path, model: NequixModel, statistics: dict[str, Any], key: str
) -> None:
    other = model.initialise(statistics, 0, tmp_path)
    with pytest.raises(TrainingError, match=f"differ in .*({key})") as caught:
        load_models([nequix[0], other])
    assert str(other) in one_line(caught)


@SLOW
def test_members_of_physnet_that_do_not_belong_together(physnet: list[Path]) -> None:
    assert SMALL.load(physnet[:2]).members == 2
    with pytest.raises(TrainingError, match="differ in .*(E0|reference|scale)") as caught:
        load_models([physnet[0], physnet[2]])
    one_line(caught)


def edit(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(changes)


def first_member(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["members"][0].update(changes)


EDITED: dict[str, tuple[Callable[[dict[str, Any]], None], type[AlfwError], str]] = {
    "kind": (edit(model={"kind": "nequixx"}), PluginError, "unknown model 'nequixx'; known: ase, external"),
    "no kind": (edit(model={}), TrainingError, "options in ensemble.json are wrong: 'kind'"),
    "options": (edit(model={"kind": "nequix", "members": 0}), TrainingError, "are wrong: .*members"),
    "what they share": (edit(shared={"cutoff": 5.0}), TrainingError, "is not what their headers say"),
    "SHA-256": (first_member(sha256="0" * 64), TrainingError, "SHA-256 is .* not 000000000000"),
    "name": (first_member(file="member_7.nqx"), TrainingError, r"member_7\.nqx is missing"),
    "path": (first_member(file="../secret"), TrainingError, "member secret is missing"),
    "number for a name": (first_member(file=3), TrainingError, "list of members is not complete"),
    "no list": (edit(members={"0": "member_0.nqx"}), TrainingError, "list of members is not complete"),
    "format": (edit(format=99), TrainingError, "not an ensemble of format 1"),
}


@pytest.mark.parametrize("change", EDITED)
def test_an_ensemble_json_that_was_edited(nequix: list[Path], tmp_path: Path, change: str) -> None:
    TINY.export(nequix, tmp_path, {})
    index = tmp_path / "ensemble.json"
    content = json.loads(index.read_text())
    how, error, words = EDITED[change]
    how(content)
    index.write_text(json.dumps(content))
    with pytest.raises(error, match=words) as caught:
        alfw.calculator(tmp_path)
    one_line(caught)


def test_a_member_that_is_gone(nequix: list[Path], tmp_path: Path) -> None:
    TINY.export(nequix, tmp_path, {})
    (tmp_path / "member_1.nqx").unlink()
    with pytest.raises(TrainingError, match=r"member_1\.nqx is missing: copy the whole folder") as caught:
        alfw.calculator(tmp_path)
    one_line(caught)
