"""What is read from ORCA's outputs, recorded and hand-made, and which of them are labels."""

import re

import numpy as np
import orca_outputs as made
import pytest
from ase.build import molecule
from ase.io import read as ase_read
from labelling import cuts, fixture

from alfw.core.errors import (
    DivergedError,
    GradientMissingError,
    LabelError,
    MissingOutputError,
    NotConvergedError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Run
from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.labelers.orca import OrcaLabeler
from alfw.labelers.outputs import labels
from alfw.labelers.readers import _orca_tables as tables
from alfw.labelers.readers.orca import READER

WATER = Frame.from_atoms(molecule("H2O"))
OH = Frame.from_atoms(molecule("OH"), multiplicity=2)
CATION = Frame(numbers=[8, 1, 1, 1], positions=np.eye(4, 3) + 2.0, charge=1)
GRADIENT = np.array([[0.0, 0.0, 0.02], [0.0, 0.01, -0.01], [0.0, -0.01, -0.01]])
ENERGY = -76.321
GOOD = made.good(WATER, ENERGY, GRADIENT, dipole=made.dipole_block([0.0, 0.0, 0.8]))
OPT = {"orca/orca5_dvb_gopt.out": "orca 5.0.1", "orca/orca6_dvb_gopt.out": "orca 6.0.0"}


LABELER = OrcaLabeler(method="PBE0", basis="def2-SVP")


def read(data, **files):
    named = {name.replace("_", ".", 1): content for name, content in files.items()}
    return READER.output({"output.log": data, **named})


def parse(data, frame=WATER, **files):
    named = {name.replace("_", ".", 1): content for name, content in files.items()}
    return LABELER.parse(frame, Run({"output.log": data, **named}))


@pytest.mark.parametrize("name", OPT)
def test_an_optimisation_gives_one_label_for_each_gradient_and_its_own_geometry(name):
    text = fixture(name).decode()
    output = read(text.encode())
    assert (output.version, output.charge, output.multiplicity) == (OPT[name], 0, 1)
    assert "b3lyp" in output.theory
    printed = [float(x) for x in re.findall(r"FINAL SINGLE POINT ENERGY +(\S+)", text)]
    assert len(printed) == 4 and len(output.steps) == 3  # the last energy has no gradient
    np.testing.assert_allclose([s.energy / HARTREE_eV for s in output.steps], printed[:3], atol=1e-11)
    tables_A = text.split("CARTESIAN COORDINATES (ANGSTROEM)\n")[1:]
    for step, table in zip(output.steps, tables_A, strict=False):
        rows = [line.split() for line in table.splitlines()[1:21]]
        np.testing.assert_array_equal(step.positions, np.array([row[1:] for row in rows], float))
    norms = [float(x) for x in re.findall(r"Norm of the [Cc]artesian gradient +\.\.\. +(\S+)", text)]
    forces = [np.linalg.norm(s.forces) / HARTREE_PER_BOHR_eV_PER_A for s in output.steps]
    np.testing.assert_allclose(forces, norms, atol=1e-8)
    first = re.search(r"CARTESIAN GRADIENT\n-+\s+1   C   : +(\S+)", text).group(1)
    assert output.steps[0].forces[0, 0] == pytest.approx(-float(first) * HARTREE_PER_BOHR_eV_PER_A)
    # Charges are printed at the first and the last geometry, the dipole at the last alone.
    assert [s.charges is None for s in output.steps] == [False, True, True]
    assert all(s.dipole is None for s in output.steps)
    found = labels(output)
    assert len({frame.id for frame, _ in found}) == 3
    assert LABELER.parse(found[1][0], Run({"output.log": text.encode()})).energy == found[1][1].energy


@pytest.mark.parametrize("name", [*OPT, None])
def test_cut_off_outputs_are_never_labels(name):
    data = fixture(name) if name else GOOD
    for part in cuts(data):
        with pytest.raises(LabelError):
            read(part)


def test_numbers_of_a_hand_made_output_and_their_units():
    label = parse(GOOD)
    assert label.energy == pytest.approx(ENERGY * HARTREE_eV, rel=1e-12)
    np.testing.assert_allclose(label.forces, -GRADIENT * HARTREE_PER_BOHR_eV_PER_A)
    np.testing.assert_allclose(label.dipole, [0, 0, 0.8 * BOHR_A])
    np.testing.assert_allclose(label.charges, [0.1, 0.2, 0.3])
    assert label.s_squared is None and label.version == "orca 6.0.0"
    radical = made.good(OH, ENERGY, GRADIENT[:2])
    assert parse(radical, OH).s_squared == 0.752887
    np.testing.assert_allclose(parse(radical, OH).charges, [0.1, 0.2])


def test_a_core_potential_in_the_table_of_coordinates_is_understood():
    text = GOOD.decode().replace(made.coordinates(WATER), made.coordinates(WATER, ecp=True))
    assert parse(text.encode()).energy == parse(GOOD).energy


@pytest.mark.parametrize("version", ["5.0.4", "6.0.0"])
def test_the_dipole_of_an_ion_is_about_its_centre_of_mass(version):
    printed = np.array([0.1, -0.2, 0.3])
    data = made.good(CATION, ENERGY, np.zeros((4, 3)), version, made.dipole_block(printed, version))
    np.testing.assert_allclose(parse(data, CATION).dipole, printed * BOHR_A, atol=2e-5)
    # The step's own is about the origin: it moves with the molecule.
    centre = np.average(CATION.positions, axis=0, weights=CATION.masses)
    np.testing.assert_allclose(read(data).steps[0].dipole, printed * BOHR_A + centre, atol=2e-5)
    for text in ("Center of charge", "somewhere"):
        assert parse(re.sub(rb"(?i)center of mass", text.encode(), data), CATION).dipole is None, (
            "another origin"
        )


def test_the_centre_of_mass_is_the_one_that_orca_prints():
    text = fixture("orca/orca_successful_sp.log").decode()
    atoms = tables.geometry(text)
    centre = np.average(atoms.positions, axis=0, weights=atoms.masses) / BOHR_A
    np.testing.assert_allclose(centre, [0.165581, 0.040346, -0.000001], atol=2e-6)
    np.testing.assert_allclose(tables.dipole(text, atoms, 0), [-0.91137, -0.26095, -0.00001])
    shifted = tables.dipole(text, atoms, -1)
    np.testing.assert_allclose(shifted, np.array([-0.91137, -0.26095, -0.00001]) - centre)


@pytest.mark.parametrize("name", OPT)
def test_ase_reads_the_same_from_recorded_optimisations(name, tmp_path):
    data = fixture(name)
    (tmp_path / "orca.out").write_bytes(data)
    theirs = ase_read(tmp_path / "orca.out", index=":", format="orca-output")
    for step, atoms in zip(read(data).steps, theirs[:3], strict=True):
        assert atoms.get_potential_energy() == pytest.approx(step.energy, rel=1e-8)
        np.testing.assert_allclose(atoms.positions, step.positions, atol=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), step.forces, rtol=1e-6)


