"""pw.x at work: numbers against finite differences, steps of relaxations, remedies that help, restarts, pauses."""

from __future__ import annotations

import re
from pathlib import Path

import campaigns
import numpy as np
import pytest
from espresso_outputs import DIAMOND, broken, good
from labelling import cuts, fixture, label_campaign, label_through_fireworks, needs

from alfw.core.errors import (
    BasisError,
    DeckError,
    ExecutableError,
    LabelError,
    NotConvergedError,
    StructureError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Attempt, Resources
from alfw.labelers._deck import shipped
from alfw.labelers.espresso import LADDERS, EspressoLabeler
from alfw.labelers.readers.espresso import READER
from alfw.testing import Replay, fake_program

PSEUDO_DIR = Path("/usr/share/espresso/pseudo")
CELL = np.array([[0, 2.7, 2.7], [2.7, 0.05, 2.7], [2.7, 2.7, 0.0]])
SI2 = Frame(numbers=[14, 14], positions=[[0, 0, 0], [1.45, 1.35, 1.3]], cell=CELL, pbc=[True] * 3)
OPTIONS = {
    "pseudopotentials": {"Si": "Si.pz-vbc.UPF", "H": "H.pz-vbc.UPF"},
    "pseudo_dir": str(PSEUDO_DIR),
    "ecutwfc_Ry": 14,
    "kpoints": {"grid": [2, 2, 2]},
}
BOX = {"cell": np.eye(3) * 4, "pbc": [True] * 3}


def labeler(**options):
    needs("pw.x", "quantum-espresso quantum-espresso-data")
    if not (PSEUDO_DIR / "Si.pz-vbc.UPF").is_file():
        pytest.skip("needs pseudopotentials: apt-get install --no-install-recommends quantum-espresso-data")
    return EspressoLabeler(**(OPTIONS | options))


def own_deck(*changes):
    text = shipped("espresso.pwi.j2")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return {"espresso.pwi.j2": text}


def ionic(calculation, **control):
    """Options of a calculation of several steps."""
    deck = own_deck(
        ("'scf'", f"'{calculation}'"), ("/\nATOMIC_SPECIES", "/\n&IONS\n/\n&CELL\n/\nATOMIC_SPECIES")
    )
    return {"decks": deck, "keywords": {"control": control}}


def straight(frame=SI2, **options):
    """Label and input of a calculation."""
    made = labeler(**options)
    with campaigns.scratch() as folder:
        run = made.run(frame, folder, Resources())
    return made.parse(frame, run), run


@pytest.fixture(scope="module")
def plain():
    return straight()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"smearing": "fermi-dirac", "degauss_Ry": 0.05}], ids=["", "smeared"]
)
def test_forces_and_stress_are_derivatives_of_the_energy(options, tmp_path):
    made = labeler(ecutwfc_Ry=45, **options)  # the stress is one at a fixed number of plane waves

    def energy(positions, cell=CELL):
        return label(made, SI2.moved(positions, cell), tmp_path, Resources()).energy

    found = label(made, SI2, tmp_path, Resources())
    step = np.zeros((2, 3))
    step[1, 0] = 0.01
    slope = (energy(SI2.positions + step) - energy(SI2.positions - step)) / 0.02
    assert found.forces[1, 0] == pytest.approx(-slope, abs=2e-4)
    for i, j in ((0, 0), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * 0.005
            strain[j, i] += sign * 0.005
            energies.append(energy(SI2.positions @ strain, CELL @ strain))
        slope = (energies[0] - energies[1]) / 0.02 / abs(np.linalg.det(CELL))
        assert found.stress[i, j] == pytest.approx(slope, abs=4e-4)


@pytest.mark.parametrize(("calculation", "count"), [("relax", 3), ("md", 3)])
def test_each_step_has_the_energy_of_its_own_geometry(calculation, count, plain):
    _, run = straight(**ionic(calculation, nstep=count))
    steps = READER.output(run.files).steps
    assert len(steps) == count and steps[0].energy == pytest.approx(plain[0].energy, abs=1e-6)
    assert np.abs(steps[2].positions - steps[0].positions).max() > 5e-4
    again, _ = straight(SI2.moved(steps[2].positions))
    assert steps[2].energy == pytest.approx(again.energy, abs=1e-5)
    np.testing.assert_allclose(steps[2].forces, again.forces, atol=2e-3)


def test_each_step_has_its_own_cell():
    _, run = straight(**ionic("vc-relax", nstep=3))
    steps = READER.output(run.files).steps
    volumes = [abs(np.linalg.det(step.cell)) for step in steps]
    printed = [
        line.split()[4]
        for line in run.files["output.log"].decode().splitlines()
        if "new unit-cell vol" in line
    ]
    np.testing.assert_allclose(volumes[1:], np.array(printed, float)[:2] * 0.529177210903**3, rtol=1e-6)
    assert volumes[0] < volumes[1] < volumes[2]


def test_an_scf_that_needs_more_steps_gets_them(plain):
    recovered, run = straight(electron_maxstep=3)
    assert recovered.corrections == [
        {"errors": ["SCF_NOT_CONVERGED"], "actions": [{"more_steps": 3, "less_mixing": 0.7, "restart": True}]}
    ]
    assert b"startingpot = 'file'" in run.files["espresso.pwi"] and plain[0].corrections == []
    assert recovered.energy == pytest.approx(plain[0].energy, abs=1e-6)
    np.testing.assert_allclose(recovered.forces, plain[0].forces, atol=1e-3)


@pytest.mark.slow
def test_every_remedy_leads_to_the_same_energy(plain):
    """Each rung by itself, so that none is a dead letter."""
    rungs = [step for ladder in LADDERS for step in ladder.steps if "again" not in step]
    assert len(rungs) == 9
    deck = re.sub(r"\{%-? *(end)?block[^%]*%\}\n?", "", shipped("espresso.pwi.j2"))
    for step in rungs:
        setting = "".join(f"{{% set {key} = {value!r} %}}" for key, value in step.items())
        changed, run = straight(decks={"espresso.pwi.j2": setting + deck})
        assert changed.energy == pytest.approx(plain[0].energy, abs=2e-6), step
        assert changed.corrections == []
        assert run.files["espresso.pwi"] != plain[1].files["espresso.pwi"], step


def test_a_hopeless_scf_ends_with_the_ladder(tmp_path):
    made = labeler(conv_thr_Ry=1e-300, electron_maxstep=4)
    run = made.run(SI2, tmp_path, Resources())
    assert [entry["actions"] is None for entry in run.corrections] == [False] * 4 + [True]
    with pytest.raises(NotConvergedError, match="after 4 remedies: convergence NOT achieved") as caught:
        made.parse(SI2, run)
    assert caught.value.policy == "final"


def test_an_scf_that_need_not_converge_is_not_believed(tmp_path):
    deck = own_deck(("  conv_thr =", "  scf_must_converge = .false.\n  conv_thr ="))
    with pytest.raises(NotConvergedError, match=r"after 3 remedies: accuracy .* threshold 1e-09"):
        label(labeler(decks=deck, electron_maxstep=3), SI2, tmp_path, Resources())


def test_another_guess_is_another_one_and_leads_to_the_same_energy(plain, tmp_path):
    made = labeler()
    run = made.run(SI2, tmp_path, Resources(), Attempt(other_guess=True))
    assert made.parse(SI2, run).energy == pytest.approx(plain[0].energy, abs=1e-6)
    first = [line for line in run.files["output.log"].splitlines() if b"total energy  " in line][0]
    assert first not in plain[1].files["output.log"] and b"random" in run.files["espresso.pwi"]


def test_a_run_that_stops_itself_in_time_is_continued_from_its_density(plain, tmp_path):
    late = labeler(decks=own_deck(("  disk_io", "  max_seconds = 0.01\n  disk_io")))
    with pytest.raises(WalltimeError, match="stopped itself") as caught:
        late.run(SI2, tmp_path, Resources())
    left = caught.value.partial.files
    assert left["alfw.save/charge-density.dat"] and b"Maximum CPU time" in left["output.log"]
    assert not [name for name in left if name.endswith(".UPF")]
    made = labeler()
    run = made.run(SI2, tmp_path, Resources(), Attempt(restart=left))
    assert b"startingpot = 'file'" in run.files["espresso.pwi"]
    assert b"The initial density is read from file" in run.files["output.log"]
    assert made.parse(SI2, run).energy == pytest.approx(plain[0].energy, abs=1e-6)
    assert "max_seconds = 900.0" in made.inputs(SI2, Resources(walltime_s=1000))["espresso.pwi"].decode()


def test_cut_off_or_with_a_flipped_digit_it_is_no_label(plain):
    made, (_, run) = labeler(), plain
    for part in cuts(run.files["output.log"]):
        with pytest.raises(LabelError):
            READER.output({"output.log": part})
    flipped = run.files["output.log"].replace(b"tau(   2) = (   0.3", b"tau(   2) = (   0.4")
    assert flipped != run.files["output.log"]
    with pytest.raises(StructureError):
        made.parse(SI2, type(run)({"output.log": flipped}))


def test_spins():
    atom = Frame(numbers=[1], positions=[[1, 1, 1]], multiplicity=2, **BOX)
    doublet, run = straight(atom, kpoints={"grid": [1, 1, 1]})
    assert READER.output(run.files).multiplicity == 2
    assert doublet.energy == pytest.approx(-12.0, abs=1.5)
    box = {"cell": np.diag([5.0, 5.0, 6.0]), "pbc": [True] * 3}
    pair = Frame(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 3]], moments=[0.9, -0.9], **box)
    _, run = straight(pair, kpoints={"grid": [1, 1, 1]})
    text = run.files["output.log"].decode()
    assert READER.output(run.files).multiplicity == 1
    assert float(text.split("absolute magnetization    =")[-1].split()[0]) > 1.5  # antiferromagnetic


