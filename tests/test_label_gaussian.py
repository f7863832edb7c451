"""The reader of Gaussian's outputs: recorded ones, and hand-made ones for what is not recorded."""

import io

import gaussian_outputs as made
import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from labelling import cuts, fixture
from scipy.spatial.transform import Rotation

from alfw.core.errors import (
    InputError,
    LabelError,
    MissingOutputError,
    NotConvergedError,
    OutOfMemoryLabelError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Run
from alfw.core.superposition import rotation
from alfw.core.units import DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers.gaussian import GaussianLabeler
from alfw.labelers.outputs import labels, recognise
from alfw.labelers.readers.gaussian import READER

DVB = "gaussian/g16_dvb_gopt.out"
WATER = Frame.from_atoms(molecule("H2O"))
HYDROXIDE = Frame(numbers=[8, 1], positions=[[1.0, 2.0, 3.0], [1.5, 2.4, 3.7]], charge=-1)
PULL = 0.8 * (WATER.positions - WATER.positions.mean(0))  # no net force, no torque
B3LYP = GaussianLabeler(method="B3LYP", basis="STO-3G")


def read(data, **more):
    return READER.output({"gaussian.log": data, **more})


def dvb():
    return read(fixture(DVB)).steps


def test_every_step_of_an_optimisation_has_its_own_geometry_and_energy():
    data = fixture(DVB)
    found = read(data)
    assert (found.version, found.theory) == ("gaussian 16.A.03", "b3lyp/sto-3g")
    assert (found.charge, found.multiplicity) == (0, 1) and recognise(data) == "gaussian"
    energies = [step.energy / HARTREE_eV for step in found.steps]
    assert energies[:2] == pytest.approx([-382.294279146, -382.307286501], abs=1e-9)
    assert energies[-1] == pytest.approx(-382.3082666, abs=1e-7) and len(energies) == 5
    first = found.steps[0]
    assert first.positions[1, 2] == pytest.approx(1.391558)
    assert first.forces[0, 0] == pytest.approx(-0.050454775 * HARTREE_PER_BOHR_eV_PER_A)
    assert first.charges[9] == pytest.approx(-0.159266) and first.charges.sum() == pytest.approx(0, abs=1e-5)
    assert all(np.abs(step.dipole).max() < 1e-6 for step in found.steps)
    assert [step.charges is None for step in found.steps] == [False] + [True] * 4


def test_forces_are_those_of_their_own_geometry():
    """No net force, no torque, and between two steps the energy changes by the work of the forces."""
    steps = dvb()
    for step in steps:
        assert np.abs(step.forces.sum(0)).max() < 1e-6
        assert np.abs(np.cross(step.positions, step.forces).sum(0)).max() < 2e-3
    for one, other in zip(steps, steps[1:], strict=False):
        work = -0.5 * np.sum((one.forces + other.forces) * (other.positions - one.positions))
        assert other.energy - one.energy == pytest.approx(work, rel=0.1)


def test_energies_and_forces_agree_with_cclib():
    cclib = pytest.importorskip("cclib", reason="needs cclib: pip install cclib")

    data = cclib.io.ccread(io.StringIO(fixture(DVB).decode()), loglevel=40)
    steps = dvb()
    np.testing.assert_allclose(data.scfenergies, [step.energy for step in steps], rtol=1e-7)
    for step, positions, theirs in zip(steps, data.atomcoords, data.grads, strict=False):
        turn = rotation(
            positions, step.positions
        )  # cclib turns Gaussian's *forces* into the standard orientation
        np.testing.assert_allclose(theirs @ turn.T * HARTREE_PER_BOHR_eV_PER_A, step.forces, atol=1e-4)


RECORDED = [
    ("scf_convergence_cycles", NotConvergedError, "Convergence failure -- run terminated."),
    ("insufficient_memory", OutOfMemoryLabelError, "Out-of-memory error in routine RdGeom-1"),
    ("bad_file", InputError, "Bad file opened by FileIO"),
    ("walltime", MissingOutputError, "CP:  8.66D-01"),
]


@pytest.mark.parametrize(("name", "error", "signature"), RECORDED)
def test_recorded_failures_have_their_class_and_their_literal_line(name, error, signature):
    data = fixture(f"gaussian/{name}.out")
    with pytest.raises(error) as caught:
        read(data)
    assert type(caught.value) is error and caught.value.signature.startswith(signature)
    assert caught.value.signature in data.decode() and recognise(data) == "gaussian"


@pytest.mark.parametrize("place", range(20))
def test_an_output_cut_off_anywhere_is_no_label(place):
    with pytest.raises(LabelError):
        read(cuts(fixture(DVB))[place])


# In the first step: a coordinate in one table, in the other, a force; an atom in one table and in all of them.
FLIPS = [
    (b"0.000000    1.391558", b"0.000000    1.491558"),
    (b"        0.002200    1.375535", b"        0.002200    1.275535"),
    (b"-0.050454775", b"-0.050464775"),
    (b"      2          6           0", b"      2          7           0"),
    (b" 6 ", b" 5 "),
]


@pytest.mark.parametrize(("right", "wrong"), FLIPS)
def test_one_flipped_digit_is_refused(right, wrong):
    data, frame = fixture(DVB), Frame(dvb()[0].numbers, dvb()[0].positions)
    assert B3LYP.parse(frame, Run({"gaussian.log": data})).version == "gaussian 16.A.03"
    assert right in data
    with pytest.raises(LabelError):
        B3LYP.parse(frame, Run({"gaussian.log": data.replace(right, wrong)}))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_dipole_is_turned_into_the_orientation_of_the_forces(seed):
    rng = np.random.default_rng(seed)
    turn, dipole = Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3)
    positions = WATER.positions @ Rotation.random(random_state=rng).as_matrix().T + rng.normal(size=3) * 5
    frame = Frame(WATER.numbers, positions, charge=1, multiplicity=2)
    forces = 0.8 * (frame.positions - frame.positions.mean(0))
    [found] = read(made.log(frame, made.step(frame, -2000.0, forces, dipole=dipole, turn=turn))).steps
    np.testing.assert_allclose(found.dipole, dipole, atol=1e-4)
    np.testing.assert_allclose(found.positions, frame.positions, atol=1e-6)
    np.testing.assert_allclose(found.forces, forces, atol=1e-6)


