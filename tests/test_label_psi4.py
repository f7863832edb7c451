"""Psi4, really run: derivatives of one energy, properties, remedies, and what pauses a campaign."""

import json
import shlex
import subprocess
import sysconfig
from dataclasses import replace
from shutil import which

import numpy as np
import pytest
from ase.build import molecule
from labelling import needs
from references import scf_of
from scipy.spatial.transform import Rotation

from alfw.core.errors import (
    BasisError,
    DeckError,
    ExecutableError,
    LinearDependencyError,
    NotConvergedError,
    OutOfDiskError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Attempt, Resources
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers.psi4 import SCF, Psi4Labeler

WATER = Frame.from_atoms(molecule("H2O"))
TURN = Rotation.from_euler("xyz", (20.0, 130.0, -50.0), degrees=True).as_matrix()
STIR = np.array([[0.03, -0.02, 0.01], [-0.05, 0.0, 0.04], [0.02, 0.06, -0.03]])
BENT = WATER.moved((WATER.positions + STIR) @ TURN.T + [0.7, -1.1, 0.4])
CATION = replace(BENT, charge=1, multiplicity=2)
OXYGEN = Frame(numbers=[8, 8], positions=[[0, 0, 0], [0, 0, 1.21]], multiplicity=3)
CROWD = Frame(numbers=[1] * 4, positions=[[0, 0, 0], [0, 0, 0.35], [0, 0.35, 0], [0, 0.35, 0.35]])
FIELD = np.array([0.3, -0.5, 0.8]) * 1e-3  # Hartree / (e Bohr)


@pytest.fixture(autouse=True)
def _psi4():
    needs("psi4")


def hf(**options):
    return Psi4Labeler(**({"method": "hf", "basis": "sto-3g"} | options))


def tight(method, basis="def2-SVP", **options):
    return Psi4Labeler(method=method, basis=basis, e_convergence=1e-10, d_convergence=1e-10, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labeler", "frame"),
    [
        (tight("PBE0"), BENT),
        (tight("PBE0"), CATION),
        (tight("mp2"), BENT),
        (tight("wb97x-d", "sto-3g"), BENT),
    ],
    ids=["pbe0", "pbe0-cation", "mp2", "wb97x-d"],
)
def test_forces_are_minus_the_gradient_of_the_energy(labeler, frame, tmp_path):
    step = 1e-3 * np.random.default_rng(0).normal(size=(len(frame), 3))
    up, down = (frame.moved(frame.positions + sign * step) for sign in (1, -1))
    change = np.subtract(*(label(labeler, each, tmp_path, Resources()).energy for each in (up, down)))
    work = np.sum(label(labeler, frame, tmp_path, Resources()).forces * (up.positions - down.positions))
    assert change == pytest.approx(-work, rel=5e-4, abs=2e-6)  # the grid does not move with the atoms


@pytest.mark.slow
@pytest.mark.parametrize("frame", [BENT, CATION], ids=["h2o", "h2o+"])
def test_the_dipole_is_minus_the_field_derivative(frame, tmp_path):
    """Psi4's perturbation is +λ·μ with μ about the origin: a field of −λ."""
    labeler = tight("hf", "6-31g*")
    deck = labeler.inputs(frame, Resources())["psi4.in"].decode()
    energies = []
    for sign in (1, -1):
        strength = ", ".join(f"{x:.6f}" for x in sign * FIELD)
        field = f"  perturb_h true\n  perturb_with dipole\n  perturb_dipole [{strength}]\n}}\nfor"
        (tmp_path / "psi4.in").write_text(deck.replace("}\nfor", field, 1))
        subprocess.run(["psi4", "-i", "psi4.in", "-o", "psi4.out"], cwd=tmp_path, check=True)
        energies.append(json.loads((tmp_path / "result.json").read_text())["energy_hartree"])
    about_mass_centre = label(labeler, frame, tmp_path, Resources()).dipole
    centre = np.average(frame.positions, axis=0, weights=frame.masses)
    dipole = (about_mass_centre + frame.charge * centre) / BOHR_A
    assert (energies[0] - energies[1]) / 2.0 == pytest.approx(dipole @ FIELD, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("frame", [BENT, CATION, OXYGEN], ids=["h2o", "h2o+", "o2"])
def test_the_numbers_are_those_of_another_program(frame, tmp_path):
    """PySCF, without density fitting and with a finer grid."""
    found = label(tight("PBE0", esp={"points_per_A2": 0.5}), frame, tmp_path, Resources())
    mol, mf, density = scf_of(frame, "def2-svp", "pbe0")
    centre = np.average(frame.positions, axis=0, weights=frame.masses)
    dipole = mf.dip_moment(unit="AU", verbose=0) * BOHR_A - frame.charge * centre
    assert found.energy / HARTREE_eV == pytest.approx(mf.e_tot, abs=3e-4)
    np.testing.assert_allclose(found.forces, forces_of(mf), atol=3e-2)
    np.testing.assert_allclose(found.dipole, dipole, atol=1e-3)
    np.testing.assert_allclose(found.charges, mf.mulliken_pop(verbose=0)[1], atol=1e-3)
    points = found.esp_points / BOHR_A
    nuclei = (mol.atom_charges() / np.linalg.norm(points[:, None] - mol.atom_coords(), axis=2)).sum(axis=1)
    electrons = np.einsum("gij,ij->g", mol.intor("int1e_grids", grids=points), density)
    np.testing.assert_allclose(found.esp, (nuclei - electrons) * HARTREE_eV, atol=5e-3)
    spin = found.s_squared
    assert spin is None if frame.multiplicity == 1 else spin == pytest.approx(mf.spin_square()[0], abs=1e-4)


def forces_of(mf):
    gradient = mf.nuc_grad_method()
    gradient.grid_response = True
    return -gradient.kernel() * HARTREE_eV / BOHR_A


@pytest.mark.slow
def test_heavy_elements_have_their_core_potential(tmp_path):
    frame = Frame(numbers=[53, 1], positions=[[0.3, 0, 0], [0.3, 0, 1.61]])
    found = label(hf(basis="def2-SVP"), frame, tmp_path, Resources())
    _, mf, _ = scf_of(frame, "def2-svp")
    assert found.energy / HARTREE_eV == pytest.approx(mf.e_tot, abs=3e-4)
    np.testing.assert_allclose(found.dipole, mf.dip_moment(unit="AU", verbose=0) * BOHR_A, atol=1e-3)
    np.testing.assert_allclose(found.forces, -mf.nuc_grad_method().kernel() * HARTREE_eV / BOHR_A, atol=5e-3)


def test_correlated_methods_come_without_properties(tmp_path):
    """Psi4's densities of them are relaxed or not, as the method goes."""
    plain, correlated = (label(hf(method=name), WATER, tmp_path, Resources()) for name in ("hf", "mp2"))
    assert -2.0 < correlated.energy - plain.energy < -0.5
    assert plain.dipole is not None and plain.charges is not None
    assert correlated.dipole is None and correlated.charges is None and correlated.s_squared is None


def test_vectors_are_in_the_frames_own_orientation(tmp_path):
    flat = replace(CATION, positions=(CATION.positions - [0.7, -1.1, 0.4]) @ TURN)
    one, other = (label(hf(), frame, tmp_path, Resources()) for frame in (flat, CATION))
    np.testing.assert_allclose(other.forces, one.forces @ TURN.T, atol=1e-4)
    np.testing.assert_allclose(other.dipole, TURN @ one.dipole, atol=1e-5)


def test_a_failed_scf_is_recovered_and_the_remedy_recorded(tmp_path):
    straight, recovered = (
        label(hf(max_iterations=n), BENT, tmp_path, Resources(scratch=tmp_path / "scratch")) for n in (100, 3)
    )
    assert straight.corrections == [] and straight.version.startswith("psi4 1.")
    assert [entry["actions"] for entry in recovered.corrections] == [[{"maxiter": 300}]]
    assert recovered.energy == pytest.approx(straight.energy, abs=1e-6)
    np.testing.assert_allclose(recovered.forces, straight.forces, atol=1e-4)
    assert list((tmp_path / "scratch").iterdir()) == []  # scratch files went with the folder


@pytest.mark.slow
def test_every_remedy_leads_to_the_same_energy(tmp_path):
    """Each rung by itself, so that none is a dead letter."""
    labeler, outputs, settings = hf(), [], {}
    reference = label(labeler, CATION, tmp_path, Resources()).energy
    for step in SCF.steps:
        settings |= step
        own = labeler.model_copy(update={"decks": {"psi4.in.j2": with_settings(settings)}})
        run = own.run(CATION, tmp_path, Resources())
        assert own.parse(CATION, run).energy == pytest.approx(reference, abs=1e-5), step
        assert run.corrections == []
        outputs.append(run.files["psi4.out"].decode())
    assert "DAMP" in outputs[1] and "SOSCF" in outputs[2] and "Guess Type is HUCKEL" in outputs[3]


def with_settings(settings):
    """The shipped deck with remedies from the start."""
    from alfw.labelers._deck import shipped

    lines = [f"{{% set {name} = {value!r} %}}" for name, value in settings.items()]
    return "\n".join([*lines, shipped("psi4.in.j2")])


@pytest.mark.slow
def test_a_hopeless_scf_ends_with_the_ladder(tmp_path):
    labeler = hf(d_convergence=1e-30)
    run = labeler.run(WATER, tmp_path, Resources())
    with pytest.raises(NotConvergedError, match="after 4 remedies") as caught:
        labeler.parse(WATER, run)
    assert "Could not converge SCF iterations" in caught.value.signature


def test_another_guess_leads_to_the_same_state_from_elsewhere(tmp_path):
    runs = [hf().run(CATION, tmp_path, Resources(), Attempt(other_guess=other)) for other in (False, True)]
    assert [b"Huckel guess" in run.files["psi4.out"] for run in runs] == [False, True]
    energies = [hf().parse(CATION, run).energy for run in runs]
    assert energies[1] == pytest.approx(energies[0], abs=1e-5)


@pytest.mark.slow
def test_a_dependent_basis_is_a_failure_or_another_theory(tmp_path):
    strict, lenient = (hf(basis="aug-cc-pVTZ", allow_theory_changes=allowed) for allowed in (False, True))
    with pytest.raises(LinearDependencyError, match="1 of 92 orbitals"):
        label(strict, CROWD, tmp_path, Resources())
    found = label(lenient, CROWD, tmp_path, Resources())
    assert found.changes == {"remove_dependent": True} and strict.theory().id != lenient.theory().id


REFUSED = [
    ({"basis": "no-such-basis"}, BasisError, r"basis NO-SUCH-BASIS has none of \['O'\]"),
    ({"method": "no-such-method"}, DeckError, "'name' no-such-method"),
    ({"method": "b2plyp"}, DeckError, "derivative level 'dertype' 1"),  # no analytic gradient
    ({"method": "mp3"}, DeckError, "gradients are NOT available for SCF_TYPE=DF"),
    ({"method": "mp2", "esp": {}}, DeckError, "esp: only of Hartree-Fock"),
    ({"keywords": {"no_such_option": 3}}, DeckError, "NO_SUCH_OPTION is not a valid option"),
    ({"method": "pbe0-d3bj", "basis": "sto-3g"}, ExecutableError, "dftd3"),
    ({"version": "9"}, ExecutableError, "states version 9"),
    ({"command": "/no/such/psi4"}, ExecutableError, "cannot start '/no/such/psi4'"),
]


@pytest.mark.parametrize(("options", "error", "words"), REFUSED, ids=[next(iter(r[0])) for r in REFUSED])
def test_what_would_hit_every_frame_pauses_at_the_first(options, error, words, tmp_path):
    if words == "dftd3" and which("dftd3"):
        pytest.skip("dftd3 is installed")
    with pytest.raises(error, match=words) as caught:
        hf(**options).run(WATER, tmp_path, Resources())
    assert type(caught.value) is error and caught.value.policy == "pause"
    assert len(str(caught.value).splitlines()) == 1


def test_a_full_disk_is_the_workers_fault(tmp_path):
    limited = "ulimit -f 40; exec psi4 -i psi4.in -o psi4.out"  # 20 kB a file
    labeler = hf(scf_type="disk_df", basis="def2-TZVP", command=f"sh -c {shlex.quote(limited)}")
    with pytest.raises(OutOfDiskError, match="PSIO_ERROR"):
        labeler.run(WATER, tmp_path, Resources())


def test_psi4_does_not_see_our_packages(tmp_path, monkeypatch):
    """Debian's psi4 runs on the system's Python, whose pydantic and numpy are others than ours."""
    ours = sysconfig.get_paths()["purelib"]
    monkeypatch.setenv("PYTHONPATH", ours)
    assert label(hf(), WATER, tmp_path, Resources()).energy < 0
    insists = hf(command=f"env PYTHONPATH={ours} psi4 -i psi4.in -o psi4.out")
    with pytest.raises(ExecutableError, match="ImportError"):
        insists.run(WATER, tmp_path, Resources())
