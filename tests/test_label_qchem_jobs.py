"""Q-Chem's decks and theories, the class of every bad end, and what is tried next: programs that replay."""

import campaigns
import numpy as np
import pytest
import qchem_outputs as made
from ase.build import bulk, molecule
from labelling import fixture, label_campaign, label_through_fireworks

from alfw.config import CampaignConfig
from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    InputError,
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
from alfw.core.protocols import label
from alfw.core.records import Attempt, Resources
from alfw.labelers.qchem import QChemLabeler
from alfw.labelers.readers.qchem import READER
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
RADICAL = Frame.from_atoms(molecule("OH"), multiplicity=2)
WORKER = Resources(threads=8, mem_GB=16)
PULL = 0.8 * (WATER.positions - WATER.positions.mean(0))
GOOD = made.out(WATER, made.step(WATER, -2069.0, PULL))
FATAL = " Q-Chem fatal error occurred in module libgscf/gen_scfman/gen_scfman_main.C, line 126:\n\n"
SCF = f"gen_scfman_exception: SCF failed to converge\n\n{FATAL} Error in gen_scfman\n"


def qchem(**options):
    return QChemLabeler(**({"method": "PBE0", "basis": "def2-SVP"} | options))


def deck(frame=WATER, resources=WORKER, **options):
    """Lines of the deck."""
    return qchem(**options).inputs(frame, resources)["qchem.in"].decode().splitlines()


def out(data, code=0):
    return Replay(files={"qchem.out": data}, code=code)


def bad(lines):
    return out(made.failed(WATER, lines), code=1)


def replayed(folder, *replays, **options):
    program = fake_program(folder, "qchem", *replays)
    return qchem(command=f"{program.path} -nt {{threads}} qchem.in qchem.out", **options), program


def test_the_deck_is_what_q_chem_reads():
    lines = deck(dft_d="D3BJ", grid="3", keywords="esp_charges true\ngui 2", sections="$basis\n$end")
    assert lines[:3] == ["$molecule", "0 1", "O   0.0000000000  0.0000000000  0.1192620000"]
    rem = lines[lines.index("$rem") + 1 : lines.index("$end", lines.index("$rem"))]
    assert rem[:3] == ["jobtype force", "method PBE0", "basis def2-SVP"]
    for line in (
        "dft_d d3_bj",
        "unrestricted false",
        "sym_ignore true",
        "symmetry false",
        "xc_grid 3",
        "gui 2",
    ):
        assert line in rem
    assert {"scf_convergence 8", "thresh 14", "max_scf_cycles 200", "mem_total 13107"} <= set(rem)
    assert not any(line.startswith(("scf_guess", "s2thresh", "mem_static", "solvent")) for line in rem)
    assert lines[-2:] == ["$basis", "$end"]


def test_open_shells_are_unrestricted_unless_the_user_says_otherwise():
    assert "unrestricted true" in deck(RADICAL)
    lines = deck(RADICAL, keywords="Unrestricted  false")
    assert [line for line in lines if "restricted" in line.lower()] == ["Unrestricted  false"]


def test_solvents_by_name_and_by_dielectric_constant():
    named, constant = "\n".join(deck(solvent="water")), "\n".join(deck(solvent=78.4))
    assert "solvent_method smd" in named and "$smx\nsolvent water\n$end" in named
    assert "solvent_method pcm" in constant and "dielectric 78.4" in constant and "theory cpcm" in constant


SAME = [{"method": "pbe0", "basis": "DEF2-SVP"}, {"command": "srun qchem qchem.in qchem.out"}]
DIFFERENT = [
    *({"method": "B3LYP"}, {"basis": "def2-TZVP"}, {"dft_d": "D3"}, {"solvent": "water"}, {"solvent": 78.4}),
    *({"grid": "3"}, {"scf_convergence": 9}, {"thresh": 12}, {"keywords": "gui 2"}, {"version": "5"}),
]


@pytest.mark.parametrize("options", SAME)
def test_execution_and_spelling_do_not_change_the_theory(options):
    assert qchem(**options).theory().id == qchem().theory().id


