"""VASP: recorded and hand-made outputs, and the order of atoms."""

import ase.io
import numpy as np
import pytest
from labelling import cuts, fixture
from vasp_outputs import UNCONVERGED, made

from alfw.core.errors import (
    DeckError,
    ExecutableError,
    InputError,
    LabelError,
    MissingOutputError,
    NotConvergedError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.records import Run
from alfw.core.units import EV_PER_A3_GPa
from alfw.labelers._kpoints import KPoints
from alfw.labelers._pseudos import Pseudo
from alfw.labelers.outputs import labels, marks, read_output
from alfw.labelers.readers.vasp import READER
from alfw.labelers.vasp import VASPLabeler

BOX = np.array([[4.0, 0.0, 0.0], [0.3, 4.2, 0.0], [0.0, 0.1, 4.4]])
MIXED = Frame(
    numbers=[8, 14, 8, 14, 14],
    positions=[[0.1, 0.2, 0.3], [2.0, 0.0, 0.0], [0.1, 2.2, 0.0], [0.0, 0.2, 2.4], [2.0, 2.1, 2.2]],
    cell=BOX,
    pbc=[True] * 3,
)
FORCES = np.arange(15.0).reshape(5, 3) / 10 - 0.7
KBAR = np.array([[10.0, 1.0, 3.0], [1.0, 20.0, 2.0], [3.0, 2.0, 30.0]])
LABELER = VASPLabeler(
    incar={"ENCUT": 520},
    kpoints=KPoints(grid=(2, 2, 2)),
    pseudopotentials={"Si": Pseudo(file="Si"), "O": Pseudo(file="O")},
)
GOOD = made(MIXED, -30.5, FORCES, KBAR)


def recorded():
    return {"OUTCAR": fixture("vasp/OUTCAR"), "vasprun.xml": fixture("vasp/vasprun.xml")}


def read_steps():
    return READER.output(recorded()).steps


def refusal(files):
    with pytest.raises(LabelError) as caught:
        READER.output(files)
    return type(caught.value), caught.value.signature


@pytest.mark.parametrize("names", [("OUTCAR", "vasprun.xml"), ("OUTCAR",), ("vasprun.xml",)])
def test_every_ionic_step_is_read_with_its_own_geometry(names, tmp_path):
    files = {name: data for name, data in recorded().items() if name in names}
    output = READER.output(files)
    (tmp_path / "OUTCAR").write_bytes(recorded()["OUTCAR"])
    theirs = ase.io.read(tmp_path / "OUTCAR", ":", format="vasp-out")
    assert (output.version, output.charge, output.multiplicity) == ("vasp 6.4.2", 0, None)
    assert [step.energy for step in output.steps] == [-10.83820748, -10.84014101, -10.84147289]
    for step, atoms in zip(output.steps, theirs, strict=True):
        assert atoms.calc.results["free_energy"] == step.energy
        np.testing.assert_allclose(step.positions, atoms.positions, atol=1e-5)
        np.testing.assert_allclose(step.cell, atoms.cell[:], atol=1e-8)
        np.testing.assert_allclose(step.stress, atoms.get_stress(voigt=False), atol=1e-8)
        np.testing.assert_array_equal(step.numbers, atoms.numbers)


def test_the_three_ways_to_read_it_are_of_one_theory():
    theories = [READER.output({name: data}).theory for name, data in recorded().items()]
    assert theories[0] == theories[1] == READER.output(recorded()).theory
    assert theories[0].startswith("PAW_PBE PREC=accura") and "ENCUT=520" in theories[0]


def test_its_outputs_are_recognised():
    others = [
        fixture(name)
        for name in ("orca/orca6_dvb_gopt.out", "espresso/default.out", "cp2k/cp2k.out.unconverged")
    ]
    assert [marks(data) for data in recorded().values()] == [["vasp"]] * 2
    assert all("vasp" not in marks(data) for data in others)


def test_stress_is_the_derivative_of_the_energy_with_respect_to_strain():
    one, two = read_steps()[0], read_steps()[2]  # the same structure in cells of two sizes
    volumes = [np.linalg.det(step.cell) for step in (one, two)]
    tension = np.mean([np.trace(step.stress) / 3 for step in (one, two)])
    assert tension == pytest.approx((one.energy - two.energy) / (volumes[0] - volumes[1]), rel=0.02)


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("read_error", DeckError, "Error reading item EFERMI from file INCAR."),
        ("symprec_noise", InputError, "The determination of the symmetry of your systems shows a strong"),
        ("algo_tet_only", DeckError, "ALGO=A and IALGO=5X tend to fail with the tetrahedron method"),
        ("ibzkpt", DeckError, "Reciprocal lattice and k-lattice belong to different class of lattices."),
    ],
)
def test_recorded_failures(name, error, line):
    data = fixture(f"vasp/vasp.{name}")
    found, signature = refusal({"output.log": data})
    assert found is error and signature.startswith(line) and line in data.decode()
    assert marks(data) == ["vasp"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("forrtl: severe (41): insufficient virtual memory", OutOfMemoryLabelError),
        ("mpirun was unable to find the specified executable file, and therefore", ExecutableError),
        (" LAPACK: Routine ZPOTRF failed!           3           0", NotConvergedError),
        ("|     VERY BAD NEWS! internal error in subroutine PRICEL                   |", InputError),
        (
            "|     EEEEEEE  RRRRRR   RRRRRR   |\n|     The GGA tag is unknown.   |\n"
            "|     Please correct it in the INCAR file.   |\n|  ----> I REFUSE TO CONTINUE WITH THIS SICK JOB  |",
            DeckError,
        ),
        ("|  ---->  I REFUSE TO CONTINUE WITH THIS SICK JOB ... BYE!!! <----  |", UnknownLabelError),
        (" BZINTS: Fermi energy:    2.540293;   84.000000 electrons", MissingOutputError),  # nothing is wrong
        ("\xff\xfe", MissingOutputError),
        ("", MissingOutputError),
    ],
)
def test_what_it_prints_before_it_dies(text, error):
    found, signature = refusal({"output.log": text.encode("latin1")})
    assert found is error and (signature in text.strip() or not text.isascii() or text == "")


