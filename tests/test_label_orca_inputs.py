"""ORCA's input: decks, what makes another theory, options that are refused, points of the potential."""

import shlex

import numpy as np
import orca_outputs as made
import pytest
from ase.build import bulk, molecule
from pydantic import ValidationError

from alfw.core.errors import (
    ChargeError,
    DataError,
    ExecutableError,
    InputError,
    MissingOutputError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Resources
from alfw.core.registry import plugin_class
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers._esp import surface_points
from alfw.labelers.orca import OrcaLabeler
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
OH = Frame.from_atoms(molecule("OH"), multiplicity=2)
GRADIENT = 0.01 * WATER.positions
GRID = {"scale_factors": [1.4, 2.0], "points_per_A2": 0.3}


def labeler(**options):
    return OrcaLabeler(**({"method": "PBE0", "basis": "def2-SVP"} | options))


def deck(frame=WATER, resources=None, **options):
    return labeler(**options).inputs(frame, resources or Resources())["orca.inp"].decode()


def words(text):
    return [word for line in text.splitlines() if line.startswith("!") for word in line[1:].split()]


def test_the_entry_point_knows_the_kind():
    assert plugin_class("alfw.labelers", "orca") is OrcaLabeler


def test_the_deck_is_one_geometry_with_gradient_in_full_precision():
    text = deck(dispersion="D4", keywords="RIJCOSX def2/J DefGrid3 TightSCF")
    assert words(text) == ["PBE0", "def2-SVP", "D4", "RIJCOSX", "def2/J", "DefGrid3", "TightSCF", "EnGrad"]
    rows = text[text.index("* xyz 0 1") :].splitlines()
    assert rows[-1] == "*" and len(rows) == 5
    positions = np.array([row.split()[1:] for row in rows[1:4]], float)
    np.testing.assert_array_equal(positions, WATER.positions)
    assert all(len(word.partition(".")[2]) >= 8 for row in rows[1:4] for word in row.split()[1:])
    assert "HFTyp" not in text and "AutoStart false" in text
    assert not {"polar", "elprop", "maxcore", "pal", "keepdens", "miniprint"} & set(text.lower().split())
    assert text.count("%scf") == 1


def test_open_shells_are_unrestricted():
    assert "HFTyp UHF" in deck(OH) and "* xyz 0 2" in deck(OH)
    assert "HFTyp UHF" in deck(unrestricted=True)


@pytest.mark.parametrize(
    ("resources", "maxcore", "processes"),
    [
        (Resources(threads=8, mem_GB=16), "%maxcore 1536", "nprocs 8"),  # 75 % of 2 GB each
        (Resources(mem_GB=4), "%maxcore 3072", None),
        (Resources(threads=2), None, "nprocs 2"),
    ],
)
def test_memory_and_processes_are_those_of_the_worker(resources, maxcore, processes):
    text = deck(resources=resources)
    for wanted, name in ((maxcore, "maxcore"), (processes, "nprocs")):
        assert (wanted in text) if wanted else (name not in text)


def test_solvents():
    assert "! CPCM(water)" in deck(solvent="CPCM(water)")
    smd = deck(solvent="SMD(octanol(wet))")
    assert 'SMDsolvent "octanol(wet)"' in smd and "SMD true" in smd and "! CPCM\n" in smd


def test_an_own_deck(tmp_path):
    (tmp_path / "orca.inp.j2").write_text(
        "! {{ method }} EnGrad MyWord\n* xyz {{ charge }} {{ multiplicity }}\n*\n"
    )
    options = OrcaLabeler.with_files({"method": "HF", "basis": "STO-3G", "decks": "."}, tmp_path)
    own = OrcaLabeler(**options)
    assert own.inputs(WATER, Resources())["orca.inp"] == b"! HF EnGrad MyWord\n* xyz 0 1\n*\n"
    assert own.theory().id != OrcaLabeler(method="HF", basis="STO-3G").theory().id
    with pytest.raises(DataError, match="no such folder"):
        OrcaLabeler.with_files({"decks": "nowhere"}, tmp_path)


SAME = [
    {"command": "/opt/orca/orca orca.inp"},
    {"max_cycles": 300},
    {"vpot_command": "/opt/orca/orca_vpot"},
    {"method": "pbe0", "basis": "DEF2-svp"},
    {"keywords": "tightscf"},
    {"blocks": ""},
]
DIFFERENT = [
    {"method": "PBE"},
    {"basis": "def2-TZVP"},
    {"dispersion": "D4"},
    {"keywords": "VeryTightSCF"},
    {"blocks": "%method IntAcc 5 end"},
    {"solvent": "SMD(water)"},
    {"unrestricted": True},
    {"esp": GRID},
    {"version": "6"},
    {"allow_theory_changes": True},
]


@pytest.mark.parametrize("options", SAME)
def test_execution_and_spelling_do_not_change_the_theory(options):
    assert labeler(**options).theory().id == labeler().theory().id


@pytest.mark.parametrize("options", DIFFERENT)
def test_another_energy_surface_is_another_theory(options):
    assert labeler(**options).theory().id != labeler().theory().id


def test_the_order_of_keywords_does_not_matter_and_no_grid_leaves_no_trace():
    one, other = labeler(keywords="RIJCOSX def2/J"), labeler(keywords="def2/j rijcosx")
    assert one.theory().id == other.theory().id
    assert "esp" not in labeler().theory().settings and "esp" in labeler(esp=GRID).theory().settings


REFUSED = [
    ({"keywords": "TightSCF Opt"}, "Opt: the deck sees to that"),
    ({"keywords": "EnGrad"}, "EnGrad"),
    ({"keywords": "NumFreq"}, "NumFreq"),
    ({"keywords": "UKS"}, "UKS"),
    ({"keywords": "PAL8"}, "PAL8"),
    ({"keywords": "MORead"}, "MORead"),
    ({"keywords": "UseSym"}, "UseSym"),
    ({"keywords": "CPCM(water)"}, "solvent"),
    ({"keywords": "! TightSCF"}, "deck sees"),
    ({"keywords": "A\nB"}, "keywords"),
    ({"method": "XTB2", "basis": ""}, "XTB2"),
    ({"blocks": "%maxcore 2000"}, "maxcore"),
    ({"blocks": "%pal nprocs 8 end"}, "pal"),
    ({"blocks": "%scf Guess HCore end"}, "Guess"),
    ({"blocks": "%scf SmearTemp 5000 end"}, "SmearTemp"),
    ({"blocks": "* xyz 0 1"}, "blocks"),
    ({"blocks": "$new_job"}, "blocks"),
    ({"solvent": "water"}, "solvent"),
    ({"basis": ""}, "PBE0 needs one"),
    ({"method": "r2SCAN-3c"}, "brings its own"),
    ({"method": "RI-MP2", "esp": {}}, "SCF density alone"),
    ({"esp": {"scale_factors": []}}, "scale_factors"),
    ({"Method": "PBE"}, "Method"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_options_that_contradict_the_deck_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        labeler(**options)


def test_options_that_do_not_are_taken():
    for options in (
        {"method": "r2SCAN-3c", "basis": ""},
        {"method": "DLPNO-CCSD(T)", "basis": "cc-pVTZ", "keywords": "cc-pVTZ/C TightPNO"},
        {"method": "B3LYP/G", "basis": "6-31G**", "keywords": "SlowConv"},
        {"basis": "", "blocks": '%basis\n  Basis "def2-SVP"\nend'},
        {"blocks": "%scf\n  Thresh 1e-12\nend\n%mdci MaxIter 100 end"},
    ):
        assert labeler(**options).inputs(WATER, Resources())


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (Frame.from_atoms(bulk("Cu")), InputError),
        (Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 1]]), ChargeError),
    ],
)
def test_impossible_frames_start_no_program(frame, error, tmp_path):
    program = fake_program(tmp_path, "orca", Replay())
    orca = labeler(command=str(program.path))
    with pytest.raises(error):
        label(orca, frame, tmp_path, Resources())
    assert program.starts == 0


