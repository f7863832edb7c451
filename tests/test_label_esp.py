"""Points of the electrostatic potential: outside all atoms, as dense as asked for, the same for the same frame."""

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from references import scf_of
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist
from scipy.special import sph_harm_y

from alfw.core.errors import InputError
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Resources
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers._esp import RADII, EspGrid, check_esp, sphere, surface_points, vdw_radius
from alfw.labelers.pyscf import PySCFLabeler

WATER = Frame.from_atoms(molecule("H2O"))
CATION = Frame(numbers=WATER.numbers, positions=WATER.positions + [0.5, -1, 2], charge=1, multiplicity=2)
IODIDE = Frame(numbers=[53, 1], positions=[[0.3, 0, 0], [0.3, 0, 1.61]])  # with a core potential
PLACES = st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=1, max_size=8, unique=True)
GRIDS = st.builds(
    EspGrid,
    scale_factors=st.lists(st.floats(1.0, 3.0), min_size=1, max_size=3).map(tuple),
    points_per_A2=st.floats(0.2, 5.0),
)


def clusters(places, elements):
    return Frame(numbers=elements[: len(places)], positions=np.array(places) * 1.1)


FRAMES = st.builds(clusters, PLACES, st.lists(st.sampled_from([1, 6, 8, 16, 26, 53]), min_size=8, max_size=8))


@settings(max_examples=60, deadline=None)
@given(frame=FRAMES, grid=GRIDS)
def test_points_lie_on_the_surfaces_and_inside_no_sphere(frame, grid):
    radii = np.array([vdw_radius(z) for z in frame.numbers])
    points = surface_points(frame, grid)
    scaled = cdist(points, frame.positions) / radii  # 1 on the van der Waals surface
    closest = scaled.min(axis=1)
    assert (np.abs(closest[:, None] - grid.scale_factors).min(axis=1) < 2e-6).all()
    assert closest.min() > min(grid.scale_factors) - 2e-6


@settings(max_examples=30, deadline=None)
@given(frame=FRAMES, grid=GRIDS, shift=st.tuples(*[st.integers(-50, 50)] * 3))
def test_points_move_with_the_frame(frame, grid, shift):
    moved = surface_points(frame.moved(frame.positions + shift), grid)
    np.testing.assert_allclose(moved, surface_points(frame, grid) + shift, atol=1.1e-6)


@pytest.mark.parametrize("density", [0.5, 1.0, 4.0])
def test_one_atom_has_the_density_asked_for(density):
    frame = Frame(numbers=[8], positions=[[1.0, 2.0, 3.0]])
    points = surface_points(frame, EspGrid(scale_factors=(1.4,), points_per_A2=density))
    assert len(points) == pytest.approx(4 * np.pi * (1.4 * 1.52) ** 2 * density, abs=0.5)


