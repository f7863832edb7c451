"""PlacementsSampler: distances, composition, density, uniform places and orientations."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list
from numpy_toys import NeverAsked, closest_of, explore
from pydantic import ValidationError

from alfw.core.errors import SamplingError
from alfw.core.frame import Frame
from alfw.samplers.placements import random_cell

WATER, METHANE = (Frame.from_atoms(molecule(name)) for name in ("H2O", "CH4"))
CATION = Frame.from_atoms(molecule("NH3"), charge=1, multiplicity=2)
ANY = NeverAsked(1, 6, 7, 8, 29, 79)


def between_molecules(frame: Frame, size: int) -> float:
    """Smallest distance over the sum of radii of atoms of different molecules of `size` atoms, images among them."""
    from ase.data import covalent_radii

    radii, atoms = covalent_radii[frame.numbers], frame.to_atoms()
    i, j, d, shift = neighbor_list("ijdS", atoms, 4.0)
    other = (i // size != j // size) | np.any(shift != 0, axis=1)
    return float((d / (radii[i] + radii[j]))[other].min(initial=np.inf))


def test_a_periodic_box_has_its_density_and_distances() -> None:
    pool = explore("random", ANY, [WATER], count=4, molecules=16, density_g_cm3=0.9)
    for frame in pool.frames:
        assert frame.formula == "H32O16" and frame.pbc.all()
        grams = frame.masses.sum() * 1.66053906660e-24
        assert grams / (np.linalg.det(frame.cell) * 1e-24) == pytest.approx(0.9, rel=1e-5)
        assert between_molecules(frame, 3) >= 1.8 - 1e-5
        for first in range(0, 48, 3):  # molecules are whole and rigid
            x, x0 = frame.positions[first : first + 3], WATER.positions
            assert np.linalg.norm(x[1:] - x[0], axis=1) == pytest.approx(
                np.linalg.norm(x0[1:] - x0[0], axis=1), abs=1e-5
            )
    assert pool.walker.tolist() == [0, 1, 2, 3] and not pool.unbiased and pool.counters["n_frames"] == 4
    assert len({frame.id for frame in pool.frames}) == 4


def test_images_across_a_small_cell_count() -> None:
    frames = explore("random", ANY, [METHANE], count=40, molecules=1, box_A=[3.9, 4.2, 9.0]).frames
    assert min(between_molecules(frame, 5) for frame in frames) >= 1.8 - 1e-5
    with pytest.raises(SamplingError, match="no room for all 1 molecules"):
        explore("random", ANY, [METHANE], count=1, molecules=1, box_A=[2.4, 9.0, 9.0], tries=50)


def test_a_cluster_and_an_open_box() -> None:
    for options in ({"radius_A": 5.0}, {"box_A": 9.0, "pbc": False}):
        frames = explore("random", ANY, [WATER], count=30, molecules=5, **options).frames
        assert not any(frame.periodic for frame in frames)
        assert min(between_molecules(frame, 3) for frame in frames) >= 1.8 - 1e-5
        centres = np.array([frame.positions.reshape(5, 3, 3).mean(1) for frame in frames]).reshape(-1, 3)
        if "radius_A" in options:
            assert 4.5 < np.linalg.norm(centres, axis=1).max() <= 5.0 + 1e-5
        else:
            assert -1e-5 <= centres.min() < 0.7 and 8.3 < centres.max() <= 9.0 + 1e-5


def test_places_and_orientations_are_uniform() -> None:
    frames = explore("random", ANY, [WATER], count=1500, molecules=1, radius_A=4.0).frames
    x = np.array([frame.positions for frame in frames])
    radius = np.linalg.norm(x.mean(1), axis=1)
    assert ((radius / 4.0) ** 3).mean() == pytest.approx(0.5, abs=4 * 0.289 / np.sqrt(1500))
    axis = x[:, 1:].mean(1) - x[:, 0]
    axis /= np.linalg.norm(axis, axis=1)[:, None]
    normal = np.cross(x[:, 1] - x[:, 0], x[:, 2] - x[:, 0])
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    for directions in (axis, normal):
        assert directions.mean(0) == pytest.approx(np.zeros(3), abs=4 * np.sqrt(1 / 3 / 1500))
        assert directions.T @ directions / 1500 == pytest.approx(np.eye(3) / 3, abs=4 * 0.3 / np.sqrt(1500))


def test_mixtures_have_their_composition_charge_and_spin() -> None:
    starts = [METHANE, WATER, CATION]
    pool = explore("random", ANY, starts, count=3, molecules={"H2O": 3, "CH4": 2, "NH3": 2}, radius_A=8.0)
    for frame in pool.frames:
        assert Counter(frame.numbers.tolist()) == {1: 20, 8: 3, 6: 2, 7: 2}
        assert (frame.charge, frame.multiplicity) == (2, 3)
    mixed = {
        frame.formula for frame in explore("random", ANY, starts, count=30, molecules=2, radius_A=8.0).frames
    }
    assert len(mixed) == 6  # any of the starts: all pairs of three occur


def test_crystals_have_their_composition_volume_and_distances() -> None:
    options = {"composition": {"Cu": 3, "Au": 1}, "volume_A3_per_atom": [14.0, 20.0]}
    frames = explore("random", ANY, [], count=60, **options).frames
    volumes = np.array([abs(np.linalg.det(frame.cell)) for frame in frames]) / 4
    assert 14 - 1e-3 <= volumes.min() < 15.5 and 18.5 < volumes.max() <= 20 + 1e-3
    assert {frame.formula for frame in frames} == {"Cu3Au"} and all(frame.pbc.all() for frame in frames)
    assert min(map(closest_of, frames)) >= 0.8 - 1e-5
    near = explore("random", ANY, [], count=60, **options, min_distance_fraction=0.3).frames
    assert min(map(closest_of, near)) < 0.8


def test_cells_are_neither_flat_nor_always_the_same() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        cell = random_cell(30.0, rng)
        lengths = np.linalg.norm(cell, axis=1)
        assert abs(np.linalg.det(cell)) == pytest.approx(30.0) and lengths.max() <= 2 * lengths.min()
        assert abs(np.linalg.det(cell)) >= 0.4 * lengths.prod()


def test_same_seed_same_frames() -> None:
    ids = [
        [f.id for f in explore("random", ANY, [WATER], seed=s, count=4, molecules=3, radius_A=5).frames]
        for s in (1, 1, 2)
    ]
    assert ids[0] == ids[1] and not set(ids[0]) & set(ids[2])


@pytest.mark.parametrize(
    "options",
    [
        {}, {"molecules": 3}, {"molecules": 3, "box_A": 9, "radius_A": 4}, {"molecules": 3, "volume_A3_per_atom": 9},
        {"molecules": {}, "box_A": 9}, {"molecules": {"Xq": 1}, "box_A": 9}, {"molecules": 0, "box_A": 9},
        {"molecules": 2, "box_A": [5, 5]}, {"molecules": 2, "box_A": 9, "charge": 1}, {"composition": {"Cu": 1}},
        {"composition": {"Cx": 1}, "volume_A3_per_atom": 9}, {"composition": {}, "volume_A3_per_atom": 9},
        {"composition": {"Cu": 1}, "volume_A3_per_atom": 9, "molecules": 1, "box_A": 9},
        {"composition": {"Cu": 1}, "volume_A3_per_atom": 9, "box_A": 9},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        explore("random", ANY, [WATER], count=2, **options)


def test_what_cannot_be_placed_is_refused_in_one_line() -> None:
    box = {"molecules": 2, "box_A": 9.0}
    crystal = {"composition": {"Ag": 2}, "volume_A3_per_atom": 20.0}
    for words, starts, options in (
        ("no frame to start from", [], box),
        (r"does not know the elements Z = \[47\]", [], crystal),
        (r"\(Cu\) is periodic; only molecules can be placed", [Frame.from_atoms(bulk("Cu"))], box),
        ("no start is a CO2; there are H2O", [WATER], box | {"molecules": {"CO2": 1}}),
        ("no room for all 99 molecules of frame 0", [WATER], box | {"molecules": 99, "tries": 20}),
        (
            "a larger volume_A3_per_atom",
            [],
            {"composition": {"Cu": 4}, "volume_A3_per_atom": 3.0, "tries": 20},
        ),
    ):
        with pytest.raises(SamplingError, match=words) as caught:
            explore("random", ANY, starts, count=2, **options)
        assert "\n" not in str(caught.value)
