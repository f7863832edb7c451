"""Labels are derivatives of one energy, in the frame's own orientation, for any charge and multiplicity."""

import shutil

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Resources
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers.ase import ASELabeler
from alfw.labelers.pyscf import PySCFLabeler
from alfw.labelers.tblite import TBLiteLabeler

GFN1 = TBLiteLabeler(method="GFN1-xTB", accuracy=0.01)  # in crystals much faster than GFN2
XTB = TBLiteLabeler(accuracy=0.01)
HF = PySCFLabeler(method="HF", basis="STO-3G", conv_tol=1e-11)
PBE0 = PySCFLabeler(method="PBE0", basis="STO-3G", conv_tol=1e-11)
EMT = ASELabeler(calculator="ase.calculators.emt:EMT")
FIELD = np.array([0.3, -0.5, 0.8]) * 1e-3  # Hartree / (e Bohr)


def bent(name="H2O", seed=3, **kwargs):
    """A molecule away from its minimum, its axes and its origin."""
    atoms = molecule(name)
    atoms.rotate(77, (1, 2, 3))
    atoms.rattle(0.05, seed=seed)
    return Frame(numbers=atoms.numbers, positions=atoms.positions + [0.7, -1.1, 0.4], **kwargs)


def crystal(name):
    atoms = bulk(name, cubic=name == "Cu")
    atoms.rattle(0.08, seed=1)
    return Frame.from_atoms(atoms)


@pytest.fixture
def energy_and_forces(tmp_path):
    def compute(labeler, frame):
        return label(labeler, frame, tmp_path, Resources())

    return compute


CASES = [
    pytest.param(XTB, bent("CH3CH2OH"), id="tblite"),
    pytest.param(GFN1, bent(), id="tblite-gfn1"),
    pytest.param(XTB, bent("OH", multiplicity=2), id="tblite-radical"),
    pytest.param(GFN1, crystal("C"), id="tblite-periodic"),
    pytest.param(HF, bent(), id="hf"),
    pytest.param(PBE0, bent(), id="pbe0"),
    pytest.param(PBE0, bent("OH", multiplicity=2), id="pbe0-radical"),
    pytest.param(
        HF.model_copy(update={"density_fit": True}), bent(charge=1, multiplicity=2), id="hf-df-cation"
    ),
    pytest.param(EMT, crystal("Cu"), id="emt-periodic"),
]


@pytest.mark.parametrize(("labeler", "frame"), CASES)
def test_forces_are_minus_the_gradient_of_the_energy(labeler, frame, energy_and_forces):
    step = 1e-3 * np.random.default_rng(0).normal(size=(len(frame), 3))
    up, down = (frame.moved(frame.positions + sign * step) for sign in (1, -1))
    change = energy_and_forces(labeler, up).energy - energy_and_forces(labeler, down).energy
    # The positions as they were rounded, not `step`.
    work = np.sum(energy_and_forces(labeler, frame).forces * (up.positions - down.positions))
    assert change == pytest.approx(-work, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("labeler", "frame"),
    [pytest.param(GFN1, crystal("C"), id="tblite"), pytest.param(EMT, crystal("Cu"), id="emt")],
)
def test_stress_is_the_strain_derivative_with_tension_positive(labeler, frame, energy_and_forces):
    stress = energy_and_forces(labeler, frame).stress
    h = 1e-3
    for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)):
        energies = []
        for sign in (1, -1):
            deformation = np.eye(3)
            deformation[i, j] += sign * h
            strained = frame.moved(frame.positions @ deformation.T, frame.cell @ deformation.T)
            energies.append(energy_and_forces(labeler, strained).energy)
        volume = abs(np.linalg.det(frame.cell))
        assert (energies[0] - energies[1]) / (2 * h * volume) == pytest.approx(
            stress[i, j], rel=2e-3, abs=1e-3
        )


