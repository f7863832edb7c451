"""The reader of Q-Chem's outputs: recorded ones, and hand-made ones for what is not recorded."""

import io

import numpy as np
import pytest
import qchem_outputs as made
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from labelling import cuts, fixture
from scipy.spatial.transform import Rotation

from alfw.core.errors import (
    GradientMissingError,
    LabelError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Run
from alfw.core.superposition import rotation
from alfw.core.units import HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers._output import step_of
from alfw.labelers.outputs import recognise
from alfw.labelers.qchem import QChemLabeler
from alfw.labelers.readers.qchem import READER

DVB = "qchem/qchem54_dvb_gopt.out"
WATER = Frame.from_atoms(molecule("H2O"))
ETHANE = Frame.from_atoms(molecule("C2H6"))  # more than one block of six atoms
PULL = 0.8 * (WATER.positions - WATER.positions.mean(0))  # no net force, no torque
GOOD = made.step(WATER, -2069.0, PULL)
B3LYP = QChemLabeler(method="B3LYP", basis="STO-3G")


def read(data):
    return READER.output({"qchem.out": data})


def dvb():
    return read(fixture(DVB)).steps


def test_every_step_of_an_optimisation_has_its_own_geometry_and_energy():
    data = fixture(DVB)
    found = read(data)
    assert (found.version, found.theory) == ("qchem 5.4.1", "b3lyp/sto-3g")
    assert (found.charge, found.multiplicity) == (0, 1) and recognise(data) == "qchem"
    energies = [step.energy / HARTREE_eV for step in found.steps]
    assert energies[0] == pytest.approx(-382.3003620825, abs=1e-10) and len(energies) == 5
    first = found.steps[0]
    assert first.positions[0, 0] == pytest.approx(1.3668132833)
    assert first.forces[0, 0] == pytest.approx(0.0505528 * HARTREE_PER_BOHR_eV_PER_A)  # minus the gradient
    assert first.forces[19, 1] == pytest.approx(0.0029376 * HARTREE_PER_BOHR_eV_PER_A)
    assert first.charges[11] == pytest.approx(-0.156380) and np.abs(first.dipole).max() < 1e-4
    assert all(step.charges is not None and step.s_squared is None for step in found.steps)


def test_forces_are_those_of_their_own_geometry():
    """No net force, no torque, and between two steps the energy changes by the work of the forces."""
    steps = dvb()
    for step in steps:
        assert np.abs(step.forces.sum(0)).max() < 1e-4
        assert np.abs(np.cross(step.positions, step.forces).sum(0)).max() < 5e-2  # a coarse grid (SG-1)
    for one, other in zip(steps, steps[1:], strict=False):
        turn = rotation(one.positions, other.positions)
        moved = other.positions - one.positions @ turn.T
        work = -0.5 * np.sum((one.forces @ turn.T + other.forces) * moved)
        assert other.energy - one.energy == pytest.approx(work, rel=0.1)


def test_energies_and_gradients_agree_with_cclib():
    cclib = pytest.importorskip("cclib", reason="needs cclib: pip install cclib")
    data = cclib.io.ccread(io.StringIO(fixture(DVB).decode()), loglevel=40)
    steps = dvb()
    np.testing.assert_allclose(data.scfenergies, [step.energy for step in steps], rtol=1e-7)
    forces = np.array([step.forces for step in steps]) / HARTREE_PER_BOHR_eV_PER_A
    np.testing.assert_allclose(-data.grads, forces, atol=1e-10)  # cclib: gradients for Q-Chem


def test_the_first_step_is_the_frame_that_was_submitted_in_its_own_orientation():
    lines = fixture(DVB).decode().partition("$molecule\n 0 1\n")[2].partition("$end")[0].splitlines()
    positions = [[float(x) for x in line.split()[1:]] for line in lines]
    output = read(fixture(DVB))
    frame = Frame(output.steps[0].numbers, positions)
    step = step_of(frame, output)
    assert np.abs(output.steps[0].positions - frame.positions).max() > 1.0  # Q-Chem has turned it
    np.testing.assert_allclose(step.positions, frame.positions, atol=1e-4)
    assert np.abs(np.cross(step.positions, step.forces).sum(0)).max() < 5e-2
    assert B3LYP.parse(frame, Run({"qchem.out": fixture(DVB)})).forces == pytest.approx(step.forces)


RECORDED = [
    ("exit_code_134", MPIAbortError, "Application 24764478 exit codes: 134"),
    ("h2o_nan", GradientMissingError, "1         nan         nan         nan"),
]


@pytest.mark.parametrize(("name", "error", "signature"), RECORDED)
def test_recorded_failures_have_their_class_and_their_literal_line(name, error, signature):
    data = fixture(f"qchem/{name}.qcout")
    with pytest.raises(error) as caught:
        read(data)
    assert type(caught.value) is error and caught.value.signature == signature
    assert recognise(data) == "qchem"


@pytest.mark.parametrize("place", range(20))
def test_an_output_cut_off_anywhere_is_no_label(place):
    with pytest.raises(LabelError):
        read(cuts(fixture(DVB))[place])


FLIPS = [
    (b"1.3668132833     0.2787694006", b"1.3668132833     0.2887694006"),
    (b"    2      C       0.4416487095", b"    2      N       0.4416487095"),
    (b"  -0.0505528   0.0062279", b"  -0.0515528   0.0062279"),
    (b"    1  -0.0505528", b"    1   nan     8"),
    (b" C ", b" B "),
]


@pytest.mark.parametrize(("right", "wrong"), FLIPS)
def test_one_flipped_digit_is_refused(right, wrong):
    data, frame = fixture(DVB), Frame(dvb()[0].numbers, dvb()[0].positions)
    assert B3LYP.parse(frame, Run({"qchem.out": data})).version == "qchem 5.4.1"
    assert right in data
    with pytest.raises(LabelError):
        B3LYP.parse(frame, Run({"qchem.out": data.replace(right, wrong)}))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_q_chem_has_turned_is_turned_back(seed):
    rng = np.random.default_rng(seed)
    turn, shift = Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3) * 3
    frame = Frame(ETHANE.numbers, ETHANE.positions, charge=1, multiplicity=2)
    forces, dipole = 0.5 * (frame.positions - frame.positions.mean(0)), rng.normal(size=3)
    charges = rng.normal(size=8).round(6)
    middle = (
        "<S^2> =          0.753100000\n"
        + made.mulliken(frame, charges)
        + made.moment(turn @ dipole + frame.charge * shift)  # about the origin of the coordinates
    )
    text = made.step(
        frame, -2000.0, forces @ turn.T, middle=middle, positions=frame.positions @ turn.T + shift
    )
    found = read(made.out(frame, text))
    assert (found.charge, found.multiplicity, len(found.steps)) == (1, 2, 1)
    step = step_of(frame, found)
    np.testing.assert_allclose(step.forces, forces, atol=1e-5)
    np.testing.assert_allclose(step.dipole, dipole, atol=1e-4)
    assert step.charges.tolist() == charges.tolist() and step.s_squared == pytest.approx(0.7531)


