"""ASE calculators as models, in this process and in another interpreter; ensembles as ASE calculators."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from processes import assert_ends
from pydantic import ValidationError

import alfw
from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.models.ase import ASEModel

CLUSTER = Frame.from_atoms(
    Atoms("Cu4Au", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5], [2.5, 2.5, 0.3]])
)
METAL = Frame.from_atoms(bulk("Cu", cubic=True))
LJ = {"calculator": "ase.calculators.lj:LennardJones", "members": 2}
EPSILONS = ({"epsilon": 0.1, "sigma": 2.3}, {"epsilon": 0.2, "sigma": 2.3})
HERE = Path(__file__).parent


def weights(model: ASEModel, folder: Path) -> list[Path]:
    empty = TrainingData([])
    return [model.train(empty, k, None, folder / str(k), Resources()) for k in range(model.members)]


@pytest.mark.parametrize("kind", ["ase", "external"])
def test_members_say_what_their_calculators_say(kind: str, tmp_path: Path) -> None:
    more = {"kind": kind, "python": sys.executable} if kind == "external" else {}
    model = ASEModel(**LJ, member_kwargs=EPSILONS, **more)
    said = model.load(weights(model, tmp_path)).predict([CLUSTER, METAL])
    assert said.energy.shape == (2, 2) and [f.shape for f in said.forces] == [(2, 5, 3), (2, 4, 3)]
    np.testing.assert_allclose(said.energy[1], 2 * said.energy[0])  # LJ is linear in epsilon
    np.testing.assert_allclose(said.forces[0][1], 2 * said.forces[0][0])
    from ase.calculators.lj import LennardJones

    for frame, energy in ((CLUSTER, said.energy[0, 0]), (METAL, said.energy[0, 1])):
        atoms = frame.to_atoms()
        atoms.calc = LennardJones(**EPSILONS[0])
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert said.stress is not None and said.stress[0] is None and said.stress[1].shape == (2, 3, 3)


def test_an_external_model_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from alfw.models.ase import ASEModel\n"
        "m = ASEModel(kind='external', python=sys.executable, calculator='ase.calculators.emt:EMT')\n"
        "p = m.load([Path('x')]); print(p._remote._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert_ends(child)


def test_what_goes_wrong_in_the_other_interpreter_is_said(tmp_path: Path) -> None:
    def load(**options: str) -> object:
        return ASEModel(kind="external", **options).load([tmp_path / "x"])

    with pytest.raises(TrainingError, match="cannot start '/nowhere/python'"):
        load(python="/nowhere/python", calculator="ase.calculators.emt:EMT")
    with pytest.raises(TrainingError, match="ModuleNotFoundError: No module named 'mace_is_not_here'"):
        load(python=sys.executable, calculator="mace_is_not_here:MACE")
    emt = ASEModel(kind="external", python=sys.executable, calculator="ase.calculators.emt:EMT").load(
        [tmp_path]
    )
    with pytest.raises(TrainingError, match="NotImplementedError: No EMT-potential for U"):
        emt.predict([Frame.from_atoms(Atoms("U2", [[0, 0, 0], [0, 0, 2]]))])
    assert emt.predict([CLUSTER]).energy.shape == (1, 1)  # it is still there


def test_options_that_do_not_fit_are_refused() -> None:
    for options, words in (
        ({"kind": "external"}, "needs `python`"),
        ({"python": "python3"}, "kind ase has none"),
        ({"members": 3, "member_kwargs": EPSILONS}, "2 entries for 3 members"),
        ({"train_command": "train {train}"}, "needs weights_option"),
    ):
        with pytest.raises(ValidationError, match=words):
            ASEModel(calculator="ase.calculators.lj:LennardJones", **options)


TRAINER = """
import sys, json
from ase.io import read
train, valid, seed, out = sys.argv[1:5]
frames = read(train, ":")
energy = sum(a.get_potential_energy() for a in frames) / len(frames)
forces = frames[0].get_forces()
json.dump({"n": len(frames), "seed": int(seed), "valid": len(open(valid).read()), "energy": energy}, open(out, "w"))
"""


def test_a_member_is_trained_by_the_users_command(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINER)
    command = f"{sys.executable} {tmp_path / 'train.py'} {{train}} {{valid}} {{seed}} {{weights}}"
    options = {"calculator": "ase_model_toy:FromFile", "weights_option": "path", "weights": "fit.json"}
    model = ASEModel(train_command=command, **options)
    items = []
    for frame in (CLUSTER, CLUSTER.moved(CLUSTER.positions * 1.02)):
        atoms = frame.to_atoms()
        atoms.calc = EMT()
        items.append(Labeled(frame, Label(atoms.get_potential_energy(), atoms.get_forces())))
    path = model.train(TrainingData(items), 7, None, tmp_path / "work", Resources())
    assert path.name == "fit.json"
    said = model.load([path]).predict([CLUSTER])
    assert said.energy[0, 0] == pytest.approx(np.mean([item.label.energy for item in items]))
    for broken, words in (
        ("false", "status 1"),
        ("true", "left no file fit.json"),
        ("/nowhere", "cannot start"),
    ):
        with pytest.raises(TrainingError, match=words):
            ASEModel(train_command=broken, **options).train(
                TrainingData(items), 0, None, tmp_path / "b", Resources()
            )
    with pytest.raises(TrainingError, match="nonsense"):
        bad = ASEModel(train_command="x {nonsense}", **options)
        bad.train(TrainingData(items), 0, None, tmp_path / "c", Resources())


def test_an_exported_ensemble_is_an_ase_calculator(tmp_path: Path) -> None:
    model = ASEModel(**LJ, member_kwargs=EPSILONS)
    model.export(weights(model, tmp_path), tmp_path / "model", {"campaign": "x"})
    atoms = METAL.to_atoms()
    atoms.rattle(0.05, seed=1)
    atoms.calc = alfw.calculator(tmp_path / "model")
    forces = atoms.get_forces()
    members = atoms.calc.results["member_forces"]
    np.testing.assert_allclose(forces, members.mean(0))
    expected = np.sqrt(((members - forces) ** 2).sum(-1).mean(0))
    np.testing.assert_allclose(atoms.calc.results["force_std_per_atom"], expected)
    assert atoms.calc.results["force_std"] == pytest.approx(expected.max())
    assert atoms.get_stress().shape == (6,)
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(steps=3)
    assert atoms.get_potential_energy() < before


def test_no_ensemble_there_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="alfw export ensemble"):
        alfw.calculator(tmp_path / "nothing")
