"""PySCF: properties against other formulas, other guesses, restarts, linear dependency, results of other frames."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from ase.build import molecule
from labelling import cuts
from references import scf_of

from alfw.core.errors import (
    BasisError,
    DeckError,
    LabelError,
    LinearDependencyError,
    MissingOutputError,
    NotConvergedError,
    StructureError,
    WalltimeError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Attempt, Resources, Run
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers._handlers import PYSCF_MEMORY, PYSCF_SCF
from alfw.labelers.pyscf import PySCFLabeler
from alfw.testing import Replay, fake_program

WATER = Frame.from_atoms(molecule("H2O"))
IODIDE = Frame(numbers=[53, 1], positions=[[0.3, 0, 0], [0.3, 0, 1.61]])  # with a core potential
RADICAL = Frame(numbers=[8, 1], positions=[[0.1, 0.2, 0], [0.9, 0, 0.5]], multiplicity=2)
CATION = Frame(numbers=WATER.numbers, positions=WATER.positions + [0.5, -1, 2], charge=1, multiplicity=2)
OXYGEN = Frame(numbers=[8, 8], positions=[[0, 0, 0], [0, 0, 1.21]], multiplicity=3)
# Four protons and electrons in too small a space for diffuse functions: eigenvalues of the overlap down to 3e-9.
CROWD = Frame(numbers=[1] * 4, positions=[[0, 0, 0], [0, 0, 0.35], [0, 0.35, 0], [0, 0.35, 0.35]])


def hf(basis="STO-3G", **options):
    return PySCFLabeler(method="HF", basis=basis, **options)


@pytest.mark.parametrize("frame", [WATER, CATION, OXYGEN], ids=["h2o", "h2o+", "o2"])
def test_charges_are_mulliken_s_and_spin_is_known_of_open_shells(frame, tmp_path):
    found = label(hf(conv_tol=1e-11), frame, tmp_path, Resources())
    mol, mf, density = scf_of(frame, "sto-3g")
    electrons = np.einsum("ij,ji->i", density, mol.intor("int1e_ovlp"))
    owners = [atom for atom, *_ in mol.ao_labels(fmt=None)]
    charges = frame.numbers - np.bincount(owners, electrons)
    np.testing.assert_allclose(found.charges, charges, atol=1e-5)
    assert found.charges.sum() == pytest.approx(frame.charge, abs=1e-8)
    if frame.multiplicity == 1:
        assert found.s_squared is None
    else:
        assert found.s_squared == pytest.approx(mf.spin_square()[0], abs=1e-5)


@pytest.mark.parametrize("frame", [WATER, RADICAL, IODIDE], ids=["h2o", "oh", "hi"])
def test_another_guess_leads_to_the_same_state_from_elsewhere(frame, tmp_path):
    labeler = hf("def2-svp")
    runs = [labeler.run(frame, tmp_path, Resources(), Attempt(other_guess=other)) for other in (False, True)]
    starts = [first_energy(run) for run in runs]
    assert abs(starts[0] - starts[1]) > 1e-3
    energies = [labeler.parse(frame, run).energy for run in runs]
    assert energies[1] == pytest.approx(energies[0], abs=1e-5)


def first_energy(run):
    lines = run.files["output.log"].decode().splitlines()
    return float(next(line for line in lines if line.startswith("init E=")).split("=")[1])


def test_another_guess_is_there_for_high_spins(tmp_path):
    """Hückel's minimal basis has one orbital for the two electrons of triplet helium."""
    helium = Frame(numbers=[2], positions=np.zeros((1, 3)), multiplicity=3)
    labeler = hf("def2-svp")
    run = labeler.run(helium, tmp_path, Resources(), Attempt(other_guess=True))
    expected = label(labeler, helium, tmp_path, Resources()).energy
    assert labeler.parse(helium, run).energy == pytest.approx(expected, abs=1e-5)


