"""Which failure an output of ORCA is: recorded ones, and the lines that its versions print."""

import orca_outputs as made
import pytest
from ase.build import molecule
from labelling import fixture

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    GradientMissingError,
    InputError,
    LabelError,
    LicenseError,
    LinearDependencyError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.labelers.outputs import marks, recognise
from alfw.labelers.readers.orca import READER

WATER = Frame.from_atoms(molecule("H2O"))
GOOD = made.good(WATER, -76.321, 0.01 * WATER.positions)
VERDICTS = {
    "orca/orca_successful_sp.log": (GradientMissingError, "FINAL SINGLE POINT ENERGY      -189.939510650571"),
    "orca/orca_scf_memory_error.log": (
        OutOfMemoryLabelError,
        "Error  (ORCA_SCF): Not enough memory available!",
    ),
    "orca/orca_GTOInt_error.log": (MPIAbortError, "ORCA finished by error termination in GTOInt"),
    "orca/orca_input_error.log": (
        DeckError,
        "UNRECOGNIZED OR DUPLICATED KEYWORD(S) IN SIMPLE INPUT LINE",
    ),
    "orca/orca_multiplicity_error.log": (ChargeError, "number of electrons (152) is even -> impossible"),
    "orca/orca_wavefunction_not_converge_error.log": (
        NotConvergedError,
        "The CCSD iterations have NOT converged",
    ),
}


def read(data):
    return READER.output({"output.log": data})


@pytest.mark.parametrize("name", VERDICTS)
def test_recorded_failures_have_their_class_and_literal_line(name):
    data = fixture(name)
    error, signature = VERDICTS[name]
    assert recognise(data) == "orca"
    with pytest.raises(LabelError) as caught:
        read(data)
    assert type(caught.value) is error and signature in caught.value.signature
    assert caught.value.signature in data.decode(errors="replace")
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_missing_is_said():
    with pytest.raises(OutOfMemoryLabelError, match="More than 289 MB for each process"):
        read(fixture("orca/orca_scf_memory_error.log"))
    with pytest.raises(DeckError, match="XTB1"):
        read(fixture("orca/orca_input_error.log"))


def error(line):
    return f"{line}\nORCA finished by error termination in SCF\n"


SIGNATURES = [
    (made.SCF_FAILED, NotConvergedError, "the SCF has not converged."),
    (error("     *    SCF NOT CONVERGED AFTER 125 CYCLES    *"), NotConvergedError, "SCF NOT CONVERGED"),
    (" Error  (ORCA_SCF): Not enough memory available!\n", OutOfMemoryLabelError, "Not enough memory"),
    (error("OUT OF MEMORY ERROR!"), OutOfMemoryLabelError, "OUT OF MEMORY ERROR!"),
    (error("mpirun noticed that process rank 3 on node n exited on signal 9 (Killed)."), OutOfMemoryLabelError, "9"),
    (error("mpirun noticed that process rank 3 on node n exited on signal 11."), MPIAbortError, "signal 11"),
    (error("WARNING: Out of memory according to MaxCore limit!"), UnknownLabelError, "error termination in SCF"),
    (error("|  1> # not enough memory for this"), UnknownLabelError, "error termination in SCF"),
    (error("Error (ORCA_MDCI): Number of processes (16) in parallel calculation exceeds number of pairs (10)"),
     InputError, "exceeds number of pairs (10)"),
    ("Killed\n", OutOfMemoryLabelError, "Killed"),
    ("There are no CABS   basis functions on atom number   0 (H)\n", BasisError, "no CABS"),
    ("There are no main basis functions on atom number 0 (C)\n", BasisError, "no main basis"),
    ("  INPUT ERROR\n UNRECOGNIZED OR DUPLICATED KEYWORD(S) IN SIMPLE INPUT LINE\n  PBEO\n", DeckError, "UNRECOG"),
    ("\t Unknown error in SCF block - check syntax! \n\t LEAVING ORCA\n", DeckError, "check syntax!"),
    ("Zero distance encountered between atoms 61 and 20\n", GeometryError, "Zero distance"),
    ("ERROR: Potentially linear dependencies in the basis\n", LinearDependencyError, "linear dependencies"),
    ("ERROR (ORCA_MAIN): For parallel runs ORCA has to be called with full pathname\n", ExecutableError, "full path"),
    ("orca_scf: error while loading shared libraries: libmpi.so.40: no\n", ExecutableError, "libmpi.so.40"),
    ("There are not enough slots available in the system to satisfy the 64\n", ExecutableError, "not enough slots"),
    ("FACCTs: license file not found\n", LicenseError, "license file"),
    (error("orca.gbw: No space left on device"), OutOfDiskError, "No space left"),
    ("slurmstepd: error: *** JOB 7 ON n CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***\n", WalltimeError, "TIME LIMIT"),
    (error("Your GBWFile is either corrupt or from a different ORCA version"), MissingOutputError, "corrupt"),
    ("Iteration 7\n", MissingOutputError, "Iteration 7"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected", "signature"), SIGNATURES)
def test_every_bad_end_has_its_class_and_its_literal_line(lines, expected, signature):
    data = made.failed(lines)
    with pytest.raises(LabelError) as caught:
        read(data)
    assert type(caught.value) is expected and signature in caught.value.signature
    assert caught.value.signature in data.decode() and len(str(caught.value).splitlines()) == 1


def test_a_killed_run_an_empty_output_and_one_that_is_not_utf8():
    with pytest.raises(OutOfMemoryLabelError):
        READER.output({"output.log": made.failed("Iteration 7\n"), "returncode": b"-9"})
    for data in (b"", b"\n  \n"):
        with pytest.raises(MissingOutputError):
            read(data)
    assert marks(b"\xff\xfe\x00 energy\n") == []
    with pytest.raises(MissingOutputError):
        read(b"\xff\xfe\xfa\n" + made.BANNER.encode() + b"\xe9\n")
    for same in (GOOD.replace(b"RELEASE", b"REL\xe9ASE"), GOOD.replace(b"\n", b"\r\n")):
        assert read(same).steps[0].energy == read(GOOD).steps[0].energy
