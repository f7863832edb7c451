"""Gaussian's decks and theories, and the class of every bad end."""

import gaussian_outputs as made
import pytest
from ase.build import bulk, molecule
from labelling import fixture
from pydantic import ValidationError

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    InputError,
    LicenseError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.records import Resources, Run
from alfw.labelers import _program
from alfw.labelers.gaussian import PROGRAM, GaussianLabeler
from alfw.labelers.readers.gaussian import READER
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
RADICAL = Frame.from_atoms(molecule("OH"), multiplicity=2)
WORKER = Resources(threads=8, mem_GB=16)
PULL = 0.8 * (WATER.positions - WATER.positions.mean(0))
GOOD_LOG = made.log(WATER, made.step(WATER, -2069.0, PULL))


def log(data, **more):
    return Replay(files={"gaussian.log": data, **more}, code=int(data is not GOOD_LOG))


def replayed(folder, *replays, **options):
    program = fake_program(folder, "g16", *replays)
    options = {"method": "PBE0", "basis": "def2-SVP", "command": f"{program.path} gaussian.com"} | options
    return GaussianLabeler(**options), program


def gaussian(**options):
    return GaussianLabeler(**({"method": "PBE0", "basis": "6-311G**"} | options))


def deck(frame=WATER, resources=WORKER, **options):
    return gaussian(**options).inputs(frame, resources)["gaussian.com"].decode()


def test_the_deck_is_what_gaussian_reads():
    text = deck(dispersion="D3BJ", solvent="Water", solvation="SMD", keywords="Pop=MK")
    link0, rest = text.split("#P")
    route, title, geometry = ("#P" + rest).split("\n\n")[:3]
    assert link0.splitlines() == ["%chk=gaussian.chk", "%mem=13107MB", "%nprocshared=8"]
    words = " ".join(route.split())
    assert words.startswith(
        "#P PBE1PBE/6-311G** Force NoSymm Geom=PrintInputOrient Integral=(Grid=UltraFine)"
    )
    assert words.endswith("EmpiricalDispersion=GD3BJ SCRF=(SMD,Solvent=Water) Pop=MK")
    assert "SCF=(Conver=8,MaxCycle=128)" in words and "Guess" not in words
    assert title == "alfw" and text.endswith("\n\n")
    lines = geometry.splitlines()
    assert lines[0] == "0 1" and lines[1].split() == ["O", "0.0000000000", "0.0000000000", "0.1192620000"]


@pytest.mark.parametrize(
    ("frame", "options", "level"),
    [
        (RADICAL, {}, "#P UPBE1PBE/6-311G** Force"),
        (RADICAL, {"method": "ROHF", "basis": "def2-TZVP"}, "#P ROHF/Def2TZVP Force"),
        (WATER, {"method": "UB3LYP", "basis": "cc-pVTZ"}, "#P UB3LYP/cc-pVTZ Force"),
        (WATER, {"method": "wB97X-D"}, "#P wB97XD/6-311G** Force"),
        (RADICAL, {"method": "PM6", "basis": None}, "#P UPM6 Force"),
    ],
)
def test_methods_and_bases_have_gaussians_names(frame, options, level):
    assert level in deck(frame, **options)


def test_memory_leaves_headroom_and_is_never_more_than_there_is():
    assert "%mem=1000MB" in deck(resources=Resources())
    assert "%mem=1024MB" in deck(resources=Resources(mem_GB=2))
    more = gaussian()._variables(WATER, WORKER) | {"more_memory": 4, "needed_MB": 99999}
    assert (
        "%mem=15565MB" in _program.inputs(PROGRAM, gaussian(), WATER, WORKER, more)["gaussian.com"].decode()
    )


def test_extra_sections_follow_the_geometry():
    text = deck(basis="Gen", sections="O H 0\ndef2SVP\n****")
    assert "#P PBE1PBE/Gen Force" in text
    assert text.split("\n\n", 3)[3].strip() == "O H 0\ndef2SVP\n****"


SAME = [
    {"method": "pbe1pbe", "basis": "6-311g**"},
    {"command": "srun g16 gaussian.com"},
    {"solvation": "SMD"},  # of no solvent
]
DIFFERENT = [
    *(
        {"method": "B3LYP"},
        {"basis": "def2-SVP"},
        {"dispersion": "D3"},
        {"solvent": "Water"},
        {"grid": "SuperFine"},
    ),
    *({"scf_convergence": 9}, {"keywords": "Pop=MK"}, {"sections": "x"}, {"version": "16"}),
]


