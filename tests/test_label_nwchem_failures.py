"""NWChem: every bad output is refused with its class, every remedy is tried in its turn; hand-made outputs."""

from dataclasses import replace

import campaigns
import numpy as np
import nwchem_outputs as made
import pytest
from ase.build import molecule
from labelling import cuts, label_campaign, label_through_fireworks

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    GradientMissingError,
    InputError,
    LabelError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Attempt, Resources, Run
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers.nwchem import NWChemLabeler
from alfw.labelers.outputs import labels, read_output
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
GRADIENT = 0.01 * WATER.positions
GOOD = made.good(WATER, -76.25, GRADIENT)
UNCONVERGED = Replay(stdout=made.unconverged(WATER), code=255)
PBE0 = NWChemLabeler(method="PBE0", basis="def2-SVP")
INPUT, BASIS = "There is an error in the input file", "There is an error in the specified basis set"
DATABASE = "An error occured in the Runtime Database"
DISK = "An error occured while trying to read or write to disk space"
NONE = "This error has not yet been assigned to a category"


def replayed(folder, *replays, **options):
    program = fake_program(folder, "nwchem", *replays)
    labeler = NWChemLabeler(method="PBE0", basis="def2-SVP", command=f"{program.path} nwchem.nw", **options)
    return labeler, program


def boxed(*told, code=255):
    return Replay(stdout=made.failed(made.box(*told), WATER), code=code)


def parsed(log, frame=WATER, **files):
    return PBE0.parse(frame, Run({"output.log": log, **files}))


def test_the_hand_made_output_is_a_label():
    found = parsed(GOOD)
    assert found.energy == pytest.approx(-76.25 * HARTREE_eV) and found.version == "nwchem 7.0.2"
    np.testing.assert_allclose(found.forces, -GRADIENT * HARTREE_eV / BOHR_A, atol=3e-5)
    np.testing.assert_allclose(found.dipole, np.array([0.1, 0.2, 0.3]) * BOHR_A)
    assert found.charges is None and found.s_squared is None


BAD = [
    (b"", MissingOutputError, "no output"),
    (b"\xff\xfe\x80 Northwest", MissingOutputError, "Northwest"),
    (made.unconverged(WATER), NotConvergedError, "Calculation failed to converge"),
    (
        made.box("bas_tag_lib: failed opening basis file", BASIS),
        BasisError,
        "failed opening basis",
    ),
    (made.box("bas_tag_lib: no such basis available", INPUT), BasisError, "no such basis"),
    # A full disk, for real on a file system of 100 kB:
    (made.box("bas_input: failed to store basis", BASIS), OutOfDiskError, "store"),
    (made.box("nwchem: rtdb_close failed", DATABASE), OutOfDiskError, "rtdb_close"),
    (
        made.box("dft_scf: movec_write failed", DISK),
        OutOfDiskError,
        "movec_write",
    ),
    (
        made.box("movecs_converged: error reading file", DISK),
        UnknownLabelError,
        "movecs_converged",
    ),
    (made.box("xc_setquad: out of memory"), OutOfMemoryLabelError, "xc_setquad"),
    (made.box("dft_scf:push_get failed"), OutOfMemoryLabelError, "push_get"),
    (made.box("dft_gradient: cannot pop stack"), UnknownLabelError, "pop stack"),
    (
        made.box("Memory_Defaults: Global memory limit unreasonable", INPUT),
        OutOfMemoryLabelError,
        "Global memory",
    ),
    (
        made.box("no. of electrons and multiplicity not compatible", INPUT),
        ChargeError,
        "not compatible",
    ),
    (
        made.box(
            "geom_input: geom_verify_coords failed", "There is an error related to the specified \n geometry"
        ),
        GeometryError,
        "geom_verify_coords",
    ),
    (made.box("xc_input: invalid format", INPUT, "11:  xc nosuch"), DeckError, "xc nosuch"),
    (made.box("atomscf:atomd: error in atom scf", NONE), UnknownLabelError, "atomd"),
    ("[node1:1] mpirun noticed that process rank 3 exited on signal 11\n", MPIAbortError, "rank 3"),
    ("slurmstepd: error: Detected 1 oom-kill event(s)\n", OutOfMemoryLabelError, "oom-kill"),
    ("forrtl: No space left on device\n", OutOfDiskError, "No space left"),
    ("cut off\n", MissingOutputError, "cut off"),
]


