"""`alfw train`: ensembles from files; complete or not at all, and continued where they were cut off."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from shell import Shell

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.io.training_npz import write_training_npz
from alfw.models.ensemble import load_models, read_ensemble

CLUSTER = Atoms("Cu4Au", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5], [2.5, 2.5, 0.3]])
TINY = ["--set", "hidden_irreps=4x0e+2x1o", "--set", "n_layers=2", "--set", "radial_mlp_size=8"]
NEQUIX = [
    "--model",
    "nequix",
    "--train",
    "data.extxyz",
    "--members",
    "2",
    *TINY,
    "--batch-size",
    "4",
    "--steps",
]
FREE = ["--model", "ase", "--set", "calculator=ase.calculators.emt:EMT"]  # trains nothing
# Ends the process (SIGKILL) when the state of a training is kept for the n-th time.
KILLED = """
import os, signal, sys
from alfw.cli.app import main
from alfw.models import _resume
from alfw.steps import train_files
times = int(sys.argv.pop(1))
def kept(path, step):
    global times
    times -= 1
    if not times:
        os.kill(os.getpid(), signal.SIGKILL)
_resume.EVERY_S, train_files.state_kept = 0.0, kept
main(sys.argv[1:])
"""


def clusters(count: int, seed: int = 0) -> list[Imported]:
    rng = np.random.default_rng(seed)
    items = []
    for i in range(count):
        atoms = CLUSTER.copy()
        atoms.positions += 0.1 * rng.standard_normal((5, 3))
        atoms.calc = EMT()
        label = Label(atoms.get_potential_energy(), atoms.get_forces())
        items.append(Imported(Frame.from_atoms(atoms), label, trajectory=f"run {i // 4}"))
    return items


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with 24 frames of six trajectories in `data.extxyz`."""
    write_extxyz(tmp_path / "data.extxyz", clusters(24))
    return Shell(tmp_path)


def train(shell: Shell, *arguments: Any, **rest: Any) -> Any:
    return shell.json("train", *FREE, "--train", "data.extxyz", "-o", "m", *arguments, **rest)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_folder_with_all_that_is_known(shell: Shell) -> None:
    typed = shell.here("train", *FREE, "--train", "data.extxyz", "--members", "2", "-o", "m")
    assert typed.out.splitlines()[0] == "m: 2 members of ase, trained on 20 frames, 4 to validate"
    assert [line.split()[0] for line in typed.out.splitlines()[3:]] == ["member", "member", "mean"]
    assert "next: alfw validate m --testset FILES" in typed.err
    assert sorted(files(shell.folder / "m")) == ["ensemble.json", "member_0.json", "member_1.json"]
    _, content = read_ensemble(shell.folder / "m")
    origin = content["provenance"]
    assert (origin["n_train"], origin["n_valid"], origin["name"]) == (20, 4, "m")
    assert [Path(file["path"]).name for file in origin["files"]] == ["data.extxyz"]
    assert len({entry["seed"] for entry in content["members"]}) == 2
    assert origin["errors"]["mean"]["force_rmse_eV_per_A"] < 1e-5  # EMT labels, EMT


def test_the_same_command_again(shell: Shell) -> None:
    first = train(shell)
    before = files(shell.folder / "m")
    again = shell.here("train", *FREE, "--train", "data.extxyz", "-o", "m", "--json")
    assert "m: already trained" in again.err and files(shell.folder / "m") == before
    assert json.loads(again.out) == first | {"already_trained": True}
    line = shell.here("train", *FREE, "--train", "data.extxyz", "--members", "3", "-o", "m", code=1).err
    assert "m: holds another ensemble: choose another folder, or --force replaces it" in line
    train(shell, "--members", "3", "--force")
    train(shell, "--members", "2", "--force")
    assert sorted(files(shell.folder / "m")) == ["ensemble.json", "member_0.json", "member_1.json"]