def killed_after_the_scf(tmp_path):
    """What is left of a calculation that a scheduler ends when it is done, but has not said so."""
    python = shlex.quote(f'{sys.executable} "$@"; rm result.json; touch done; sleep 600')

    def stop():
        while not list(tmp_path.glob("label-*/done")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(WalltimeError) as caught:
        hf(command=f"sh -c {python} sh").run(WATER, tmp_path, Resources())
    return caught.value.partial


@pytest.mark.slow
def test_a_killed_calculation_goes_on_where_it_was(tmp_path):
    left = killed_after_the_scf(tmp_path).files
    assert left["scf.chk"] and "result.json" not in left
    runs = [
        hf().run(WATER, tmp_path, Resources(), Attempt(restart=files))
        for files in ({}, left, {"restart.chk": left["scf.chk"]})
    ]
    cycles = [run.files["output.log"].count(b"cycle= ") for run in runs]
    assert cycles[0] > 4 and cycles[1] == cycles[2] <= 2
    energies = [hf().parse(WATER, run).energy for run in runs]
    np.testing.assert_allclose(energies, energies[0], atol=1e-6)
    assert not any({"restart.chk", "scf.chk"} & set(run.files) for run in runs)
    assert all(run.corrections == [] for run in runs)
    for damaged in (left["scf.chk"][:3000], b"\x89HDF\r\n", b"no HDF5"):
        run = hf().run(WATER, tmp_path, Resources(), Attempt(restart={"scf.chk": damaged}))
        assert hf().parse(WATER, run).energy == pytest.approx(energies[0], abs=1e-6)
        assert run.corrections == []


@pytest.mark.slow
def test_a_dependent_basis_is_a_failure_or_another_theory(tmp_path):
    strict, lenient = (hf("aug-cc-pVTZ", allow_theory_changes=allowed) for allowed in (False, True))
    run = strict.run(CROWD, tmp_path, Resources())
    with pytest.raises(LinearDependencyError, match="eigenvalue of the overlap matrix is 3.1e-09"):
        strict.parse(CROWD, run)
    found = label(lenient, CROWD, tmp_path, Resources())
    assert found.changes == {"remove_linear_dependency": True}
    assert [entry["errors"] for entry in found.corrections] == [["LINEAR_DEPENDENCY"]]
    assert lenient.theory().settings["allowed_changes"] == [{"remove_linear_dependency": True}]
    assert strict.theory().id != lenient.theory().id
    assert strict.theory().id == hf("aug-cc-pVTZ").theory().id
    assert label(hf(allow_theory_changes=True), WATER, tmp_path, Resources()).changes == {}


def good(frame=WATER, **changes):
    raw = {
        "energy_hartree": -74.9,
        "gradient_hartree_per_bohr": [[0.0, 0.0, 0.1]] * len(frame),
        "dipole_e_bohr": [0.0, 0.0, 0.6],
        "numbers": frame.numbers.tolist(),
        "positions_bohr": (frame.positions / BOHR_A).tolist(),
        "charge": frame.charge,
        "multiplicity": frame.multiplicity,
        "version": "2.14.0",
    }
    return json.dumps(raw | changes).encode()


@pytest.mark.parametrize(
    ("options", "error", "signature"),
    [
        ({"basis": "no-such-basis"}, BasisError, "BasisNotFoundError: .* no-such-basis"),
        ({"method": "no-such-functional"}, DeckError, "not found"),
        ({"method": "wb97x-d3"}, DeckError, "NotImplementedError"),
        ({"method": "pbe-d3zzz"}, DeckError, "d3zzz"),
    ],
)
def test_what_pyscf_does_not_know_pauses_at_the_first_frame(options, error, signature, tmp_path):
    with pytest.raises(error, match=signature) as caught:
        PySCFLabeler(**({"method": "HF", "basis": "STO-3G"} | options)).run(WATER, tmp_path, Resources())
    assert type(caught.value) is error and caught.value.policy == "pause"
    assert len(str(caught.value).splitlines()) == 1 and caught.value.partial.files["output.log"]


OTHERS = [
    {"positions_bohr": ((WATER.positions + [[0, 0, 0.0002], [0, 0, 0], [0, 0, 0]]) / BOHR_A).tolist()},
    {"numbers": [1, 8, 1]},
    {"numbers": [8, 1]},
    {"charge": 1},
    {"multiplicity": 3},
]


@pytest.mark.parametrize("changes", OTHERS, ids=["moved", "order", "lost", "charge", "spin"])
def test_results_of_another_structure_are_refused(changes):
    assert hf().parse(WATER, Run({"result.json": good()})).energy == pytest.approx(-74.9 * HARTREE_eV)
    with pytest.raises(StructureError, match=WATER.id[:12]):
        hf().parse(WATER, Run({"result.json": good(**changes)}))


def test_truncated_results_are_never_a_label():
    for part in cuts(good()):
        with pytest.raises(MissingOutputError):
            hf().parse(WATER, Run({"result.json": part}))


def test_without_the_potential_that_was_wanted_there_is_no_label():
    with pytest.raises(MissingOutputError, match="esp_hartree_per_e"):
        hf(esp={}).parse(WATER, Run({"result.json": good()}))
    short = good(esp_hartree_per_e=[0.1], esp_points_bohr=[[9.0, 9.0, 9.0]] * 2)
    with pytest.raises(MissingOutputError, match="esp_points has shape"):
        hf(esp={}).parse(WATER, Run({"result.json": short}))


def failed(kind, message):
    return Replay(
        b"\xff\xfe no UTF-8",
        {"result.json": json.dumps({"error": {"type": kind, "message": message}}).encode()},
        1,
    )


def test_the_ladders_change_the_input(tmp_path):
    """A fake program: out of memory, then an SCF that fails twice, then a result."""
    failures = [
        failed("_ArrayMemoryError", "Unable to allocate 9 GiB"),
        *[failed("NotConverged", "SCF not converged")] * 2,
    ]
    fake = fake_program(tmp_path, "python", *failures, Replay(files={"result.json": good()}))
    labeler = hf(command=str(fake.path))
    run = labeler.run(WATER, tmp_path / "work", Resources(mem_GB=2))
    inputs = [json.loads(fake.saw(start, "input.json")) for start in range(4)]
    assert [each.get("memory_share") for each in inputs] == [None, 0.3, 0.3, 0.3]
    assert [each["max_cycle"] for each in inputs] == [100, 100, 200, 200]
    assert inputs[3]["level_shift"] == 0.3 and fake.saw(0, "argv").startswith("-m alfw.labelers")
    found = labeler.parse(WATER, run)
    assert [entry["errors"][0] for entry in found.corrections] == ["OUT_OF_MEMORY"] + [
        "SCF_NOT_CONVERGED"
    ] * 2
    assert found.changes == {} and fake.starts == 4


def test_less_memory_gives_the_same_energy(tmp_path):
    (step,) = PYSCF_MEMORY.steps
    assert PYSCF_SCF.changes == PYSCF_MEMORY.changes == ()
    spec = hf()._geometry(WATER, Resources()) | hf()._settings(Attempt(), False)
    energies = [_energy(spec | changes, tmp_path) for changes in ({}, step, {"memory_share": 1e-6})]
    np.testing.assert_allclose(energies, energies[0], atol=1e-8)


def _energy(spec, folder):
    (folder / "input.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "alfw.labelers._pyscf_main"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "result.json").read_text())["energy_hartree"]


def test_a_program_without_a_word_is_no_label(tmp_path):
    fake = fake_program(tmp_path, "python", Replay(b"\xff\xfe\x00 cycle= 3"))
    labeler = hf(command=str(fake.path))
    with pytest.raises(LabelError) as caught:
        label(labeler, WATER, tmp_path / "work", Resources())
    assert not isinstance(caught.value, NotConvergedError) and caught.value.policy == "retry"