def test_what_stops_the_whole_campaign(tmp_path):
    for options in ({"keywords": {"system": {"nonsense": 1}}}, {"input_dft": "NOSUCH"}):
        with pytest.raises(DeckError) as caught:
            labeler(**options).run(SI2, tmp_path, Resources())
        assert caught.value.policy == "pause" and "pw.x" in str(caught.value)
    with pytest.raises(ExecutableError, match="no-such-pw"):
        labeler(command="no-such-pw.x").run(SI2, tmp_path, Resources())
    with pytest.raises(ExecutableError, match=r"pw\.x 6.*states version 5"):
        labeler(version="5").run(SI2, tmp_path, Resources())


def test_an_unknown_keyword_pauses_the_campaign_at_the_first_frame(tmp_path, launchpad):
    labeler()
    frames = [SI2, SI2.moved(SI2.positions * 1.01)]
    section = {"kind": "espresso", **OPTIONS, "keywords": {"system": {"nonsense": 1}}}
    store, _ = label_through_fireworks(launchpad, label_campaign(tmp_path, frames, section))
    record = store.get_campaign("labels")
    assert record["state"] == "paused" and "nonsense" in record["reason"]
    assert campaigns.collection(store, "labels") == []


def test_an_element_without_pseudopotential_is_found_before_the_first_frame(tmp_path, launchpad):
    labeler()
    section = {"kind": "espresso", **OPTIONS, "pseudopotentials": {"H": "H.pz-vbc.UPF"}}
    with pytest.raises(BasisError, match="no pseudopotential for Si"):
        label_through_fireworks(launchpad, label_campaign(tmp_path, [SI2], section))


