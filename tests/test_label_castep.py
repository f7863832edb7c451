"""CASTEP: decks, hand-made outputs, and jobs with a fake program."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from castep_outputs import (
    CELL,
    DISPERSION,
    ENERGIES,
    FORCES,
    GOOD,
    MIXED,
    UNCONVERGED,
    STRESS_GPa,
    output,
    positions,
    result,
    unit_cell,
)
from labelling import cuts, fixture
from pydantic import ValidationError

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GradientMissingError,
    InputError,
    LabelError,
    MissingOutputError,
    NotConvergedError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.records import Attempt, Resources, Run
from alfw.core.registry import plugin_class
from alfw.core.units import EV_PER_A3_GPa
from alfw.labelers.castep import CASTEPLabeler
from alfw.labelers.outputs import marks, read_output
from alfw.labelers.readers.castep import READER
from alfw.testing import Replay, fake_program

OPTIONS = {"kind": "castep", "xc_functional": "PBE", "cut_off_energy_eV": 500, "kpoints": {"grid": [2, 3, 1]}}


def labeler(**options):
    return CASTEPLabeler.model_validate(OPTIONS | options)


def refusal(data, **more):
    with pytest.raises(LabelError) as caught:
        READER.output({"castep.castep": data, **more})
    return type(caught.value), caught.value.signature


def test_the_entry_point_knows_the_kind():
    assert plugin_class("alfw.labelers", "castep") is CASTEPLabeler
    assert marks(GOOD) == ["castep"] and "castep" not in marks(fixture("espresso/default.out"))


def test_a_label_is_in_the_order_of_the_frame():
    label = labeler(version="20").parse(MIXED, Run({"castep.castep": GOOD}))
    assert label.energy == -862.1480303004 and label.version == "castep 20.11"  # the free one
    np.testing.assert_allclose(label.forces, FORCES, atol=1e-12)
    np.testing.assert_allclose(label.stress, STRESS_GPa / EV_PER_A3_GPa)  # tension positive


def test_the_energy_is_that_of_the_forces():
    order = [1, 0, 2]
    parts = unit_cell(CELL), positions(MIXED, order), result(order, MIXED.numbers, ENERGIES + DISPERSION)
    assert READER.output({"castep.castep": output(*parts, sedc="on")}).steps[0].energy == -863.1480303004
    assert refusal(output(sedc="on")) == (UnknownLabelError, "no dispersion free energy")
    plain = (
        unit_cell(CELL),
        positions(MIXED, order),
        result(order, MIXED.numbers, "Final energy =  -337.8473 eV\n"),
    )
    assert READER.output({"castep.castep": output(*plain, kind="non-metallic")}).steps[0].energy == -337.8473
    assert refusal(output(*plain))[0] is UnknownLabelError


def test_every_geometry_has_its_own_cell_and_energy():
    order, wider = [1, 0, 2], CELL * 1.01
    moved = MIXED.moved(MIXED.positions + 0.01)
    parts = [
        *(unit_cell(CELL), positions(MIXED, order), result(order, MIXED.numbers)),
        *(positions(moved, order), result(order, MIXED.numbers, ENERGIES.replace("862.1", "862.2"))),
        *(
            unit_cell(wider),
            result(order, MIXED.numbers, ENERGIES.replace("862.1", "862.3")),
        ),  # atoms stay put
        *(unit_cell(wider), result(order, MIXED.numbers, "")),  # the final configuration, once more
    ]
    steps = READER.output({"castep.castep": output(*parts)}).steps
    assert [step.energy for step in steps] == [-862.1480303004, -862.2480303004, -862.3480303004]
    np.testing.assert_allclose(steps[1].positions, moved.positions[order], atol=1e-5)
    np.testing.assert_allclose(steps[2].positions, moved.positions[order] * 1.01, atol=1e-5)
    np.testing.assert_allclose(steps[2].cell, wider)


def test_of_several_runs_in_one_file_the_last_counts():
    assert len(READER.output({"castep.castep": GOOD + GOOD}).steps) == 1
    assert refusal(GOOD + GOOD[:-200])[0] is MissingOutputError


def test_no_part_of_an_output_is_a_label():
    for cut in [*cuts(GOOD), b"", b"\xff\xfe"]:
        assert refusal(cut)[0] is MissingOutputError


def test_an_scf_that_did_not_converge_is_no_label():
    order = [1, 0, 2]
    parts = unit_cell(CELL), positions(MIXED, order), UNCONVERGED, result(order, MIXED.numbers)
    assert refusal(output(*parts)) == (NotConvergedError, UNCONVERGED.strip())
    steps = READER.output(
        {"castep.castep": output(*parts, positions(MIXED, order), result(order, MIXED.numbers))}
    ).steps
    assert len(steps) == 1


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (GOOD.replace(b"Symmetrised Forces", b"Constrained Forces"), GradientMissingError),
        (GOOD.replace(b"Pressure:   -2.0000", b"Pressure:    2.0000"), UnknownLabelError),
        (GOOD.replace(b"energy unit                     : eV", b"energy unit      : Ha"), UnknownLabelError),
        (GOOD.replace(b"eV\nFinal free", b"eV\nFinal fr"), UnknownLabelError),
        (output(charge=0.5), UnknownLabelError),
        (GOOD.replace(b"x  O  ", b"x  C  "), StructureError),
        (GOOD.replace(b"ions in cell =    3", b"ions in cell =    4"), StructureError),
        (GOOD.replace(b"-0.40000", b"********"), StructureError),
    ],
)
def test_what_is_not_understood_is_refused(data, error):
    assert data != GOOD and refusal(data)[0] is error


def test_the_wrong_structure_is_refused():
    digit = positions(MIXED.moved(MIXED.positions + np.outer([0, 1, 0], [0.01, 0, 0])), [1, 0, 2])
    other = output(unit_cell(CELL), digit, result([1, 0, 2], MIXED.numbers))
    for wrong in (other, output(charge=1.0)):
        assert wrong != GOOD
        with pytest.raises(StructureError):
            labeler().parse(MIXED, Run({"castep.castep": wrong}))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Error in reading keyword FOO\nCurrent trace stack:\n parameters_read\n castep\n", DeckError),
        ("Pseudopotential file Si.usp not found\nCurrent trace stack:\n ion_read\n", BasisError),
        (
            "Error allocating wvfn in wave_allocate\nCurrent trace stack:\n wave_allocate\n",
            OutOfMemoryLabelError,
        ),
        (
            "Error with dsytrf in nlpot_prepare\nCurrent trace stack:\n nlpot_prepare\n castep\n",
            UnknownLabelError,
        ),
    ],
)
def test_error_files(text, error):
    assert refusal(GOOD[:500], **{"castep.0001.err": text.encode()}) == (error, text.splitlines()[0])
    assert refusal(GOOD[:-300] + b"\n Insufficient time for another iteration\n")[0] is WalltimeError


def test_the_error_file_is_found_beside_the_output(tmp_path):
    (tmp_path / "si.castep").write_bytes(GOOD[:500])
    (tmp_path / "si.0001.err").write_bytes(
        b"Error in reading keyword FOO\nCurrent trace stack:\n cell_read\n"
    )
    with pytest.raises(DeckError, match="keyword FOO"):
        read_output(tmp_path / "si.castep")


def test_decks():
    files = {k: v.decode() for k, v in labeler(dispersion="D3-BJ").inputs(MIXED, Resources()).items()}
    cell, param = files["castep.cell"], files["castep.param"]
    assert "Si 0.1000000000 0.2000000000 0.3000000000\nO 2.0000000000" in cell and "SPIN" not in cell + param
    assert "KPOINT_MP_GRID : 2 3 1\nKPOINT_MP_OFFSET : 0.25 0 0\n" in cell and "FIX_COM : FALSE" in cell
    assert "%BLOCK SPECIES_POT\nC19\n%ENDBLOCK" in cell
    for line in (
        "TASK : SINGLEPOINT",
        "CUT_OFF_ENERGY : 500.0 eV",
        "SEDC_SCHEME : D3-BJ",
        "MAX_SCF_CYCLES : 60",
    ):
        assert f"{line}\n" in param
    own = labeler(
        otfg_library=None, otfg={"O": "2|1.1|15"}, pseudopotentials={"Si": "a/Si.usp"}, smearing_width_eV=None,
        param_keywords={"grid_scale": 2}, kpoints={"grid": [2, 2, 2], "gamma": False, "shift": [0.5, 0, 0]},
    ).inputs(replace(MIXED, multiplicity=3, charge=2), Resources())  # fmt: skip
    cell, param = own["castep.cell"].decode(), own["castep.param"].decode()
    assert "SPECIES_POT\nSi Si.usp\nO 2|1.1|15\n%END" in cell and "SPIN=0.666667" in cell
    assert "KPOINT_MP_OFFSET : 0.25 0 0\n" in cell
    for line in ("SPIN : 2", "SPIN_FIX : -1", "CHARGE : 2", "GRID_SCALE : 2", "FIX_OCCUPANCY : TRUE"):
        assert f"{line}\n" in param
    assert "METALS_METHOD" not in param


def test_theory_and_options(tmp_path):
    (tmp_path / "Si.usp").write_bytes(b"silicon")
    raw = OPTIONS | {"pseudopotentials": {"Si": "Si.usp"}, "pseudo_dir": "."}
    found = CASTEPLabeler.with_files(raw, tmp_path)
    assert found["pseudopotentials"]["Si"]["sha256"] == hashlib.sha256(b"silicon").hexdigest()
    same = labeler(xc_functional="pbe", command="castep.serial castep", max_scf_cycles=9)
    others = [
        labeler(otfg_library="NCP19"),
        labeler(cut_off_energy_eV=600),
        CASTEPLabeler.model_validate(found),
    ]
    assert same.theory().id == labeler().theory().id
    assert len({each.theory().id for each in (labeler(), *others)}) == 4
    for wrong in ({"param_keywords": {"a b": 1}}, {"param_keywords": {"A": "1\nTASK : X"}}, {"cut_off": 3}):
        with pytest.raises(ValidationError):
            labeler(**wrong)


def test_frames_that_it_cannot_do():
    molecule = Frame(numbers=[8, 1, 1], positions=np.eye(3))
    for mine, frame, error in (
        (labeler(), molecule, InputError),
        (labeler(), replace(MIXED, multiplicity=2), ChargeError),
        (labeler(spin=False), replace(MIXED, multiplicity=3), InputError),
        (labeler(otfg_library=None, otfg={"Si": "2|1.1"}), MIXED, BasisError),
    ):
        with pytest.raises(error):
            mine.check(frame)


def test_a_job_that_needs_ensemble_dft(tmp_path):
    order = [1, 0, 2]
    parts = unit_cell(CELL), positions(MIXED, order), UNCONVERGED, result(order, MIXED.numbers)
    bad, good = Replay(files={"castep.castep": output(*parts)}), Replay(files={"castep.castep": GOOD})
    program = fake_program(tmp_path, "castep.mpi", bad, bad, bad, good)
    mine = labeler(command=f"{program.path} castep")
    run = mine.run(MIXED, tmp_path / "job", Resources(), Attempt(other_guess=True))
    assert mine.parse(MIXED, run).energy == -862.1480303004
    assert [c["actions"] for c in run.corrections] == [
        [{"more_cycles": 200}],
        [{"mix_charge_amp": 0.2}],
        [{"mix_charge_amp": None, "metals_method": "EDFT"}],
    ]
    first, last = program.saw(0, "castep.param"), program.saw(3, "castep.param")
    assert "METALS_METHOD : DM" in first and "RAND_SEED : 2" in first and program.saw(0, "argv") == "castep"
    assert "METALS_METHOD : EDFT" in last and "MAX_SCF_CYCLES : 200" in last and "MIX_CHARGE_AMP" not in last


def test_a_worker_without_castep_or_the_pinned_files_pauses(tmp_path):
    with pytest.raises(ExecutableError, match="cannot start"):
        labeler(command="castep.nowhere castep").run(MIXED, tmp_path, Resources())
    mine = labeler(pseudopotentials={"Si": "Si.usp"}, pseudo_dir=str(tmp_path))
    with pytest.raises(ExecutableError, match="correct `pseudo_dir`"):
        mine.run(MIXED, tmp_path, Resources())