def test_cclib_reads_the_same_from_a_recorded_optimisation(tmp_path):
    cclib = pytest.importorskip("cclib")
    (tmp_path / "orca.out").write_bytes(fixture("orca/orca5_dvb_gopt.out"))
    theirs = cclib.io.ccread(str(tmp_path / "orca.out"), loglevel=50)
    mine = read(fixture("orca/orca5_dvb_gopt.out")).steps
    forces = [-gradient * HARTREE_PER_BOHR_eV_PER_A for gradient in theirs.grads]
    np.testing.assert_allclose([step.forces for step in mine], forces, rtol=1e-7)


def test_ase_reads_the_same_dipole_of_an_ion(tmp_path):
    centre = np.average(CATION.positions, axis=0, weights=CATION.masses) / BOHR_A
    data = made.good(CATION, ENERGY, np.zeros((4, 3)), "5.0.4", made.dipole_block([0.1, -0.2, 0.3], "5"))
    text = data.decode().replace(
        "( 0.000000,  0.000000  0.000000)", "({:.6f}, {:.6f} {:.6f})".format(*centre)
    )
    (tmp_path / "orca.out").write_text(text.replace("\n\n", "\nNumber of atoms   ... 4\n\n", 1))
    theirs = ase_read(tmp_path / "orca.out", format="orca-output").get_dipole_moment()
    np.testing.assert_allclose(read(data).steps[0].dipole, theirs, atol=2e-5)


def test_what_an_output_says_of_its_theory():
    echo = ["! PBE0 D4 EnGrad # fast", "! SlowConv PAL8", "%maxcore 2000", "%pal nprocs 8 end", "%scf", "MaxIter 9",
            "Shift Shift 0.5 ErrOff 0.1 end", "end", "%cpcm", "SMD true", "end", "* xyz 0 1", "O 0 0 0",
            "*"]  # fmt: skip
    for lines in (echo, [*echo[:-3], "*xyzfile 0 1 7.xyz"]):
        text = GOOD.decode().replace(made.head(), made.head(echo=lines))
        assert read(text.encode()).theory == "PBE0 D4 %cpcm SMD true end"


def test_dipole_and_charges_of_another_density_are_left_out():
    both = made.dipole_block([0, 0, 0.8]) + made.dipole_block([0, 0, 0.7], method="MP2")
    assert parse(made.good(WATER, ENERGY, GRADIENT, dipole=both)).dipole is None
    mp2 = parse(GOOD.replace(b"FINAL SINGLE", b"MP2 TOTAL ENERGY: -76.321 Eh\nFINAL SINGLE"))
    assert mp2.dipole is None and mp2.charges is None


