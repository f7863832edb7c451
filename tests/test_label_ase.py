"""The labeler `ase`: any calculator, with whatever it offers, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from alfw.core.errors import InputError, UnknownLabelError
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Attempt, Resources
from alfw.labelers.ase import ASELabeler

WATER = Frame.from_atoms(molecule("H2O"))
COPPER = Frame.from_atoms(bulk("Cu", cubic=True))


class Toy(Calculator):
    """Offers everything, has what it is told to, and litters."""

    implemented_properties = ["energy", "free_energy", "forces", "stress", "dipole", "charges"]

    def __init__(self, missing: list[str] | None = None, fail: str = "", **more: float) -> None:
        super().__init__()
        self.missing, self.fail, self.more = missing or [], fail, more

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        mine, litter = str(self.atoms.positions), Path("litter")
        if self.fail or (litter.exists() and litter.read_text() != mine):
            raise RuntimeError(self.fail or "found the litter of another frame")
        litter.write_text(mine)
        for name in properties:
            if name in self.missing:
                raise PropertyNotImplementedError(name)
        n = len(self.atoms)
        everything = {
            **{"energy": -1.0, "free_energy": -2.0, "forces": np.ones((n, 3)), "stress": np.arange(6.0)},
            **{"dipole": np.array([0.0, 0.0, 0.5]), "charges": np.full(n, 0.1)},
        }
        self.results = {k: v for k, v in everything.items() if k not in self.missing}


def toy(**options):
    return ASELabeler(calculator=f"{__name__}:Toy", kwargs=options, reads_charge=True)


def test_everything_that_is_offered_and_means_something(tmp_path):
    found = label(toy(), WATER, tmp_path / "a", Resources())
    assert (found.energy, found.stress, found.s_squared) == (-2.0, None, None)  # the free energy
    np.testing.assert_array_equal(found.dipole, [0, 0, 0.5])
    np.testing.assert_array_equal(found.charges, [0.1] * 3)
    crystal = label(toy(), COPPER, tmp_path / "b", Resources())
    np.testing.assert_array_equal(crystal.stress, [[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    assert crystal.dipole is None
    ion = label(
        toy(), Frame(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 1]], charge=-1), tmp_path / "c", Resources()
    )
    assert ion.dipole is None


def test_what_is_offered_and_not_there_is_left_out(tmp_path):
    missing = toy(missing=["dipole", "stress", "charges", "free_energy"])
    found = label(missing, WATER, tmp_path / "a", Resources())
    assert (found.energy, found.dipole, found.charges) == (-1.0, None, None)
    assert label(missing, COPPER, tmp_path / "b", Resources()).stress is None
    with pytest.raises(InputError, match="forces"):
        label(toy(missing=["forces"]), WATER, tmp_path / "c", Resources())


def test_files_of_one_frame_do_not_meet_those_of_the_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, frame in {"a": WATER, "b": WATER.moved(WATER.positions + 1.0)}.items():
        label(toy(), frame, Path(name), Resources())
        assert (tmp_path / name / "litter").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"} and Path.cwd() == tmp_path
    with pytest.raises(UnknownLabelError, match="boom"):
        label(toy(fail="boom"), WATER, Path("c"), Resources())
    assert Path.cwd() == tmp_path


def test_another_guess_is_none_of_its_business(tmp_path):
    labeler = toy()
    run = labeler.run(WATER, tmp_path / "a", Resources(), Attempt(other_guess=True))
    assert labeler.parse(WATER, run).energy == -2.0
