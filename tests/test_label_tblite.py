"""tblite: another first guess for suspect labels, and remedies that change the theory only where they may."""

import numpy as np
import pytest
from ase.build import molecule

from alfw.core.errors import GeometryError, NotConvergedError
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Attempt, Resources
from alfw.labelers import _tblite
from alfw.labelers.tblite import TBLiteLabeler

WATER = Frame.from_atoms(molecule("H2O"))
CHROMIUM = Frame(numbers=[24, 24], positions=[[0, 0, 0], [0, 0, 2.2]])
COLD = TBLiteLabeler(electronic_temperature_K=1.0)  # degenerate orbitals: this dimer's SCF never settles
ALLOWED = COLD.model_copy(update={"allow_theory_changes": True})


@pytest.fixture
def computed(monkeypatch):
    """The settings of every single point, in order."""
    seen = []
    compute = _tblite.compute

    def recorded(frame, settings):
        seen.append(dict(settings))
        return compute(frame, settings)

    monkeypatch.setattr(_tblite, "compute", recorded)
    return seen


def test_a_suspect_label_starts_from_another_guess(tmp_path, computed):
    tight = TBLiteLabeler(accuracy=0.01)
    first = tight.parse(WATER, tight.run(WATER, tmp_path, Resources()))
    other = tight.parse(WATER, tight.run(WATER, tmp_path, Resources(), Attempt(other_guess=True)))
    assert [settings.get("guess", 0) for settings in computed] == [0, 1]
    assert other.energy == pytest.approx(first.energy, abs=1e-7) and other.energy != first.energy


def test_the_other_guess_stays_through_the_remedies(tmp_path, computed):
    hard = TBLiteLabeler(max_iterations=3)
    run = hard.run(WATER, tmp_path, Resources(), Attempt(other_guess=True))
    assert [settings["guess"] for settings in computed] == [1, 1]
    assert [entry["errors"] for entry in run.corrections] == [["SCF_NOT_CONVERGED"]]


def test_without_permission_no_remedy_changes_the_theory(tmp_path, computed):
    run = COLD.run(CHROMIUM, tmp_path, Resources())
    assert {settings["electronic_temperature_K"] for settings in computed} == {1.0}
    assert run.changes == {}
    with pytest.raises(NotConvergedError, match="after 4 remedies"):
        COLD.parse(CHROMIUM, run)


def test_with_permission_the_label_says_what_was_changed(tmp_path):
    found = label(ALLOWED, CHROMIUM, tmp_path, Resources())
    assert found.changes == {"electronic_temperature_K": 1000.0}
    assert found.corrections[-1]["actions"] == [{"electronic_temperature_K": 1000.0}]
    # It is the label of that temperature.
    warm = label(TBLiteLabeler(electronic_temperature_K=1000.0), CHROMIUM, tmp_path, Resources())
    assert found.energy == pytest.approx(warm.energy, abs=1e-4)
    np.testing.assert_allclose(found.forces, warm.forces, atol=1e-2)


def test_a_frame_that_needs_no_remedy_is_not_changed(tmp_path):
    found = label(ALLOWED, WATER, tmp_path, Resources())
    assert found.changes == {} and found.corrections == []


def test_the_permission_makes_another_theory():
    assert ALLOWED.theory().id != COLD.theory().id
    assert "allowed_changes" in ALLOWED.theory().settings
    assert COLD.theory().settings == {
        "method": "GFN2-xTB",
        "accuracy": 1.0,
        "electronic_temperature_K": 1.0,
    }


@pytest.mark.parametrize(("distance", "refused"), [(0.29, True), (0.31, False)])
def test_atoms_closer_than_three_tenths_of_an_angstrom_are_refused(distance, refused, tmp_path):
    frame = Frame(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, distance]])
    run = COLD.run(frame, tmp_path, Resources())
    assert (run.files == {}) is refused
    if refused:
        with pytest.raises(GeometryError):
            COLD.parse(frame, run)