def with_potential(folder, data, frame=WATER, **options):
    """A labeler whose fake ``orca`` and ``orca_vpot`` leave these files."""
    good = made.good(frame, -76.321, 0.01 * frame.positions)
    orca = fake_program(folder, "orca", Replay(stdout=good))
    files = {} if data is None else {"orca.vpot.out": data}
    vpot = fake_program(folder, "orca_vpot", Replay(stdout=b"ORCA VPOT\n", files=files))
    return labeler(command=f"{orca.path} orca.inp", esp=GRID, **options), orca, vpot


def test_the_potential_at_its_points(tmp_path):
    points = surface_points(WATER, labeler(esp=GRID).esp)
    values = np.linspace(-0.05, 0.05, len(points))
    orca_labeler, orca, vpot = with_potential(tmp_path, made.vpot(points, values))
    found = label(orca_labeler, WATER, tmp_path, Resources())
    np.testing.assert_allclose(found.esp, values * HARTREE_eV, rtol=1e-6)
    np.testing.assert_allclose(found.esp_points, points, atol=1e-8)
    assert "KeepDens" in orca.saw(0, "orca.inp") and orca.saw(0, "argv") == "orca.inp"
    assert vpot.saw(0, "argv") == "orca.gbw orca.scfp orca.vpot.xyz orca.vpot.out"
    rows = vpot.saw(0, "orca.vpot.xyz").splitlines()
    assert int(rows[0]) == len(points)
    np.testing.assert_allclose(np.array([r.split() for r in rows[1:]], float) * BOHR_A, points, atol=1e-9)
    assert orca_labeler.inputs(WATER, Resources())["orca.vpot.xyz"].decode() == vpot.saw(0, "orca.vpot.xyz")


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda p: None, MissingOutputError, "has left no orca.vpot.out"),
        (lambda p: made.vpot(p + [0.001, 0, 0], p[:, 0]), StructureError, "other points"),
        (lambda p: made.vpot(p[:-1], p[:-1, 0]), StructureError, "other points"),
        (lambda p: made.vpot(p, p[:, 0])[:-60], UnknownLabelError, "not complete"),
        (lambda p: made.vpot(p, p[:, 0])[:-3], UnknownLabelError, "not complete"),
        (lambda p: b"", UnknownLabelError, "not complete"),
    ],
)
def test_a_potential_that_is_not_the_one_asked_for_is_refused(damage, error, words, tmp_path):
    points = surface_points(WATER, labeler(esp=GRID).esp)
    orca_labeler, *_ = with_potential(tmp_path, damage(points))
    with pytest.raises(error, match=words):
        label(orca_labeler, WATER, tmp_path, Resources())