def test_without_symmetry_the_dipole_is_about_the_origin_of_the_input():
    dipole = np.array([0.3, -0.2, 5.0])
    pull = 0.5 * (HYDROXIDE.positions - HYDROXIDE.positions.mean(0))
    data = made.log(HYDROXIDE, made.step(HYDROXIDE, -2000.0, pull, dipole=dipole))
    [(frame, label)] = labels(read(data))
    centre = np.average(HYDROXIDE.positions, axis=0, weights=HYDROXIDE.masses)
    np.testing.assert_allclose(
        label.dipole, dipole + centre, atol=1e-7
    )  # about the centre of mass, charge −1
    assert frame.charge == -1


def test_a_dipole_without_the_coordinates_of_its_orientation_is_none():
    text = made.step(WATER, -2069.0, PULL, dipole=np.array([0.0, 0.0, 0.4]))
    [step] = read(made.log(WATER, text.replace(" Symmetry turned off by external request.\n", ""))).steps
    assert step.dipole is None and step.forces.shape == (3, 3)


def test_open_shells_charges_and_a_dipole_in_debye():
    frame = Frame(WATER.numbers, WATER.positions, charge=1, multiplicity=2)
    charges = [0.5, 0.25, 0.25]
    middle = (
        " Annihilation of the first spin contaminant:\n S**2 before annihilation     0.7531,   after     0.7500\n"
        + made.mulliken("OHH", charges)
        + " Dipole moment (field-independent basis, Debye):\n"
        "    X=              0.1000    Y=             -0.2000    Z=          0.3000  Tot=          0.3742\n"
    )
    [step] = read(made.log(frame, made.step(frame, -2000.0, PULL, middle=middle))).steps
    assert step.s_squared == pytest.approx(0.7531) and step.charges.tolist() == charges
    np.testing.assert_allclose(step.dipole, np.array([0.1, -0.2, 0.3]) * DEBYE_eA)


def test_methods_of_second_order_have_their_own_energy_and_relaxed_dipole():
    middle = (
        " 5/5=2,38=5/2,8;\n 9/15=2,16=-3/6;\n"
        " E2 =    -0.2000000000D+00 EUMP2 =    -0.76200000000000D+02\n"
        + made.mulliken("OHH", [-0.6, 0.3, 0.3])
        + " Dipole moment (field-independent basis, Debye):\n    X=  9.0000    Y=  9.0000    Z=  9.0000\n"
    )
    relaxed = np.array([0.0, 0.0, 0.4])
    text = made.step(WATER, -2069.0, PULL, middle=middle, dipole=relaxed)
    [step] = read(made.log(WATER, text)).steps
    assert step.energy == pytest.approx(-76.2 * HARTREE_eV) and step.charges is None
    np.testing.assert_allclose(step.dipole, relaxed, atol=1e-7)


