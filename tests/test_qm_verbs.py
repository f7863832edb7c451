"""`alfw qm write`, typed in a shell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from shell import Shell, molecules, write_toy

from alfw.io.frames import read_frames
from alfw.labelers.tblite import TBLiteLabeler

WATER = molecule("H2O")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With a folder `s` of three molecules, one of which has a JSON file beside it, and a script."""
    return molecules(tmp_path)


# --------------------------------------------------------------------------------------------------------- write


def test_structures_of_any_format_get_one_name_each(shell: Shell) -> None:
    water = [WATER.copy() for _ in range(2)]
    water[1].positions[0, 2] += 0.1
    water[1].info.update(charge=1, multiplicity=2)
    ase.io.write(shell.folder / "traj.traj", water)
    ase.io.write(shell.folder / "Si.vasp", bulk("Si"), format="vasp")
    report = shell.json(
        "qm", "write", "s", "traj.traj", "*.vasp", "--labeler", "tblite", "-o", "in", "--charge", "0"
    )
    items = read_frames(shell.folder / "in" / "qm.extxyz")
    manifest = json.loads((shell.folder / "in" / "qm.json").read_text())
    names = ["Si", "structure_0000", "structure_0001", "structure_0002", "traj_0000", "traj_0001"]
    assert list(manifest["frames"]) == names and report["n_frames"] == 6
    assert manifest["frames"]["traj_0001"] == items[5].frame.id
    assert (items[5].frame.charge, items[5].frame.multiplicity) == (1, 2)
    assert report["theory"] == TBLiteLabeler().theory().id
    assert (shell.folder / "in" / "structure_0000.json").read_text() == '{"source": "md_1"}'


def test_a_frame_that_cannot_be_done_is_listed_and_the_others_are_written(shell: Shell) -> None:
    ase.io.write(shell.folder / "s" / "odd.xyz", molecule("OH"))
    ase.io.write(shell.folder / "s" / "close.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.2]]))
    typed = shell.alfw("qm", "write", "s", "--labeler", "tblite", "-o", "in", code=2)
    assert "3 frames" in typed.out and "in-process" not in typed.out
    assert re.search(r"odd: CHARGE_MULT: .*impossible with 9 electrons", typed.out)
    assert re.search(r"close: GEOMETRY: .*0\.200 Å apart", typed.out)
    report = shell.json("qm", "write", "s", "--labeler", "tblite", "--multiplicity", "2", "-o", "two", code=2)
    assert [each["class"] for each in report["refused"]] == ["CHARGE_MULT"] * 4
    assert list(json.loads((shell.folder / "two" / "qm.json").read_text())["frames"]) == ["odd"]


def test_nothing_is_overwritten_without_being_told(shell: Shell) -> None:
    write_toy(shell)
    deck = shell.folder / "in" / "structure_0001" / "structure.extxyz"
    before = deck.read_text()
    write_toy(shell)  # the same once more
    deck.write_text(before + "mine\n")
    options = ["--labeler", "command", "--set", "name=toy", "--set", "command=x", "-o", "in"]
    refused = shell.here("qm", "write", "s", *options, code=1)
    assert "structure_0001" in refused.line or "qm.json" in refused.line
    assert "other content" in refused.line and "--force" in refused.line
    assert deck.read_text() == before + "mine\n"
    write_toy(shell, "--force")
    assert deck.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["s", "--labeler", "orka"], "unknown labeler 'orka'; known: ase, "),
        (["s", "--labeler", "tblite", "--method", "PM3"], "method: must be 'GFN2-xTB' or 'GFN1-xTB'"),
        (["s", "--labeler", "tblite", "--basis", "def2-SVP"], "basis: unknown key"),
        (["s", "--labeler", "tblite", "--set", "acuracy=1"], "did you mean accuracy?"),
        (["s", "--labeler", "tblite", "--set", "accuracy"], "has to be KEY=VALUE"),
        (["s", "--labeler", "tblite", "--set", "accuracy=[1"], "not YAML"),
        (["s", "--labeler", "pyscf", "--method", "HF"], "basis: missing"),
        (["s", "--labeler", "command", "--set", "files=[gone]"], "gone: No such file"),
        (["nowhere", "--labeler", "tblite"], "nowhere: no such file"),
        (["bad.xyz", "--labeler", "tblite"], "bad.xyz: cannot be read"),
        (["s", "twin", "--labeler", "tblite"], "same name 'structure_0000'"),
        (["qm.xyz", "--labeler", "tblite"], "cannot be named 'qm'"),
        (["s", "--labeler", "tblite", "--threads", "0"], "--threads"),
    ],
)
def test_mistakes_cost_one_line(shell: Shell, arguments: list[str], words: str) -> None:
    (shell.folder / "bad.xyz").write_text("3\n\nH 0 0\n")
    (shell.folder / "twin").mkdir()
    for name in ("twin/structure_0000.extxyz", "qm.xyz"):
        ase.io.write(shell.folder / name, WATER)
    assert words in shell.here("qm", "write", *arguments, "-o", "in", code=1).line
    assert not (shell.folder / "in").exists()


def test_own_decks_and_the_machine(shell: Shell) -> None:
    """The machine's lines are in the input and not in the theory; a deck of one's own is."""
    orca = ["qm", "write", "s", "--labeler", "orca", "--method", "PBE0", "--basis", "def2-SVP"]
    plain = shell.json(*orca, "-o", "plain")
    large = shell.json(*orca, "--threads", "4", "--mem-GB", "8", "-o", "large")
    text = (shell.folder / "large" / "structure_0000.inp").read_text()
    assert plain["theory"] == large["theory"] and re.search(r"nprocs +4", text) and "maxcore" in text
    (shell.folder / "mine").mkdir()
    deck = "! {{ method }} {{ basis }} EnGrad VeryTightSCF\n* xyz {{ charge }} {{ multiplicity }}\n{{ geometry }}\n*\n"
    (shell.folder / "mine" / "orca.inp.j2").write_text(deck)
    own = shell.json(*orca, "--decks", "mine", "-o", "own")
    assert own["theory"] != plain["theory"]
    assert (shell.folder / "own" / "structure_0000.inp").read_text().startswith("! PBE0 def2-SVP EnGrad Very")
    (shell.folder / "mine" / "orca.inp.j2").write_text(deck.replace("method", "metod"))
    line = shell.here(*orca, "--decks", "mine", "-o", "bad", code=1).line
    assert "'metod' is undefined" in line and not (shell.folder / "bad").exists()
