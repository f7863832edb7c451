"""VASP: its inputs, and jobs with a fake program that custodian's own handlers correct."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from vasp_outputs import CELL, FORCES, GOOD, OPTIONS, POTCARS, QUARTZ, labeler, parsed, run, write_potcars

from alfw.core.errors import BasisError, ChargeError, DataError, ExecutableError, InputError
from alfw.core.frame import Frame
from alfw.core.records import Attempt, Resources
from alfw.core.registry import plugin_class
from alfw.labelers.vasp import VASPLabeler


@pytest.fixture
def pseudo_dir(tmp_path):
    return write_potcars(tmp_path / "potcars")


def incar(frame, **options):
    text = labeler(**options).inputs(frame, Resources())["INCAR"].decode()
    return parsed(text)


def test_the_entry_point_knows_the_kind():
    assert plugin_class("alfw.labelers", "vasp") is VASPLabeler


def test_a_static_calculation_of_the_frame(pseudo_dir):
    files = labeler(pseudo_dir=str(pseudo_dir)).inputs(QUARTZ, Resources())
    tags = parsed(files["INCAR"].decode())
    assert [tags[tag] for tag in ("NSW", "IBRION", "ENCUT", "ISPIN", "ALGO")] == [
        "0",
        "-1",
        "520",
        "1",
        "NORMAL",
    ]
    assert "MAGMOM" not in tags and "NUPDOWN" not in tags and "NELECT" not in tags
    assert files["KPOINTS"].decode().splitlines()[1:] == ["0", "Gamma", "3 3 3", "0.0 0.0 0.0"]
    lines = files["POSCAR"].decode().splitlines()
    assert lines[5:7] == ["O Si", "2 1"]
    rows = [[float(x) for x in line.split()] for line in lines[8:]]
    np.testing.assert_array_equal(rows, QUARTZ.positions[[0, 2, 1]])
    assert files["POTCAR"].decode() == POTCARS["O"] + POTCARS["Si"]
    assert "POTCAR" not in labeler().inputs(QUARTZ, Resources())


def test_spins():
    moments = replace(QUARTZ, moments=[1.0, 2.0, 3.0])
    triplet = replace(QUARTZ, multiplicity=3)
    assert incar(moments)["MAGMOM"] == "1 3 2" and "NUPDOWN" not in incar(moments)
    assert incar(triplet)["ISPIN"] == "2" and incar(triplet)["NUPDOWN"] == "2"
    assert incar(QUARTZ, spin=True)["MAGMOM"] == "1 1 1"
    assert incar(QUARTZ, moments={"Si": 2.5})["MAGMOM"] == "0 0 2.5"
    assert incar(QUARTZ, moments={"Fe": 5.0})["ISPIN"] == "1"
    with pytest.raises(InputError, match="`spin` is false"):
        labeler(spin=False).check(triplet)
    with pytest.raises(ChargeError):
        labeler().check(replace(QUARTZ, multiplicity=2))
    labeler().check(Frame(numbers=[26], positions=[[0, 0, 0]], cell=CELL, pbc=[True] * 3))


def test_hubbard_u_and_charge_follow_the_poscar(pseudo_dir):
    tags = incar(replace(QUARTZ, numbers=[8, 26, 8]), hubbard={"Fe": {"l": 2, "U_eV": 4.0}})
    assert [tags[tag] for tag in ("LDAU", "LDAUL", "LDAUU", "LMAXMIX")] == [".TRUE.", "-1 2", "0 4", "4"]
    assert "LDAU" not in incar(QUARTZ, hubbard={"Fe": {"l": 2, "U_eV": 4.0}})
    assert incar(replace(QUARTZ, charge=1), pseudo_dir=str(pseudo_dir))["NELECT"] == "15"
    with pytest.raises(ExecutableError):
        incar(replace(QUARTZ, charge=1))


@pytest.mark.parametrize(
    ("kpoints", "lines"),
    [
        ({"spacing": 0.4}, ["Gamma", "4 4 4"]),  # 2π/4.2 = 1.496, 1.496/0.4 = 3.7
        ({"spacing": 2 * np.pi / 4.0}, ["Gamma", "1 1 1"]),
        (
            {"grid": [2, 1, 3], "gamma": False, "shift": [0.5, 0, 0]},
            ["Monkhorst-Pack", "2 1 3", "0.5 0.0 0.0"],
        ),
    ],
)
def test_k_points(kpoints, lines):
    text = labeler(kpoints=kpoints).inputs(QUARTZ, Resources())["KPOINTS"].decode()
    assert text.splitlines()[2:][: len(lines)] == lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"incar": {"ENCTU": 520, "ENCUT": 1}}, "ENCTU: unknown"),
        ({"incar": {"ISMEAR": 0}}, "ENCUT is missing"),
        ({"incar": {"ENCUT": 520, "NSW": 10}}, "NSW: unknown .*, or set by alfw"),
        ({"incar": {"ENCUT": 520, "ncore": 4}}, "NCORE does not change the theory"),
        ({"incar_execution": {"SIGMA": 0.2}}, "SIGMA changes the theory"),
        ({"kpoints": {"grid": [1, 1, 1], "spacing": 0.2}}, "either `spacing`"),
        ({"kpoints": {}}, "either `spacing`"),
        ({"pseudopotentials": {"Unobtainium": "U"}}, "no element"),
    ],
)
def test_wrong_options_are_found_when_they_are_read(options, message):
    with pytest.raises(ValidationError, match=message):
        labeler(**options)


def test_the_theory(pseudo_dir):
    same = [
        labeler(incar={"encut": "520.0", "ismear": "0", "sigma": "1E-1"}),
        labeler(incar_execution={"KPAR": 2, "ALGO": "Fast"}, pseudo_dir="/x", command="srun vasp_gam"),
    ]
    other = [
        labeler(incar={"ENCUT": 500, "ISMEAR": 0, "SIGMA": 0.1}),
        labeler(kpoints={"spacing": 0.3}),
        labeler(version="5"),
        labeler(allow_theory_changes=True),
        labeler(pseudopotentials=OPTIONS["pseudopotentials"] | {"Si": "Si_GW"}),
        VASPLabeler.model_validate(
            VASPLabeler.with_files(OPTIONS | {"pseudo_dir": str(pseudo_dir)}, pseudo_dir)
        ),
    ]
    assert {each.theory().id for each in same} == {labeler().theory().id}
    assert len({each.theory().id for each in [labeler(), *other]}) == len(other) + 1


def test_potcars_are_pinned_when_the_campaign_is_added(pseudo_dir):
    found = VASPLabeler.with_files(OPTIONS | {"pseudo_dir": "potcars"}, pseudo_dir.parent)
    digest = hashlib.sha256(POTCARS["Si"].encode()).hexdigest()
    assert found["pseudopotentials"]["Si"] == {"file": "Si/POTCAR", "sha256": digest}
    assert VASPLabeler.with_files(found, pseudo_dir) == found
    with pytest.raises(DataError, match="workers only; state .file: Si/POTCAR"):
        VASPLabeler.with_files(OPTIONS | {"pseudo_dir": ">>potcars<<"}, pseudo_dir)
    (pseudo_dir / "Si" / "POTCAR").write_text(POTCARS["Si"] + "\n")
    pinned = VASPLabeler.model_validate(found)
    with pytest.raises(ExecutableError, match="bring that file here"):
        pinned.run(QUARTZ, pseudo_dir / "job", Resources())


def test_frames_and_potcars_that_do_not_fit(tmp_path):
    molecule = Frame(numbers=[8, 1, 1], positions=np.eye(3))
    left = replace(QUARTZ, cell=CELL[[1, 0, 2]])
    carbon = replace(QUARTZ, numbers=[6, 14, 8])
    for frame, error in ((molecule, InputError), (left, InputError), (carbon, BasisError)):
        with pytest.raises(error):
            labeler().check(frame)
    with pytest.raises(BasisError, match="Fe/POTCAR is no POTCAR of Si, but of Fe"):
        run(tmp_path, GOOD, pseudopotentials={"Si": "Fe", "O": "O"})


def test_a_missing_program_pauses(pseudo_dir, tmp_path):
    mine = labeler(pseudo_dir=str(pseudo_dir), command="vasp_nowhere")
    with pytest.raises(ExecutableError, match="cannot start 'vasp_nowhere'"):
        mine.run(QUARTZ, tmp_path / "job", Resources())


def test_a_good_run_needs_no_pymatgen(tmp_path):
    label, result, program = run(tmp_path, GOOD)
    assert label.energy == -20.0 and label.version == "vasp 6.4.2" and program.starts == 1
    np.testing.assert_allclose(label.forces, FORCES)
    assert sorted(result.files) == ["INCAR", "KPOINTS", "OUTCAR", "output.log", "returncode", "vasprun.xml"]
    code = (
        "import sys, alfw.labelers.vasp, alfw.labelers._run, alfw.labelers._vasp_recovery;"
        "sys.exit(str([m for m in sys.modules if m.startswith(('pymatgen', 'custodian.vasp'))] or ''))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == ""


def test_another_version_pauses(tmp_path):
    with pytest.raises(ExecutableError, match="campaign states version 5"):
        run(tmp_path, GOOD, version="5")


def test_another_first_guess(tmp_path):
    _, _, program = run(tmp_path, GOOD, attempt=Attempt(other_guess=True))
    assert parsed(program.saw(0, "INCAR"))["ICHARG"] == "0"
    frame = replace(QUARTZ, moments=[1.0, 2.0, 3.0])
    (tmp_path / "second").mkdir()
    _, _, program = run(tmp_path / "second", GOOD, frame=frame, attempt=Attempt(other_guess=True))
    tags = parsed(program.saw(0, "INCAR"))
    assert tags["ICHARG"] == "2" and tags["MAGMOM"] == "2 6 4"
