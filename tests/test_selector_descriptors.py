"""Geometric descriptors of atomic environments: invariances, and what they see."""

from __future__ import annotations

import numpy as np
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from selector_pools import rattled

from alfw.core.frame import Frame
from alfw.selectors._descriptors import descriptors


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["CH3CH2OH", "H2O", "C6H6", "CH3SiH3"]))
def test_descriptors_ignore_rotation_reflection_translation_and_order(seed: int, name: str) -> None:
    (frame,) = rattled(name, 1, 0.1, seed)
    rng = np.random.default_rng(seed)
    turn = Rotation.random(rng=rng).as_matrix() * rng.choice([-1, 1])
    order = rng.permutation(len(frame))
    moved = Frame(frame.numbers[order], (frame.positions @ turn + rng.normal(size=3))[order])
    species = [1, 6, 8, 14]
    (a,), (b,) = descriptors([frame], species), descriptors([moved], species)
    assert np.allclose(a[order], b, atol=2e-4, rtol=1e-3)


def test_descriptors_of_a_supercell_are_those_of_the_cell() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.6)
    salt.rattle(0.1, seed=1)
    cell, supercell = Frame.from_atoms(salt), Frame.from_atoms(salt.repeat((2, 1, 2)))
    turn = Rotation.random(rng=0).as_matrix()
    turned = Frame(cell.numbers, cell.positions @ turn, cell.cell @ turn, cell.pbc)
    z, z_super, z_turned = descriptors([cell, supercell, turned], [11, 17])
    assert np.allclose(np.tile(z, (4, 1)), z_super, atol=1e-5)
    assert np.allclose(z, z_turned, atol=1e-3)


def test_descriptors_see_elements_distances_and_angles() -> None:
    def water(angle: float, oxygen: int = 8, distance: float = 0.96) -> Frame:
        a = np.radians(angle)
        return Frame(
            np.array([oxygen, 1, 1]), distance * np.array([[0, 0, 0], [1, 0, 0], [np.cos(a), np.sin(a), 0]])
        )

    species = [1, 8, 16]
    z = [rows[0] for rows in descriptors([water(104), water(100), water(104, distance=0.99)], species)]
    assert np.abs(z[0] - z[1]).max() > 0.01
    assert np.abs(z[0] - z[2]).max() > 0.01
    hydrogens = [rows[1] for rows in descriptors([water(104), water(104, oxygen=16)], species)]
    assert np.abs(hydrogens[0] - hydrogens[1]).max() > 0.1


def test_descriptors_do_not_depend_on_the_company() -> None:
    frames = rattled("CH3CH2OH", 900, 0.05, 0) + rattled("H2O", 3, 0.05, 1)  # several batches
    together = descriptors(frames, [1, 6, 8])
    for i in (0, 700, 902):
        assert np.array_equal(together[i], descriptors([frames[i]], [1, 6, 8])[0])


def test_a_lone_atom_has_an_empty_environment() -> None:
    (z,) = descriptors([Frame(np.array([2]), np.zeros((1, 3)))], [2])
    assert z.shape == (1, 19)
    assert not z.any()
