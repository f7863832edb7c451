"""VASP: failed jobs of a fake program that custodian's own handlers correct, or that pause the campaign."""

import campaigns
import numpy as np
import pytest
from labelling import fixture, label_campaign, label_through_fireworks
from vasp_outputs import (
    ABORTED,
    GOOD,
    OPTIONS,
    POTRF,
    QUARTZ,
    REACHED,
    TETRAHEDRON,
    UNCONVERGED,
    UNFINISHED,
    parsed,
    run,
    write_potcars,
)

from alfw.core.errors import DeckError, NotConvergedError
from alfw.core.frame import Frame
from alfw.labelers import vasp
from alfw.labelers._vasp_input import poscar
from alfw.labelers.readers.vasp import READER
from alfw.labelers.vasp import VASPLabeler
from alfw.testing import Replay, fake_program

pymatgen = pytest.importorskip(
    "pymatgen.io.vasp", reason="custodian's handlers need it: pip install 'alfw[vasp]'"
)


@pytest.fixture
def silicon():
    """The recorded calculation, and the frame of its first step."""
    files = {"OUTCAR": fixture("vasp/OUTCAR"), "vasprun.xml": fixture("vasp/vasprun.xml")}
    step = READER.output(files).steps[0]
    return files, Frame(step.numbers, step.positions, step.cell, np.ones(3, bool)), step


def unfinished(files):
    """The recorded calculation, as if four cycles had been allowed: every loop was at its end."""
    outcar = files["OUTCAR"].replace(b"NELM   =    100;", b"NELM   =      4;")
    xml = files["vasprun.xml"].replace(b'name="NELM">   100<', b'name="NELM">     4<')
    assert outcar != files["OUTCAR"] and xml != files["vasprun.xml"]
    return Replay(
        files={"OUTCAR": outcar.replace(REACHED.encode(), UNCONVERGED.encode()), "vasprun.xml": xml}
    )


@pytest.mark.parametrize(
    ("first", "options", "remedy"),
    [
        (POTRF, {}, {"ISYM": 0}),
        (
            Replay(stdout=b"Allocation would exceed memory limit", code=1),
            {"incar_execution": {"KPAR": 4}},
            {"KPAR": 2},
        ),
        (ABORTED, {}, {"again": 1}),
    ],
)
def test_custodians_handlers_correct_it(tmp_path, first, options, remedy):
    label, result, program = run(tmp_path, first, GOOD, **options)
    assert label.energy == -20.0 and program.starts == 2 and result.changes == {}
    assert [correction["actions"] for correction in result.corrections] == [[remedy]]
    tags = parsed(program.saw(1, "INCAR"))
    assert tags | {k: str(v) for k, v in remedy.items() if k != "again"} == tags
    assert program.saw(1, "POSCAR") == program.saw(0, "POSCAR")


def test_a_remedy_that_changes_the_theory_is_for_those_who_allow_it(tmp_path):
    with pytest.raises(DeckError, match="Tetrahedron method fails") as caught:
        run(tmp_path, TETRAHEDRON, GOOD, incar={"ENCUT": 520, "ISMEAR": -5})
    assert [c["actions"] for c in caught.value.partial.corrections] == [None]
    (tmp_path / "second").mkdir()
    label, result, program = run(
        tmp_path / "second",
        TETRAHEDRON,
        GOOD,
        incar={"ENCUT": 520, "ISMEAR": -5},
        allow_theory_changes=True,
    )
    assert label.changes == {"ISMEAR": 0, "SIGMA": 0.05} and program.starts == 2
    assert parsed(program.saw(1, "INCAR"))["ISMEAR"] == "0"


def test_where_a_handler_wants_another_mesh_it_is_asked_again(tmp_path):
    brmix = Replay(stdout=b" BRMIX: very serious problems\n", code=1)
    label, result, program = run(tmp_path, brmix, brmix, GOOD)
    assert label.energy == -20.0 and result.changes == {}
    # Its second remedy would be a Monkhorst-Pack mesh.
    assert [c["actions"] for c in result.corrections] == [[{"IMIX": 1}], [{"ISYM": 0}]]
    assert program.saw(2, "KPOINTS") == program.saw(0, "KPOINTS")
    assert parsed(program.saw(2, "INCAR"))["IMIX"] == "1"


def test_a_remedy_that_changes_the_structure_is_none(tmp_path):
    handed = Replay(stdout=b" ERROR: the triple product of the basis vectors is negative\n", code=1)
    error, result, program = run(tmp_path, handed, GOOD)
    assert error.failure_class == "INPUT_ERROR" and program.starts == 1
    assert [c["actions"] for c in result.corrections] == [None]


def test_an_scf_that_does_not_converge_gets_other_algorithms(tmp_path, silicon):
    files, frame, step = silicon
    algorithms = [
        files["vasprun.xml"].replace(b">Fast<", f">{name}<".encode()) for name in ("Fast", "Normal", "All")
    ]
    failing = [unfinished(files | {"vasprun.xml": xml}) for xml in algorithms]
    label, result, _ = run(
        tmp_path, *failing, Replay(files=files), frame=frame, incar_execution={"ALGO": "Fast"}
    )
    assert label.energy == step.energy
    assert [c["errors"] for c in result.corrections] == [["Unconverged"]] * 3
    first, second, third = (c["actions"][0] for c in result.corrections)
    assert (first, second) == ({"ALGO": "Normal"}, {"ALGO": "All", "ISEARCH": 1})
    assert third["ALGO"] == "Normal" and third["BMIX"] == 0.001  # other mixing