def test_a_molecule_has_the_density_asked_for():
    """Against the area of the surface by another way: the share of random directions that no sphere covers."""
    radii = 1.4 * np.array([vdw_radius(z) for z in WATER.numbers])
    directions = np.random.default_rng(1).normal(size=(40000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    area = 0.0
    for atom, radius in enumerate(radii):
        others = [other for other in range(3) if other != atom]
        away = cdist(WATER.positions[atom] + radius * directions, WATER.positions[others])
        area += 4 * np.pi * radius**2 * (away > radii[others]).all(axis=1).mean()
    points = surface_points(WATER, EspGrid(scale_factors=(1.4,), points_per_A2=20.0))
    assert len(points) / 20.0 == pytest.approx(area, rel=0.02)


def test_points_on_a_sphere_are_spread_evenly():
    points = sphere(200)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=0.01)
    away = cdist(points, points) + 9.0 * np.eye(200)
    assert away.min() > 0.75 * np.sqrt(4 * np.pi / 200)
    assert ConvexHull(points).volume > 0.97 * 4 * np.pi / 3  # no hole anywhere


def test_the_usual_grid_of_water():
    points = surface_points(WATER, EspGrid())
    assert points.shape == (361, 3)
    assert np.array_equal(points, np.round(points, 6))


def test_radii_are_those_of_the_sources():
    assert [vdw_radius(z) for z in (1, 6, 8, 53, 56)] == [1.20, 1.70, 1.52, 1.98, 2.68]
    assert vdw_radius(26) == 2.44  # Alvarez
    assert len(RADII) == 44


@pytest.mark.parametrize("number", [61, 100, 103, 118])
def test_elements_without_a_radius_are_refused(number):
    frame = Frame(numbers=[number], positions=np.zeros((1, 3)))
    with pytest.raises(InputError, match="van der Waals radius"):
        surface_points(frame, EspGrid())
    with pytest.raises(InputError, match=f"frame {frame.id[:12]}: no van der Waals radius"):
        check_esp(frame, EspGrid())
    check_esp(frame, None)
    check_esp(WATER, EspGrid())


@pytest.mark.parametrize(
    "options",
    [
        {"scale_factors": ()},
        {"scale_factors": (0.0,)},
        {"scale_factors": (float("nan"),)},
        {"points_per_A2": 0.0},
        {"points_per_A2": 1e9},
        {"density": 1.0},
    ],
)
def test_nonsense_is_refused(options):
    with pytest.raises(ValidationError):
        EspGrid(**options)


def hf(basis="STO-3G", **options):
    return PySCFLabeler(method="HF", basis=basis, **options)


@pytest.mark.parametrize(
    ("frame", "basis"),
    [(WATER, "6-31g*"), (CATION, "sto-3g"), (IODIDE, "def2-svp")],
    ids=["h2o", "h2o+", "hi"],
)
def test_the_potential_is_that_of_nuclei_and_electrons(frame, basis, tmp_path):
    found = label(hf(basis, esp=EspGrid(), conv_tol=1e-10), frame, tmp_path, Resources())
    mol, _, density = scf_of(frame, basis)
    for k in range(0, len(found.esp), 40):
        point = found.esp_points[k] / BOHR_A
        with mol.with_rinv_origin(point):
            electrons = np.sum(mol.intor("int1e_rinv") * density)
        nuclei = np.sum(mol.atom_charges() / np.linalg.norm(mol.atom_coords() - point, axis=1))
        assert found.esp[k] == pytest.approx((nuclei - electrons) * HARTREE_eV, abs=2e-4)


@pytest.mark.parametrize("frame", [WATER, CATION], ids=["h2o", "h2o+"])
def test_the_potential_far_away_is_that_of_charge_and_dipole(frame, tmp_path):
    """A fit of multipoles up to l = 5 about the centre of mass to the potential gives charge and dipole."""
    found = label(hf(esp=EspGrid(scale_factors=(8.0, 10.0), points_per_A2=0.3)), frame, tmp_path, Resources())
    centre = np.average(frame.positions, axis=0, weights=frame.masses)
    x, y, z = (found.esp_points - centre).T
    r, polar, azimuth = np.sqrt(x**2 + y**2 + z**2), np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    columns = [1 / r, x / r**3, y / r**3, z / r**3]
    for n in range(2, 6):
        for m in range(n + 1):
            wave = sph_harm_y(n, m, polar, azimuth) / r ** (n + 1)
            columns += [wave.real, wave.imag] if m else [wave.real]
    fitted, *_ = np.linalg.lstsq(np.stack(columns, axis=1), found.esp, rcond=None)
    coulomb = HARTREE_eV * BOHR_A  # e²/(4πε0) in eV Å
    assert fitted[0] / coulomb == pytest.approx(frame.charge, abs=1e-5)
    np.testing.assert_allclose(fitted[1:4] / coulomb, found.dipole, atol=1e-4)


def test_chunks_of_points_change_nothing(monkeypatch):
    from alfw.labelers import _pyscf_main

    mol, mf, _ = scf_of(CATION, "sto-3g")
    points = np.random.default_rng(0).normal(size=(50, 3)) * 6.0
    whole = _pyscf_main.potential(mol, mf.make_rdm1(), points)
    monkeypatch.setattr(_pyscf_main, "ESP_BYTES", 3.5 * 8 * mol.nao**2)  # 3 points at a time
    np.testing.assert_allclose(_pyscf_main.potential(mol, mf.make_rdm1(), points), whole, rtol=1e-12)


def test_the_potential_is_part_of_the_theory_where_it_is_wanted():
    assert "esp" not in hf().theory().settings
    grids = [None, EspGrid(), EspGrid(points_per_A2=2.0)]
    assert len({hf(esp=grid).theory().id for grid in grids}) == 3
    assert hf(esp={}).theory().settings["esp"] == {
        "scale_factors": [1.4, 1.6, 1.8, 2.0],
        "points_per_A2": 1.0,
    }
    with pytest.raises(InputError, match="van der Waals radius"):
        hf(esp={}).check(Frame(numbers=[100], positions=np.zeros((1, 3))))