def test_a_stretched_crystal_is_under_tension(energy_and_forces):
    frame = crystal("Cu")
    assert np.trace(energy_and_forces(EMT, frame.moved(frame.positions * 1.08, frame.cell * 1.08)).stress) > 0


def test_tblite_dipole_is_minus_the_field_derivative(energy_and_forces):
    from tblite import library
    from tblite.interface import Calculator

    frame = bent("CH3CH2OH")
    energies = []
    for sign in (1, -1):
        calculator = Calculator("GFN2-xTB", frame.numbers, frame.positions / BOHR_A)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", 0.01)
        field = sign * FIELD
        calculator.add("electric-field", library.ffi.cast("double*", field.ctypes.data))
        energies.append(calculator.singlepoint().get("energy"))
    along = energy_and_forces(XTB, frame).dipole @ FIELD / BOHR_A
    assert (energies[1] - energies[0]) / 2 == pytest.approx(along, rel=1e-4)


def test_pyscf_dipole_is_minus_the_field_derivative(energy_and_forces):
    from pyscf import gto, scf

    frame = bent()
    mol = gto.M(
        atom=list(zip(frame.numbers.tolist(), (frame.positions / BOHR_A).tolist(), strict=True)),
        unit="Bohr",
        basis="sto-3g",
        verbose=0,
    )
    nuclei = mol.atom_charges() @ mol.atom_coords()
    energies = []
    for sign in (1, -1):
        field = sign * FIELD
        mf = scf.RHF(mol)
        core = mf.get_hcore() + np.einsum("x,xij->ij", field, mol.intor("int1e_r"))
        mf.get_hcore = lambda *_, core=core: core
        mf.conv_tol = 1e-12
        energies.append(mf.kernel() - field @ nuclei)
    along = energy_and_forces(HF, frame).dipole @ FIELD / BOHR_A
    assert (energies[1] - energies[0]) / 2 == pytest.approx(along, abs=1e-8)


@settings(max_examples=15, deadline=None)
@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), shift=st.tuples(*[st.floats(-5, 5)] * 3))
def test_tblite_vectors_turn_with_the_frame(tmp_path_factory, angles, shift):
    check_equivariance(XTB, tmp_path_factory.getbasetemp(), angles, shift)


def test_pyscf_vectors_turn_with_the_frame(tmp_path):
    check_equivariance(HF, tmp_path, (20.0, 130.0, -50.0), (1.0, -2.0, 3.0))


def check_equivariance(labeler, folder, angles, shift):
    frame = bent(charge=1, multiplicity=2)  # charged: the origin of the dipole matters
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    turned = frame.moved(frame.positions @ rotation.T + shift)
    one, other = (label(labeler, f, folder, Resources()) for f in (frame, turned))
    assert other.energy == pytest.approx(one.energy, abs=1e-4)
    np.testing.assert_allclose(other.forces, one.forces @ rotation.T, atol=2e-4)
    np.testing.assert_allclose(other.dipole, rotation @ one.dipole, atol=2e-5)


@pytest.mark.parametrize("labeler", [XTB, HF])
def test_dipole_of_an_ion_is_about_its_centre_of_mass(labeler, energy_and_forces):
    light = bent("OH", charge=-1)
    heavy = Frame(
        numbers=light.numbers, positions=light.positions, charge=-1, masses=light.masses * [1.0, 5.0]
    )
    centre = [np.average(f.positions, axis=0, weights=f.masses) for f in (light, heavy)]
    difference = energy_and_forces(labeler, heavy).dipole - energy_and_forces(labeler, light).dipole
    np.testing.assert_allclose(difference, centre[1] - centre[0], atol=1e-9)