@pytest.mark.parametrize("options", DIFFERENT)
def test_another_energy_surface_is_another_theory(options):
    assert qchem(**options).theory().id != qchem().theory().id


@pytest.mark.parametrize(
    "frame", [Frame.from_atoms(bulk("Cu")), Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 1]])]
)
def test_frames_that_q_chem_cannot_do_start_nothing(frame, tmp_path):
    labeler, program = replayed(tmp_path, out(GOOD))
    with pytest.raises(InputError):
        labeler.parse(frame, labeler.run(frame, tmp_path, WORKER))
    assert program.starts == 0


LINES = [
    (SCF, NotConvergedError),
    ("    2    -382.2937212775      3.10E-03    Convergence failure", NotConvergedError),
    (f"{FATAL} Not enough total memory.\n", OutOfMemoryLabelError),
    (f"{FATAL} Please increase MEM_STATIC\n", OutOfMemoryLabelError),
    ("Application 4711 exit codes: 137", OutOfMemoryLabelError),
    (f"{FATAL} Invalid charge/multiplicity combination\n", ChargeError),
    (f"{FATAL} Basis not supported for the above atom.\n", BasisError),
    (f" Name = B3LP\n{FATAL} Unrecognized exchange functional in XCode\n", DeckError),
    ('\tAn unrecognized keyword "sasrad" was found in the $pcm input section', DeckError),
    ("\tThe Q-Chem input file has failed to pass inspection", DeckError),
    (
        f"{FATAL} Negative overlap matrix eigenvalue. Tighten integral threshold (REM_THRESH)!\n",
        LinearDependencyError,
    ),
    (f"{FATAL} Atoms 1 and 2 are too close\n", GeometryError),
    ("FlexNet Licensing error:-15,570.  System Error: 115", LicenseError),
    (" Unable to validate license", LicenseError),
    ("qchem: command not found", ExecutableError),
    ("write: No space left on device", OutOfDiskError),
    ("MPI_ABORT was invoked on rank 3 in communicator MPI_COMM_WORLD", MPIAbortError),
    ("Application 4711 exit codes: 134", MPIAbortError),
    (f"{FATAL} Maximum optimization cycles reached\n", UnknownLabelError),
    (f"{FATAL} Problem in GetRot\nApplication 4711 exit codes: 134", UnknownLabelError),
    ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21 DUE TO TIME LIMIT ***", WalltimeError),
    ("    1    -381.9237708745      1.39e-01", MissingOutputError),
]


@pytest.mark.parametrize("where", ["qchem.out", "output.log"])
@pytest.mark.parametrize(("lines", "error"), LINES)
def test_every_bad_end_has_its_class_and_its_literal_line(lines, error, where):
    files = {"qchem.out": made.failed(WATER, "")} | {where: made.failed(WATER, lines)}
    with pytest.raises(error) as caught:
        READER.output(files)
    assert type(caught.value) is error
    assert error is MissingOutputError or caught.value.signature in lines


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({}, MissingOutputError),
        ({"qchem.out": b" \n"}, MissingOutputError),
        ({"qchem.out": b"\xff\xfe\x00 caf\xe9 \x80"}, MissingOutputError),
        ({"qchem.out": made.failed(WATER, ""), "returncode": b"-9"}, OutOfMemoryLabelError),
        ({"qchem.out": made.failed(WATER, ""), "returncode": b"134"}, MPIAbortError),
    ],
)
def test_outputs_without_words(files, error):
    with pytest.raises(error):
        READER.output(files)


def test_every_remedy_of_the_scf_in_order(tmp_path):
    labeler, program = replayed(tmp_path, bad(SCF))
    run = labeler.run(WATER, tmp_path, WORKER)
    with pytest.raises(NotConvergedError, match="after 4 remedies"):
        labeler.parse(WATER, run)
    names = ("max_scf_cycles", "scf_algorithm", "scf_guess", "s2thresh")
    seen = [
        [line.split()[1] for line in program.saw(i, "qchem.in").splitlines() if line.startswith(names)]
        for i in range(program.starts)
    ]
    assert seen == [
        ["200", "diis"],
        ["400", "diis", "16"],
        ["500", "gdm", "16"],
        ["500", "diis_gdm", "gwh", "16"],
        ["500", "rca_diis", "core", "16"],
    ]
    assert program.saw(0, "argv") == "-nt 8 qchem.in qchem.out"