def test_no_part_of_an_output_is_a_label():
    files = recorded()
    for name, data in files.items():
        for cut in cuts(data):
            for others in ({}, {k: v for k, v in files.items() if k != name}):
                assert refusal({**others, name: cut})[0] in (MissingOutputError, UnknownLabelError)
    for cut in cuts(GOOD["OUTCAR"]):
        refusal(GOOD | {"OUTCAR": cut})


def test_one_wrong_digit_in_one_file_or_both():
    moved = MIXED.moved(MIXED.positions + np.outer(np.eye(5)[0], [0.01, 0.0, 0.0]))  # the first O
    other = {
        "OUTCAR": GOOD["OUTCAR"].replace(b"      0.10000      0.20000", b"      0.11000      0.20000"),
        "vasprun.xml": made(moved, -30.5, FORCES, KBAR)["vasprun.xml"],
    }
    for name in GOOD:
        assert other[name] != GOOD[name]
        assert refusal(GOOD | {name: other[name]}) == (
            StructureError,
            "OUTCAR and vasprun.xml have different structures in step 1",
        )
    with pytest.raises(StructureError, match=r"0\.0100 Å from where it should be"):
        LABELER.parse(MIXED, Run(other))
    elsewhere = GOOD["OUTCAR"].replace(b"-30.50000000 eV", b"-30.51000000 eV")
    assert refusal(GOOD | {"OUTCAR": elsewhere})[1].endswith("different energies in step 1")


def test_a_label_is_in_the_order_of_the_frame():
    label = LABELER.parse(MIXED, Run(GOOD, command="vasp_std"))
    assert label.energy == -30.5
    np.testing.assert_allclose(label.forces, FORCES)
    np.testing.assert_allclose(label.stress, -KBAR * 0.1 / EV_PER_A3_GPa, rtol=1e-12)
    [(frame, same)] = labels(READER.output(GOOD), MIXED)
    assert frame is MIXED
    np.testing.assert_array_equal(same.forces, label.forces)
    with pytest.raises(MissingOutputError):  # our own calculation has to leave both files
        LABELER.parse(MIXED, Run({"OUTCAR": GOOD["OUTCAR"]}, command="vasp_std"))
    by_hand = LABELER.parse(MIXED, Run({"OUTCAR": GOOD["OUTCAR"]}))
    np.testing.assert_allclose(by_hand.stress, label.stress, atol=1e-7)