def replayed(folder, *replays, **options):
    program = fake_program(folder, "pw.x", *replays)
    (folder / "Si.UPF").write_bytes(b"a pseudopotential")
    section = {"pseudopotentials": {"Si": "Si.UPF"}, "pseudo_dir": str(folder), "ecutwfc_Ry": 30}
    mesh = {"kpoints": {"grid": [3, 3, 3]}, "command": f"{program.path} -in espresso.pwi"}
    return program, {"kind": "espresso", **section, **mesh, **options}


def test_a_bad_first_attempt_and_a_good_second_through_fireworks(tmp_path, launchpad):
    bad = Replay(fixture("espresso/failed_scf_not_converged.out"), code=2)
    program, section = replayed(tmp_path, bad, Replay(good()))
    store, states = label_through_fireworks(launchpad, label_campaign(tmp_path, [DIAMOND], section))
    assert program.starts == 2 and "FIZZLED" not in states
    first, second = (program.saw(i, "espresso.pwi") for i in range(2))
    assert "electron_maxstep = 100" in first and "startingpot" not in first
    assert "electron_maxstep = 300" in second and "startingpot = 'file'" in second
    assert program.saw(0, "Si.Si.UPF") == "a pseudopotential" and "Si 28.085 Si.Si.UPF" in first
    [record] = campaigns.collection(store, "labels")
    [[_, found]] = store.get_labels([DIAMOND.id], record["theory"]).values()
    assert found.energy == pytest.approx(-22.65170508 * 27.211386245988 / 2) and found.version == "pw.x 6.6"
    assert [entry["errors"] for entry in found.corrections] == [["SCF_NOT_CONVERGED"]]


def test_smearing_is_a_remedy_only_where_it_is_allowed(tmp_path):
    bad = Replay(fixture("espresso/failed_scf_not_converged.out"), code=2)
    program, section = replayed(tmp_path, *[bad] * 5, Replay(good()))
    made = EspressoLabeler(**section, allow_theory_changes=True)
    found = label(made, DIAMOND, tmp_path, Resources())
    assert found.changes == {"smearing": "marzari-vanderbilt", "degauss_Ry": 0.01}
    assert "smearing = 'marzari-vanderbilt'\n  degauss = 0.01" in program.saw(5, "espresso.pwi")
    assert "smearing" not in program.saw(4, "espresso.pwi")


MPI = b"Program PWSCF v.7.2 starts\nmpirun noticed that process rank 3 on node n1 exited on signal 7\n"
REMEDIES = [
    (broken("problems computing cholesky", "cdiaghg"), "SCF_NOT_CONVERGED", "diagonalization = 'cg'"),
    (broken("charge is wrong"), "SCF_NOT_CONVERGED", "diagonalization = 'cg'"),
    (broken("lone vector", "sym_rho_init_shells"), "UNKNOWN", "nosym = .true."),
    (broken("cannot allocate 3 GB", "allocate_fft"), "OUT_OF_MEMORY", "mixing_ndim = 4"),
    (MPI, "MPI_ABORT", "&CONTROL"),
]


@pytest.mark.parametrize(("output", "error", "line"), REMEDIES)
def test_remedies_of_other_errors(output, error, line, tmp_path):
    program, section = replayed(tmp_path, Replay(output, code=1), Replay(good()))
    found = label(EspressoLabeler(**section), DIAMOND, tmp_path, Resources())
    assert program.starts == 2 and [entry["errors"] for entry in found.corrections] == [[error]]
    assert f"{line}\n" in program.saw(1, "espresso.pwi")