REMEDIES = [
    (f"{FATAL} Negative overlap matrix eigenvalue.", "s2thresh 16"),
    (f"{FATAL} Not enough total memory.", "mem_total 15565"),
    (f"{FATAL} Please increase MEM_STATIC", "mem_static 1000"),
    ("Application 4711 exit codes: 134", "mem_total 13107"),  # once more the same
]


@pytest.mark.parametrize(("lines", "remedy"), REMEDIES)
def test_one_remedy_and_all_is_well(lines, remedy, tmp_path):
    labeler, program = replayed(tmp_path, bad(lines), out(GOOD))
    run = labeler.run(WATER, tmp_path, WORKER)
    assert program.starts == 2 and remedy in program.saw(1, "qchem.in").splitlines()
    found = labeler.parse(WATER, run)
    assert found.energy == pytest.approx(-2069.0) and found.version == "qchem 5.4.1" and not found.changes


def test_another_guess_is_another_one(tmp_path):
    labeler, program = replayed(tmp_path, out(GOOD))
    labeler.run(WATER, tmp_path, WORKER, Attempt(other_guess=True))
    assert "scf_guess gwh" in program.saw(0, "qchem.in")


def test_what_hits_every_frame_pauses(tmp_path):
    reasons = [
        f"{FATAL} Unrecognized exchange functional in XCode",
        f"{FATAL} Basis not supported for the above atom.",
        "FlexNet Licensing error:-15,570.",
    ]
    for number, lines in enumerate(reasons):
        labeler, _ = replayed(tmp_path / str(number), bad(lines))
        with pytest.raises((DeckError, BasisError, LicenseError)) as caught:
            labeler.run(WATER, tmp_path / "work", WORKER)
        assert caught.value.policy == "pause"
    with pytest.raises(ExecutableError, match="looked in PATH"):
        qchem(command="qchem-is-not-here qchem.in").run(WATER, tmp_path / "work", WORKER)
    labeler, _ = replayed(tmp_path / "version", out(GOOD), version="6")
    with pytest.raises(ExecutableError, match="states version 6"):
        labeler.run(WATER, tmp_path / "work", WORKER)
    labeler, _ = replayed(tmp_path / "same", out(GOOD), version="5.4")
    assert label(labeler, WATER, tmp_path / "work", WORKER).version == "qchem 5.4.1"


def test_exit_code_134_then_good_through_fireworks(tmp_path, launchpad):
    data = fixture("qchem/qchem54_dvb_gopt.out")
    step = READER.output({"qchem.out": data}).steps[1]
    frame = Frame(step.numbers, step.positions)
    program = fake_program(tmp_path, "qchem", out(fixture("qchem/exit_code_134.qcout"), code=134), out(data))
    command = f"{program.path} -nt {{threads}} qchem.in qchem.out"
    section = {"kind": "qchem", "method": "B3LYP", "basis": "STO-3G", "command": command}
    raw = label_campaign(tmp_path, [frame], section).raw | {
        "resources": {"label": {"ntasks": 4, "mem_GB": 8}}
    }
    store, states = label_through_fireworks(launchpad, CampaignConfig(raw))
    assert program.starts == 2 and "FIZZLED" not in states
    assert program.saw(0, "argv") == "-nt 4 qchem.in qchem.out"
    assert program.saw(0, "qchem.in") == program.saw(1, "qchem.in")
    [record] = campaigns.collection(store, "labels")
    [[_, found]] = store.get_labels([frame.id], record["theory"]).values()
    assert found.energy == pytest.approx(step.energy) and found.version == "qchem 5.4.1"
    np.testing.assert_allclose(found.forces, step.forces)
    assert [c["errors"] for c in found.corrections] == [["MPI_ABORT"]]
