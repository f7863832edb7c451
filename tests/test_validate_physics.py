"""`alfw validate --eos --relax --stability`: of a potential that is the reference itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from shell import Shell

from alfw.core.records import Resources, TrainingData
from alfw.models.ase import ASEModel
from alfw.models.ensemble import write_ensemble

EMT_MODEL: dict[str, Any] = {"kind": "ase", "calculator": "ase.calculators.emt:EMT", "members": 1}


def labelled(atoms: Atoms) -> Atoms:
    """With what EMT says of it."""
    atoms.calc = EMT()
    values = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **values, stress=atoms.get_stress())
    return atoms


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A model that is EMT, copper at seven volumes and as shaken as it is at 300 K."""
    folder = tmp_path_factory.mktemp("physics")
    model = ASEModel(**EMT_MODEL)
    weights = model.train(TrainingData([]), 0, None, folder / "member", Resources())
    write_ensemble(folder / "model", [weights], model=EMT_MODEL)
    cells = [labelled(bulk("Cu", cubic=True, a=3.59 * s)) for s in np.linspace(0.97, 1.03, 7)]
    write(folder / "volumes.extxyz", cells)
    shaken = bulk("Cu", cubic=True, a=3.59)
    shaken.rattle(0.05, seed=0)
    write(folder / "shaken.extxyz", labelled(shaken))
    return Shell(folder)


def test_what_is_the_reference_itself_has_its_curve_minima_and_stable_dynamics(shell):
    words = ["model", "--testset", "volumes.extxyz", "shaken=shaken.extxyz", "--html", "r.html"]
    md = ["--stability", "--md-ps", "0.02", "--temperature", "100", "200", "--walkers", "2"]
    said = shell.here("validate", *words, "--eos", "--relax", *md, "-o", "r.json")
    report = json.loads((shell.folder / "r.json").read_text())
    assert report["all"]["force_rmse_eV_per_A"] == pytest.approx(0, abs=1e-5)
    [curve] = report["curves"]["structures"]
    assert curve["delta_meV_per_atom"] == pytest.approx(0, abs=1e-3)
    assert curve["reference_fit"]["B0_GPa"] == pytest.approx(134, abs=5)  # EMT's copper
    assert report["relaxations"]["n_converged"] == report["relaxations"]["n_minima"] >= 1
    assert [found["n_failed"] for found in report["stability"]["temperatures"]] == [0, 0]
    for line in ("curve of Cu4: V0", "relaxations: ", "stability at 200 K: 0 of 2 walkers failed"):
        assert line in said.out
    page = (shell.folder / "r.html").read_text()
    assert 'alt="curves"' in page and 'alt="survival"' in page


def test_the_reference_can_be_asked_itself(shell):
    labeler = ["--labeler", "ase", "--set", "calculator=ase.calculators.emt:EMT"]
    found = shell.json("validate", "model", "--testset", "shaken.extxyz", "--eos", *labeler)
    [curve] = found["curves"]["structures"]
    assert len(curve["volumes_A3_per_atom"]) == 7
    assert curve["delta_meV_per_atom"] == pytest.approx(0, abs=1e-3)


def test_nothing_to_make_a_curve_of_is_said(shell):
    said = shell.here("validate", "model", "--testset", "shaken.extxyz", "--eos")
    assert "curves: no crystal of the test set is there at five volumes or more" in said.out
    said = shell.here("validate", "model", "--testset", "shaken.extxyz", "--relax", "--html", "r.html")
    assert "relaxations: no frame of the test set is a minimum" in said.out
    assert "is a minimum of the reference" in (shell.folder / "r.html").read_text()
    line = shell.here(
        "validate", "model", "--testset", "shaken.extxyz", "--eos", "--labeler", "nobody", code=1
    ).line
    assert "unknown labeler 'nobody'" in line
    starts = ["--stability", "--starts", "nowhere.xyz"]
    assert (
        "nowhere.xyz" in shell.here("validate", "model", "--testset", "shaken.extxyz", *starts, code=1).line
    )
