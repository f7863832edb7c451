"""Frames, ids, neighbours, uncertainty, the door for plug-ins."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLength
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alfw.core import registry
from alfw.core.errors import DataError, PluginError
from alfw.core.frame import Frame
from alfw.core.ids import canonical_bytes, content_id, derive_seed
from alfw.core.neighbours import neighbours
from alfw.core.records import Theory
from alfw.core.uncertainty import force_std, frame_force_std

coordinates = st.floats(-50, 50, allow_nan=False)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    n = draw(st.integers(1, 5))
    numbers = draw(st.lists(st.integers(1, 92), min_size=n, max_size=n))
    positions = draw(arrays(np.float64, (n, 3), elements=coordinates))
    periodic = draw(st.booleans())
    cell = 10 * np.eye(3) + draw(arrays(np.float64, (3, 3), elements=st.floats(-1, 1)))
    return Frame(
        numbers=np.array(numbers),
        positions=positions,
        cell=cell if periodic else np.zeros((3, 3)),
        pbc=np.full(3, periodic),
        charge=draw(st.integers(-3, 3)),
        multiplicity=draw(st.integers(1, 5)),
        fixed=np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))),
    )


# ---------------------------------------------------------------------------------------------------------- frames


@settings(max_examples=60, deadline=None)
@given(frames())
def test_ase_gives_the_frame_back(frame: Frame) -> None:
    again = Frame.from_atoms(frame.to_atoms())
    assert again.id == frame.id


@settings(max_examples=60, deadline=None)
@given(frames(), st.floats(-4.9e-7, 4.9e-7))
def test_noise_below_the_rounding_keeps_the_id(frame: Frame, noise: float) -> None:
    assert frame.moved(frame.positions + noise).id == frame.id
    assert frame.moved(frame.positions + 2e-6).id != frame.id


def test_minus_zero_is_zero() -> None:
    plus = Frame(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 0.74]]))
    minus = Frame(np.array([1, 1]), np.array([[-0.0, -1e-9, 0], [0, -0.0, 0.74]]))
    assert plus.id == minus.id
    assert canonical_bytes(np.array([-0.0])) == canonical_bytes(np.array([0.0]))


def test_the_order_of_atoms_is_part_of_the_id() -> None:
    water = Frame.from_atoms(molecule("H2O"))
    order = np.array([1, 0, 2])
    assert Frame(water.numbers[order], water.positions[order]).id != water.id


@pytest.mark.parametrize(
    "other",
    [
        {"charge": 1},
        {"multiplicity": 3},
        {"fixed": np.array([True, False, False])},
        {"moments": np.array([0.5, 0, 0])},
        {"cell": 9 * np.eye(3), "pbc": np.ones(3, bool)},
    ],
)
def test_what_changes_the_energy_changes_the_id(other: dict) -> None:
    water = molecule("H2O")
    assert Frame(water.numbers, water.positions, **other).id != Frame(water.numbers, water.positions).id


def test_masses_and_empty_marks_do_not_change_the_id() -> None:
    water = molecule("H2O")
    plain = Frame(water.numbers, water.positions)
    heavy = Frame(water.numbers, water.positions, masses=np.array([16.0, 2.014, 2.014]))
    unmarked = Frame(water.numbers, water.positions, fixed=np.zeros(3, bool), moments=np.zeros(3))
    boxed = Frame(
        water.numbers, water.positions, cell=20 * np.eye(3)
    )  # a cell without periodicity means nothing
    assert plain.id == heavy.id == unmarked.id == boxed.id


def test_frames_are_read_only() -> None:
    water = Frame.from_atoms(molecule("H2O"))
    with pytest.raises(ValueError, match="read-only"):
        water.positions[0, 0] = 1.0


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "without atoms"),
        (Atoms("H", [[np.nan, 0, 0]]), "finite"),
        (Atoms("H", [[0, 0, 0]], pbc=True), "zero volume"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 1]], constraint=FixBondLength(0, 1)), "FixBondLength"),
    ],
)
def test_impossible_frames_are_refused(atoms: Atoms, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Frame.from_atoms(atoms)


def test_fixed_atoms_are_not_free() -> None:
    atoms = molecule("H2O")
    atoms.set_constraint(FixAtoms([0]))
    assert Frame.from_atoms(atoms).free.tolist() == [False, True, True]


# ------------------------------------------------------------------------------------------------------------- ids


def test_ids_do_not_depend_on_key_order_or_memory_layout() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert content_id("x", {"a": 1, "b": array}) == content_id("x", {"b": np.asfortranarray(array), "a": 1})
    assert content_id("x", {"a": array}) != content_id("y", {"a": array})
    assert content_id("x", {"a": array}) != content_id("x", {"a": array.ravel()})
    assert (
        Theory("pyscf", {"method": "PBE", "basis": "sto-3g"}).id
        == Theory("pyscf", dict(basis="sto-3g", method="PBE")).id
    )


@given(st.lists(st.one_of(st.integers(0, 99), st.text(max_size=5)), max_size=4))
def test_seeds_are_stable_and_in_range(parts: list) -> None:
    assert derive_seed(*parts) == derive_seed(*parts)
    assert 0 <= derive_seed(*parts) < 2**31


# ------------------------------------------------------------------------------------------------------ neighbours


def _pairs(i: np.ndarray, j: np.ndarray, lengths: np.ndarray) -> Counter:
    return Counter(zip(i.tolist(), j.tolist(), np.round(lengths, 5).tolist(), strict=True))


@pytest.mark.parametrize(
    "atoms",
    [
        molecule("CH3CH2OH"),
        bulk("Cu"),  # one atom, cell much smaller than the cutoff
        bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1)),
        Atoms(
            "H2O", [[0.1, 0, 0], [7.9, 0, 0], [4, 9, -3]], cell=[[8, 0, 0], [3, 7, 0], [1, 2, 6]], pbc=True
        ),
    ],
)
def test_neighbours_are_those_of_ase(atoms: Atoms) -> None:
    atoms.rattle(0.05, seed=1)
    frame = Frame.from_atoms(atoms)
    edges = neighbours(frame, 4.5)
    lengths = np.linalg.norm(edges.vectors(frame.positions, frame.cell), axis=1)
    i, j, d = neighbor_list("ijd", frame.to_atoms(), 4.5)
    assert _pairs(edges.receivers, edges.senders, lengths) == _pairs(i, j, d)
    assert (np.diff(edges.receivers) >= 0).all()


def test_partly_periodic_frames_have_no_neighbours() -> None:
    slab = Frame(np.array([29]), np.zeros((1, 3)), cell=np.diag([3, 3, 0]), pbc=np.array([True, True, False]))
    with pytest.raises(DataError, match="partial_pbc"):
        neighbours(slab, 4.0)


# ----------------------------------------------------------------------------------------------------- uncertainty


@given(arrays(np.float64, (4, 3, 3), elements=coordinates), arrays(np.float64, (3, 3), elements=coordinates))
def test_force_std_ignores_what_all_members_share(forces: np.ndarray, shift: np.ndarray) -> None:
    assert np.allclose(force_std(forces + shift), force_std(forces), atol=1e-6)
    assert np.allclose(force_std(2 * forces), 2 * force_std(forces))


def test_force_std_of_two_members_is_half_their_difference() -> None:
    forces = np.zeros((2, 2, 3))
    forces[1, 1] = [3.0, 4.0, 0.0]
    assert force_std(forces).tolist() == [0.0, 2.5]
    assert frame_force_std(forces, np.array([True, False])) == 0.0
    assert np.isnan(force_std(forces[:1])).all()


# -------------------------------------------------------------------------------------------------------- registry


def test_unknown_kinds_name_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match=r"unknown selector 'magic'; known: .*environments"):
        registry.plugin_class("alfw.selectors", "magic")
    monkeypatch.setattr(registry, "PLANNED", {"alfw.selectors": frozenset({"magic"})})
    with pytest.raises(PluginError, match="not available in this version"):
        registry.plugin_class("alfw.selectors", "magic")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="tblite", value="no_such_package.labels:L", group="alfw.labelers")
    monkeypatch.setattr(registry, "known", lambda group: {"tblite": entry})
    with pytest.raises(PluginError, match=r"'no_such_package': pip install 'alfw\[xtb\]'"):
        registry.plugin_class("alfw.labelers", "tblite")
    with pytest.raises(PluginError, match="no_such_package"):
        registry.private("no_such_package", "tblite")
