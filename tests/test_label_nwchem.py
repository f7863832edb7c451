"""NWChem for real: against PySCF and differences of the energy, remedies of an SCF that fails, what pauses."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from labelling import cuts, needs

from alfw.core.errors import BasisError, DeckError, ExecutableError, LabelError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST, label
from alfw.core.records import Attempt, Resources
from alfw.core.units import HARTREE_eV
from alfw.labelers import _program
from alfw.labelers.nwchem import FUNCTIONALS, LADDERS, PROGRAM, NWChemLabeler
from alfw.labelers.pyscf import PySCFLabeler

WATER = Frame.from_atoms(molecule("H2O"))
BENT = Frame(numbers=[8, 1, 1], positions=[[1.1, -2.2, 3.12], [1.15, -1.4, 2.5], [0.9, -3.0, 2.55]])
CATION = replace(BENT, charge=1, multiplicity=2)
HF = NWChemLabeler(method="HF", basis="STO-3G", conv_tol=1e-9)
HERE = Resources()


@pytest.fixture
def real():
    needs("nwchem")


def difference(labeler, frame, folder, seed=0):
    """Change of energy along a small random displacement, and what the forces say of it."""
    step = 2e-3 * np.random.default_rng(seed).normal(size=(len(frame), 3))
    up, down = (frame.moved(frame.positions + sign * step) for sign in (1, -1))
    energies = [label(labeler, each, folder, HERE).energy for each in (up, down)]
    forces = label(labeler, frame, folder, HERE).forces
    return energies[0] - energies[1], -np.sum(forces * (up.positions - down.positions))


@pytest.mark.parametrize("frame", [BENT, CATION], ids=["water", "radical cation off the origin"])
def test_nwchem_and_pyscf_agree(real, frame, tmp_path):
    here = label(HF, frame, tmp_path, HERE)
    there = label(PySCFLabeler(method="HF", basis="STO-3G"), frame, tmp_path, HERE)
    assert here.energy == pytest.approx(there.energy, abs=1e-6 * HARTREE_eV)
    np.testing.assert_allclose(here.forces, there.forces, atol=1e-4)
    np.testing.assert_allclose(here.dipole, there.dipole, atol=1e-4)  # of the cation about its centre of mass
    assert here.version == "nwchem 7.0.2" and here.charges is None
    assert (here.s_squared is None) == (frame.multiplicity == 1)
    if frame.multiplicity == 2:
        assert here.s_squared == pytest.approx(0.755, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FUNCTIONALS, "B3LYP", "PBE0"])
def test_functionals_mean_the_same_as_in_pyscf(real, name, tmp_path):
    here = label(NWChemLabeler(method=name, basis="STO-3G"), WATER, tmp_path, HERE)
    there = label(PySCFLabeler(method=name, basis="STO-3G", grid_level=4), WATER, tmp_path, HERE)
    assert here.energy == pytest.approx(there.energy, abs=1e-5 * HARTREE_eV)


CASES = [
    pytest.param({"method": "PBE0", "dispersion": "D3BJ"}, BENT, id="PBE0-D3BJ"),
    pytest.param({"method": "PBE"}, CATION, id="radical cation"),
    pytest.param({"method": "CAM-B3LYP"}, BENT, id="CAM-B3LYP", marks=pytest.mark.slow),
    pytest.param({"method": "TPSS", "dispersion": "D3"}, BENT, id="TPSS-D3", marks=pytest.mark.slow),
    pytest.param(
        {"method": "PBE0", "blocks": "cosmo\n dielec 78.4\nend"}, BENT, id="COSMO", marks=pytest.mark.slow
    ),
    pytest.param(
        {"method": "PBE", "basis": "def2-SVP"},
        Frame(numbers=[53, 1], positions=[[0.3, 0.2, 0.1], [0.5, 0, 1.7]]),
        id="iodine's core potential",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("options", "frame"), CASES)
def test_forces_are_minus_the_gradient_of_the_energy(real, options, frame, tmp_path):
    labeler = NWChemLabeler(**({"basis": "STO-3G", "conv_tol": 1e-9} | options))
    change, work = difference(labeler, frame, tmp_path)
    assert change == pytest.approx(work, rel=2e-3, abs=2e-6)


def test_the_deck_says_all_that_the_frame_and_the_options_say():
    labeler = NWChemLabeler(
        method="BLYP",
        basis="def2-TZVP",
        dispersion="D3BJ",
        keywords="tolerances tight\nnofoo",
        blocks="set a 1",
    )
    frame = Frame(numbers=[53, 1], positions=[[0, 0, 0], [0, 0, 1.6]], charge=1, multiplicity=2)
    deck = labeler.inputs(frame, Resources(threads=4, mem_GB=8))["nwchem.nw"].decode()
    lines = [" ".join(line.split()) for line in deck.splitlines()]
    for line in (
        "charge 1",
        "geometry units angstroms noautosym noautoz nocenter",
        "H 0.0000000000 0.0000000000 1.6000000000",
        '* library "def2-TZVP"',
        'I library "def2-ecp"',
        "xc becke88 lyp",
        "disp vdw 4",
        "mult 2",
        "odft",
        "grid fine",
        "tolerances tight",
        "nofoo",
        "set a 1",
        "memory total 6554 mb",  # one process: the command does not say {threads}
    ):
        assert line in lines, line
    parallel = labeler.model_copy(update={"command": "mpirun -np {threads} nwchem nwchem.nw"})
    assert b"memory total 1638 mb" in parallel.inputs(frame, Resources(threads=4, mem_GB=8))["nwchem.nw"]
    assert "odft" not in HF.inputs(WATER, HERE)["nwchem.nw"].decode()


def test_theories():
    base = {"method": "PBE0", "basis": "def2-SVP"}
    one = NWChemLabeler(**base).theory().id
    for same in (
        {"method": "pbe0"},
        {"basis": "DEF2-svp"},
        {"max_iterations": 7, "command": "srun nwchem nwchem.nw"},
    ):
        assert NWChemLabeler(**(base | same)).theory().id == one
    for other in (
        {"method": "PBE"},
        {"grid": "xfine"},
        {"spherical": False},
        {"dispersion": "D3"},
        {"keywords": "x"},
    ):
        assert NWChemLabeler(**(base | other)).theory().id != one


def test_a_failed_scf_is_recovered_and_the_remedy_recorded(real, tmp_path):
    straight = label(HF, WATER, tmp_path, HERE)
    recovered = label(HF.model_copy(update={"max_iterations": 3}), WATER, tmp_path, HERE)
    assert straight.corrections == []
    assert [entry["errors"] for entry in recovered.corrections] == [["SCF_NOT_CONVERGED"]]
    assert recovered.energy == pytest.approx(straight.energy, abs=1e-6)
    np.testing.assert_allclose(recovered.forces, straight.forces, atol=1e-4)


@pytest.mark.parametrize("step", [*LADDERS[0].steps[1:], {"damping": 50}], ids=str)
def test_every_remedy_by_itself_leads_to_the_same_label(real, step, tmp_path):
    more = HF._variables(CATION, HERE) | {"more_cycles": 4} | step
    run = _program.run(PROGRAM, HF, CATION, tmp_path, HERE, FIRST, command=HF.command, more=more)
    assert run.corrections == []
    found, plain = HF.parse(CATION, run), label(HF, CATION, tmp_path, HERE)
    assert found.energy == pytest.approx(plain.energy, abs=1e-6)
    np.testing.assert_allclose(found.forces, plain.forces, atol=2e-4)
    np.testing.assert_allclose(found.dipole, plain.dipole, atol=1e-4)  # second order prints it, too
    assert found.s_squared == pytest.approx(plain.s_squared, abs=1e-3)


@pytest.mark.slow
def test_nickel_oxide_needs_the_ladder(real, tmp_path):
    frame = Frame(numbers=[28, 8], positions=[[0, 0, 0], [0, 0, 1.9]], multiplicity=3)
    found = label(NWChemLabeler(method="HF", basis="STO-3G"), frame, tmp_path, HERE)
    assert found.corrections and {c["errors"][0] for c in found.corrections} == {"SCF_NOT_CONVERGED"}
    assert found.energy == pytest.approx(-42551.05, abs=0.01)


def test_too_little_memory_is_raised(real, tmp_path):
    found = label(HF, WATER, tmp_path, Resources(mem_GB=0.04))
    assert [entry["errors"] for entry in found.corrections] == [["OUT_OF_MEMORY"]]


def test_orbitals_of_an_attempt_out_of_time_are_the_start_of_the_next(real, tmp_path):
    kept = tmp_path / "kept"
    saving = HF.model_copy(update={"command": f"sh -c 'nwchem nwchem.nw && cp alfw.movecs {kept}'"})
    first = saving.run(WATER, tmp_path, HERE)
    again = HF.run(WATER, tmp_path, HERE, Attempt(restart={"alfw.movecs": kept.read_bytes()}))
    cycles = [run.files["output.log"].count(b"d= 0,ls=0.0,diis") for run in (first, again)]
    assert cycles[1] < cycles[0] and "alfw.movecs" not in again.files
    assert HF.parse(WATER, again).energy == pytest.approx(HF.parse(WATER, first).energy, abs=1e-6)


def test_several_processes_give_the_same(real, tmp_path, monkeypatch):
    needs("mpirun", "openmpi-bin")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    parallel = HF.model_copy(update={"command": "mpirun --oversubscribe -np {threads} nwchem nwchem.nw"})
    run = parallel.run(WATER, tmp_path, Resources(threads=2))
    assert b"nproc           =        2" in run.files["output.log"]
    assert HF.parse(WATER, run).energy == pytest.approx(label(HF, WATER, tmp_path, HERE).energy, abs=1e-6)


UNKNOWN = [
    ({"method": "no-such-functional"}, WATER, DeckError, "xc no-such-functional"),
    ({"basis": "no-such-basis"}, WATER, BasisError, "failed opening basis file"),
    (
        {},
        Frame(numbers=[80], positions=[[0, 0, 0]]),
        BasisError,
        "no such basis available",
    ),
    ({"keywords": "foobar 1"}, WATER, DeckError, "foobar 1"),
    ({"blocks": "nonsense"}, WATER, DeckError, "unknown directive nonsense"),
]


@pytest.mark.parametrize(("options", "frame", "error", "words"), UNKNOWN)
def test_what_nwchem_does_not_know_pauses_at_the_first_frame(real, options, frame, error, words, tmp_path):
    labeler = NWChemLabeler(**({"method": "HF", "basis": "STO-3G"} | options))
    with pytest.raises(error, match=words) as caught:
        labeler.run(frame, tmp_path, HERE)
    assert caught.value.policy == "pause"


def test_a_missing_program_pauses_and_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutableError, match=f"cannot start 'nwchem' .*looked in PATH {tmp_path}"):
        HF.run(WATER, tmp_path / "work", HERE)


def test_a_real_output_cut_off_anywhere_is_no_label(real, tmp_path):
    run = HF.run(WATER, tmp_path, HERE)
    for cut in cuts(run.files["output.log"]):
        with pytest.raises(LabelError):
            HF.parse(WATER, replace(run, files={"output.log": cut}))