def test_a_loop_that_did_not_converge_is_no_label():
    files = made(MIXED, -30.5, FORCES, KBAR, cycles=100, ended=UNCONVERGED)
    assert refusal(files) == (NotConvergedError, UNCONVERGED)
    assert refusal({"a": files["vasprun.xml"]})[0] is NotConvergedError
    assert (
        refusal(made(MIXED, -30.5, FORCES, KBAR, cycles=100))[0] is NotConvergedError
    )  # VASP 5 says so all the same
    stopped = made(MIXED, -30.5, FORCES, KBAR, cycles=3, ended="aborting loop because hard stop was set")
    assert refusal(stopped)[0] is WalltimeError
    assert refusal({"a": stopped["vasprun.xml"]})[0] is NotConvergedError  # by the last change of the energy


@pytest.mark.parametrize(
    ("tags", "signature"),
    [
        ({"pstress": 50.0}, "PSTRESS"),
        ({"icharg": 11}, "ICHARG = 11"),
        ({"nelect": 23.5}, "NELECT"),
        ({"more": "   ML_LMLFF = .TRUE."}, "ML_LMLFF"),
    ],
)
def test_energies_of_something_else_are_refused(tags, signature):
    error, line = refusal(made(MIXED, -30.5, FORCES, KBAR, **tags))
    assert error is UnknownLabelError and line.startswith(signature)


def test_complete_outputs_that_are_wrong_all_the_same():
    bands = b"|     you have included TOO FEW BANDS!! Please increase the parameter NBANDS   |"
    assert refusal(GOOD | {"output.log": bands})[0] is InputError
    lost = {"output.log": b" BRMIX: very serious problems"}
    assert refusal(GOOD | lost)[0] is NotConvergedError
    charged = made(MIXED, -30.5, FORCES, KBAR, nelect=23.0)
    assert READER.output(charged | lost).charge == 1


def test_charge_and_spin_have_to_be_the_frames():
    magnetic = made(MIXED, -30.5, FORCES, KBAR, ispin=2, nupdown=2.0)
    assert READER.output(magnetic).multiplicity == 3
    for files in (magnetic, made(MIXED, -30.5, FORCES, KBAR, nelect=23.0)):
        with pytest.raises(StructureError, match="charge 1|multiplicity 3"):
            LABELER.parse(MIXED, Run(files))


def test_what_it_says_of_the_theory():
    told = "\n".join(
        ["   METAGGA = R2SCAN", "   IVDW = 12", " LDA+U is selected, type is set to LDAUTYPE =  2"]
    )
    theory = READER.output(made(MIXED, -30.5, FORCES, KBAR, more=told)).theory
    assert theory.endswith("METAGGA=R2SCAN LDAU=T IVDW=12")


def test_elements_without_the_headers_of_the_potcars():
    outcar = GOOD["OUTCAR"].decode()
    titles = [
        f" PAW_PBE {name} 05Jan2001   :\n energy of atom  1       EATOM= -103.0669\n"
        for name in ("O_s", "Si")
    ]
    bare = outcar.replace("   VRHFIN =O: s2p2\n", titles[0]).replace("   VRHFIN =Si: s2p2\n", titles[1])
    step = READER.output({"OUTCAR": bare.encode()}).steps[0]
    assert "VRHFIN" not in bare and step.numbers.tolist() == [8, 8, 14, 14, 14]


def test_files_that_belong_together_are_found(tmp_path):
    for name, data in GOOD.items():
        (tmp_path / f"frame3_{name}").write_bytes(data)
    assert len(read_output(tmp_path / "frame3_OUTCAR").steps) == 1
    broken = GOOD["vasprun.xml"][:-30]
    (tmp_path / "frame3_vasprun.xml").write_bytes(broken)
    for name in GOOD:
        with pytest.raises(MissingOutputError, match="cut off"):
            read_output(tmp_path / f"frame3_{name}")