@pytest.mark.parametrize(("log", "error", "words"), BAD)
def test_every_bad_end_has_its_class_and_its_literal_line(log, error, words):
    log = made.failed(log, WATER) if isinstance(log, str) else log
    with pytest.raises(error, match=words) as caught:
        parsed(log)
    assert type(caught.value) is error and len(str(caught.value).splitlines()) == 1
    assert caught.value.signature in log.decode(errors="replace") or error is MissingOutputError


def test_a_killed_program_ran_out_of_memory():
    with pytest.raises(OutOfMemoryLabelError, match="signal 9"):
        parsed(made.failed("", WATER), returncode=b"-9")


def test_an_output_cut_off_anywhere_is_no_label():
    for cut in cuts(GOOD):
        with pytest.raises(LabelError):
            parsed(cut)


FLIPPED = [
    (b"    0.76323900", b"    0.76423900"),  # in the geometry
    (b"  1.442313 ", b"  1.444313 "),  # beside the gradient
    (b"8.0000", b"7.0000"),
    (b"Charge           :     0", b"Charge           :     2"),
    (b"multiplicity:     1", b"multiplicity:     3"),
]


@pytest.mark.parametrize(("old", "new"), FLIPPED)
def test_a_flipped_digit_is_refused(old, new):
    assert GOOD.count(old) == 1
    with pytest.raises(StructureError):
        parsed(GOOD.replace(old, new))


STRANGE = [
    (b"DFT ENERGY GRADIENTS", b"TDDFT ENERGY GRADIENTS", UnknownLabelError, "do not belong"),
    (b"DFT ENERGY GRADIENTS", b"UHF ENERGY GRADIENTS", UnknownLabelError, "do not belong"),
    (b"Total DFT energy", b"Total MP2 energy", GradientMissingError, "no complete step"),
    (b"8.0000 ", b"0.0000 ", UnknownLabelError, "ghost"),
    (
        b"  0.001193\n",
        b"**********\n",
        GradientMissingError,
        "not complete",
    ),  # a number too long for its column
    (b"\n Total times", b"\n G(SMD-CDS)\n Total times", DeckError, "SMD"),
]


@pytest.mark.parametrize(("old", "new", "error", "words"), STRANGE)
def test_what_is_not_understood_is_refused(old, new, error, words):
    log = GOOD.replace(old, new)
    assert log != GOOD
    with pytest.raises(error, match=words):
        parsed(log)


def test_each_step_of_an_optimisation_is_a_label_of_its_own_geometry(tmp_path):
    moved = WATER.moved(WATER.positions * 1.02)
    text = (
        made.BANNER + made.step(WATER, -76.25, GRADIENT) + made.step(moved, -76.26, 0 * GRADIENT) + made.END
    )
    (tmp_path / "opt.out").write_text(text)
    output = read_output(tmp_path / "opt.out")
    assert output.theory == "PBE0 Method XC Functional, Hartree-Fock (Exact) Exchange 0.250 / def2-svp"
    frames, found = zip(*labels(output), strict=True)
    assert [frame.id for frame in frames] == [WATER.id, moved.id]
    assert [each.energy for each in found] == pytest.approx([-76.25 * HARTREE_eV, -76.26 * HARTREE_eV])
    assert parsed(text.encode(), moved).energy == pytest.approx(-76.26 * HARTREE_eV)
    # Without an energy of its own, the second geometry has no label.
    lost = text.replace("Total DFT energy =      -76.260000000000", "")
    assert lost != text
    with pytest.raises(StructureError):
        parsed(lost.encode(), moved)


def test_the_scf_ladder_in_order(tmp_path):
    labeler, program = replayed(tmp_path, UNCONVERGED)
    run = labeler.run(WATER, tmp_path, Resources())
    with pytest.raises(NotConvergedError, match="after 4 remedies"):
        labeler.parse(WATER, run)
    first, cycles, damped, second, guess = (program.saw(i, "nwchem.nw") for i in range(5))
    assert "iterations 50\n" in first and "vectors input atomic" in first
    assert "iterations 200\n" in cycles and "vectors input alfw.movecs" in cycles
    assert "damp 50 ncydp 200" in damped and "lshift 0.5" in damped and "vectors input atomic" in damped
    assert "cgmin" in second and "damp 50" not in second
    assert "vectors input hcore" in guess and "cgmin" in guess
    # … and nothing else changed: geometry, functional, basis, grid, thresholds.
    head = first.split("iterations")[0]
    assert all(deck.startswith(head) for deck in (cycles, damped, second, guess))


