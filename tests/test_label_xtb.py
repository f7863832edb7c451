"""xtb: real runs against tblite and against differences of the energy; every bad output refused."""

from dataclasses import replace

import campaigns
import numpy as np
import pytest
from ase.build import molecule
from labelling import cuts, label_campaign, label_through_fireworks, needs
from pydantic import ValidationError

from alfw.core.errors import (
    DeckError,
    ExecutableError,
    LabelError,
)
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST, label
from alfw.core.records import Resources
from alfw.core.units import HARTREE_eV
from alfw.labelers import _program
from alfw.labelers.tblite import TBLiteLabeler
from alfw.labelers.xtb import PROGRAM, SCC, XTBLabeler

ETHANOL = Frame.from_atoms(molecule("CH3CH2OH"))
WATER = Frame.from_atoms(molecule("H2O"))
CATION = Frame(numbers=ETHANOL.numbers, positions=ETHANOL.positions + [1, -2, 3], charge=1, multiplicity=2)
IRON = Frame(
    numbers=[26] * 3, positions=[[-1.853, -0.795, -1.672], [-0.753, 1.216, -1.495], [-1.938, 1.4, 1.968]]
)
XTB = XTBLabeler()
TIGHT = XTBLabeler(accuracy=0.01)


@pytest.fixture
def real():
    needs("xtb")


SAME = [
    pytest.param(ETHANOL, "GFN2-xTB", id="ethanol"),
    pytest.param(ETHANOL, "GFN1-xTB", id="gfn1"),
    pytest.param(CATION, "GFN2-xTB", id="radical cation off the origin"),
]


@pytest.mark.parametrize(("frame", "method"), SAME)
def test_xtb_and_tblite_agree(real, frame, method, tmp_path):
    options = {"method": method, "accuracy": 0.01}
    here, there = (
        label(kind(**options), frame, tmp_path, Resources()) for kind in (XTBLabeler, TBLiteLabeler)
    )
    assert here.energy == pytest.approx(there.energy, abs=1e-6 * HARTREE_eV)
    np.testing.assert_allclose(here.forces, there.forces, atol=1e-4)
    np.testing.assert_allclose(here.dipole, there.dipole, atol=1e-4)
    np.testing.assert_allclose(here.charges, there.charges, atol=1e-4)
    assert here.version == "xtb 6.5.1" and here.s_squared is None


@pytest.mark.parametrize("options", [{}, {"solvent": "Water"}], ids=["vacuum", "water"])
def test_forces_are_minus_the_gradient_of_the_energy(real, options, tmp_path):
    labeler = XTBLabeler(accuracy=0.001, **options)
    step = 2e-3 * np.random.default_rng(0).normal(size=(len(CATION), 3))
    up, here, down = (
        label(labeler, CATION.moved(CATION.positions + sign * step), tmp_path, Resources())
        for sign in (1, 0, -1)
    )
    move = CATION.moved(CATION.positions + step).positions - CATION.moved(CATION.positions - step).positions
    assert up.energy - down.energy == pytest.approx(-np.sum(here.forces * move), rel=1e-3, abs=1e-6)


def test_a_solvent_changes_energy_and_theory(real, tmp_path):
    wet = XTBLabeler(solvent="water")
    assert wet.theory().id == XTBLabeler(solvent="Water").theory().id != XTB.theory().id
    energies = [label(each, WATER, tmp_path, Resources()).energy for each in (wet, XTB)]
    assert energies[1] - energies[0] == pytest.approx(0.39, abs=0.05)  # xtb's Gsolv of water in water


def test_the_deck_says_all_that_the_frame_and_the_options_say():
    inputs = XTBLabeler(method="GFN1-xTB", solvent="thf", max_iterations=77).inputs(
        CATION, Resources(threads=4)
    )
    first = inputs["xtb.xyz"].decode().splitlines()[2].split()
    assert first == ["C", *(f"{x:.10f}" for x in CATION.positions[0])]
    words = inputs["xtb.inp"].decode().split()
    assert words[:4] == ["$chrg", "1", "$spin", "1"]
    assert {"method=1", "temp=300.0", "maxiterations=77", "guess=goedecker", "solvent=thf"} <= set(words)
    assert "{" not in inputs["xtb.inp"].decode()


