"""Outputs of CP2K: what is a label, and what is which failure; decks and theories."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cp2k_outputs import FORCES_7, FORCES_2025, SI2, aborted, good
from labelling import cuts, fixture

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    GradientMissingError,
    LabelError,
    LinearDependencyError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.protocols import label
from alfw.core.records import Resources, Run
from alfw.core.registry import plugin_class
from alfw.labelers.cp2k import CP2KLabeler
from alfw.labelers.readers.cp2k import READER
from alfw.testing import Replay, fake_program

OPTIONS = {
    "method": "PBE",
    "basis_set": "SZV-MOLOPT-SR-GTH",
    "potential": {"Si": "GTH-PBE-q4"},
    "cutoff_Ry": 400,
}
HARTREE, BOHR, GPA = 27.211386245988, 0.529177210903, 1 / 160.21766208


def labeler(**options):
    return CP2KLabeler(**(OPTIONS | options))


def verdict(data, **files):
    return READER.output({"cp2k.out": data, **files})


def swapped(old, new, **made):
    text = good(**made).decode()
    assert re.search(old, text)
    return re.sub(old, new, text, count=1).encode()


def test_the_entry_point_knows_the_kind():
    assert plugin_class("alfw.labelers", "cp2k") is CP2KLabeler


RECORDED = [
    ("cp2k.out.unconverged", NotConvergedError, "WARNING in qs_scf.F:542 :: SCF run NOT converged"),
    ("cp2k.out.conv", MissingOutputError, "0.11914175"),
]


@pytest.mark.parametrize(("name", "error", "signature"), RECORDED)
def test_recorded_failures(name, error, signature):
    data = fixture(f"cp2k/{name}")
    with pytest.raises(error) as caught:
        verdict(data)
    assert type(caught.value) is error and signature in caught.value.signature
    assert caught.value.signature in data.decode()


@pytest.mark.parametrize("forces", [FORCES_7, FORCES_2025], ids=["7.1", "2025"])
def test_a_whole_output_of_each_format(forces):
    label = labeler().parse(SI2, Run({"cp2k.out": good(forces)}))
    assert label.energy == pytest.approx(-7.096336535944440 * HARTREE) and label.version == "cp2k 7.1"
    assert label.forces[1, 2] == pytest.approx(-0.05763755 * HARTREE / BOHR)
    assert label.stress[2, 1] == pytest.approx(1.39128544 * GPA)
    np.testing.assert_allclose(label.charges, [0.000008, -0.000008])
    assert label.s_squared == 0.0
    found = verdict(good(forces))
    assert (found.charge, found.multiplicity, found.theory) == (0, 1, "PBE")


def test_a_cut_off_output_is_never_a_label():
    for part in cuts(good()):
        with pytest.raises(LabelError):
            verdict(part)


WRONG_STRUCTURES = [
    (r"1 Si  14    1.367182", "1 Si  14    1.377182"),
    (r"1 Si  14    1.367182", "1 S   16    1.367182"),
    (r"(Vector b \[pm\]: +)273.436", r"\g<1>273.536"),
    (r"(DFT\| Charge +)0", r"\g<1>1"),
    (r"(DFT\| Multiplicity +)1", r"\g<1>3"),
]


@pytest.mark.parametrize(("old", "new"), WRONG_STRUCTURES)
def test_another_structure_is_refused(old, new):
    with pytest.raises(StructureError):
        labeler().parse(SI2, Run({"cp2k.out": swapped(old, new)}))


WRONG = [
    (r"  \*\*\* SCF run converged.*", "", GradientMissingError),
    (r"(  \*\*\* SCF run converged.*)", r"\1\n *** WARNING :: SCF run NOT converged ***", NotConvergedError),
    (r"\( QS \) energy", "( QMMM ) energy", GradientMissingError),
    (r"energy \(a\.u\.\)", "energy (eV)", UnknownLabelError),
    (r"FORCES in \[a\.u\.\]", "FORCES in [Ry]", UnknownLabelError),
    (r"\n +2 +1 +Si +-0\.006.*", "", GradientMissingError),
    (r"0\.00643199", "       NaN", GradientMissingError),
    (r"  Y       -0\.28446092", "  Y       **********", GradientMissingError),
    (r" STRESS TENSOR \[GPa\]", " STRESS TENSOR [psi]", UnknownLabelError),
    (r"14    1\.367182", "15    1.367182", UnknownLabelError),
    (r"(- Atoms: +)2", r"\g<1>3", UnknownLabelError),
    (r"POISSON\| Periodicity +XYZ", "POISSON| Periodicity XY", UnknownLabelError),
    (r" POISSON\| Periodicity +XYZ", "", UnknownLabelError),
    (r"PROGRAM ENDED AT", "program ended at", MissingOutputError),
    (r"(.*PROGRAM STARTED AT.*)", r"\1\n\1", UnknownLabelError),
]


@pytest.mark.parametrize(("old", "new", "error"), WRONG)
def test_what_only_looks_good_is_refused(old, new, error):
    with pytest.raises(error) as caught:
        verdict(swapped(old, new))
    assert type(caught.value) is error


def test_a_cell_with_three_decimals_is_not_guessed():
    with pytest.raises(UnknownLabelError, match="UNIT pm"):
        verdict(good(unit="angstrom", scale=1.0))


def test_a_cell_in_the_usual_orientation_is_known_from_lengths_and_angles():
    line = r"( CELL\| Vector {} \[)angstrom\]: .*"
    text = good(unit="angstrom", scale=1.0).decode()
    for name, vector in zip(
        "abc",
        (
            "     3.867     0.000     0.000",
            "     1.933     3.349     0.000",
            "     1.933     1.116     3.157",
        ),
        strict=True,
    ):
        text = re.sub(line.format(name), rf"\g<1>angstrom]: {vector}   |{name}| =     3.866975", text)
    text = re.sub(r"(CELL\| Angle.*: +)60\.000", r"\g<1>60.000000", text)
    cell = verdict(text.encode()).steps[0].cell
    np.testing.assert_allclose(np.linalg.norm(cell, axis=1), 3.866975, atol=1e-6)
    assert cell[2, 2] == pytest.approx(3.866975 * np.sqrt(2 / 3), abs=1e-6)


def test_coordinates_of_another_cell_give_no_label():
    """CELL_OPT turns the cell after it has printed the coordinates."""
    text = good().decode()
    cell = re.search(r"( CELL\| Vector a.*\n(?: CELL\|.*\n){5})", text).group(1)
    moved = text.replace(" SCF WAVEFUNCTION OPTIMIZATION", cell + "\n SCF WAVEFUNCTION OPTIMIZATION")
    with pytest.raises(GradientMissingError):
        verdict(moved.encode())


def test_steps_whose_geometry_is_not_printed_give_no_label():
    text = good().decode()
    again = text[
        text.index(" SCF WAVEFUNCTION OPTIMIZATION") : text.index(
            " -\n -                                DBCSR"
        )
    ]
    twice = text.replace(again, again + again.replace("-7.0963365359444", "-7.1963365359444"))
    [step] = verdict(twice.encode()).steps
    assert step.energy == pytest.approx(-7.096336535944440 * HARTREE)


ABORTS = [
    (
        ["SCF run NOT converged. To continue the calculation", "regardless, please set the keyword"],
        NotConvergedError,
    ),
    (["Cholesky decomposition failed. Matrix ill conditioned ?"], LinearDependencyError),
    (["Use the LSD option for an odd number of electrons"], ChargeError),
    (
        ["The requested basis set <X> for element <Si> was not found", "in the basis set files <BASIS>"],
        BasisError,
    ),
    (["The specified OLD file <BASIS_MOLOPT> cannot be opened. It", "does not exist."], ExecutableError),
    (["found an unknown keyword NDIGITS in section STRESS_TENSOR"], DeckError),
    (["invalid value for enumeration:NOSUCH"], DeckError),
    (["The interatomic distance between the atoms 1 and 2 is too short"], GeometryError),
    (["something new"], UnknownLabelError),
]


@pytest.mark.parametrize(("lines", "error"), ABORTS)
def test_aborts(lines, error):
    mpi = b"MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD"
    for files in ({"cp2k.out": aborted(*lines), "output.log": mpi}, {"output.log": aborted(*lines) + mpi}):
        with pytest.raises(error) as caught:
            READER.output(files)
        assert type(caught.value) is error and caught.value.signature == lines[0]


LATE = b" *** SCF run terminated - exceeded requested execution time:      10.000 seconds.\n SCF run NOT converged"
ENDINGS = [
    (b"", b"1", MissingOutputError),
    (b"\xff\xfe\x00garbage\xff", b"0", MissingOutputError),
    (LATE, b"0", WalltimeError),
    (b"PROGRAM STARTED AT", b"-9", OutOfMemoryLabelError),
    (b"PROGRAM STARTED AT\nAt line 7: No space left on device", b"2", OutOfDiskError),
    (b"PROGRAM STARTED AT\nmpirun noticed that process rank 1 exited on signal 11", b"1", MPIAbortError),
    (
        b"PROGRAM STARTED AT\nmpirun noticed that process rank 1 exited on signal 9 (Killed)",
        b"1",
        OutOfMemoryLabelError,
    ),
]


@pytest.mark.parametrize(("data", "code", "error"), ENDINGS)
def test_runs_that_were_broken_off(data, code, error):
    with pytest.raises(error) as caught:
        verdict(data, returncode=code)
    assert type(caught.value) is error


REMEDIES = [
    (aborted("Cholesky decomposition failed. Matrix ill conditioned ?"), "LINEAR_DEPENDENCY", "CHOLESKY OFF"),
    (aborted("SCF run NOT converged. To continue"), "SCF_NOT_CONVERGED", "SCF_GUESS RESTART"),
    (b"PROGRAM STARTED AT\nmpirun noticed that process rank 3 exited on signal 7\n", "MPI_ABORT", "&END"),
]


@pytest.mark.parametrize(("output", "error", "line"), REMEDIES)
def test_remedies_of_aborts(output, error, line, tmp_path):
    replays = (Replay(files={"cp2k.out": data}, code=1) for data in (output, good()))
    program = fake_program(tmp_path, "cp2k", *replays)
    made = labeler(command=f"{program.path} -i cp2k.inp -o cp2k.out")
    found = label(made, SI2, tmp_path, Resources())
    assert program.starts == 2 and [entry["errors"] for entry in found.corrections] == [[error]]
    assert line in program.saw(1, "cp2k.inp")


def test_smearing_is_a_remedy_only_where_it_is_allowed(tmp_path):
    bad = Replay(files={"cp2k.out": fixture("cp2k/cp2k.out.unconverged")})
    program = fake_program(tmp_path, "cp2k", *[bad] * 6, Replay(files={"cp2k.out": good()}))
    command = f"{program.path} -i cp2k.inp -o cp2k.out"
    found = label(labeler(command=command, allow_theory_changes=True), SI2, tmp_path, Resources())
    assert found.changes["smearing_K"] == 300.0 and program.starts == 7
    assert "ELECTRONIC_TEMPERATURE [K] 300.0" in program.saw(6, "cp2k.inp")
    assert "SMEAR" not in program.saw(5, "cp2k.inp") and "STEPSIZE 0.05" in program.saw(5, "cp2k.inp")
