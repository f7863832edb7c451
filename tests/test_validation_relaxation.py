"""Relaxations from the minima of EMT: with EMT itself, and with models that are wrong in a known way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.records import Label, Labeled
from alfw.labelers.ase import ASELabeler
from alfw.models.ase import ASEModel
from alfw.steps.validation.bonds import pieces
from alfw.steps.validation.curves import strained
from alfw.steps.validation.relaxation import Relaxations, compared

WIDER = 1.01


def model(calculator: str = "ase.calculators.emt:EMT", **kwargs: Any) -> Potential:
    return ASEModel(calculator=calculator, kwargs=kwargs).load([Path("none")])


def labelled(frame: Frame) -> Labeled:
    atoms = frame.to_atoms()
    atoms.calc = EMT()
    stress = atoms.get_stress(voigt=False) if frame.periodic else None
    return Labeled(
        frame, Label(atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False), stress=stress)
    )


def minimum(atoms: Atoms) -> Labeled:
    atoms.calc = EMT()
    target = FrechetCellFilter(atoms) if atoms.pbc.all() and not atoms.constraints else atoms
    BFGS(target, logfile=None).run(fmax=1e-4)
    return labelled(Frame.from_atoms(atoms))


@pytest.fixture(scope="module")
def minima() -> list[Labeled]:
    """Water and a cubic cell of copper, and two frames that are none: water bent, copper compressed."""
    water, copper = minimum(molecule("H2O")), minimum(bulk("Cu", cubic=True))
    bent = labelled(water.frame.moved(water.frame.positions + [[0, 0, 0], [0, 0.1, 0], [0, 0, 0]]))
    return [water, bent, copper, labelled(strained(copper.frame, [0.9])[0])]


def test_a_model_that_is_the_reference_stays_where_it_is(minima: list[Labeled]) -> None:
    said = Relaxations().run(model(), minima)
    assert [one["index"] for one in said["structures"]] == [0, 2]
    assert said["n_minima"] == said["n_relaxed"] == said["n_converged"] == 2
    assert said["n_connectivity_changed"] == 0 and said["max_displacement_A"]["largest"] < 1e-6
    assert [one["cell"] for one in said["structures"]] == ["none", "relaxed"]
    assert [one["n_steps"] for one in said["structures"]] == [0, 0]
    assert [one["energy_change_eV_per_atom"] for one in said["structures"]] == [0, 0]


def test_a_model_that_is_one_percent_too_wide_is_found_so(minima: list[Labeled], tmp_path: Path) -> None:
    emt = ASELabeler(calculator="ase.calculators.emt:EMT")
    said = Relaxations(fmax_eV_per_A=1e-4).run(
        model("wrong_calculators:Swollen", factor=WIDER), minima, labeler=emt, workdir=tmp_path
    )
    water, copper = said["structures"]
    assert said["n_converged"] == 2 and water["n_steps"] > 0 and water["energy_change_eV_per_atom"] < 0
    x = minima[0].frame.positions
    lengths = [np.linalg.norm(x[i] - x[0]) for i in (1, 2)]
    assert water["max_bond_change_A"] == pytest.approx((WIDER - 1) * max(lengths), abs=1e-4)
    away = (WIDER - 1) * np.linalg.norm(x - x.mean(0), axis=1)
    assert water["rmsd_A"] == pytest.approx(np.sqrt(np.mean(away**2)), abs=1e-4)
    assert water["max_displacement_A"] == pytest.approx(away.max(), abs=3e-4)
    assert copper["volume_change_percent"] == pytest.approx(100 * (WIDER**3 - 1), abs=0.01)
    assert copper["rmsd_A"] == pytest.approx(0, abs=1e-5)  # what the cell does is taken out
    # the reference at the minima of the model: computed here from where they are known to be
    cell = minima[2].frame
    there = labelled(cell.moved(cell.positions * WIDER, cell.cell * WIDER))
    rise = (there.label.energy - minima[2].label.energy) / 4
    assert copper["reference_energy_eV_per_atom"] == pytest.approx(rise, rel=0.01) and rise > 1e-3
    wide = labelled(minima[0].frame.moved(x * WIDER))
    assert water["reference_max_force_eV_per_A"] == pytest.approx(
        np.linalg.norm(wide.label.forces, axis=1).max(), rel=0.01
    )


def test_strained_cells_are_no_minima_though_their_atoms_are_at_rest(minima: list[Labeled]) -> None:
    series = [labelled(frame) for frame in strained(minima[2].frame)]
    kept = Relaxations().minima(series)
    assert [i for i, *_ in kept] == [3]  # the unstrained one
    bare = [Labeled(item.frame, Label(item.label.energy, item.label.forces)) for item in series]
    assert not Relaxations().minima(bare)  # without stresses nobody can tell
    assert len(Relaxations(reference_fmax_eV_per_A=None).minima(bare)) == 7  # given as minima
    one = Relaxations().run(model(), bare[3:4])["structures"][0]
    assert one["cell"] == "kept" and one["volume_change_percent"] is None


def test_fixed_atoms_stay_and_count_nowhere() -> None:
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
    slab.set_constraint(FixAtoms(mask=slab.get_tags() > 1))
    item = minimum(slab)
    assert np.linalg.norm(item.label.forces[item.frame.fixed], axis=1).max() > 0.06  # not at rest
    (one,) = Relaxations(fmax_eV_per_A=1e-3).run(model("wrong_calculators:Swollen", factor=WIDER), [item])[
        "structures"
    ]
    assert one["cell"] == "kept" and one["converged"]
    assert one["max_displacement_A"] == pytest.approx(one["rmsd_A"], rel=1e-3) and one["rmsd_A"] > 0.02


def test_only_so_many_are_relaxed_and_what_goes_wrong_is_said(minima: list[Labeled]) -> None:
    water = minima[0]
    many = [labelled(water.frame.moved(water.frame.positions + [i, 0, 0])) for i in range(9)]
    said = Relaxations(max_frames=3).run(model(), many)
    assert said["n_minima"] == 9 and [one["index"] for one in said["structures"]] == [0, 4, 8]
    swollen = model("wrong_calculators:Swollen", factor=1.1)
    (one,) = Relaxations(max_steps=1).run(swollen, [water])["structures"]
    assert not one["converged"] and one["problem"] == "not converged in 1 steps" and one["n_steps"] == 1
    broken = model("wrong_calculators:Broken", reach_A=0.01)
    bent = Labeled(minima[1].frame, water.label)
    said = Relaxations().run(broken, [bent])
    assert said["n_converged"] == 0 and said["rmsd_A"] is None
    assert "not finite after" in said["structures"][0]["problem"]


def test_where_and_how_a_molecule_lies_is_no_difference_but_its_hand_is() -> None:
    atoms = Atoms("CHFClBr", [[0, 0, 0], [0, 0, 1.09], [1.3, 0, -0.4], [-0.8, 1.5, -0.5], [-0.9, -1.6, -0.6]])
    start = Frame.from_atoms(atoms)
    atoms.rotate(77, (1, -2, 3))
    atoms.translate([3, 4, 5])
    same = compared(start, Frame.from_atoms(atoms))
    assert same["max_displacement_A"] < 1e-5 and not same["connectivity_changed"]
    mirrored = compared(start, start.moved(start.positions * [1, -1, 1]))
    assert mirrored["rmsd_A"] > 0.3 and mirrored["max_bond_change_A"] < 1e-5
    wide = Frame.from_atoms(Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]))
    stretched = compared(wide, wide.moved(wide.positions * 1.1))
    assert (stretched["rmsd_A"], stretched["max_bond_change_A"]) == pytest.approx((0.055, 0.11))


def test_bonds_that_break_and_form_are_named() -> None:
    start = Frame.from_atoms(molecule("CH3OH"))
    atoms = start.to_atoms()
    oxygen, hydrogen = 1, 3  # of the hydroxyl group
    assert atoms.get_distance(oxygen, hydrogen) < 1
    atoms.set_distance(oxygen, hydrogen, 2.5, fix=0)
    gone = compared(start, Frame.from_atoms(atoms))
    assert [sorted(bond) for bond in gone["bonds_broken"]] == [[oxygen, hydrogen]]
    assert gone["connectivity_changed"] and gone["max_bond_change_A"] == pytest.approx(1.53, abs=0.01)
    assert (pieces(start), pieces(Frame.from_atoms(atoms))) == (1, 2)
    assert pieces(Frame.from_atoms(bulk("Cu"))) == 1  # held together by its own images
    cell = Frame.from_atoms(bulk("Cu", cubic=True))
    wrapped = compared(cell, cell.moved(cell.positions + cell.cell[0] / 2))
    assert wrapped["max_displacement_A"] < 1e-6 and not wrapped["connectivity_changed"]
