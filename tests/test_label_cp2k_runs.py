"""CP2K at work: decks, numbers against finite differences, remedies that help, restarts, pauses; replayed jobs."""

from __future__ import annotations

import re

import campaigns
import numpy as np
import pytest
from cp2k_outputs import SI2, good
from labelling import cuts, fixture, label_campaign, label_through_fireworks, needs
from pydantic import ValidationError

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GradientMissingError,
    InputError,
    LabelError,
    NotConvergedError,
    StructureError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.records import Attempt, Resources
from alfw.labelers._deck import shipped
from alfw.labelers.cp2k import LADDERS, CP2KLabeler
from alfw.labelers.readers.cp2k import READER
from alfw.testing import Replay, fake_program

CELL = np.array([[3.2, 0.3, 0], [0, 3.3, 0.2], [0.1, 0, 3.4]])
H2 = Frame(numbers=[1, 1], positions=[[0.1, 0.2, 0.3], [0.2, 0.4, 1.1]], cell=CELL, pbc=[True] * 3)
OPTIONS = {
    "method": "PBE",
    "basis_set": "DZVP-GTH",
    "basis_set_files": ["GTH_BASIS_SETS"],
    "potential": "GTH-PBE",
    "cutoff_Ry": 80,
    "rel_cutoff_Ry": 25,
}


def labeler(**options):
    return CP2KLabeler(**(OPTIONS | options))


def deck(frame=H2, **options):
    return labeler(**options).inputs(frame, Resources())["cp2k.inp"].decode()


def own_deck(*changes):
    text = shipped("cp2k.inp.j2")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return {"cp2k.inp.j2": text}


def straight(frame=H2, **options):
    """Label and run of a calculation."""
    needs("cp2k.psmp", "cp2k cp2k-data")
    made = labeler(**options)
    with campaigns.scratch() as folder:
        run = made.run(frame, folder, Resources())
    return made.parse(frame, run), run


@pytest.fixture(scope="module")
def plain():
    return straight()


def test_the_deck():
    text = deck(dispersion="D3BJ", data_dir="/data/cp2k/", dft="    &PRINT\n    &END PRINT")
    for line in (
        "BASIS_SET_FILE_NAME /data/cp2k/GTH_BASIS_SETS",
        "POTENTIAL_FILE_NAME /data/cp2k/GTH_POTENTIALS",
        "&XC_FUNCTIONAL PBE",
        "TYPE DFTD3(BJ)",
        "PARAMETER_FILE_NAME /data/cp2k/dftd3.dat",
        "MINIMIZER DIIS",
        "A  3.2000000000  0.3000000000  0.0000000000",
        "H 0.2000000000 0.4000000000 1.1000000000",
    ):
        assert f"{line}\n" in text
    assert "UKS" not in text and "SMEAR" not in text and "&DIAGONALIZATION" not in text
    text = deck(scf="diagonalization", smearing_K=300, xc="      &XC_FUNCTIONAL LDA\n      &END", method=None)
    assert "ELECTRONIC_TEMPERATURE [K] 300.0\n" in text and "&OT" not in text and "LDA" in text


def test_moments_make_kinds():
    pair = Frame(H2.numbers, H2.positions, CELL, H2.pbc, moments=[1.0, -1.0])
    text = deck(pair)
    assert "UKS T\n    MULTIPLICITY 1\n" in text and "\n      H1 0.2" in text
    assert "&KIND H1\n      ELEMENT H\n" in text and "MAGNETIZATION -1.0\n" in text
    assert deck(moments={"H": 0.5}).count("MAGNETIZATION 0.5") == 1


