"""xtb: every bad output is refused with its class; hand-made outputs, replayed programs."""

import numpy as np
import pytest
import xtb_outputs as made
from ase.build import molecule
from labelling import cuts

from alfw.core.errors import (
    ChargeError,
    ExecutableError,
    GradientMissingError,
    InputError,
    LabelError,
    MissingOutputError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Attempt, Resources, Run
from alfw.core.units import HARTREE_eV
from alfw.labelers.outputs import read_output
from alfw.labelers.xtb import SCC, XTBLabeler
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
GRADIENT = 0.01 * WATER.positions
LOG, FILES = made.good(WATER, -5.07, GRADIENT)
XTB = XTBLabeler()


def replayed(folder, *replays, **options):
    program = fake_program(folder, "xtb", *replays)
    return XTBLabeler(command=str(program.path), **options), program


def parsed(log=LOG, **changes):
    return XTB.parse(WATER, Run({**FILES, "xtb.inp": b"json=true", "output.log": log} | changes))


def test_a_suspect_label_starts_from_another_guess(tmp_path):
    labeler, program = replayed(tmp_path, Replay(stdout=LOG, files=FILES))
    labeler.run(WATER, tmp_path, Resources(), Attempt(other_guess=True))
    assert "guess=sad" in program.saw(0, "xtb.inp")


def test_the_steps_are_tried_in_order_and_stale_files_do_not_count(tmp_path):
    failing = Replay(stdout=made.failed(), files=FILES, code=1)
    labeler, program = replayed(tmp_path, failing, failing, Replay(stdout=LOG))
    run = labeler.run(WATER, tmp_path, Resources())
    assert [entry["actions"] for entry in run.corrections] == [[dict(step)] for step in SCC.steps[:2]]
    assert "maxiterations=500" in program.saw(1, "xtb.inp") and "broydamp" not in program.saw(1, "xtb.inp")
    assert "broydamp=0.2" in program.saw(2, "xtb.inp")
    assert program.saw(2, "argv") == "xtb.xyz --input xtb.inp --grad --acc 1 --norestart"
    with pytest.raises(GradientMissingError, match=r"after 2 remedies: xtbout\.json is missing"):
        labeler.parse(WATER, run)


def test_without_permission_the_ladder_ends_with_the_other_mixing(tmp_path):
    labeler, program = replayed(tmp_path, Replay(stdout=made.failed(), code=1))
    with pytest.raises(NotConvergedError, match="after 4 remedies"):
        labeler.parse(WATER, labeler.run(WATER, tmp_path, Resources()))
    assert program.starts == 5 and all("temp=300.0" in program.saw(i, "xtb.inp") for i in range(5))


def test_another_major_version_pauses(tmp_path):
    labeler, _ = replayed(tmp_path, Replay(stdout=LOG, files=FILES), version="5")
    with pytest.raises(ExecutableError, match=r"6\.5\.1 .* states version 5"):
        labeler.run(WATER, tmp_path, Resources())
    assert XTBLabeler(version="6").theory().id != XTB.theory().id


REFUSED = [
    (Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]]), ChargeError, "impossible with 9 electrons"),
    (Frame(numbers=[92, 92], positions=[[0, 0, 0], [0, 0, 3]]), InputError, "no parameters for U"),
    (
        Frame(numbers=[6], positions=[[0, 0, 0]], cell=np.eye(3) * 9, pbc=[True] * 3),
        InputError,
        "for molecules",
    ),
]


@pytest.mark.parametrize(("frame", "error", "words"), REFUSED)
def test_impossible_frames_start_nothing(frame, error, words, tmp_path):
    labeler, program = replayed(tmp_path, Replay())
    run = labeler.run(frame, tmp_path, Resources())
    assert run.files == {} and program.starts == 0
    with pytest.raises(error, match=words):
        labeler.parse(frame, run)


def test_the_hand_made_output_is_a_label():
    found = parsed()
    assert found.energy == pytest.approx(-5.07 * HARTREE_eV)
    np.testing.assert_allclose(found.forces, -GRADIENT * 51.42206747, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.dipole, [0.0529177211, 0.1058354422, 0.1587531633])


BAD = [
    ({"log": b""}, MissingOutputError, "no output"),
    ({"log": made.failed()}, NotConvergedError, "criteria cannot be satisfied within 3 iterations"),
    (
        {"log": made.failed("-1- x: Parameter file param_gfn0-xtb.txt not found!\n")},
        ExecutableError,
        "param_gfn0",
    ),
    ({"log": made.failed("Segmentation fault\n")}, UnknownLabelError, "OMP_STACKSIZE"),
    ({"log": made.failed("-1- x: something new\n")}, UnknownLabelError, "something new"),
    ({"log": made.failed("forrtl: Cannot allocate memory\n")}, OutOfMemoryLabelError, "allocate"),
    ({"log": made.failed(""), "returncode": b"-9"}, OutOfMemoryLabelError, "signal 9"),
    ({"log": made.failed("caf\xe9".encode("latin-1").decode("latin-1"))}, MissingOutputError, "last line"),
    ({"log": b"\xff\xfe\x00 x T B \x80"}, MissingOutputError, "last line"),
    ({"xtb.engrad": b""}, OutOfDiskError, "the disk is full"),
    ({"xtbout.json": b""}, OutOfDiskError, "the disk is full"),
    ({"xtb.engrad": b"\xff\xfe"}, GradientMissingError, r"xtb\.engrad is missing or incomplete"),
    ({"log": LOG.replace(b"-5.07", b"-5.08")}, StructureError, "not of the same calculation"),
    ({"xtbout.json": FILES["xtbout.json"].replace(b"-5.07", b"-5.17")}, StructureError, "not of the same"),
    ({"log": LOG.replace(b" 0.000000000000 e", b" 1.000000000000 e")}, StructureError, "of charge 1"),
    (
        {"xtbout.json": FILES["xtbout.json"].replace(b'trons": 0', b'trons": 2')},
        StructureError,
        "multiplicity 3",
    ),
]


@pytest.mark.parametrize(("changes", "error", "words"), BAD)
def test_every_bad_end_has_its_class(changes, error, words):
    with pytest.raises(error, match=words) as caught:
        parsed(**changes)
    assert type(caught.value) is error and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["output.log", "xtb.engrad", "xtbout.json"])
def test_an_output_cut_off_anywhere_is_no_label(name):
    whole = {**FILES, "output.log": LOG}[name]
    for cut in cuts(whole):
        with pytest.raises(LabelError):
            parsed(**({"log": cut} if name == "output.log" else {name: cut}))


def test_a_flipped_digit_is_refused():
    for old, new in ((b"   8 ", b"   7 "), (b"0.2253725", b"0.2263725"), (b"1.4423127", b"1.4433127")):
        assert old in FILES["xtb.engrad"]
        with pytest.raises(StructureError):
            parsed(**{"xtb.engrad": FILES["xtb.engrad"].replace(old, new)})


def test_outputs_of_others_are_recognised_and_read_with_what_lies_beside(tmp_path):
    (tmp_path / "run.out").write_bytes(LOG)
    (tmp_path / "mol.engrad").write_bytes(FILES["xtb.engrad"])
    found = read_output(tmp_path / "run.out")
    assert (found.code, found.version, found.charge) == ("xtb", "xtb 6.5.1", 0)
    assert found.theory == "GFN2-xTB, 300 K, accuracy 1"
    assert found.steps[0].dipole is None and found.multiplicity is None  # no JSON file was asked for