def test_a_folder_half_published_is_no_ensemble(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from alfw.steps import train_files

    train(shell)
    whole = files(shell.folder / "m")
    replaced = os.replace

    def interrupted(source: Any, target: Any) -> None:
        if Path(target).name == "member_1.json":
            raise KeyboardInterrupt
        replaced(source, target)

    options = ["train", *FREE, "--train", "data.extxyz", "--members", "2", "--force", "-o", "m"]
    monkeypatch.setattr(train_files.os, "replace", interrupted)
    assert "m: stopped; the same command continues" in shell.here(*options, code=130).err
    with pytest.raises(TrainingError, match="member_1.json is missing"):
        load_models([shell.folder / "m"])
    monkeypatch.undo()
    shell.here(*options)
    assert set(files(shell.folder / "m")) == {*whole, "member_1.json"}
    assert load_models([shell.folder / "m"]).members == 2


def test_sides(shell: Shell) -> None:
    a = clusters(24)
    stated = [
        replace(x, side="test") if i < 4 else replace(x, side="valid") if i < 8 else x
        for i, x in enumerate(a)
    ]
    write_extxyz(shell.folder / "stated.extxyz", stated)
    report = shell.json("train", *FREE, "--train", "stated.extxyz", "-o", "s")
    assert (report["n_train"], report["n_valid"]) == (16, 4)
    assert "4 frames of the test side are left out" in report["notes"]
    write_training_npz(shell.folder / "valid.npz", a[:3] + clusters(2, seed=1))
    report = train(shell, "--valid", "valid.npz")
    assert (report["n_train"], report["n_valid"]) == (21, 5)
    assert report["notes"] == ["3 frames are on the valid side, too: not trained on"]
    (shell.folder / "few").mkdir()
    loose = [replace(x, trajectory=None) for x in a[:6]]
    write_extxyz(shell.folder / "few" / "1.extxyz", loose[:4])
    write_extxyz(shell.folder / "few" / "2.extxyz", loose[2:])
    report = shell.json("train", *FREE, "--train", "few", "-o", "f")
    assert (report["n_train"], report["n_valid"]) == (5, 1)
    text = " ".join(report["notes"])
    assert "2 frames were there twice" in text and "better give trajectory ids" in text


def test_one_member_has_no_spread(shell: Shell) -> None:
    line = "one member has no spread"
    assert line in shell.here("train", *FREE, "--train", "data.extxyz", "-o", "m").err
    assert line not in shell.here("train", *FREE, "--train", "data.extxyz", "--members", "2", "-o", "n").err


BAD: list[tuple[str, str]] = [
    ("", "--train or --train-efd is needed"),
    ("--train nope.extxyz", "nope.extxyz: no such file"),
    ("--train data.extxyz --train-efd a.npz", "--train and --train-efd: give one of them"),
    ("--train data.extxyz --train-esp a.npz", "--train-esp: potentials need their energies and forces"),
    ("--train-efd a.npz --train-esp b.npz", "ase learns no potentials: leave it out, or --model physnet"),
    ("--train data.extxyz --model nope", "unknown model 'nope'; known:"),
    ("--train data.extxyz --set mebers=2", "ase.mebers: unknown key; did you mean members?"),
    ("--train data.extxyz --epochs 2", "ase.training: unknown key"),
    ("--train data.extxyz --start-from nope.pt", "nope.pt: no such file or ensemble to start from"),
    ("--train data.extxyz --start-from w.pkl", "a pickle, .* alfw convert checkpoint --trust w.pkl"),
    ("--train data.extxyz --units Ha", "--units Ha: has to be eV or hartree"),
    ("--train bare.extxyz", "bare.extxyz frame 0 has no energy"),
    ("--train a.npz --units hartree", "mixed units: it says E is in eV, --units hartree says Hartree"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_what_cannot_be_trained(shell: Shell, arguments: str, message: str) -> None:
    (shell.folder / "w.pkl").write_bytes(b"\x80\x04N.")
    write_extxyz(shell.folder / "bare.extxyz", [replace(item, label=None) for item in clusters(2)])
    write_training_npz(shell.folder / "a.npz", clusters(2))
    line = shell.here("train", *FREE, *arguments.split(), "-o", "m", code=1).line
    assert re.search(message, line) and not (shell.folder / "m").exists()


def test_another_process_there(shell: Shell) -> None:
    import fcntl

    (shell.folder / "m").mkdir()
    handle = os.open(shell.folder / "m", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    error = shell.here("train", *FREE, "--train", "data.extxyz", "-o", "m", code=1).err
    assert "m: another process is training there" in error
    os.close(handle)
    train(shell)


def test_what_failed_at_once_does_not_stand_in_the_way(shell: Shell) -> None:
    wrong = ["train", *FREE, "--train", "data.extxyz", "-o", "m", "--set", "train_command=exit-1"]
    wrong += ["--set", "weights_option=path"]
    assert "cannot start 'exit-1'" in shell.here(*wrong, code=1).err
    assert not train(shell)["already_trained"]


def killed(shell: Shell, times: int, arguments: Sequence[str]) -> None:
    (shell.folder / "killed.py").write_text(KILLED)
    done = subprocess.run(
        [sys.executable, "killed.py", str(times), *arguments],
        cwd=shell.folder, env=shell.env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_members(shell: Shell) -> None:
    """Killed in the first member, then in the second; then the command is changed; then repeated."""
    options = ["train", *NEQUIX, "300"]
    whole = shell.json(*options, "-o", "whole")
    cut = [*options, "-o", "cut"]
    killed(shell, 2, cut)
    assert not (shell.folder / "cut" / "ensemble.json").exists()
    killed(shell, 3, cut)
    left = shell.folder / "cut" / ".training"
    assert (left / "member_0" / "done.json").exists() and (left / "member_1" / "state.npz").exists()
    with pytest.raises(TrainingError):
        load_models([shell.folder / "cut"])
    other = shell.here(*cut, "--seed", "1", code=1).err
    assert "cut: an unfinished training there differs in data, seed: the same command" in other
    typed = shell.here(*cut, "--json")
    assert "already" not in typed.err
    again = json.loads(typed.out)
    assert [x["sha256"] for x in again["members"]] == [x["sha256"] for x in whole["members"]]
    assert sorted(files(shell.folder / "cut")) == ["ensemble.json", "member_0.nqx", "member_1.nqx"]


@pytest.mark.slow
def test_an_ensemble_goes_on_from_another(shell: Shell) -> None:
    options = [*NEQUIX, "100"]
    first = shell.json("train", *options, "-o", "first")
    second = shell.json("train", *options, "--start-from", "first", "-o", "second")
    better = [report["errors"]["mean"]["force_rmse_eV_per_A"] for report in (first, second)]
    assert better[1] < better[0]
    start = read_ensemble(shell.folder / "second")[1]["provenance"]["request"]["start"]
    assert start == [entry["sha256"] for entry in first["members"]]
    line = shell.here(
        "train", *FREE, "--train", "data.extxyz", "--start-from", "first", "-o", "m", code=1
    ).line
    assert "first: an ensemble of kind nequix, not ase" in line