@pytest.mark.parametrize(
    ("bad", "name", "seen"),
    [
        (boxed("xc_setquad: out of memory"), "OUT_OF_MEMORY", "memory total 1638 mb"),
        (
            Replay(stdout=made.failed("mpirun noticed that process rank 1 died\n", WATER)),
            "MPI_ABORT",
            "total 819 mb",
        ),
        (UNCONVERGED, "SCF_NOT_CONVERGED", "iterations 200"),
    ],
)
def test_a_bad_attempt_and_a_good_one_through_fireworks(bad, name, seen, tmp_path, launchpad):
    _, program = replayed(tmp_path, bad, Replay(stdout=GOOD))
    section = {
        "kind": "nwchem",
        "method": "PBE0",
        "basis": "def2-SVP",
        "command": f"{program.path} nwchem.nw",
    }
    config = label_campaign(tmp_path, [WATER], section)
    raw = config.raw | {"resources": {"label": {"mem_GB": 1}}}
    store, states = label_through_fireworks(launchpad, type(config)(raw))
    assert "FIZZLED" not in states and program.starts == 2
    assert seen in program.saw(1, "nwchem.nw")
    [record] = campaigns.collection(store, "labels")
    [[_, found]] = store.get_labels([WATER.id], record["theory"]).values()
    assert found.energy == pytest.approx(-76.25 * HARTREE_eV)
    assert [entry["errors"] for entry in found.corrections] == [[name]]


def test_an_unusable_checkpoint_is_left_aside(tmp_path):
    broken = boxed("movecs_converged: error reading file", DISK)
    labeler, program = replayed(tmp_path, broken, Replay(stdout=GOOD))
    run = labeler.run(WATER, tmp_path, Resources(), Attempt(restart={"alfw.movecs": b"rubbish"}))
    assert "input alfw.movecs" in program.saw(0, "nwchem.nw") and "input atomic" in program.saw(
        1, "nwchem.nw"
    )
    assert labeler.parse(WATER, run).corrections and "alfw.movecs" not in run.files


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (("bas_tag_lib: no such basis available", INPUT), BasisError),
        (("xc_input: invalid format", INPUT), DeckError),
        (("bas_input: failed to store basis", BASIS), OutOfDiskError),
    ],
)
def test_what_would_hit_every_frame_is_raised_at_the_first(told, error, tmp_path):
    labeler, _ = replayed(tmp_path, boxed(*told))
    with pytest.raises(error, match=told[0]):
        labeler.run(WATER, tmp_path, Resources())


def test_another_major_version_pauses(tmp_path):
    labeler, _ = replayed(tmp_path, Replay(stdout=GOOD), version="6")
    with pytest.raises(ExecutableError, match=r"7\.0\.2 .* states version 6"):
        labeler.run(WATER, tmp_path, Resources())


IODIDE = Frame(numbers=[53, 1], positions=[[0, 0, 0], [0, 0, 1.6]])
REFUSED = [
    (PBE0, replace(WATER, charge=1), ChargeError, "impossible with 9 electrons"),
    (PBE0, replace(WATER, cell=9 * np.eye(3), pbc=np.ones(3, bool)), InputError, "for molecules"),
    (NWChemLabeler(method="HF", basis="LANL2DZ ECP"), IODIDE, InputError, "say which one I has"),
    (PBE0, Frame(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 0.29]]), GeometryError, "0.290 Å apart"),
]


@pytest.mark.parametrize(("labeler", "frame", "error", "words"), REFUSED)
def test_impossible_frames_start_nothing(labeler, frame, error, words, tmp_path):
    _, program = replayed(tmp_path, Replay())
    labeler = labeler.model_copy(update={"command": f"{program.path} nwchem.nw"})
    run = labeler.run(frame, tmp_path, Resources())
    assert run.files == {} and program.starts == 0
    with pytest.raises(error, match=words):
        labeler.parse(frame, run)