def test_the_structure_stays_whatever_else_a_remedy_does(tmp_path):
    moved = poscar(QUARTZ.moved(QUARTZ.positions + 0.1))
    first = Replay(
        stdout=b"WARNING in EDDRMM: call to ZHEGV failed, returncode =   6\n",
        files={"CONTCAR": moved},
        code=1,
    )
    label, result, program = run(tmp_path, first, GOOD, incar_execution={"ALGO": "Fast"})
    assert label.energy == -20.0 and [c["actions"] for c in result.corrections] == [[{"ALGO": "Normal"}]]
    assert program.saw(1, "POSCAR") == program.saw(0, "POSCAR") == poscar(QUARTZ).decode()
    assert program.saw(1, "POTCAR") == program.saw(0, "POTCAR")


def test_no_remedy_is_tried_twice(tmp_path, silicon):
    files, frame, _ = silicon
    error, result, program = run(tmp_path, unfinished(files), frame=frame, incar_execution={"ALGO": "Fast"})
    assert type(error) is NotConvergedError and error.signature == UNCONVERGED
    assert program.starts == 2 and [bool(c["actions"]) for c in result.corrections] == [True, False]


def test_a_warning_on_a_good_output_is_left_alone(tmp_path):
    warned = Replay(stdout=b" WARNING: Sub-Space-Matrix is not hermitian in DAV\n", files=GOOD.files)
    label, result, program = run(tmp_path, warned)
    assert label.energy == -20.0 and program.starts == 1 and list(result.corrections) == []


def test_without_pymatgen_there_are_remedies_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setattr(vasp, "find_spec", lambda name: None)
    symmetry = Replay(stdout=b" VERY BAD NEWS! internal error in subroutine PRICEL", code=1)
    label, result, program = run(
        tmp_path, symmetry, ABORTED, UNFINISHED, GOOD, incar_execution={"ALGO": "Fast", "ISYM": 2}
    )
    assert label.energy == -20.0
    assert [c["actions"] for c in result.corrections] == [
        [{"ISYM": 0}],
        [{"again": 1}],
        [{"NELM": 200, "ALGO": "NORMAL"}],
    ]
    tags = [parsed(program.saw(i, "INCAR")) for i in range(4)]
    assert [(t["ISYM"], t["NELM"], t["ALGO"]) for t in tags] == [
        ("2", "100", "FAST"),
        ("0", "100", "FAST"),
        ("0", "100", "FAST"),
        ("0", "200", "NORMAL"),
    ]


def campaign(folder, frame, program, **options):
    """A campaign whose workers know where POTCARs are."""
    here = OPTIONS | options | {"pseudo_dir": str(write_potcars(folder / "potcars"))}
    pinned = VASPLabeler.with_files(here, folder) | {
        "pseudo_dir": ">>potcars<<",
        "command": str(program.path),
    }
    return label_campaign(folder, [frame], pinned)


@pytest.mark.parametrize(
    ("failure", "options", "remedy"),
    [
        ("symprec_noise", {}, {"SYMPREC": 1e-6}),
        ("ibzkpt", {}, {"ISYM": 0}),
        (
            "algo_tet_only",
            {"incar": {"ENCUT": 520, "ISMEAR": -5}, "incar_execution": {"ALGO": "All"}},
            {"ALGO": "Fast"},
        ),
    ],
)
def test_a_recorded_failure_then_a_recorded_label(tmp_path, launchpad, silicon, failure, options, remedy):
    files, frame, step = silicon
    first = Replay(stdout=fixture(f"vasp/vasp.{failure}"), code=1)
    program = fake_program(tmp_path, "vasp_std", first, Replay(files=files))
    config = campaign(tmp_path, frame, program, **options)
    store, states = label_through_fireworks(launchpad, config, {"potcars": str(tmp_path / "potcars")})
    assert program.starts == 2 and "FIZZLED" not in states
    [record] = campaigns.collection(store, "labels")
    [[_, found]] = store.get_labels([frame.id], record["theory"]).values()
    assert found.energy == step.energy and found.version == "vasp 6.4.2" and found.changes == {}
    np.testing.assert_allclose(found.stress, step.stress)
    assert [c["actions"] for c in found.corrections] == [[remedy]]
    tags = parsed(program.saw(1, "INCAR"))
    assert {k: type(v)(tags[k]) for k, v in remedy.items()} == remedy
    [kept] = campaigns.collection(store, "runs")
    assert "POTCAR" not in store.get_run(kept["_id"]).files  # they are licensed


def test_a_tag_that_vasp_cannot_read_pauses_the_campaign(tmp_path, launchpad, silicon):
    files, frame, _ = silicon
    program = fake_program(tmp_path, "vasp_std", Replay(stdout=fixture("vasp/vasp.read_error"), code=1))
    config = campaign(tmp_path, frame, program)
    store, _ = label_through_fireworks(launchpad, config, {"potcars": str(tmp_path / "potcars")})
    record = store.get_campaign("labels")
    assert record["state"] == "paused" and "Error reading item EFERMI from file INCAR" in record["reason"]
    assert program.starts == 1
