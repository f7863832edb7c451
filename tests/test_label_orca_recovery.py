"""ORCA's failures and what is tried next: programs that replay, through custodian and through FireWorks."""

import os
import time

import campaigns
import numpy as np
import orca_outputs as made
import pytest
from ase.build import molecule
from labelling import fixture, label_campaign, label_through_fireworks

from alfw.config import CampaignConfig
from alfw.core.errors import (
    BasisError,
    DeckError,
    ExecutableError,
    InputError,
    LinearDependencyError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfMemoryLabelError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Attempt, Resources
from alfw.labelers.orca import OrcaLabeler
from alfw.labelers.readers.orca import READER
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
GOOD = Replay(stdout=made.good(WATER, -76.321, 0.01 * WATER.positions))
SCF = Replay(stdout=made.failed(made.SCF_FAILED), files={"orca.gbw": b"orbitals"}, code=1)
WORKER = Resources(threads=8, mem_GB=16)


def failing(lines, code=1):
    return Replay(stdout=made.failed(f"{lines}\nORCA finished by error termination in SCF\n"), code=code)


def replayed(folder, *replays, **options):
    program = fake_program(folder, "orca", *replays)
    command = f"{program.path} orca.inp"
    return OrcaLabeler(method="PBE0", basis="def2-SVP", command=command, **options), program


def dvb(step):
    """A geometry of the recorded optimisation, and the output that it is in."""
    data = fixture("orca/orca6_dvb_gopt.out")
    found = READER.output({"output.log": data}).steps[step]
    return Frame(found.numbers, found.positions), data, found


def campaign(folder, frame, program, **options):
    section = {"kind": "orca", "method": "B3LYP", "basis": "STO-3G", "command": f"{program.path} orca.inp"}
    raw = label_campaign(folder, [frame], section | options).raw
    return CampaignConfig(raw | {"resources": {"label": {"ntasks": 4, "mem_GB": 8}}})


def the_label(store, frame):
    [record] = campaigns.collection(store, "labels")
    [[_, found]] = store.get_labels([frame.id], record["theory"]).values()
    return found


def test_out_of_memory_then_good_through_fireworks(tmp_path, launchpad):
    frame, good, step = dvb(1)
    memory = Replay(stdout=fixture("orca/orca_scf_memory_error.log"), code=1)
    program = fake_program(tmp_path, "orca", memory, Replay(stdout=good))
    store, states = label_through_fireworks(launchpad, campaign(tmp_path, frame, program))
    assert program.starts == 2 and "FIZZLED" not in states
    assert "%maxcore 1536" in program.saw(0, "orca.inp")
    assert "%maxcore 1945" in program.saw(1, "orca.inp")
    assert "nprocs 4" in program.saw(1, "orca.inp")
    found = the_label(store, frame)
    assert found.energy == pytest.approx(step.energy) and found.version == "orca 6.0.0"
    np.testing.assert_allclose(found.forces, step.forces)
    assert [c["errors"] for c in found.corrections] == [["OUT_OF_MEMORY"]]


def test_scf_not_converged_then_good_through_fireworks(tmp_path, launchpad):
    frame, good, step = dvb(0)
    program = fake_program(tmp_path, "orca", SCF, Replay(stdout=good))
    store, _ = label_through_fireworks(launchpad, campaign(tmp_path, frame, program))
    first, second = (program.saw(i, "orca.inp") for i in range(2))
    assert "AutoStart false" in first and "MaxIter" not in first
    assert "AutoStart true" in second and "MaxIter 300" in second
    assert program.saw(1, "orca.gbw") == "orbitals"  # lies there for the second attempt
    found = the_label(store, frame)
    assert found.energy == pytest.approx(step.energy)


def test_an_unknown_keyword_pauses_the_campaign_at_the_first_frame(tmp_path, launchpad):
    frame, _, _ = dvb(0)
    program = fake_program(tmp_path, "orca", Replay(stdout=fixture("orca/orca_input_error.log")))
    store, _ = label_through_fireworks(launchpad, campaign(tmp_path, frame, program))
    record = store.get_campaign("labels")
    assert program.starts == 1 and record["state"] == "paused" and "XTB1" in record["reason"]


def test_every_remedy_of_the_scf_in_order(tmp_path):
    orca, program = replayed(tmp_path, SCF, version="6")
    run = orca.run(WATER, tmp_path, WORKER)
    with pytest.raises(
        NotConvergedError, match="after 6 remedies: ORCA: the SCF has not converged"
    ) as caught:
        orca.parse(WATER, run)
    assert caught.value.policy == "final"
    decks = [program.saw(i, "orca.inp") for i in range(program.starts)]
    assert len(decks) == 7 == len(set(decks))
    assert ["AutoStart true" in text for text in decks] == [False, True, True, True, True, False, False]
    shows = ["MaxIter 300", "! SlowConv", "Shift Shift 0.5", "! TRAH", "Guess PAtom", "Guess HCore"]
    for text, wanted in zip(decks[1:], shows, strict=True):
        assert wanted in text
    assert all("nprocs 8" in text and "%maxcore 1536" in text for text in decks)
    assert "Shift" not in decks[4] and "SlowConv" not in decks[4] and "TRAH" not in decks[5]


def test_second_order_in_orca_4_and_words_that_are_there_already(tmp_path):
    orca, program = replayed(tmp_path, SCF, keywords="TightSCF slowconv")
    orca.run(WATER, tmp_path, WORKER)
    assert "SlowConv" not in program.saw(2, "orca.inp")
    assert "! KDIIS\n! SOSCF\n" in program.saw(4, "orca.inp")


def test_cycles_are_not_taken_back(tmp_path):
    orca, program = replayed(tmp_path, SCF, max_cycles=400)
    orca.run(WATER, tmp_path, WORKER)
    assert ["MaxIter 400" in program.saw(i, "orca.inp") for i in range(4)] == [True, True, True, False]


def test_another_first_guess_for_suspect_results(tmp_path):
    orca, program = replayed(tmp_path, GOOD)
    orca.run(WATER, tmp_path, WORKER, Attempt(other_guess=True))
    text = program.saw(0, "orca.inp")
    assert "Guess PAtom" in text and "AutoStart false" in text


def test_coupled_cluster_iterations_have_no_remedy_of_the_scf(tmp_path):
    orca, program = replayed(tmp_path, Replay(fixture("orca/orca_wavefunction_not_converge_error.log")))
    with pytest.raises(NotConvergedError, match="CCSD iterations"):
        label(orca, WATER, tmp_path, WORKER)
    assert program.starts == 1


def processes(program):
    """Of each start; 1 where the deck has none."""
    texts = [program.saw(i, "orca.inp") for i in range(program.starts)]
    return [int(text.split("nprocs ")[1].split()[0]) if "nprocs" in text else 1 for text in texts]


def maxcores(program):
    texts = [program.saw(i, "orca.inp") for i in range(program.starts)]
    return [int(text.split("%maxcore ")[1].split()[0]) for text in texts]


def test_memory_that_orca_asks_for(tmp_path):
    orca, program = replayed(tmp_path, Replay(fixture("orca/orca_scf_memory_error.log")))
    with pytest.raises(OutOfMemoryLabelError, match="after 3 remedies"):
        label(orca, WATER, tmp_path, WORKER)
    assert processes(program) == [8, 8, 4, 2] and maxcores(program) == [1536, 1945, 3891, 7782]


def test_memory_that_is_not_there(tmp_path):
    killed = failing("mpirun noticed that process rank 3 on node n exited on signal 9 (Killed).")
    orca, program = replayed(tmp_path, killed)
    with pytest.raises(OutOfMemoryLabelError):
        label(orca, WATER, tmp_path, WORKER)
    assert processes(program) == [8, 8, 4] and maxcores(program) == [1536, 1024, 2048]


def test_one_process_is_not_split(tmp_path):
    orca, program = replayed(tmp_path, Replay(fixture("orca/orca_scf_memory_error.log")))
    with pytest.raises(OutOfMemoryLabelError):
        label(orca, WATER, tmp_path, Resources(mem_GB=4))
    assert maxcores(program) == [3072, 3891]


@pytest.mark.parametrize(
    "line",
    [
        "Error (ORCA_MDCI): Number of processes (8) in parallel calculation exceeds number of pairs (3)",
        "There are not enough slots available in the system to satisfy the 8",
    ],
)
def test_fewer_processes_where_there_are_too_many(line, tmp_path):
    orca, program = replayed(tmp_path, failing(line), failing(line), GOOD)
    found = label(orca, WATER, tmp_path, WORKER)
    assert processes(program) == [8, 4, 2] and len(found.corrections) == 2


def test_one_process_that_is_too_many_is_final(tmp_path):
    line = "Error (ORCA_MDCI): Number of processes (1) in parallel calculation exceeds number of pairs (0)"
    orca, program = replayed(tmp_path, failing(line))
    with pytest.raises(InputError, match=r"number of pairs \(0\)"):
        label(orca, WATER, tmp_path, WORKER)
    assert processes(program) == [8, 4, 2, 1]


def test_a_parallel_process_that_dies_is_tried_once_more(tmp_path):
    died = Replay(fixture("orca/orca_GTOInt_error.log"), code=1)
    orca, program = replayed(tmp_path, died, GOOD)
    assert label(orca, WATER, tmp_path, WORKER).corrections[0]["errors"] == ["MPI_ABORT"]
    assert program.saw(0, "orca.inp") == program.saw(1, "orca.inp")
    (tmp_path / "again").mkdir()
    orca, program = replayed(tmp_path / "again", died)
    with pytest.raises(MPIAbortError):
        label(orca, WATER, tmp_path, WORKER)
    assert program.starts == 2


def test_orbitals_that_orca_cannot_use_are_left_out(tmp_path):
    bad = failing("Your GBWFile is either corrupt or from a different ORCA version")
    orca, program = replayed(tmp_path, bad, GOOD)
    run = orca.run(WATER, tmp_path, WORKER, Attempt(restart={"orca.gbw": b"broken"}))
    assert "AutoStart true" in program.saw(0, "orca.inp") and "AutoStart false" in program.saw(1, "orca.inp")
    assert orca.parse(WATER, run).energy and "orca.gbw" not in run.files
    (tmp_path / "again").mkdir()
    with pytest.raises(MissingOutputError):
        label(replayed(tmp_path / "again", bad)[0], WATER, tmp_path, WORKER)


def test_a_smaller_basis_only_where_it_is_allowed_and_said(tmp_path):
    dependent = failing("ERROR: Potentially linear dependencies in the basis")
    orca, program = replayed(tmp_path, dependent, GOOD)
    with pytest.raises(LinearDependencyError):
        label(orca, WATER, tmp_path, WORKER)
    assert program.starts == 1
    (tmp_path / "again").mkdir()
    orca, program = replayed(tmp_path / "again", dependent, GOOD, allow_theory_changes=True)
    found = label(orca, WATER, tmp_path, WORKER)
    assert found.changes == {"sthresh": 1e-6} and "SThresh 1e-06" in program.saw(1, "orca.inp")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("There are no main basis functions on atom number 0 (C)", BasisError),
        ("\t Unknown error in SCF block - check syntax!", DeckError),
        ("ERROR (ORCA_MAIN): For parallel runs ORCA has to be called with full pathname", ExecutableError),
    ],
)
def test_what_would_hit_every_frame_pauses(line, error, tmp_path):
    orca, program = replayed(tmp_path, failing(line))
    with pytest.raises(error) as caught:
        orca.run(WATER, tmp_path, WORKER)
    assert caught.value.policy == "pause" and caught.value.partial.files["output.log"]
    assert program.starts == 1


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_out_of_time_then_from_the_orbitals_that_were_left(tmp_path):
    """What runs is a shell with a child, as mpirun would be; both are gone at the end."""
    script = tmp_path / "orca"
    script.write_text(
        "#!/bin/sh\necho some cycles\necho orbitals > orca.gbw\necho $$ > pid\nsleep 300 & wait\n"
    )
    os.chmod(script, 0o755)
    orca = OrcaLabeler(method="PBE0", basis="def2-SVP", command=f"{script} orca.inp")
    with pytest.raises(WalltimeError, match="limit of 1 s") as caught:
        orca.run(WATER, tmp_path, Resources(walltime_s=1.0))
    partial = caught.value.partial
    assert partial.files["output.log"] == b"some cycles\n" and partial.files["orca.gbw"] == b"orbitals\n"
    assert b"AutoStart false" in partial.files["orca.inp"]
    [pid] = tmp_path.glob("label-*/pid")
    end = time.monotonic() + 20
    while not gone(int(pid.read_text())):
        assert time.monotonic() < end
        time.sleep(0.02)
    (tmp_path / "again").mkdir()
    orca, program = replayed(tmp_path / "again", GOOD)
    run = orca.run(WATER, tmp_path, Resources(), Attempt(restart=partial.files, other_guess=True))
    assert "AutoStart true" in program.saw(0, "orca.inp") and "Guess" not in program.saw(0, "orca.inp")
    assert program.saw(0, "orca.gbw") == "orbitals\n" and orca.parse(WATER, run).energy
