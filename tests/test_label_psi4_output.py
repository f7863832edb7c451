"""Outputs of Psi4: what is read, what is refused and why, replayed jobs, and the labeler's options."""

import gzip
import json
import subprocess

import numpy as np
import pytest
from ase.build import molecule
from labelling import cuts, label_campaign, label_through_fireworks, needs
from references import scf_of

from alfw.core.errors import (
    ChargeError,
    DeckError,
    GeometryError,
    LabelError,
    LinearDependencyError,
    MissingOutputError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    StructureError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Resources, Run
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers.outputs import labels, read_output, recognise
from alfw.labelers.psi4 import KILLED, MEMORY, Psi4Labeler
from alfw.labelers.readers.psi4 import READER
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
# Orientation, atoms out of the way and unit are the user's.
USER = """molecule {{
{charge} {multiplicity}
O 1.0 0.2 0.3
H 1.8 0.9 0.2
H 0.3 0.8 0.9
}}
set {{
  basis sto-3g
  scf_type pk
  reference {reference}
  {options}
}}
{call}
"""
BANNER = "          Psi4: An Open-Source Ab Initio Electronic Structure Package\n               Psi4 1.9.1 release\n"


def hf(**options):
    return Psi4Labeler(**({"method": "hf", "basis": "sto-3g"} | options))


@pytest.fixture(scope="module")
def psi4(tmp_path_factory):
    """Function that runs a user's input and returns the output; once for each input."""
    needs("psi4")
    done = {}

    def run(call, charge=0, multiplicity=1, reference="rhf", options=""):
        text = USER.format_map(locals())
        if text not in done:
            folder = tmp_path_factory.mktemp("psi4")
            (folder / "input.dat").write_text(text)
            subprocess.run(["psi4"], cwd=folder, check=False, capture_output=True)
            done[text] = (folder / "output.dat").read_bytes()
        return done[text]

    return run


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The files of a label that ended well."""
    needs("psi4")
    return dict(hf().run(WATER, tmp_path_factory.mktemp("good"), Resources()).files)


@pytest.mark.parametrize("state", [(0, 1, "rhf"), (1, 2, "uhf")], ids=["h2o", "h2o+"])
def test_every_step_of_an_optimisation_is_a_label_of_its_own_geometry(state, psi4, tmp_path):
    """Against PySCF at the geometries as printed; density fitting is off."""
    (tmp_path / "opt.out.gz").write_bytes(gzip.compress(psi4("optimize('hf')", *state)))
    output = read_output(tmp_path / "opt.out.gz")
    assert (output.charge, output.multiplicity, output.theory) == (state[0], state[1], "hf/sto-3g")
    found = labels(output)
    assert len(found) >= 4 and output.version.startswith("psi4 1.")
    for frame, label in found:
        mol, mf, _ = scf_of(frame, "sto-3g")
        assert label.energy / HARTREE_eV == pytest.approx(mf.e_tot, abs=1e-6)
        np.testing.assert_allclose(
            label.forces, -mf.nuc_grad_method().kernel() * HARTREE_eV / BOHR_A, atol=1e-3
        )
        centre = np.average(frame.positions, axis=0, weights=frame.masses)
        dipole = mf.dip_moment(unit="AU", verbose=0) * BOHR_A - frame.charge * centre
        np.testing.assert_allclose(label.dipole, dipole, atol=2e-4)  # four decimals in e a0
        if frame.multiplicity == 2:
            assert label.s_squared == pytest.approx(mf.spin_square()[0], abs=1e-4)


def test_mulliken_charges_are_read_where_they_are_printed(psi4):
    text = psi4("g, wfn = gradient('hf', return_wfn=True)\noeprop(wfn, 'MULLIKEN_CHARGES')")
    ((frame, label),) = labels(READER.output({"psi4.out": text}))
    _, mf, _ = scf_of(frame, "sto-3g")
    np.testing.assert_allclose(label.charges, mf.mulliken_pop(verbose=0)[1], atol=1e-4)


def test_dipoles_as_later_versions_print_them(psi4):
    """Hand-made from the format of 1.4 and later; the frame is neutral."""
    text = psi4("gradient('hf')").decode()
    table = (
        "Multipole Moments:\n\n ----\n     Multipole       Electronic (a.u.)      Nuclear  (a.u.)       Total (a.u.)\n"
        " ----\n\n L = 1.  Multiply by 2.5417464519 to convert [e a0] to [Debye]\n"
        " Dipole X            :          0.1000000            0.0250000            0.1250000\n"
        " Dipole Y            :          0.0000000            0.0000000            0.0000000\n"
        " Dipole Z            :         -1.0000000            0.5000000           -0.5000000\n"
    )
    start = text.index("  Nuclear Dipole Moment: [e a0]")
    end = text.index("*** tstop() called", start)
    later = text[:start] + table + text[end:]
    (step,) = READER.output({"psi4.out": later.encode()}).steps
    np.testing.assert_allclose(step.dipole, np.array([0.125, 0.0, -0.5]) * BOHR_A)


OTHER = "activate(geometry('0 3\\nO 0 0 0\\nO 0 0 1.2'))"
REFUSED = {
    "mp2": ("gradient('mp2')", "scf_type df", "module "),
    "no gradient": ("energy('hf')", "", "no complete step"),
    "by energies": ("gradient('hf', dertype=0)", "", "no complete step"),
    "two levels": ("gradient('hf')\nclean()\nset basis 6-31g\ngradient('hf')", "", "two levels of theory"),
    "two states": (f"gradient('hf')\nclean()\nset reference uhf\n{OTHER}\ngradient('hf')", "", "two charges"),
    "a field": ("gradient('hf')", "perturb_h true\n  perturb_with dipole\n  perturb_dipole [0.01, 0, 0]", "by itself"),
    "not converged": ("gradient('hf')", "maxiter 3", "Could not converge SCF iterations in 3"),
    "going on": ("gradient('hf')", "maxiter 3\n  fail_on_maxiter false", "did not converge, but proceeding"),
    "ghost": ("gradient('hf', molecule=geometry('O 0 0 0\\nH 0 0 1\\nH 0 1 0\\n@H 0 3 0'))", "", "is not an element"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_label_is_refused_in_one_line(name, psi4):
    call, options, words = REFUSED[name]
    text = psi4(call, options=options)
    with pytest.raises(LabelError, match=words) as caught:
        READER.output({"psi4.out": text})
    assert len(str(caught.value).splitlines()) == 1 and caught.value.signature
    expected = NotConvergedError if name in ("not converged", "going on") else LabelError
    assert isinstance(caught.value, expected)
    assert recognise(text) == "psi4"


def test_two_calculations_in_one_file_are_refused(psi4):
    text = psi4("gradient('hf')")
    with pytest.raises(UnknownLabelError, match="several calculations"):
        READER.output({"psi4.out": text + text})


def test_words_of_the_input_are_not_the_programs(psi4):
    text = psi4("# not enough memory, PSIO_ERROR, did not converge\ngradient('hf')")
    assert len(READER.output({"psi4.out": text}).steps) == 1
    failed = psi4("# not enough memory, PSIO_ERROR\ngradient('hf')", options="maxiter 3")
    with pytest.raises(NotConvergedError):
        READER.output({"psi4.out": failed})


def test_truncated_outputs_are_never_a_label(good, psi4):
    for name in ("psi4.out", "result.json"):
        for part in cuts(good[name]):
            with pytest.raises(LabelError):
                hf().parse(WATER, Run(good | {name: part}))
    for part in cuts(psi4("optimize('hf')")):
        with pytest.raises(LabelError):
            READER.output({"psi4.out": part})


def test_the_text_alone_is_a_label_of_fewer_digits(good):
    text = {name: data for name, data in good.items() if name != "result.json"}
    one, other = (hf().parse(WATER, Run(files)) for files in (good, text))
    assert other.energy == pytest.approx(one.energy, abs=1e-8)
    np.testing.assert_allclose(other.forces, one.forces, atol=1e-9)
    np.testing.assert_allclose(other.dipole, one.dipole, atol=5e-5)


FLIPS = [
    ("psi4.out", "-0.477047000000", "-0.478047000000"),
    ("psi4.out", "O            0.000000000000     0.000000000000", "N            0.000000000000     0.000000000000"),
    ("psi4.out", "charge = 0, multiplicity = 1", "charge = 0, multiplicity = 3"),
    ("psi4.out", "Final Energy:   -74.96", "Final Energy:   -74.95"),
    ("psi4.out", "One-Electron Energy =                -122.1", "One-Electron Energy =                -122.2"),
    ("psi4.out", "-Total Gradient:\n", "-Total:\n"),
    ("result.json", '"charge": 0', '"charge": 1'),
    ("result.json", '"numbers": [8, 1, 1]', '"numbers": [1, 8, 1]'),
    ("result.json", '"energy_hartree": -74.96', '"energy_hartree": -74.95'),
    ("result.json", '"energy_hartree": -', '"energy_hartree": NaN, "x": -'),
]  # fmt: skip


@pytest.mark.parametrize("flip", range(len(FLIPS)))
def test_one_wrong_digit_is_refused(flip, good):
    name, old, new = FLIPS[flip]
    text = good[name].decode()
    assert old in text
    with pytest.raises(LabelError):
        hf().parse(WATER, Run(good | {name: text.replace(old, new).encode()}))
    without = {k: v for k, v in good.items() if k != "result.json"}
    if name == "psi4.out" and "Total Grad" not in old:
        with pytest.raises(LabelError):
            hf().parse(WATER, Run(without | {name: text.replace(old, new).encode()}))


def test_an_output_of_another_frame_is_refused(good):
    moved = WATER.moved(WATER.positions + [[0, 0.001, 0], [0, 0, 0], [0, 0, 0]])
    with pytest.raises(StructureError):
        hf().parse(moved, Run(good))
    raw = json.loads(good["result.json"])
    raw["positions_bohr"][1][1] += 1e-3
    with pytest.raises(UnknownLabelError, match="different molecules"):
        hf().parse(WATER, Run(good | {"result.json": json.dumps(raw).encode()}))


def test_a_potential_that_was_wanted_must_be_there(good):
    with pytest.raises(MissingOutputError, match="no potential at the points"):
        hf(esp={}).parse(WATER, Run(good))


# Hand-made: the words of exceptions as Psi4's source and runs have them.
ENDS = [
    (b"", "", b"", MissingOutputError, "no output"),
    (b"\xff\xfe\x00\x9c", "", b"", MissingOutputError, "not complete"),
    (b"", "", b"-9", OutOfMemoryLabelError, "killed by signal 9"),
    (b"sh: 1: psi4: command not found", "", b"127", LabelError, "command not found"),
    (b"ImportError: libcore.so: no such file", "", b"1", LabelError, "ImportError: libcore"),
    (b"", "RuntimeError: \nFatal Error: Not enough memory in DFMP2\n", b"1", OutOfMemoryLabelError, "Not enough"),
    (b"PSIO_ERROR: 12 (error writing to file)", "Fatal Error: PSIO Error\n", b"1", OutOfDiskError, "error writing"),
    (b"PSIO_ERROR: 18 (Incorrect block)", "Fatal Error: PSIO Error\n", b"1", UnknownLabelError, "Incorrect block"),
    (b"", "RuntimeError: linear dependency: 1 of 92 orbitals\n", b"1", LinearDependencyError, "1 of 92"),
    (b"", "qcel.ValidationError: Inconsistent or unspecified chg/mult: x\n", b"1", ChargeError, "chg/mult"),
    (b"", "qcel.ValidationError: Following atoms are too close: [(0, 1)]\n", b"1", GeometryError, "too close"),
    (b"", "psi4.driver.p4util.exceptions.MissingMethodError: Method=nope is not available\n", b"1", DeckError, "nope"),
    (b"", "NameError: name 'x' is not defined\n", b"1", DeckError, "NameError"),
    (b"", "Fatal Error: something new\n", b"1", UnknownLabelError, "something new"),
    (b"", "  raise BasisSetNotFound('x')\n\nRuntimeError: some other\n", b"1", UnknownLabelError, "some other"),
]  # fmt: skip


@pytest.mark.parametrize(("log", "text", "code", "error", "words"), ENDS)
def test_every_bad_end_has_its_class_and_its_literal_line(log, text, code, error, words):
    output = f"{BANNER}\nTraceback (most recent call last):\n{text}".encode() if text else b""
    with pytest.raises(error, match=words) as caught:
        READER.output({"psi4.out": output, "output.log": log, "returncode": code})
    assert len(str(caught.value).splitlines()) == 1


def test_a_replayed_job_is_recovered_through_fireworks(launchpad, tmp_path, good, psi4):
    """A fake program: the SCF fails as it really did, the second attempt ends well."""
    failed = Replay(files={"psi4.out": psi4("gradient('hf')", options="maxiter 3")}, code=1)
    ended = Replay(files={name: good[name] for name in ("psi4.out", "result.json")})
    fake = fake_program(tmp_path, "psi4", failed, ended)
    options = {"kind": "psi4", "method": "hf", "basis": "STO-3G", "command": f"{fake.path} -n {{threads}}"}
    store, states = label_through_fireworks(launchpad, label_campaign(tmp_path, [WATER], options))
    [[_, found]] = store.get_labels([WATER.id], hf().theory().id).values()
    assert "FIZZLED" not in states and found.energy == pytest.approx(hf().parse(WATER, Run(good)).energy)
    assert [each["actions"] for each in found.corrections] == [[{"maxiter": 300}]]
    assert "'MAXITER': 100" in fake.saw(0, "psi4.in") and "'MAXITER': 300" in fake.saw(1, "psi4.in")
    assert fake.saw(0, "argv") == "-n 1" and fake.starts == 2


def test_memory_is_asked_for_more_or_less(tmp_path, good):
    """A fake program: Psi4 wants more, then the kernel kills it for taking too much."""
    wants = Replay(
        files={"psi4.out": f"{BANNER}\nFatal Error: Not enough memory in DFMP2\n".encode()}, code=1
    )
    ended = Replay(files={name: good[name] for name in ("psi4.out", "result.json")})
    fake = fake_program(tmp_path, "psi4", wants, wants, ended)
    run = hf(command=str(fake.path)).run(WATER, tmp_path / "work", Resources(mem_GB=2))
    memory = [fake.saw(start, "psi4.in").split("memory ")[1].split()[0] for start in range(3)]
    assert memory == ["1638", "1966", "6553"] and hf().parse(WATER, run).energy < 0
    assert KILLED.shows({"returncode": b"-9"}) and not MEMORY.shows({"returncode": b"-9"})
