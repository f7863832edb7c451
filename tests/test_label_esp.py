"""Points of the electrostatic potential: outside all atoms, as dense as asked for, the same for the same frame."""

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from alfw.core.errors import InputError
from alfw.core.frame import Frame
from alfw.labelers._esp import RADII, EspGrid, check_esp, sphere, surface_points, vdw_radius

WATER = Frame.from_atoms(molecule("H2O"))
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
