"""`alfw qm read`: from outputs, wherever they were run, to training data; a bad output never gets in."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from labelling import cuts, fixture
from shell import Shell

from alfw.core.frame import Frame
from alfw.io.frames import read_frames
from alfw.io.imported import Imported
from alfw.labelers.outputs import level, read_output
from alfw.testing import Replay, fake_program


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With recorded outputs: one good, and one of each kind that is bad."""
    (tmp_path / "good.out").write_bytes(fixture("orca/orca6_dvb_gopt.out"))
    (tmp_path / "packed.out.gz").write_bytes(gzip.compress(fixture("orca/orca5_dvb_gopt.out")))
    (tmp_path / "outcar").mkdir()
    (tmp_path / "outcar" / "OUTCAR").write_bytes(fixture("vasp/OUTCAR"))
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "cut.out").write_bytes(fixture("orca/orca6_dvb_gopt.out")[:-2000])
    (bad / "empty.out").touch()
    (bad / "keyword.out").write_bytes(fixture("orca/orca_input_error.log"))
    (bad / "memory.out").write_bytes(fixture("orca/orca_scf_memory_error.log"))
    (bad / "binary.out").write_bytes(bytes(range(256)) * 40)
    (bad / "letter.out").write_text("Dear Sir or Madam,\n")
    (bad / "broken.out.gz").write_bytes(gzip.compress(b"O   R   C   A" * 1000)[:-30])
    (bad / "gradient.out").write_bytes(fixture("orca/orca_successful_sp.log"))
    return Shell(tmp_path)


def test_every_complete_step_is_a_label_with_its_own_geometry(shell: Shell) -> None:
    report = shell.json("qm", "read", "good.out", "-o", "data.npz")
    output = read_output(shell.folder / "good.out")
    items = read_frames(shell.folder / "data.npz")
    assert report["n_outputs"] == 1 and report["n_labels"] == len(items) == len(output.steps) == 3
    for item, step in zip(items, output.steps, strict=True):
        np.testing.assert_allclose(item.frame.positions, step.positions, atol=1e-6)
        assert item.label is not None and item.label.energy == step.energy
        np.testing.assert_array_equal(item.label.forces, step.forces)
        assert (item.theory, item.trajectory) == (level(output), "good.out")
        assert item.label.version == "orca 6.0.0"
    assert len({item.frame.id for item in items}) == 3
    assert report["units"]["E"] == "eV" and report["properties"]["forces"] == 3
    assert report["theory"] == "orca 6: b3lyp sto-3g usesym" and report["versions"] == ["orca 6.0.0"]
    with np.load(shell.folder / "data.npz") as data:
        assert json.loads(str(data["about"]))["code"] == "orca"
        assert json.loads(str(data["units"]))["F"] == "eV/Angstrom"
    typed = shell.alfw("qm", "read", "good.out", "-o", "data.extxyz")
    assert typed.err == "" and re.search(r"data\.extxyz: 3 labels from 1 outputs; orca 6: b3lyp", typed.out)
    [first, *_] = ase.io.read(shell.folder / "data.extxyz", ":")
    assert first.info["theory"] == level(output) and first.info["version"] == "orca 6.0.0"


def test_bad_outputs_are_listed_and_the_good_ones_are_written(shell: Shell) -> None:
    typed = shell.alfw("qm", "read", "good.out", "bad/*", "-o", "data.npz", code=2)
    assert "3 labels from 9 outputs, 8 refused" in typed.out
    for line in (
        r"bad/cut\.out: \w+: ",
        r"bad/empty\.out: MISSING_OUTPUT: the output is empty",
        r"bad/keyword\.out: INPUT_ERROR: .*UNRECOGNIZED OR DUPLICATED KEYWORD.*XTB1",
        r"bad/memory\.out: OUT_OF_MEMORY: .*Not enough memory available!",
        r"bad/binary\.out: UNKNOWN: not an output of ",
        r"bad/letter\.out: UNKNOWN: not an output of .*; it begins with: Dear Sir or Madam,",
        r"bad/broken\.out\.gz: UNKNOWN: cannot be unpacked",
        r"bad/gradient\.out: GRADIENT_MISSING: .*FINAL SINGLE POINT ENERGY +-189\.939510650571",
    ):
        assert re.search(line, typed.out), line
    assert len(read_frames(shell.folder / "data.npz")) == 3
    report = shell.json("qm", "read", "bad/*", "-o", "none.npz", code=2)
    assert (report["n_labels"], report["n_refused"], report["file"]) == (0, 8, None)
    assert not (shell.folder / "none.npz").exists()
    assert {"output", "class", "signature", "message"} == report["refused"][0].keys()


def test_two_theories_are_refused_and_nothing_is_written(shell: Shell) -> None:
    line = shell.here("qm", "read", "good.out", "packed.out.gz", "-o", "data.npz", code=1).line
    assert "two theories" in line and "orca 5: b3lyp" in line and "orca 6: b3lyp" in line
    assert "good.out" in line and "packed.out.gz" in line and not (shell.folder / "data.npz").exists()


