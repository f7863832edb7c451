"""Frames from and to files: nothing is lost, and what cannot be used is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from data_sets import assert_same, imported
from hypothesis import given, settings
from hypothesis import strategies as st

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.records import Label
from alfw.core.units import DEBYE_eA, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A
from alfw.io.frames import VACUUM_A, Imported, expand_paths, read_frames, write_extxyz
from alfw.io.shards import pack, unpack
from alfw.io.training_npz import read_training_npz, write_training_npz


@settings(max_examples=60, deadline=None)
@given(st.lists(imported(esp=False), min_size=1, max_size=3))
def test_text_gives_back_every_id_and_number(
    tmp_path_factory: pytest.TempPathFactory, items: list[Imported]
) -> None:
    path = tmp_path_factory.mktemp("xyz") / "frames.extxyz"
    write_extxyz(path, items)
    for item, again in zip(items, read_frames(path), strict=True):
        assert_same(item, again)


@settings(max_examples=60, deadline=None)
@given(st.lists(imported(), min_size=1, max_size=3))
def test_npz_gives_back_every_id_and_number(
    tmp_path_factory: pytest.TempPathFactory, items: list[Imported]
) -> None:
    path = tmp_path_factory.mktemp("npz") / "frames.npz"
    write_training_npz(path, items)
    for item, again in zip(items, read_frames(path), strict=True):
        assert_same(item, again)


@settings(max_examples=40, deadline=None)
@given(st.lists(imported().map(lambda item: item.frame), max_size=4))
def test_shards_give_back_every_frame_and_array(frames: list[Frame]) -> None:
    n_atoms = sum(len(frame) for frame in frames)
    arrays_in = {
        "temperature_K": np.arange(len(frames), dtype=float),
        "atoms_features": np.ones((n_atoms, 2), np.float32),
    }
    data = pack(frames, **arrays_in)
    assert data == pack(frames, **arrays_in)
    again, arrays_out = unpack(data)
    assert [f.id for f in again] == [f.id for f in frames]
    assert all(np.array_equal(a.masses, b.masses) for a, b in zip(again, frames, strict=True))
    assert arrays_out.keys() == arrays_in.keys()
    assert all(np.array_equal(arrays_out[k], arrays_in[k]) for k in arrays_in)


@pytest.mark.parametrize(
    "arrays_in", [{"x": [1, 2]}, {"atoms_x": [1]}, {"x": np.array([None])}, {"frame_x": [1]}, {"x": 1.0}]
)
def test_shards_refuse_what_does_not_fit(arrays_in: dict) -> None:
    with pytest.raises(ValueError, match="shard array"):
        pack([Frame.from_atoms(molecule("H2O"))], **arrays_in)


def test_what_is_no_shard_is_refused() -> None:
    with pytest.raises(DataError, match="not a shard"):
        unpack(b"nonsense")


# ------------------------------------------------------------------------------------------------- files of others


def test_labels_of_ase_files(tmp_path: Path) -> None:
    copper = bulk("Cu", cubic=True)
    copper.rattle(0.1, seed=0)
    copper.set_constraint(FixAtoms([0]))
    copper.calc = EMT()
    copper.get_stress()
    for name in ("a.traj", "a.extxyz"):
        ase.io.write(tmp_path / name, copper)
        (item,) = read_frames(tmp_path / name)
        assert item.label is not None
        assert item.frame.fixed is not None
        assert item.label.energy == pytest.approx(copper.get_potential_energy(), abs=1e-8)
        # raw forces, also on the fixed atom
        assert np.allclose(item.label.forces, copper.get_forces(apply_constraint=False), atol=1e-7)
        assert np.allclose(item.label.stress, copper.get_stress(voigt=False), atol=1e-8)


def test_the_force_consistent_energy_wins(tmp_path: Path) -> None:
    water = molecule("H2O")
    water.calc = SinglePointCalculator(water, energy=-1.0, free_energy=-2.0, forces=np.zeros((3, 3)))
    ase.io.write(tmp_path / "a.traj", water)
    (item,) = read_frames(tmp_path / "a.traj")
    assert item.label is not None
    assert item.label.energy == -2.0


def test_virial_becomes_stress(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(
        '1\nLattice="2 0 0 0 2 0 0 0 2" Properties=species:S:1:pos:R:3:forces:R:3 energy=1 virial="8 0 0 0 8 0 0 0 8"\n'
        "Cu 0 0 0 0 0 0\n"
    )
    (item,) = read_frames(tmp_path / "a.xyz")
    assert item.label is not None
    assert np.allclose(item.label.stress, -np.eye(3))


def test_energy_without_forces_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\nenergy=1.0 split=val trajectory=md1\nHe 0 0 0\n")
    (item,) = read_frames(tmp_path / "a.xyz", charge=1, multiplicity=2)
    assert item.label is None
    assert (item.side, item.trajectory) == ("valid", "md1")
    assert (item.frame.charge, item.frame.multiplicity) == (1, 2)


def test_own_charge_wins_over_the_default(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\ncharge=-1\nHe 0 0 0\n")
    assert read_frames(tmp_path / "a.xyz", charge=1)[0].frame.charge == -1


def test_poscar(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "POSCAR", bulk("NaCl", "rocksalt", a=5.6), format="vasp")
    (item,) = read_frames(tmp_path / "POSCAR")
    assert item.frame.pbc.all()
    assert item.label is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xyz", "1\n\nHe 0 0 0\n1\n\nHe nan 0 0\n", "a.xyz frame 1: .*finite"),
        ("a.xyz", "1\n\nHe 0 0 0\n1\n\nHe inf 0 0\n", "a.xyz frame 1: .*finite"),
        ("a.xyz", "1\nsplit=holdout\nHe 0 0 0\n", "a.xyz frame 0: unknown split 'holdout'"),
        ("a.xyz", "1\ncharge=0.5\nHe 0 0 0\n", "a.xyz frame 0: charge 0.5"),
        (
            "a.xyz",
            "1\nenergy=nan Properties=species:S:1:pos:R:3:forces:R:3\nHe 0 0 0 0 0 0\n",
            "energy is not finite",
        ),
        ("a.xyz", "3\n\nHe 0 0 0\n", "cannot be read"),
        ("a.xyz", "", "cannot be read|no frames"),
        ("a.npz", "not a zip", "cannot be read as NPZ"),
        ("a.what", "?", "cannot be read"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_frames(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_file() -> None:
    with pytest.raises(DataError, match="nowhere.xyz: no such file"):
        read_frames("nowhere.xyz")


# -------------------------------------------------------------------------------------------------- partial periodicity


def _write(path: Path, atoms: Atoms) -> Path:
    atoms.info = {}
    ase.io.write(path, atoms, format="extxyz")
    return path


def test_slabs_are_refused_unless_told(tmp_path: Path) -> None:
    path = _write(tmp_path / "slab.xyz", fcc111("Cu", (2, 2, 3), vacuum=2.0))
    with pytest.raises(DataError, match="slab.xyz frame 0: .*partial_pbc: vacuum"):
        read_frames(path)


@pytest.mark.parametrize("vacuum", [None, 2.0, 12.0])
def test_vacuum_is_added_where_there_is_too_little(tmp_path: Path, vacuum: float | None) -> None:
    slab = fcc111("Cu", (2, 2, 3), vacuum=vacuum)
    path = _write(tmp_path / "slab.xyz", slab)
    frame = read_frames(path, partial_pbc="vacuum")[0].frame
    assert frame.pbc.all()
    assert np.allclose(frame.cell[:2], slab.cell[:2], atol=1e-6)
    gap = frame.cell[2, 2] - np.ptp(frame.positions[:, 2])
    assert gap == pytest.approx(VACUUM_A if vacuum != 12.0 else 24.0, abs=1e-5)


def test_vacuum_around_a_wire(tmp_path: Path) -> None:
    wire = Atoms("Au2", [[0, 0, 0], [1, 2, 1.4]], cell=[0, 0, 2.8], pbc=[False, False, True])
    frame = read_frames(_write(tmp_path / "w.xyz", wire), partial_pbc="vacuum")[0].frame
    assert frame.pbc.all()
    heights = [
        abs(np.linalg.det(frame.cell)) / np.linalg.norm(np.cross(frame.cell[i - 2], frame.cell[i - 1]))
        for i in (0, 1)
    ]
    assert heights == pytest.approx([11.0, 12.0], abs=1e-5)


# ------------------------------------------------------------------------------------------------------------ paths


def test_paths_from_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.xyz", "a.xyz", "c.traj", ".hidden", "d[1].xyz"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    names = lambda *patterns: [p.name for p in expand_paths(patterns)]  # noqa: E731
    assert names(tmp_path / "*.xyz") == ["a.xyz", "b.xyz", "d[1].xyz"]
    assert names(tmp_path) == ["a.xyz", "b.xyz", "c.traj", "d[1].xyz"]
    assert names(tmp_path / "d[1].xyz", tmp_path / "a.xyz", tmp_path / "a*") == ["a.xyz", "d[1].xyz"]
    for nothing in (tmp_path / "*.nope", tmp_path / "sub"):
        with pytest.raises(DataError, match="no such file"):
            expand_paths([nothing])


# -------------------------------------------------------------------------------------------------------------- NPZ


def _padded_npz(path: Path, **extra: object) -> Path:
    water = molecule("H2O")
    positions, numbers = np.zeros((2, 5, 3)), np.zeros((2, 5), int)
    positions[:, :3], numbers[:, :3] = water.positions, water.numbers
    content = {
        "R": positions,
        "Z": numbers,
        "E": np.array([[-1.0], [-2.0]]),
        "F": np.ones((2, 5, 3)),
        "D": np.ones((2, 3)),
    }
    np.savez(path, **(content | extra))  # type: ignore[arg-type]
    return path


def test_npz_of_the_two_conventions(tmp_path: Path) -> None:
    path = _padded_npz(tmp_path / "a.npz")
    with pytest.raises(DataError, match="eV or hartree"):
        read_training_npz(path)
    in_ev, in_hartree = read_training_npz(path, units="eV"), read_training_npz(path, units="hartree")
    assert [len(item.frame) for item in in_ev] == [3, 3]
    assert [item.label.energy for item in in_ev if item.label] == [-1.0, -2.0]
    label = in_hartree[1].label
    assert label is not None
    assert label.energy == pytest.approx(-2 * HARTREE_eV)
    assert label.forces[0, 0] == pytest.approx(HARTREE_PER_BOHR_eV_PER_A)
    assert label.dipole is not None
    assert label.dipole[0] == pytest.approx(DEBYE_eA)


def test_npz_units_of_the_file_win(tmp_path: Path) -> None:
    path = _padded_npz(tmp_path / "a.npz", units=np.array('{"E": "Hartree", "F": "eV/Angstrom"}'))
    label = read_training_npz(path, units="eV")[0].label
    assert label is not None
    assert label.energy == pytest.approx(-HARTREE_eV)
    with pytest.raises(DataError, match="unit 'kcal/mol' of E"):
        read_training_npz(_padded_npz(tmp_path / "b.npz", units=np.array('{"E": "kcal/mol"}')))


def test_npz_is_never_unpickled(tmp_path: Path) -> None:
    path = _padded_npz(tmp_path / "a.npz", units=np.array({"E": "eV"}, dtype=object))
    with pytest.raises(DataError, match="without `units`"):
        read_training_npz(path)
    np.savez(tmp_path / "b.npz", R=np.array([None]), Z=np.array([[1]]))
    with pytest.raises(DataError, match="no key R"):
        read_training_npz(tmp_path / "b.npz")


def test_training_sets_hold_labels_only(tmp_path: Path) -> None:
    item = Imported(Frame.from_atoms(molecule("H2O")))
    with pytest.raises(DataError, match="no label"):
        write_training_npz(tmp_path / "a.npz", [item])
    with pytest.raises(DataError, match="no frames"):
        write_training_npz(tmp_path / "a.npz", [])


def test_partial_dipoles_stay_partial(tmp_path: Path) -> None:
    frame = Frame.from_atoms(molecule("H2O"))
    label = Label(-1.0, np.zeros((3, 3)), dipole=np.ones(3))
    items = [Imported(frame, label), Imported(frame, replace(label, dipole=None))]
    write_training_npz(tmp_path / "a.npz", items)
    again = [item.label for item in read_training_npz(tmp_path / "a.npz")]
    assert again[0] is not None and again[0].dipole is not None
    assert again[1] is not None and again[1].dipole is None
