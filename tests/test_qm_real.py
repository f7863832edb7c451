"""`alfw qm` with programs that run here: their labels are those of the campaign's labeler, however they were run."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from labelling import needs
from shell import Shell

from alfw.io.frames import read_frames
from alfw.labelers.outputs import recognise
from alfw.labelers.xtb import XTBLabeler

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With three molecules, one of them an ion and one a radical that says so."""
    water, ammonium, hydroxyl = molecule("H2O"), molecule("NH3"), molecule("OH")
    ammonium += ase.Atom("H", ammonium.positions.mean(0) + [0.0, 0.0, 1.4])
    ammonium.info["charge"] = 1
    hydroxyl.info["multiplicity"] = 2
    for name, atoms in {"water": water, "ammonium": ammonium, "hydroxyl": hydroxyl}.items():
        ase.io.write(tmp_path / f"{name}.extxyz", atoms)
    return Shell(tmp_path)


CODES = {
    "xtb": (["--labeler", "xtb"], None),
    "nwchem": (["--labeler", "nwchem", "--method", "hf", "--basis", "sto-3g"], "nwchem {}.nw > {}.out"),
    "psi4": (["--labeler", "psi4", "--method", "hf", "--basis", "sto-3g"], "psi4 -i {}.dat -o {}.out"),
}


@pytest.mark.parametrize("code", CODES)
def test_molecules_there_and_back(shell: Shell, code: str) -> None:
    needs(code)
    options, by_hand = CODES[code]
    shell.alfw("qm", "write", "*.extxyz", *options, "-o", "in")
    report = json.loads(shell.alfw("qm", "run", "in", "--jobs", "2", "--json").out)
    assert report["n_good"] == 3, report
    manifest = json.loads((shell.folder / "in" / "qm.json").read_text())
    for path in shell.folder.glob("in/*.out"):
        assert recognise(path.read_bytes()) == code
    report = shell.json("qm", "read", "in", "-o", "data.npz")
    items = read_frames(shell.folder / "data.npz")
    assert [item.frame.id for item in items] == list(manifest["frames"].values())
    assert {item.theory for item in items} == {manifest["theory"]} and report["n_labels"] == 3
    assert all(np.abs(item.label.forces.sum(0)).max() < 5e-3 for item in items)
    assert [item.frame.charge for item in items] == [1, 0, 0]
    assert report["properties"]["dipole"] == 3
    again = shell.json("qm", "read", "in/*.out", "-o", "again.npz")
    assert again["n_labels"] == 3 and again["theory"] == manifest["theory"]
    if by_hand is not None:
        _by_hand(shell, options, by_hand, items)


def _by_hand(shell: Shell, options: list[str], by_hand: str, items: list) -> None:
    """The same inputs in a loop of the shell give the same labels; outputs without qm.json the same numbers."""
    shell.alfw("qm", "write", "*.extxyz", *options, "-o", "loop")
    for name in ("ammonium", "hydroxyl", "water"):
        shell.bash(f"cd loop; {by_hand.format(name, name)}")
    shell.json("qm", "read", "loop/*.out", "-o", "loop.npz")
    (shell.folder / "loop" / "qm.json").unlink()
    shell.json("qm", "read", "loop/*.out", "-o", "bare.npz")
    for name in ("loop.npz", "bare.npz"):
        for item, wanted in zip(read_frames(shell.folder / name), items, strict=True):
            assert item.label.energy == pytest.approx(wanted.label.energy, abs=1e-5)
            np.testing.assert_allclose(item.label.forces, wanted.label.forces, atol=1e-4)
            assert (item.frame.charge, item.frame.multiplicity) == (
                wanted.frame.charge,
                wanted.frame.multiplicity,
            )
            if name == "loop.npz":
                assert (item.frame.id, item.theory) == (wanted.frame.id, wanted.theory)


def test_a_campaign_takes_them_for_its_own(shell: Shell) -> None:
    """`theory: same` holds: the file carries the id of the labeler's theory."""
    needs("xtb")
    shell.alfw("qm", "write", "water.extxyz", "--labeler", "xtb", "-o", "in")
    shell.alfw("qm", "run", "in")
    shell.alfw("qm", "read", "in", "-o", "data.extxyz")
    [item] = read_frames(shell.folder / "data.extxyz")
    assert item.theory == XTBLabeler().theory().id


def test_a_crystal_there_and_back(shell: Shell) -> None:
    needs("pw.x", "quantum-espresso quantum-espresso-data")
    silicon = bulk("Si")
    silicon.rattle(0.05, seed=1)
    ase.io.write(shell.folder / "Si.vasp", silicon, format="vasp")
    pseudo = [
        "--set",
        "pseudopotentials={Si: Si.pz-vbc.UPF}",
        "--set",
        "pseudo_dir=/usr/share/espresso/pseudo",
    ]
    options = ["--set", "ecutwfc_Ry=12", "--set", "kpoints={grid: [2, 2, 2]}", "-o", "in"]
    shell.alfw("qm", "write", "Si.vasp", "--labeler", "espresso", *pseudo, *options)
    shell.alfw("qm", "run", "in", "--set", "mixing_beta=0.5")
    report = shell.json("qm", "read", "in", "-o", "data.extxyz")
    [item] = read_frames(shell.folder / "data.extxyz")
    assert report["properties"] == {"energy": 1, "forces": 1, "stress": 1}
    assert item.frame.id == read_frames(shell.folder / "Si.vasp")[0].frame.id
    shell.bash("cd in; pw.x -in Si.pwi > bare.out")
    [bare] = read_frames(shell.folder / read_bare(shell))
    assert bare.label.energy == pytest.approx(item.label.energy, abs=1e-5)
    np.testing.assert_allclose(bare.label.stress, item.label.stress, atol=1e-5)


def read_bare(shell: Shell) -> str:
    shell.alfw("qm", "read", "in/bare.out", "-o", "bare.extxyz")
    return "bare.extxyz"