def test_folders_globs_and_packed_files(shell: Shell) -> None:
    assert shell.json("qm", "read", "packed.out.gz", "-o", "a.npz")["n_labels"] == 3
    report = shell.json("qm", "read", "outcar", "-o", "vasp.extxyz")
    assert report["code"] == "vasp" and report["properties"]["stress"] == 3
    (shell.folder / "results").mkdir()
    for name in ("a_OUTCAR", "b_OUTCAR"):
        shutil.copy(shell.folder / "outcar" / "OUTCAR", shell.folder / "results" / name)
    (shell.folder / "results" / "a_log").write_text(" vasp.6.4.2 a line of its standard output\n")
    (shell.folder / "results" / "a_CONTCAR").write_text("Si2\n")
    report = shell.json("qm", "read", "results", "-o", "twice.extxyz")
    assert (report["n_outputs"], report["n_labels"], report["n_repeated"]) == (2, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["good.out", "-o", "data.csv"], "has to end so|must end so"),
        (
            ["good.out", "-o", "data.npz", "--labeler", "molpro"],
            "no reader for outputs of 'molpro'; there are castep",
        ),
        (["nowhere/*.out", "-o", "data.npz"], "nowhere/.*: no such file"),
        (["nothing", "-o", "data.npz"], "nothing: no such file, or a folder without outputs"),
        (["good.out", "-o", "good.out/data.npz"], "cannot be written"),
        (["good.out"], "output"),
    ],
)
def test_mistakes_cost_one_line(shell: Shell, arguments: list[str], words: str) -> None:
    (shell.folder / "nothing").mkdir()
    assert re.search(words, shell.here("qm", "read", *arguments, code=1).line)


def test_the_wrong_code_is_no_way_in(shell: Shell) -> None:
    for code in ("gaussian", "nwchem", "vasp"):
        report = shell.json("qm", "read", "good.out", "--labeler", code, "-o", "data.npz", code=2)
        assert report["n_labels"] == 0


@pytest.mark.parametrize(
    "name",
    ["orca/orca6_dvb_gopt.out", "gaussian/g16_dvb_gopt.out", "vasp/OUTCAR"],
)
def test_a_cut_output_is_never_a_label(tmp_path: Path, name: str) -> None:
    for index, data in enumerate(cuts(fixture(name))):
        (tmp_path / f"{index:02d}.out").write_bytes(data)
    report = Shell(tmp_path).json("qm", "read", "*.out", "-o", "data.npz", code=2)
    assert (report["n_labels"], report["n_refused"]) == (0, 20)


def test_one_frame_with_two_energies_is_suspect(shell: Shell) -> None:
    text = fixture("orca/orca6_dvb_gopt.out").decode()
    energy = re.findall(r"FINAL SINGLE POINT ENERGY +(\S+)", text)[0]
    other = text.replace(energy, energy.replace("-382.", "-381."))
    (shell.folder / "other.out").write_text(other)
    report = shell.json("qm", "read", "good.out", "other.out", "-o", "data.npz", code=2)
    assert report["n_labels"] == 2  # the other two steps agree
    assert [each["class"] for each in report["refused"]] == ["SUSPECT", "SUSPECT"]
    assert [each["output"] for each in report["refused"]] == ["good.out", "other.out"]


# ------------------------------------------------------------------------- outputs whose inputs alfw wrote


@pytest.fixture
def written(shell: Shell) -> Shell:
    """With a folder `in` of the inputs of two of the three steps, in full precision."""
    items = []
    for step in read_output(shell.folder / "good.out").steps[:2]:
        shift = np.array([1.0, 2.0, 3.0])  # the program may have moved the molecule
        items.append(Imported(Frame(numbers=step.numbers, positions=step.positions + shift)))
    for index, item in enumerate(items):
        atoms = item.frame.to_atoms()
        ase.io.write(shell.folder / f"dvb_{index}.xyz", atoms)
    shell.here(
        "qm", "write", "dvb_*.xyz", "--labeler", "orca", "--method", "B3LYP", "--basis", "STO-3G", "-o", "in"
    )
    return shell


def frames(shell: Shell) -> list[str]:
    return [item.frame.id for item in read_frames(shell.folder / "in" / "qm.extxyz")]


def test_an_output_by_hand_belongs_to_the_frame_that_was_submitted(written: Shell) -> None:
    shutil.copy(written.folder / "good.out", written.folder / "in" / "dvb_0.out")
    for source in ("in/*.out", "in/dvb_0.out"):
        report = written.json("qm", "read", source, "-o", "data.npz")
        items = read_frames(written.folder / "data.npz")
        assert items[0].frame.id == frames(written)[0] and len(items) == 3
        manifest = json.loads((written.folder / "in" / "qm.json").read_text())
        assert report["theory"] == manifest["theory"] and {item.theory for item in items} == {
            report["theory"]
        }
    partly = written.json("qm", "read", "in", "-o", "data.npz", code=2)
    assert partly["n_labels"] == 3 and partly["refused"][0]["message"] == "not run yet"


