"""Outputs are recognised for what they are; a folder is searched, companions are found, nothing is guessed."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from labelling import FIXTURES, fixture

from alfw.core.errors import ChargeError, DataError, MissingOutputError, StructureError, UnknownLabelError
from alfw.core.frame import Frame
from alfw.labelers._output import Output, Step
from alfw.labelers.outputs import CODES, labels, level, outputs_in, read_output, reader, recognise

# Not a whole output: five tables of SCF cycles.
HEADLESS = {"cp2k.out.conv"}
RECORDED = sorted(
    f"{path.parent.name}/{path.name}"
    for path in FIXTURES.glob("*/*")
    if path.suffix != ".com" and path.name not in HEADLESS
)
OH = {"numbers": np.array([8, 1]), "positions": np.array([[0, 0, 0], [0, 0, 0.97]])}


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_reader(code: str) -> None:
    assert reader(code).code == code


@pytest.mark.parametrize("name", RECORDED or [pytest.param("", marks=pytest.mark.skip(f"no {FIXTURES}"))])
def test_every_recorded_output_is_recognised(name: str) -> None:
    assert recognise(fixture(name)) == name.split("/")[0]


@pytest.mark.parametrize(
    "text", [b"Dear Sir,", b"\xff\xfe" * 99, b"orca vasp xtb psi4 Gaussian CP2K NWChem", b"  \n"]
)
def test_anything_else_is_not(text: bytes) -> None:
    with pytest.raises(UnknownLabelError, match="not an output of castep, ") as caught:
        recognise(text)
    assert "\n" not in str(caught.value)


def test_two_outputs_in_one_file_are_nobodys() -> None:
    both = fixture("orca/orca6_dvb_gopt.out") + fixture("gaussian/g16_dvb_gopt.out")
    with pytest.raises(UnknownLabelError, match="of gaussian and of orca: say which with --labeler"):
        recognise(both)


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(DataError, match="no reader for outputs of 'molpro'; there are castep, cp2k"):
        reader("molpro")


def test_what_is_not_there_or_empty(tmp_path: Path) -> None:
    for name, data in (("empty", b""), ("blank", b" \n"), ("packed.gz", gzip.compress(b""))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MissingOutputError, match="empty"):
            read_output(tmp_path / name)
    with pytest.raises(MissingOutputError, match="No such file"):
        read_output(tmp_path / "gone")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingOutputError, match="no output of any program"):
        read_output(tmp_path / "folder")


def test_the_folder_of_a_calculation_has_one_output(tmp_path: Path) -> None:
    (tmp_path / "OUTCAR.gz").write_bytes(gzip.compress(fixture("vasp/OUTCAR")))
    (tmp_path / "vasprun.xml").write_bytes(fixture("vasp/vasprun.xml"))
    (tmp_path / "vasp.out").write_bytes(b" vasp.6.4.2 18Apr23\n")
    assert outputs_in(tmp_path) == [tmp_path / "OUTCAR.gz"]
    assert len(read_output(tmp_path).steps) == 3
    (tmp_path / "OUTCAR.gz").unlink()
    (tmp_path / "vasp.out").unlink()
    assert len(read_output(tmp_path).steps) == 3  # from the other file alone


def test_two_files_of_one_calculation_have_to_agree(tmp_path: Path) -> None:
    """The companion is found beside the main output, packed or not."""
    (tmp_path / "a_OUTCAR").write_bytes(fixture("vasp/OUTCAR"))
    xml = fixture("vasp/vasprun.xml")
    energy = b"-10.84147289"
    assert energy in xml
    (tmp_path / "a_vasprun.xml.gz").write_bytes(gzip.compress(xml.replace(energy, b"-11.84147289")))
    assert outputs_in(tmp_path) == [tmp_path / "a_OUTCAR"]
    with pytest.raises((StructureError, UnknownLabelError)):
        read_output(tmp_path / "a_OUTCAR")


def output(**more: object) -> Output:
    step = Step(**OH, energy=-2000.0, forces=np.zeros((2, 3)), dipole=np.array([0.0, 0.0, -1.0]))
    return Output("orca", "orca 6.0.1", [step], **more)


def test_charge_and_multiplicity_as_printed_else_as_told() -> None:
    [(frame, label)] = labels(output(charge=-1, multiplicity=1), charge=1, multiplicity=2)
    assert (frame.charge, frame.multiplicity) == (-1, 1)
    centre = np.average(OH["positions"], axis=0, weights=frame.masses)
    np.testing.assert_allclose(label.dipole, [0, 0, -1.0 + centre[2]])  # about the centre of mass
    [(frame, _)] = labels(output(), charge=0, multiplicity=2)
    assert (frame.charge, frame.multiplicity) == (0, 2)
    with pytest.raises(ChargeError, match="9 electrons"):
        labels(output())  # nobody says that it is a radical
    known = Frame(**OH, charge=-1)
    assert labels(output(), known)[0][0] is known
    with pytest.raises(StructureError, match="charge 1, submitted was -1"):
        labels(output(charge=1), known)


def test_another_structure_than_the_known_one() -> None:
    known = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.98]], charge=-1)
    with pytest.raises(StructureError, match=r"0\.0050 Å"):
        labels(output(charge=-1), known)


def test_the_level_is_code_major_version_and_method() -> None:
    assert (
        level(output(theory="RKS PBE0 def2-SVP"))
        == level(output(theory="UKS PBE0 def2-SVP"))
        == ("orca 6: PBE0 def2-SVP")
    )
    assert level(output(theory="uhf def2-SVP")) == "orca 6: hf def2-SVP"
    assert level(output()) == "orca 6"