def test_engrad_is_preferred_where_it_belongs():
    exact = GRADIENT + 3e-10
    label = parse(GOOD, orca_engrad=made.engrad(WATER, ENERGY, exact))
    np.testing.assert_allclose(label.forces, -exact * HARTREE_PER_BOHR_eV_PER_A, rtol=1e-12)
    for other in (made.engrad(WATER, ENERGY + 1e-7, 2 * GRADIENT), made.engrad(OH, ENERGY, GRADIENT[:2])):
        np.testing.assert_array_equal(parse(GOOD, orca_engrad=other).forces, parse(GOOD).forces)
    # An output without the table, e.g. of RI-MP2, which prints it in other words.
    bare = made.good(WATER, ENERGY, None)
    assert parse(bare, orca_engrad=made.engrad(WATER, ENERGY, GRADIENT)).forces[0, 2] < 0
    with pytest.raises(UnknownLabelError, match="different gradients"):
        parse(GOOD, orca_engrad=made.engrad(WATER, ENERGY, 2 * GRADIENT))
    for broken in (b"", made.engrad(WATER, ENERGY, GRADIENT)[:-40]):
        with pytest.raises(UnknownLabelError):
            parse(GOOD, orca_engrad=broken)


SECOND = made.step(WATER.moved(WATER.positions * 1.01), ENERGY - 1, None)
CHANGES = [
    ("an atom moved in one table", (b"    0.000000    0.763239", b"    0.000000    0.768239"), StructureError),
    ("another element", (b"  O      0.000000", b"  S      0.000000"), StructureError),
    ("a ghost atom", (b"  O      0.000000", b"  O:     0.000000"), UnknownLabelError),
    ("gradient of other atoms", (b"   1   O   :", b"   1   H   :"), UnknownLabelError),
    ("a gradient line lost", (b"   2   H   :    0.000000000", b"#"), UnknownLabelError),
    ("a digit of the gradient", (b"0.020000000", b"0.070000000"), UnknownLabelError),
    ("stars", (b"0.020000000", b"***********"), UnknownLabelError),
    ("not a number", (b"0.020000000", b"        nan"), UnknownLabelError),
    ("no energy", (b"FINAL SINGLE POINT ENERGY", b"#"), GradientMissingError),
    ("no gradient", (b"CARTESIAN GRADIENT", b"GRADIENT"), GradientMissingError),
    ("no converged SCF", (b"SCF CONVERGED AFTER", b"SCF STOPPED AFTER"), UnknownLabelError),
    ("energy of -2e7 Hartree", (b"-76.321000000000", b"-20006000.000000"), DivergedError),
    ("not a number as energy", (b"-76.321000000000", b"nan"), DivergedError),
    ("not fully converged", (b"-76.321000000000", b"-76.321000000000   (Wavefunction not fully converged!)"),
     NotConvergedError),
    ("two energies", (b"FINAL SINGLE", b"FINAL SINGLE POINT ENERGY  -75.0\nFINAL SINGLE"), UnknownLabelError),
    ("two gradients", (b"-\nCARTESIAN GRADIENT",
     made.gradient_table(WATER, GRADIENT).encode() + b"\n-\nCARTESIAN GRADIENT"), UnknownLabelError),
    ("two outputs", (b"ORCA TERMINATED", b"ORCA TERMINATED NORMALLY****\n * O   R   C   A *\n****ORCA TERMINATED"),
     UnknownLabelError),
    ("a numerical gradient", (b"FINAL SINGLE", b"  ORCA NUMERICAL GRADIENT\nFINAL SINGLE"), UnknownLabelError),
    ("two charges", (b"FINAL SINGLE", b" Total Charge           Charge          ....    1\nFINAL SINGLE"),
     UnknownLabelError),
    ("another charge", (b"Charge          ....    0", b"Charge          ....   -1"), StructureError),
    ("another multiplicity", (b"Mult            ....    1", b"Mult            ....    3"), StructureError),
    ("no end", (b"ORCA TERMINATED NORMALLY", b"TOTAL"), MissingOutputError),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error"), [x[1:] for x in CHANGES], ids=[x[0] for x in CHANGES])
def test_a_damaged_output_is_refused(change, error):
    assert change[0] in GOOD
    with pytest.raises(LabelError) as caught:
        parse(GOOD.replace(*change, 1))
    assert type(caught.value) is error
    if error is DivergedError:  # neither does a reader of files without a campaign take it
        with pytest.raises(DivergedError):
            labels(read(GOOD.replace(*change, 1)))


@pytest.mark.parametrize("table", [0, 1])
def test_tables_that_differ_are_refused_even_where_no_frame_is_known(table):
    text = GOOD.decode()
    line = re.findall(r"^(?:  | +\d+ )H .*$", made.coordinates(WATER), re.MULTILINE)[2 * table]
    with pytest.raises(StructureError, match="differ"):
        read(text.replace(line, line[:-4] + "0000", 1).encode())


def test_an_energy_without_gradient_gives_no_label():
    data = (GOOD.decode().replace(made.END, SECOND) + made.END).encode()
    assert [s.energy for s in read(data).steps] == [pytest.approx(ENERGY * HARTREE_eV)]
    with pytest.raises(StructureError):
        parse(data, WATER.moved(WATER.positions * 1.01))


def test_one_flipped_digit_in_the_atom_list_is_the_wrong_structure():
    other = WATER.moved(WATER.positions + np.array([[0, 0, 0], [0, 0.003, 0], [0, 0, 0]]))
    with pytest.raises(StructureError, match=r"0\.00\d+ Å from where"):
        parse(made.good(other, ENERGY, GRADIENT))