@pytest.mark.parametrize("labeler", [XTB, HF])
def test_charge_and_multiplicity_change_the_energy(labeler, energy_and_forces):
    states = [
        Frame(numbers=[3], positions=[[1.0, 2.0, 3.0]], charge=q, multiplicity=m) for q, m in ((1, 1), (0, 2))
    ]
    ion, atom = (energy_and_forces(labeler, frame).energy for frame in states)
    assert 3.0 < ion - atom < 12.0  # ionisation energy of lithium: 5.4 eV; GFN2-xTB is too high by 4 eV
    triplet = energy_and_forces(
        labeler, Frame(numbers=[8, 8], positions=[[0, 0, 0], [0, 0, 1.21]], multiplicity=3)
    )
    singlet = energy_and_forces(labeler, Frame(numbers=[8, 8], positions=[[0, 0, 0], [0, 0, 1.21]]))
    if labeler is HF:
        assert triplet.energy < singlet.energy - 0.5
    assert np.isfinite(singlet.energy)


def test_open_shells_are_unrestricted(energy_and_forces):
    frame = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], multiplicity=2)
    # A restricted doublet has exactly 0.75; an unrestricted one is a little contaminated.
    assert 0.7505 < energy_and_forces(HF, frame).s_squared < 0.76


def test_heavy_elements_get_the_core_potential_of_their_basis(energy_and_forces):
    frame = Frame(numbers=[53, 1], positions=[[0, 0, 0], [0, 0, 1.61]])
    energy = energy_and_forces(PySCFLabeler(method="HF", basis="def2-SVP", conv_tol=1e-7), frame).energy
    assert -305 < energy / HARTREE_eV < -290  # 26 electrons of iodine; all 53 would give about −6900


def test_tblite_charges_sum_up_to_the_charge(energy_and_forces):
    assert energy_and_forces(XTB, bent(charge=1, multiplicity=2)).charges.sum() == pytest.approx(
        1.0, abs=1e-6
    )


def test_quantities_go_with_periodicity(energy_and_forces):
    crystal_label, molecule_label = energy_and_forces(GFN1, crystal("C")), energy_and_forces(XTB, bent())
    assert crystal_label.dipole is None and crystal_label.stress.shape == (3, 3)
    assert molecule_label.stress is None and molecule_label.dipole.shape == (3,)


def test_forces_on_fixed_atoms_are_raw(energy_and_forces):
    frame = crystal("Cu")
    fixed = Frame(
        numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc, fixed=[True] * 4
    )
    free, held = energy_and_forces(EMT, frame), energy_and_forces(EMT, fixed)
    np.testing.assert_array_equal(held.forces, free.forces)
    np.testing.assert_array_equal(held.stress, free.stress)
    assert np.abs(held.forces).max() > 0.1


def test_ase_calculators_give_what_the_program_itself_gives(energy_and_forces):
    wrapped = ASELabeler(
        calculator="tblite.ase:TBLite", kwargs={"method": "GFN2-xTB", "accuracy": 0.01, "verbosity": 0}
    )
    frame = bent()
    one, other = energy_and_forces(wrapped, frame), energy_and_forces(XTB, frame)
    assert one.energy == pytest.approx(other.energy, abs=1e-5)
    np.testing.assert_allclose(one.forces, other.forces, atol=1e-4)
    np.testing.assert_allclose(one.dipole, other.dipole, atol=1e-4)


@pytest.mark.parametrize(
    ("labeler", "frame"), [(XTB, bent()), (GFN1, crystal("C")), (HF, bent()), (EMT, crystal("Cu"))]
)
def test_the_stored_bytes_are_enough_for_the_label(labeler, frame, tmp_path):
    workdir = tmp_path / "work"
    run = labeler.run(frame, workdir, Resources())
    first = labeler.parse(frame, run)
    shutil.rmtree(workdir)
    second = labeler.parse(Frame(**{k: getattr(frame, k) for k in frame.__dataclass_fields__}), run)
    assert (second.energy, second.version, second.host) == (first.energy, run.version, run.host)
    assert second.wall_s > 0 and second.version.split()[1][0].isdigit()
    np.testing.assert_array_equal(second.forces, first.forces)
