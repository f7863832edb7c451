"""What is tried when Gaussian fails: programs that replay, alone and through FireWorks."""

import campaigns
import gaussian_outputs as made
import numpy as np
import pytest
from ase.build import molecule
from labelling import fixture, label_campaign, label_through_fireworks

from alfw.config import CampaignConfig
from alfw.core.errors import BasisError, DeckError, ExecutableError, NotConvergedError, WalltimeError
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Attempt, Resources
from alfw.labelers.gaussian import GaussianLabeler
from alfw.labelers.readers.gaussian import READER
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
WORKER = Resources(threads=8, mem_GB=16)
PULL = 0.8 * (WATER.positions - WATER.positions.mean(0))
GOOD_LOG = made.log(WATER, made.step(WATER, -2069.0, PULL))
SCF = " Convergence failure -- run terminated.\n Error termination via Lnk1e in /opt/g16/l502.exe at noon."


def log(data, **more):
    return Replay(files={"gaussian.log": data, **more}, code=int(data is not GOOD_LOG))


def replayed(folder, *replays, **options):
    program = fake_program(folder, "g16", *replays)
    options = {"method": "PBE0", "basis": "def2-SVP", "command": f"{program.path} gaussian.com"} | options
    return GaussianLabeler(**options), program


def test_every_remedy_of_the_scf_in_order(tmp_path):
    labeler, program = replayed(tmp_path, log(made.failed(SCF)))
    run = labeler.run(WATER, tmp_path, WORKER)
    with pytest.raises(NotConvergedError, match="after 4 remedies"):
        labeler.parse(WATER, run)
    seen = [" ".join(program.saw(i, "gaussian.com").split()) for i in range(program.starts)]
    scf = [text[text.index("SCF=(") : text.index(" alfw")] for text in seen]
    assert scf == [
        "SCF=(Conver=8,MaxCycle=128)",
        "SCF=(Conver=8,MaxCycle=512) Guess=TCheck",
        "SCF=(Conver=8,MaxCycle=512,VShift=300,NoVarAcc) Guess=TCheck",
        "SCF=(Conver=8,MaxCycle=512,XQC) Guess=TCheck",
        "SCF=(Conver=8,MaxCycle=512,YQC) Guess=Huckel",
    ]


def test_a_bad_checkpoint_file_is_left_alone(tmp_path):
    bad = log(made.failed(" Bad file opened by FileIO:  Unit=2\n Error termination in NtrErr:"))
    labeler, program = replayed(tmp_path, bad, log(GOOD_LOG))
    run = labeler.run(WATER, tmp_path, WORKER, Attempt(restart={"gaussian.chk": b"rubbish"}))
    assert "Guess=TCheck" in program.saw(0, "gaussian.com") and program.saw(0, "gaussian.chk") == "rubbish"
    second = program.saw(1, "gaussian.com")
    assert "%chk=fresh.chk" in second and "Guess" not in second
    assert labeler.parse(WATER, run).energy == pytest.approx(-2069.0)


def test_another_guess_is_another_one(tmp_path):
    labeler, program = replayed(tmp_path, log(GOOD_LOG))
    labeler.run(WATER, tmp_path, WORKER, Attempt(other_guess=True))
    assert "Guess=Huckel" in program.saw(0, "gaussian.com")


def test_too_much_memory_is_lowered(tmp_path):
    refused = Replay(
        stdout=b"galloc:  could not allocate memory.\n", files={"gaussian.log": made.failed("")}, code=1
    )
    labeler, program = replayed(tmp_path, refused, log(GOOD_LOG))
    labeler.run(WATER, tmp_path, WORKER)
    assert "%mem=13107MB" in program.saw(0, "gaussian.com") and "%mem=6554MB" in program.saw(
        1, "gaussian.com"
    )