def test_an_output_of_an_edited_input_has_the_theory_that_it_prints(written: Shell) -> None:
    shutil.copy(written.folder / "good.out", written.folder / "in" / "dvb_0.out")
    deck = written.folder / "in" / "dvb_0.inp"
    deck.write_text(deck.read_text().replace("B3LYP", "PBE"))
    report = written.json("qm", "read", "in/dvb_0.out", "-o", "data.npz")
    assert report["theory"] == "orca 6: b3lyp sto-3g usesym"
    assert read_frames(written.folder / "data.npz")[0].frame.id == frames(written)[0]


def test_an_output_of_another_structure_is_refused(written: Shell) -> None:
    text = fixture("orca/orca6_dvb_gopt.out")
    (written.folder / "in" / "dvb_1.out").write_bytes(text.replace(b"C ", b"N ", 1))
    other = read_frames(written.folder / "dvb_0.xyz")[0].frame
    moved = np.array(other.positions)
    moved[0, 0] += 0.01
    ase.io.write(written.folder / "moved.xyz", other.moved(moved).to_atoms())
    options = ["--labeler", "orca", "--method", "B3LYP", "--basis", "STO-3G"]
    written.here("qm", "write", "moved.xyz", *options, "-o", "in2")
    (written.folder / "in2" / "moved.out").write_bytes(text)
    report = written.json("qm", "read", "in2", "-o", "data.npz", code=2)
    assert report["n_labels"] == 0 and report["refused"][0]["class"] == "WRONG_STRUCTURE"


@pytest.mark.slow
def test_a_replayed_program_runs_with_its_remedies_and_is_read(written: Shell) -> None:
    """Through custodian: the first attempt at the first frame runs out of memory, the second one does not."""
    good, failed = fixture("orca/orca6_dvb_gopt.out"), fixture("orca/orca_scf_memory_error.log")
    replays = Replay(failed, code=1), Replay(good), Replay(good)
    program = fake_program(written.folder, "orca", *replays)
    written.path(written.folder)
    report = json.loads(written.alfw("qm", "run", "in", "--json").out)
    assert (report["n_good"], report["n_failed"], program.starts) == (2, 0, 3)
    record = json.loads((written.folder / "in" / "dvb_0.run" / "run.json").read_text())
    assert record["corrections"][0]["errors"] == ["OUT_OF_MEMORY"] and record["version"] == "orca 6.0.0"
    assert (written.folder / "in" / "dvb_0.out").read_bytes() == good
    # both outputs are of one optimisation, whose three steps lie where the program has put them, once each
    report = written.json("qm", "read", "in", "-o", "data.npz")
    assert (report["n_labels"], report["n_repeated"], report["n_refused"]) == (5, 1, 0)
    ids = [item.frame.id for item in read_frames(written.folder / "data.npz")]
    assert set(frames(written)) < set(ids)
    again = written.json("qm", "read", "in/*.out", "-o", "data.npz")
    assert again["n_labels"] == 5 and again["theory"] == report["theory"]


def test_good_outputs_by_hand_are_not_run_again(written: Shell) -> None:
    good, bad = fixture("orca/orca6_dvb_gopt.out"), fixture("orca/orca_scf_memory_error.log")
    program = fake_program(written.folder, "orca", Replay(good))
    written.path(written.folder)
    (written.folder / "in" / "dvb_0.out").write_bytes(good + b"\n")
    (written.folder / "in" / "dvb_1.out").write_bytes(bad)
    report = json.loads(written.alfw("qm", "run", "in", "--json").out)
    assert (report["n_skipped"], report["n_good"], program.starts) == (1, 1, 1)
    assert (written.folder / "in" / "dvb_0.out").read_bytes() == good + b"\n"
    assert (written.folder / "in" / "dvb_1.out").read_bytes() == good


@pytest.mark.parametrize(
    ("replay", "words", "code"),
    [
        ("orca/orca_input_error.log", "UNRECOGNIZED OR DUPLICATED KEYWORD", 1),
        (None, "cannot start 'orca' on .*looked in PATH", 3),
    ],
)
def test_what_every_frame_would_suffer_stops_the_first(
    written: Shell, replay: str | None, words: str, code: int
) -> None:
    if replay is not None:
        program = fake_program(written.folder, "orca", Replay(fixture(replay), code=1))
        written.path(written.folder)
    typed = written.alfw("qm", "run", "in", code=code)
    assert re.search(words, typed.line) and typed.line.startswith("alfw: dvb_0: ")
    assert replay is None or program.starts == 1