BAD_OPTIONS = [
    ({"method": "pbe0"}, "without exact exchange"),
    ({"xc": "&XC_FUNCTIONAL PBE"}, "either method"),
    ({"method": None, "xc": "x", "dispersion": "D3"}, "VDW_POTENTIAL"),
    ({"smearing_K": 300}, "needs scf: diagonalization"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_wrong_options_are_found_when_they_are_read(options, message):
    with pytest.raises(ValidationError, match=message):
        labeler(**options)


def test_frames_that_cannot_be():
    with pytest.raises(ChargeError):
        labeler().check(Frame(H2.numbers, H2.positions, CELL, H2.pbc, charge=1))
    with pytest.raises(InputError, match="not periodic"):
        labeler().check(Frame(H2.numbers, H2.positions))
    with pytest.raises(BasisError, match="no basis_set for H"):
        labeler(basis_set={"O": "SZV-MOLOPT-SR-GTH"}).check(H2)


def test_the_theory():
    same = [labeler(method="pbe"), labeler(command="srun cp2k", max_scf=7, max_outer_scf=2, data_dir="/x")]
    other = [
        labeler(cutoff_Ry=400),
        labeler(basis_set="SZV-GTH"),
        labeler(scf="diagonalization"),
        labeler(dispersion="D3"),
        labeler(allow_theory_changes=True),
        labeler(version="2023.1"),
        labeler(decks={"cp2k.inp.j2": "&GLOBAL"}),
    ]
    assert {each.theory().id for each in same} == {labeler().theory().id}
    assert len({each.theory().id for each in [labeler(), *other]}) == len(other) + 1


SMEARED = {"scf": "diagonalization", "smearing_K": 20000, "added_mos": 4}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, SMEARED], ids=["", "smeared"])
def test_forces_and_stress_are_derivatives_of_the_energy(options):
    options = {"cutoff_Ry": 250, "rel_cutoff_Ry": 50, **options}
    found, _ = straight(**options)

    def energy(positions, cell=CELL):
        return straight(H2.moved(positions, cell), **options)[0].energy

    step = np.zeros((2, 3))
    step[1, 2] = 0.01
    slope = (energy(H2.positions + step) - energy(H2.positions - step)) / 0.02
    assert found.forces[1, 2] == pytest.approx(-slope, abs=1e-2)  # of 3 eV/Å; atoms feel the grid
    for i, j in ((2, 2), (1, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * 0.005
            strain[j, i] += sign * 0.005
            energies.append(energy(H2.positions @ strain, CELL @ strain))
        slope = (energies[0] - energies[1]) / 0.02 / np.linalg.det(CELL)
        assert found.stress[i, j] == pytest.approx(slope, abs=3e-4)


def test_an_scf_that_needs_more_steps_gets_them(plain):
    recovered, run = straight(max_scf=3, max_outer_scf=1)
    assert recovered.corrections[0] == {
        "errors": ["SCF_NOT_CONVERGED"],
        "actions": [{"more_steps": 2, "restart": True}],
    }
    assert b"SCF_GUESS RESTART" in run.files["cp2k.inp"] and plain[0].corrections == []
    assert recovered.energy == pytest.approx(plain[0].energy, abs=1e-6)
    np.testing.assert_allclose(recovered.forces, plain[0].forces, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("scf", ["ot", "diagonalization"])
def test_every_remedy_leads_to_the_same_energy(scf, plain):
    """Each rung by itself, so that none is a dead letter."""
    rungs = [step for ladder in LADDERS for step in ladder.steps if "again" not in step]
    assert len(rungs) == 6
    text = re.sub(r"\{%-? *(end)?block[^%]*%\}\n?", "", shipped("cp2k.inp.j2"))
    for step in rungs:
        setting = "".join(f"{{% set {key} = {value!r} %}}" for key, value in step.items())
        changed, run = straight(scf=scf, max_scf=200, decks={"cp2k.inp.j2": setting + text})
        assert changed.energy == pytest.approx(plain[0].energy, abs=2e-5), step
        assert run.files["cp2k.inp"] != deck(scf=scf, max_scf=200).encode(), step
        assert changed.corrections == []


@pytest.mark.slow
def test_a_hopeless_scf_ends_with_the_ladder():
    with pytest.raises(NotConvergedError, match="after 5 remedies: .*SCF run NOT converged") as caught:
        straight(eps_scf=1e-300, max_scf=2, max_outer_scf=1)
    assert caught.value.policy == "final"


def test_another_guess_is_another_one_and_leads_to_the_same_energy(plain, tmp_path):
    made = labeler()
    run = made.run(H2, tmp_path, Resources(), Attempt(other_guess=True))
    assert made.parse(H2, run).energy == pytest.approx(plain[0].energy, abs=1e-6)
    first = [line for line in run.files["cp2k.out"].splitlines() if line.startswith(b"     1 OT")][0]
    assert first[-25:] not in plain[1].files["cp2k.out"] and b"RANDOM" in run.files["cp2k.inp"]


def test_a_run_that_stops_itself_in_time_is_continued_from_its_orbitals(plain, tmp_path):
    late = labeler(decks=own_deck(("  PRINT_LEVEL", "  WALLTIME 0.01\n  PRINT_LEVEL")))
    with pytest.raises(WalltimeError, match="stopped itself") as caught:
        late.run(H2, tmp_path, Resources())
    left = caught.value.partial.files
    assert left["alfw-RESTART.wfn"] and b"exceeded requested" in left["cp2k.out"]
    made = labeler()
    run = made.run(H2, tmp_path, Resources(), Attempt(restart=left))
    assert b"SCF_GUESS RESTART" in run.files["cp2k.inp"] and "alfw-RESTART.wfn" not in run.files
    assert made.parse(H2, run).energy == pytest.approx(plain[0].energy, abs=1e-6)


def test_cut_off_or_with_a_flipped_digit_it_is_no_label(plain):
    made, (_, run) = labeler(), plain
    for part in cuts(run.files["cp2k.out"]):
        with pytest.raises(LabelError):
            READER.output({"cp2k.out": part})
    flipped = run.files["cp2k.out"].replace(b" 1.100000 ", b" 1.200000 ")
    assert flipped != run.files["cp2k.out"]
    with pytest.raises(StructureError):
        made.parse(H2, type(run)({"cp2k.out": flipped}))


def test_spins():
    atom = Frame(numbers=[1], positions=[[1, 1, 1]], cell=CELL, pbc=[True] * 3, multiplicity=2)
    doublet, run = straight(atom)
    output = READER.output(run.files)
    assert output.multiplicity == 2 and doublet.s_squared == pytest.approx(0.75, abs=1e-6)
    assert doublet.charges.shape == (1,) and output.charge == 0


@pytest.mark.slow
def test_of_a_relaxation_the_first_geometry_alone_is_known(plain):
    motion = "&MOTION\n  &GEO_OPT\n    MAX_ITER 2\n  &END GEO_OPT\n&END MOTION\n&FORCE_EVAL\n"
    relaxed, run = straight(decks=own_deck(("ENERGY_FORCE", "GEO_OPT"), ("&FORCE_EVAL\n", motion)))
    assert run.files["cp2k.out"].count(b"ENERGY|") == 3 and len(READER.output(run.files).steps) == 1
    assert relaxed.energy == pytest.approx(plain[0].energy, abs=1e-9)
    cell = motion.replace("GEO_OPT", "CELL_OPT").replace("MAX_ITER 2", "MAX_ITER 1")
    with pytest.raises(GradientMissingError):  # the cell is turned after the coordinates have been printed
        straight(decks=own_deck(("ENERGY_FORCE", "CELL_OPT"), ("&FORCE_EVAL\n", cell)))


@pytest.mark.slow
def test_what_stops_the_whole_campaign(plain, tmp_path):
    unknown = [
        ({"method": "NOSUCH"}, DeckError),
        ({"dft": "    NONSENSE 1"}, DeckError),
        ({"basis_set": "NOSUCH"}, BasisError),
        ({"potential": "NOSUCH"}, BasisError),
        ({"potential": "GTH-NOSUCH"}, BasisError),
        ({"data_dir": "/no/such/folder"}, ExecutableError),
        ({"command": "no-such-cp2k"}, ExecutableError),
        ({"version": "2022"}, ExecutableError),
    ]
    for options, error in unknown:
        with pytest.raises(error) as caught:
            labeler(**options).run(H2, tmp_path, Resources())
        assert type(caught.value) is error and caught.value.policy == "pause"


def test_an_unknown_basis_pauses_the_campaign_at_the_first_frame(plain, tmp_path, launchpad):
    frames = [H2, H2.moved(H2.positions * 1.01)]
    section = {"kind": "cp2k", **OPTIONS, "basis_set": "NOSUCH"}
    store, _ = label_through_fireworks(launchpad, label_campaign(tmp_path, frames, section))
    record = store.get_campaign("labels")
    assert record["state"] == "paused" and "basis set <NOSUCH>" in record["reason"]
    assert campaigns.collection(store, "labels") == []


def test_a_bad_first_attempt_and_a_good_second_through_fireworks(tmp_path, launchpad):
    bad = Replay(files={"cp2k.out": fixture("cp2k/cp2k.out.unconverged"), "alfw-RESTART.wfn": b"orbitals"})
    program = fake_program(tmp_path, "cp2k", bad, Replay(files={"cp2k.out": good()}))
    section = {"kind": "cp2k", **OPTIONS, "command": f"{program.path} -i cp2k.inp -o cp2k.out"}
    store, states = label_through_fireworks(launchpad, label_campaign(tmp_path, [SI2], section))
    assert program.starts == 2 and "FIZZLED" not in states
    first, second = (program.saw(i, "cp2k.inp") for i in range(2))
    assert "SCF_GUESS ATOMIC\n      MAX_SCF 50\n" in first
    assert "SCF_GUESS RESTART\n      MAX_SCF 100\n" in second
    assert program.saw(1, "alfw-RESTART.wfn") == "orbitals"
    [record] = campaigns.collection(store, "labels")
    [[_, found]] = store.get_labels([SI2.id], record["theory"]).values()
    assert found.energy == pytest.approx(-7.096336535944440 * 27.211386245988)
    assert [entry["errors"] for entry in found.corrections] == [["SCF_NOT_CONVERGED"]]
