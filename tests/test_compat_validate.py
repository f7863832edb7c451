"""`python -m alfw.compat.validate_models`: the line of the seed's document, its report, names that stand for others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from shell import Shell
from validation_toys import shaken, untrained

from alfw.compat._models import find_models
from alfw.core.errors import DataError
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.models.ensemble import load_models


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The folders of the seed's document: two members, and a test set as it expects one."""
    folder = tmp_path_factory.mktemp("seed")
    untrained(folder / "models_new")
    items = [shaken("H2O", seed) for seed in range(4)]
    testset = folder / "data" / "validation_set"
    testset.mkdir(parents=True)
    for name, part in {"a": items[:3], "b": items[3:]}.items():
        write_extxyz(testset / f"{name}.extxyz", [Imported(item.frame, item.label) for item in part])
        text = (testset / f"{name}.extxyz").read_text()
        (testset / f"{name}.extxyz").write_text(text.replace(" energy=", " dft_energy="))
    (testset / "a.extxyz.json").write_text("{}")
    shell = Shell(folder)
    shell.items = items
    return shell


@pytest.mark.slow
def test_the_line_of_the_document(shell):
    line = "--models models_new/*.pt --testset data/validation_set/ --output validation_report.json"
    said = shell.compat("validate_models", *line.split())
    assert "no models_new/*.pt: models_new/*.nqx is taken (2)" in said.err
    assert "energy from 'dft_energy', forces from 'forces'" in said.err
    assert "meV/atom" in said.out and "RMSE by element: H" in said.out
    rows = json.loads((shell.folder / "validation_report.json").read_text())
    full = json.loads((shell.folder / "validation_report.full.json").read_text())
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert [(Path(row["source"]).name, row["frame"]) for row in rows] == [
        *(("a.extxyz", 0), ("a.extxyz", 1), ("a.extxyz", 2), ("b.extxyz", 0))
    ]
    potential = load_models([shell.folder / "models_new"])
    predicted = potential.predict([item.frame for item in shell.items])
    for b, (row, item) in enumerate(zip(rows, shell.items, strict=True)):
        error = predicted.forces[b].mean(0) - item.label.forces
        energy = predicted.energy.mean(0)[b] - item.label.energy
        assert row["energy_error"] == pytest.approx(abs(energy), abs=1e-3)
        assert row["forces_error"] == pytest.approx(np.linalg.norm(error, axis=1).mean(), rel=1e-4)
    assert full["all"]["n_frames"] == 4 and full["all"]["spread"] is not None


def test_models_by_file_folder_list_and_glob(shell, monkeypatch):
    monkeypatch.chdir(shell.folder)
    one, two = Path("models_new/model_1.nqx"), Path("models_new/model_2.nqx")
    assert find_models(["models_new"]) == ([Path("models_new")], [])
    assert find_models([f"{one},{two}"]) == ([one, two], [])
    assert find_models(["models_new/*"]) == ([one, two], [])
    assert find_models([str(one), "models_new/*.nqx"]) == ([one, two], [])
    found, notes = find_models(["models_new/model_2.pt", "models_new/model_1.pt"])
    assert found == [two, one]
    assert notes[0] == "no models_new/model_2.pt: models_new/model_2.nqx is taken (1)"


def test_a_pt_that_is_there_is_taken(tmp_path):
    for name in ("a.pt", "a.nqx", "b.txt"):
        (tmp_path / name).write_text("")
    assert find_models([f"{tmp_path}/*.pt"]) == ([tmp_path / "a.pt"], [])


def test_models_that_match_nothing_are_named(shell):
    line = "--models models_old/*.pt --testset data/validation_set --out r.json"
    said = shell.compat("validate_models", *line.split(), code=1)
    assert "--models models_old/*.pt: no such file or folder, and no weights match it" in said.line
    assert not (shell.folder / "r.json").exists()
    with pytest.raises(DataError, match="models_old"):
        find_models(["models_old,models_new"])