def test_a_real_output_cut_off_anywhere_is_no_label(real, tmp_path):
    run = XTB.run(WATER, tmp_path, Resources())
    assert XTB.parse(WATER, run).dipole is not None
    for name in ("output.log", "xtb.engrad", "xtbout.json"):
        for cut in cuts(run.files[name]):
            with pytest.raises(LabelError):
                XTB.parse(WATER, replace(run, files={**run.files, name: cut}))


def test_a_failed_scf_is_recovered_and_the_remedy_recorded(real, tmp_path):
    straight, recovered = (
        label(XTBLabeler(accuracy=0.1, max_iterations=cycles), WATER, tmp_path, Resources())
        for cycles in (250, 3)
    )
    assert straight.corrections == []
    assert recovered.corrections == [{"errors": ["SCF_NOT_CONVERGED"], "actions": [{"cycles": 500}]}]
    assert recovered.energy == pytest.approx(straight.energy, abs=1e-6)


@pytest.mark.parametrize("step", SCC.steps, ids=str)
def test_every_remedy_by_itself_leads_to_the_same_energy(real, step, tmp_path):
    command = "xtb xtb.xyz --input xtb.inp --grad --acc 0.01"
    run = _program.run(PROGRAM, TIGHT, WATER, tmp_path, Resources(), FIRST, command=command, more=step)
    assert run.corrections == []
    assert TIGHT.parse(WATER, run).energy == pytest.approx(
        label(TIGHT, WATER, tmp_path, Resources()).energy, abs=1e-6
    )


@pytest.mark.slow
def test_three_iron_atoms_need_the_ladder_in_xtb_and_in_tblite(real, tmp_path):
    here, there = (label(kind(), IRON, tmp_path, Resources()) for kind in (XTBLabeler, TBLiteLabeler))
    assert len(here.corrections) > 1 and len(there.corrections) > 1
    assert here.energy == pytest.approx(there.energy, abs=1e-4)
    np.testing.assert_allclose(here.forces, there.forces, atol=1e-3)


@pytest.mark.slow
def test_a_higher_electronic_temperature_comes_last_and_is_told(real, tmp_path):
    chromium = Frame(numbers=[24, 24], positions=[[0, 0, 0], [0, 0, 2.2]])
    cold = XTBLabeler(electronic_temperature_K=1.0)
    allowed = cold.model_copy(update={"allow_theory_changes": True})
    found = label(allowed, chromium, tmp_path, Resources())
    assert found.changes == {"electronic_temperature_K": 1000.0}
    assert [entry["actions"] for entry in found.corrections[:4]] == [[dict(step)] for step in SCC.steps]
    assert allowed.theory().id != cold.theory().id


def test_a_missing_program_pauses_and_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutableError, match=f"cannot start 'xtb' .*looked in PATH {tmp_path}") as caught:
        XTB.run(WATER, tmp_path / "work", Resources())
    assert caught.value.policy == "pause"


def test_an_unknown_method_is_refused_with_the_configuration():
    with pytest.raises(ValidationError, match="GFN2-xTB"):
        XTBLabeler(method="GFN3-xTB")


def test_what_xtb_does_not_know_pauses_at_the_first_frame(real, tmp_path):
    own = {"xtb.inp.j2": "$scc\n   temprature=300\n$write\n   json=true\n$end\n"}
    for labeler, words in (
        (XTBLabeler(solvent="mercury"), "solvent: 'mercury' is not parametrized"),
        (XTBLabeler(decks=own), "the key 'temprature' is not recognized by scc"),  # xtb itself goes on
        (XTBLabeler(command="xtb --fast"), "Unknown option '--fast' provided"),
    ):
        with pytest.raises(DeckError, match=words) as caught:
            labeler.run(WATER, tmp_path, Resources())
        assert caught.value.policy == "pause" and caught.value.signature.startswith("-1- ")


def test_a_real_campaign_labels_with_xtb(real, launchpad, tmp_path):
    section = {"kind": "xtb", "max_iterations": 3}
    frames = [WATER, replace(WATER, charge=1, multiplicity=2)]
    store, states = label_through_fireworks(launchpad, label_campaign(tmp_path, frames, section))
    assert "FIZZLED" not in states
    records = campaigns.collection(store, "labels")
    assert len(records) == 2
    for frame in frames:
        [[_, found]] = store.get_labels([frame.id], records[0]["theory"]).values()
        assert found.energy == pytest.approx(label(XTB, frame, tmp_path, Resources()).energy, abs=1e-5)
        assert [entry["errors"] for entry in found.corrections] == [["SCF_NOT_CONVERGED"]]
        assert found.version == "xtb 6.5.1"