def test_programs_that_are_missing_pause(tmp_path):
    with pytest.raises(ExecutableError, match="cannot start '/no/orca'"):
        labeler(command="/no/orca orca.inp").run(WATER, tmp_path, Resources())
    with pytest.raises(ExecutableError, match="/no/orca") as caught:
        labeler(command="/no/orca orca.inp", esp=GRID).run(WATER, tmp_path, Resources())
    assert caught.value.policy == "pause"
    orca_labeler, *_ = with_potential(tmp_path, None, vpot_command="/no/orca_vpot")
    with pytest.raises(ExecutableError, match="/no/orca_vpot"):
        orca_labeler.run(WATER, tmp_path, Resources())


def test_orca_vpot_is_looked_for_beside_orca():
    line = shlex.split(labeler(esp=GRID, command="/opt/orca 6/orca orca.inp".replace(" 6", "6"))._command())
    assert line[:2] == ["/bin/sh", "-c"]
    assert (
        line[2]
        == "/opt/orca6/orca orca.inp; /opt/orca6/orca_vpot orca.gbw orca.scfp orca.vpot.xyz orca.vpot.out"
    )
    assert "; orca_vpot orca.gbw" in labeler(esp=GRID)._command()


def test_another_version_pauses(tmp_path):
    orca = fake_program(tmp_path, "orca", Replay(stdout=made.good(WATER, -76.321, GRADIENT, "5.0.4")))
    with pytest.raises(ExecutableError, match=r"orca 5\.0\.4 .* version 6"):
        labeler(command=str(orca.path), version="6").run(WATER, tmp_path, Resources())
    labeler(command=str(orca.path), version="5").run(WATER, tmp_path, Resources())