def test_the_total_energy_of_newer_versions():
    text = made.orientation(WATER) + made.SCF + made.energy(-2069.0, word="") + made.gradient(PULL)
    [step] = read(made.out(WATER, text, version="6.1.1")).steps
    assert step.energy == pytest.approx(-2069.0, abs=1e-6)


def test_with_a_solvent_the_total_gradient_counts():
    part = PULL + np.array([0.0, 0.0, 0.9])  # the SCF's alone is not even balanced
    text = made.step(WATER, -2069.0, part)
    rem = "solvent_method = smd"
    [step] = read(made.out(WATER, text + made.solvated(PULL), rem=rem)).steps
    np.testing.assert_allclose(step.forces, PULL, atol=5e-5)
    with pytest.raises(UnknownLabelError, match="solvent"):
        read(made.out(WATER, text, rem=rem))


def test_forces_without_a_converged_scf_are_none_whatever_the_end():
    with pytest.raises(NotConvergedError):
        read(made.out(WATER, GOOD.replace("Convergence criterion met", "")))


def test_several_jobs_in_one_output():
    other = made.step(WATER, -2069.5, PULL, positions=WATER.positions * 1.01)
    first, second = made.out(WATER, GOOD).decode(), made.out(WATER, other).decode()
    assert len(read((first + second).encode()).steps) == 2
    assert len(read((first + first).encode()).steps) == 1
    announced = "Running Job 1 of 2 qchem.in\n" + first
    for broken in (announced, first + second.replace(made.END, ""), first + "    Welcome to Q-Chem\n"):
        with pytest.raises(MissingOutputError):
            read(broken.encode())


ANION = Frame(WATER.numbers, WATER.positions, charge=-1, multiplicity=2)
TURN = Rotation.from_euler("x", 30, degrees=True).as_matrix()  # gradients of another orientation
FIELD = " Applying Cartesian multipole field\n    Component          Value\n     (0,0,1)        1.00000E-03\n"
REFUSED = [
    (
        made.out(WATER, GOOD, " Full Analytical Gradient of MP2 Energy (in au.)\n"),
        "only gradients of the SCF",
    ),
    (
        made.out(WATER, made.orientation(WATER), " Full Analytical Gradient: (in a.u.)\n"),
        "only gradients of the SCF",
    ),
    (made.out(WATER, GOOD, " TDDFT/TDA Excitation Energies\n"), "only gradients of the SCF"),
    (made.out(WATER, made.orientation(WATER), FIELD, GOOD[GOOD.index(made.SCF) :]), "external field"),
    (made.out(WATER, GOOD, made.gradient(PULL)), "several gradients"),
    (made.out(WATER, GOOD.replace("Total energy", "Total ergy")), "without 'Total energy'"),
    (made.out(WATER, GOOD.replace("Angstroms", "Bohr")), "not understood"),
    (made.out(WATER, GOOD, sections="$external_charges\n0 0 0 1\n$end"), "external_charges"),
    (made.out(WATER, made.step(WATER, -2069.0, PULL @ TURN.T)), "do not belong to the geometry"),
    (made.out(WATER, made.step(WATER, -2069.0, PULL + [0, 0, 0.5])), "do not belong to the geometry"),
    (made.out(ANION, GOOD), "electrons do not fit charge"),
    (made.out(WATER, GOOD) + made.out(ANION, made.step(ANION, -2069.0, PULL)), "several charges"),
    (made.out(WATER, GOOD) + made.out(WATER, made.step(WATER, -2068.0, PULL)), "two energies"),
    (made.out(WATER, GOOD, rem="dft_d d3_bj") + made.out(WATER, GOOD), "two levels of theory"),
    (made.out(WATER, GOOD).replace(b"5.4", b"x.y").replace(b"Version", b""), "which version"),
]


@pytest.mark.parametrize(("data", "words"), REFUSED)
def test_what_is_not_understood_is_refused(data, words):
    with pytest.raises(UnknownLabelError, match=words):
        read(data)


def test_numbers_that_are_none_are_no_gradient():
    text = GOOD.splitlines(keepends=True)
    text[text.index(" Gradient of SCF Energy\n") + 2] = "    1         nan         nan         nan\n"
    for extent in ("Max gradient component", "RMS gradient"):
        text = [f" {extent} =  nan\n" if extent in line else line for line in text]
    with pytest.raises(GradientMissingError):
        read(made.out(WATER, *text))