def test_gaussian_as_a_filter(tmp_path):
    program = fake_program(tmp_path, "g16", Replay(stdout=GOOD_LOG))
    for command in (f"{program.path} < gaussian.com > gaussian.log", f"{program.path} < gaussian.com"):
        labeler = GaussianLabeler(method="PBE0", basis="def2-SVP", command=command)
        assert label(labeler, WATER, tmp_path / "work", WORKER).energy == pytest.approx(-2069.0)


def test_a_time_limit_leaves_the_checkpoint_file(tmp_path):
    slow = Replay(seconds=30.0)
    labeler, program = replayed(tmp_path, slow)
    program.path.write_text(
        program.path.read_text().replace("time.sleep", "open('gaussian.chk','w').write('c');time.sleep")
    )
    with pytest.raises(WalltimeError) as caught:
        labeler.run(WATER, tmp_path / "work", Resources(walltime_s=2.0))
    assert caught.value.partial.files["gaussian.chk"] == b"c"


def test_what_hits_every_frame_pauses(tmp_path):
    for lines, error in [
        (" QPErr --- A syntax error was detected in the input line.", DeckError),
        (" Atomic number out of range for 6-311G basis.", BasisError),
    ]:
        labeler, _ = replayed(tmp_path / error.__name__, log(made.failed(lines)))
        with pytest.raises(error) as caught:
            labeler.run(WATER, tmp_path / "work", WORKER)
        assert caught.value.policy == "pause"
    with pytest.raises(ExecutableError, match="looked in PATH"):
        GaussianLabeler(method="HF", basis="STO-3G", command="g16-is-not-here gaussian.com").run(
            WATER, tmp_path / "work", WORKER
        )
    labeler, _ = replayed(tmp_path / "version", log(GOOD_LOG), version="09")
    with pytest.raises(ExecutableError, match="states version 09"):
        labeler.run(WATER, tmp_path / "work", WORKER)


def dvb(step):
    data = fixture("gaussian/g16_dvb_gopt.out")
    found = READER.output({"gaussian.log": data}).steps[step]
    return Frame(found.numbers, found.positions), data, found


def through_fireworks(folder, launchpad, first, step, **resources):
    """The label of a recorded geometry whose first attempt ends as in this recorded output."""
    frame, good, found = dvb(step)
    program = fake_program(folder, "g16", log(fixture(first)), log(good))
    section = {
        "kind": "gaussian",
        "method": "B3LYP",
        "basis": "STO-3G",
        "command": f"{program.path} gaussian.com",
    }
    raw = label_campaign(folder, [frame], section).raw | {"resources": {"label": resources}}
    store, states = label_through_fireworks(launchpad, CampaignConfig(raw))
    assert program.starts == 2 and "FIZZLED" not in states
    [record] = campaigns.collection(store, "labels")
    [[_, got]] = store.get_labels([frame.id], record["theory"]).values()
    assert got.energy == pytest.approx(found.energy) and got.version == "gaussian 16.A.03"
    np.testing.assert_allclose(got.forces, found.forces)
    return got, program


def test_scf_not_converged_then_good_through_fireworks(tmp_path, launchpad):
    got, program = through_fireworks(
        tmp_path, launchpad, "gaussian/scf_convergence_cycles.out", 2, ntasks=4, mem_GB=8
    )
    assert [c["errors"] for c in got.corrections] == [["SCF_NOT_CONVERGED"]]
    first, second = (program.saw(i, "gaussian.com") for i in range(2))
    assert "%nprocshared=4" in first and "%mem=6554MB" in first and "MaxCycle=512" in second


def test_out_of_memory_then_good_through_fireworks(tmp_path, launchpad):
    got, program = through_fireworks(tmp_path, launchpad, "gaussian/insufficient_memory.out", 0, ntasks=1)
    assert [c["errors"] for c in got.corrections] == [["OUT_OF_MEMORY"]]
    assert got.corrections[0]["actions"][0]["needed_MB"] == 106  # Use %mem=11MW
    assert got.charges is not None and got.dipole is not None
    assert "%mem=1000MB" in program.saw(0, "gaussian.com") and "%mem=2000MB" in program.saw(1, "gaussian.com")