def test_an_scf_that_quadratic_convergence_rescued_is_good():
    energies = made.scf(-2068.0, converged=False) + made.scf(-2069.0)
    [step] = read(made.log(WATER, made.step(WATER, energies, PULL))).steps
    assert step.energy == pytest.approx(-2069.0, abs=1e-6)


def test_forces_without_a_converged_scf_are_none_whatever_the_end():
    energies = made.scf(-2069.0) + made.scf(-2068.0, converged=False)
    with pytest.raises(NotConvergedError, match="Convergence criterion not met"):
        read(made.log(WATER, made.step(WATER, energies, PULL)))


GOOD = made.step(WATER, -2069.0, PULL)
OTHER = made.step(WATER, -2069.5, PULL, positions=WATER.positions * 1.01)
NEXT = " Link1:  Proceeding to internal job step number  2.\n"


def test_several_jobs_in_one_output():
    first, second = made.log(WATER, GOOD).decode(), made.log(WATER, OTHER).decode()
    assert len(read((first + second).encode()).steps) == 2
    freq = first + NEXT + GOOD + made.END  # opt freq: the same geometry once more
    assert len(read(freq.encode()).steps) == 1
    for broken in (first + second.replace(made.END, ""), first + " Entering Link 1 = /opt/g16/l1.exe\n"):
        with pytest.raises(MissingOutputError):
            read(broken.encode())


def excited(line):
    return made.log(WATER, made.step(WATER, -2069.0, PULL, middle=line))


TURN = Rotation.from_euler("x", 30, degrees=True).as_matrix()  # forces of another orientation

REFUSED = [
    (excited(" DE(Corr)= -0.21 E(CORR)=     -76.3\n"), "beyond SCF"),
    (excited(" E3=       -0.37157349D-01        EUMP3=      -0.11805123210D+03\n"), "beyond SCF"),
    (made.log(WATER, " 5/5=2,38=5/2;\n 9/5=7,14=2/13;\n", GOOD), "beyond SCF.*route 9/5=7"),
    (made.log(WATER, " 5/5=2,17=61000000,38=5/10;\n", GOOD), "beyond SCF"),
    (excited(" Excited State   1:      Singlet-A      5.7 eV\n"), "beyond SCF"),
    (excited(" Total Energy, E(TD-HF/TD-DFT) =  -75.9\n"), "beyond SCF"),
    (made.log(WATER, GOOD, major="03"), "only Gaussian 09 and 16"),
    (made.log(WATER, GOOD, route="#P PBE1PBE/def2SVP Force Field=X+10"), "external fields"),
    (made.log(WATER, GOOD, OTHER.replace("RPBE1PBE", "RHF")), "two levels of theory"),
    (made.log(WATER, GOOD, GOOD.replace("-76.03", "-76.13")), "two energies"),
    (
        made.log(WATER, " Charge =  0 Multiplicity = 1 for low   level calculation on real  system.\n", GOOD),
        "ONIOM",
    ),
    (made.log(WATER, " Charge =  1 Multiplicity = 1\n", GOOD), "several charges"),
    (made.log(WATER, " O   -1   0.0   0.0   0.119262\n", GOOD), "frozen atoms"),
    (made.log(WATER, GOOD.replace("Input orientation", "Z-Matrix orientation")), "Input orientation"),
    (made.log(WATER, made.step(WATER, -2069.0, PULL @ TURN.T)), "do not belong to the geometry"),
    (made.log(WATER, made.step(WATER, -2069.0, PULL + [0, 0, 0.5])), "do not belong to the geometry"),
    (made.log(WATER, GOOD.replace("   0.119262", "***********")), "not understood"),
    (made.log(WATER, GOOD.replace(" 1           0 ", " 0           0 ")), "ghost"),
]


@pytest.mark.parametrize(("data", "words"), REFUSED)
def test_what_is_not_understood_is_refused(data, words):
    with pytest.raises(UnknownLabelError, match=words):
        read(data)
