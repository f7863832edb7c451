"""`run_ensemble` and `select_high_uncertainty` of the second seed: the lines of its document, its files, its keys."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from shell import Shell
from validation_toys import untrained

from alfw.models.ensemble import load_models

RUN = "--models models/model_1.pt models/model_2.pt models/model_3.pt --structures data/initial_structures/"
SELECT = "--ensemble ensemble_results.json --threshold {} --output selected_structures/"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Three members, and structures with and without a cell."""
    folder = tmp_path_factory.mktemp("seed")
    untrained(folder / "models", 3)
    structures = folder / "data" / "initial_structures"
    structures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    water = [molecule("H2O") for _ in range(3)]
    for i, atoms in enumerate(water):
        atoms.positions += 0.1 * i * rng.standard_normal((3, 3))
    ase.io.write(structures / "water.xyz", water)
    ase.io.write(structures / "ice.traj", _cell())
    return Shell(folder)


def _cell():
    """Water in a box."""
    atoms = molecule("H2O", cell=[6, 6, 6], pbc=True)
    atoms.center()
    return atoms


@pytest.mark.slow
def test_the_lines_of_the_document(shell):
    said = shell.compat("run_ensemble", *RUN.split(), "--output", "ensemble_results.json")
    assert "no models/model_1.pt: models/model_1.nqx is taken (1)" in said.err
    assert "4 structures, 3 members" in said.out and "force_std eV/Å" in said.out
    rows = json.loads((shell.folder / "ensemble_results.json").read_text())
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    potential = load_models([shell.folder / "models"])
    from alfw.io.frames import read_frames

    paths = [shell.folder / "data" / "initial_structures" / name for name in ("ice.traj", "water.xyz")]
    frames = [item.frame for path in paths for item in read_frames(path)]
    predicted = potential.predict(frames)
    for b, row in enumerate(rows):
        forces = predicted.forces[b]
        assert row["E_mean"] == pytest.approx(predicted.energy[:, b].mean(), abs=1e-3)
        assert row["E_var"] == pytest.approx(predicted.energy[:, b].var(), rel=1e-2, abs=1e-9)
        np.testing.assert_allclose(row["F_mean"], forces.mean(0), atol=1e-4)
        assert row["F_var"] == pytest.approx(forces.var(0).mean(), rel=1e-3)
    scores = sorted(row["force_std_max"] for row in rows)
    threshold = (scores[1] + scores[2]) / 2
    said = shell.compat("select_high_uncertainty", *SELECT.format(threshold).split())
    assert "2 of 4 structures" in said.out and "eV/Å" in said.out
    expected = {f"frame_{row['index']}" for row in rows if row["force_std_max"] > threshold}
    folder = shell.folder / "selected_structures"
    assert {path.stem for path in folder.glob("*.extxyz")} == expected
    assert {path.stem for path in folder.glob("*.vasp")} == expected & {"frame_0"}


def results(shell: Shell, name: str, rows: list[dict]) -> None:
    (shell.folder / name).write_text(json.dumps(rows))


def row(index: int, std: float | None, **more):
    """A row of `run_ensemble`."""
    shared = {"E_mean": 0.0, "E_var": 0.1 * index, "F_mean": [[0, 0, 0]], "F_var": 0.01, "index": index}
    return {
        **shared,
        "source": "data/initial_structures/water.xyz",
        "frame": index,
        "force_std_max": std,
        **more,
    }


def choose(shell, *arguments, code=0):
    return shell.compat("select_high_uncertainty", *arguments, code=code)


def test_a_selection_replaces_an_older_one(shell):
    results(shell, "r.json", [row(0, 0.1), row(1, 0.3), row(2, None)])
    said = choose(shell, "--ensemble", "r.json", "--threshold", "0.05", "--output", "sel")
    assert "1 of 3 structures have no finite prediction" in said.err
    assert {path.name for path in (shell.folder / "sel").glob("frame*")} == {
        "frame_0.extxyz",
        "frame_1.extxyz",
    }
    choose(shell, "--ensemble", "r.json", "--topk", "1", "--output", "sel")
    assert {path.name for path in (shell.folder / "sel").glob("frame*")} == {"frame_1.extxyz"}
    said = choose(shell, "--ensemble", "r.json", "--threshold", "0.5", "--output", "sel", code=2)
    assert "0 of 3 structures, threshold 0.5 eV/Å" in said.out


def test_the_older_score_comes_with_a_warning(shell):
    results(shell, "r.json", [row(0, 0.9), row(1, 0.3), row(2, 0.1)])
    said = choose(shell, "--ensemble", "r.json", "--threshold", "0.15", "--score", "seed", "--output", "old")
    assert "prefer force_std" in said.err and "eV² + (eV/Å)²" in said.out
    listed = json.loads((shell.folder / "old" / "selected.json").read_text())
    assert [(each["index"], pytest.approx(each["score"])) for each in listed] == [(2, 0.21)]


def test_files_of_the_older_system_name_no_source(shell):
    old = [
        {key: r[key] for key in ("E_mean", "E_var", "F_mean", "F_var", "index")}
        for r in (row(i, 0) for i in range(3))
    ]
    results(shell, "old.json", old)
    where = ("--structures", "data/initial_structures/water.xyz")
    said = choose(shell, "--ensemble", "old.json", "--topk", "2", "--score", "seed", "--output", "o", *where)
    assert "2 of 3" in said.out
    said = choose(shell, "--ensemble", "old.json", "--topk", "2", "--output", "o", *where, code=1)
    assert "has no force_std_max" in said.line
    said = choose(shell, "--ensemble", "old.json", "--topk", "2", "--score", "seed", "--output", "o", code=1)
    assert "give --structures" in said.err
    fewer = ("--structures", "data/initial_structures/ice.traj")
    said = choose(
        shell, "--ensemble", "old.json", "--topk", "1", "--score", "seed", "--output", "o", *fewer, code=1
    )
    assert "1 frames, which are not the 3" in said.err


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        ([row(0, 0.1)], (), "give --threshold"),
        ([], ("--topk", "1"), "no structures in it"),
        ([{"a": 1}], ("--topk", "1"), "a list of rows with E_mean"),
        ([row(0, None, members=1)], ("--topk", "1"), "of one model, which cannot disagree"),
        ([row(0, 0.2, id="0" * 64)], ("--topk", "1"), "has changed since it was screened"),
    ],
)
def test_mistakes_are_told_in_a_line(shell, rows, arguments, message):
    results(shell, "bad.json", rows)
    said = choose(shell, "--ensemble", "bad.json", "--output", "never", *arguments, code=1)
    assert message in said.line
    assert not (shell.folder / "never").exists()