@pytest.mark.parametrize("options", SAME)
def test_execution_and_spelling_do_not_change_the_theory(options):
    assert gaussian(**options).theory().id == gaussian().theory().id


@pytest.mark.parametrize("options", DIFFERENT)
def test_another_energy_surface_is_another_theory(options):
    assert gaussian(**options).theory().id != gaussian().theory().id
    with pytest.raises(ValidationError):
        gaussian(**options, maxcycle=3)


@pytest.mark.parametrize(
    "frame", [Frame.from_atoms(bulk("Cu")), Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 1]])]
)
def test_frames_that_gaussian_cannot_do_start_nothing(frame, tmp_path):
    labeler, program = replayed(tmp_path, log(GOOD_LOG))
    with pytest.raises(InputError):
        labeler.parse(frame, labeler.run(frame, tmp_path, WORKER))
    assert program.starts == 0


LINES = [
    (
        " Erroneous write. Write -1 instead of 4096.\n fd = 4\n orig len = 4096 left = 4096\n g_write",
        OutOfDiskError,
    ),
    (" Write error in NtrExt1: No space left on device", OutOfDiskError),
    (" galloc:  could not allocate memory.: Cannot allocate memory", OutOfMemoryLabelError),
    (" The combination of multiplicity 2 and    10 electrons is impossible.", ChargeError),
    (" Atomic number out of range for 6-311G basis.\n Error termination via Lnk1e in l301.exe", BasisError),
    (" QPErr --- A syntax error was detected in the input line.\n #P PBE8/6-31G", DeckError),
    (" End of file in ZSymb.\n Error termination via Lnk1e in /opt/g16/l101.exe", DeckError),
    (" R6DS8: Unable to choose the S8 parameter", DeckError),
    (" Small interatomic distances encountered:\n Problem with the distance matrix.", GeometryError),
    (" Inaccurate quadrature in CalDSu.\n Error termination via Lnk1e in l502.exe", NotConvergedError),
    (" Convergence failure.\n Error termination via Lnk1e in /opt/g16/l508.exe", NotConvergedError),
    (" No data on chk file.\n Error termination via Lnk1e in l301.exe", InputError),
    (" Error termination request processed by link 9999.", UnknownLabelError),
    (" Error termination via Lnk1e in /opt/g16/l103.exe at Thu", UnknownLabelError),
    ("Error: segmentation violation\n   rax 0000000000000000", UnknownLabelError),
    ("ntsnet: worker on node n12 exited abnormally", MPIAbortError),
    ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21 DUE TO TIME LIMIT ***", WalltimeError),
    ("/opt/g16/l502.exe: Permission denied", ExecutableError),
    (" Files in the Gaussian directory are world accessible.  This must be fixed.", ExecutableError),
    ("You are not authorized to use Gaussian 16.", LicenseError),
    (" RMSDP=3.70D-04 MaxDP=9.31D-03 DE=-3.40D-03 OVMax= 8.02D-03", MissingOutputError),
]


@pytest.mark.parametrize("where", ["gaussian.log", "output.log"])
@pytest.mark.parametrize(("lines", "error"), LINES)
def test_every_bad_end_has_its_class_and_its_literal_line(lines, error, where):
    files = {"gaussian.log": made.failed("")} | {where: made.failed(lines)}
    with pytest.raises(error) as caught:
        READER.output(files)
    assert type(caught.value) is error
    assert error is MissingOutputError or caught.value.signature in lines


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({}, MissingOutputError),
        ({"gaussian.log": b" \n"}, MissingOutputError),
        ({"gaussian.log": b"\xff\xfe\x00 caf\xe9 \x80"}, MissingOutputError),
        ({"gaussian.log": made.failed(""), "returncode": b"-9"}, OutOfMemoryLabelError),
        ({"gaussian.log": made.failed(""), "returncode": b"134"}, MPIAbortError),
    ],
)
def test_outputs_without_words(files, error):
    with pytest.raises(error):
        READER.output(files)


def test_parse_judges_a_run_as_its_program_does():
    with pytest.raises(OutOfMemoryLabelError) as caught:
        gaussian().parse(WATER, Run({"gaussian.log": fixture("gaussian/insufficient_memory.out")}))
    assert WATER.id[:12] in str(caught.value) and len(str(caught.value).splitlines()) == 1
