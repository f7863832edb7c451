"""Labels that are not to be believed: how they are found, and what becomes of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import campaigns
import labelling
import numpy as np
import pytest
import toy_labelers
from ase.build import bulk

from alfw.config import CampaignConfig
from alfw.core.frame import Frame
from alfw.steps.suspect import Residual, Window, strange

TOY = "toy_labelers:ToyLabeler.run"


def residuals(
    number: int, energy: float = 0.1, force: float = 0.2, std: float | None = 0.1, n: int = 9
) -> Any:
    """Normally distributed ones of a composition."""
    rng = np.random.default_rng(number)
    draws = zip(
        rng.normal(scale=energy, size=number), np.abs(rng.normal(scale=force, size=number)), strict=True
    )
    return [Residual("H6C2O +0 1", n, e, f, std) for e, f in draws]


def test_a_window_needs_labels_and_widens_with_them() -> None:
    assert Window.of([-100.0] * 3, 9).doubt(1e6) is None
    few = Window.of([-100.0, -100.1, -99.9, -100.2], 9)
    assert few.doubt(-100.0 - 89.0) is None
    assert few.doubt(-100.0 - 91.0).absurd  # type: ignore[union-attr]
    many = Window.of(list(np.linspace(-100.5, -99.5, 40)), 9)
    doubt = many.doubt(-88.0)
    assert doubt is not None and not doubt.absurd and "12 eV off the median of 40 labels" in doubt.text
    assert many.doubt(-92.0) is None
    assert many.doubt(-2e7).absurd  # type: ignore[union-attr]
    broad = Window.of(list(np.linspace(-300.0, 100.0, 40)), 9)
    assert broad.doubt(300.0) is None and broad.doubt(5e3).absurd  # type: ignore[union-attr]


def test_a_wrong_state_stands_out_and_what_is_only_hard_does_not() -> None:
    usual = residuals(40)
    assert strange(Residual("H6C2O +0 1", 9, 0.2, 0.4, 0.1), usual) is None
    assert "energy is 3" in str(strange(Residual("H6C2O +0 1", 9, 3.0, 0.4, 0.1), usual))
    assert "a force is 4 eV/Å off" in str(strange(Residual("H6C2O +0 1", 9, 0.1, 4.0, 0.1), usual))
    assert strange(Residual("H6C2O +0 1", 9, 3.0, 4.0, 2.0), usual) is None, "the members warned of it"
    assert strange(Residual("H6C2O +0 1", 9, 3.0, 4.0, 0.1), usual[:9]) is None, "nobody knows what is usual"
    poor = residuals(40, energy=3.0, force=4.0)
    assert strange(Residual("H6C2O +0 1", 9, 3.0, 4.0, 0.1), poor) is None, "the model is poor everywhere"
    good = residuals(40, energy=1e-3, force=1e-3)
    assert strange(Residual("H6C2O +0 1", 9, 0.05, 0.3, 0.1), good) is None, "too little to matter"
    alone = residuals(40, std=None)
    assert strange(Residual("H6C2O +0 1", 9, 3.0, 0.4, None), alone), "an ensemble of one has no force_std"


def test_an_offset_of_the_ensemble_is_no_error_of_the_labels() -> None:
    shifted = [Residual(r.composition, 9, r.energy + 5.0, r.force, r.force_std) for r in residuals(40)]
    assert strange(Residual("H6C2O +0 1", 9, 5.1, 0.3, 0.1), shifted) is None
    assert strange(Residual("H6C2O +0 1", 9, 0.0, 0.3, 0.1), shifted)
    # of a composition that nobody has seen: as much an atom
    assert strange(Residual("H12C4O +0 1", 18, 10.1, 0.3, 0.1), shifted) is None


def test_neighbours_that_deviate_alike_show_a_region_that_the_model_does_not_know() -> None:
    usual = residuals(40)

    def far(walk: str | None, confirmed: bool = False, energy: float = 4.7, force: float = 0.3) -> Residual:
        return Residual("H6C2O +0 1", 9, energy, force, 0.1, walk, confirmed)

    assert strange(far("w1"), usual)
    assert strange(far("w1"), [*usual, far("w2")]), "somewhere else"
    assert strange(far("w1"), [*usual, far("w1", energy=4.6)]) is None
    assert strange(far("w1"), [*usual, far("w2", confirmed=True)]) is None
    assert strange(far("w1", energy=8.0), [*usual, far("w1", confirmed=True)]), "another state of that region"
    assert strange(far(None), [*usual, far(None)]), "no trajectory is not the same trajectory"
    assert strange(far("w1", energy=0.0, force=6.0), [*usual, far("w1", energy=0.0, force=4.0)]) is None


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.2])
def test_false_alarms_are_rare_and_wrong_states_are_found(wrong: float) -> None:
    """Residuals with heavy tails (Student's t of 3), spread over two decades of force_std."""
    rng = np.random.default_rng(5)
    std = np.exp(rng.normal(np.log(0.1), 1.0, 400))
    energy, force = 0.3 * std * rng.standard_t(3, 400), 1.5 * std * np.abs(rng.standard_t(3, 400))
    bad = rng.random(400) < wrong
    sample = [Residual("x", 9, e + 2.0 * b, f, s) for e, f, s, b in zip(energy, force, std, bad, strict=True)]
    found = np.array([bool(strange(r, sample[:i] + sample[i + 1 :])) for i, r in enumerate(sample)])
    assert found[~bad].mean() <= 0.02
    if wrong:
        assert found[bad].mean() >= 0.7


def coppers(number: int) -> list[Frame]:
    """Rattled cells, those with the smallest `toy_labelers.number` last."""
    rng, frames = np.random.default_rng(3), []
    for _ in range(number):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += rng.normal(scale=0.05, size=(4, 3))
        frames.append(Frame.from_atoms(atoms))
    return sorted(frames, key=toy_labelers.number, reverse=True)


def wrong_ones(frames: list[Frame], share: float) -> set[str]:
    return {frame.id for frame in frames if toy_labelers.number(frame) < share}


def share_of(frames: list[Frame], number: int) -> float:
    """The share that makes so many of these frames wrong."""
    return sorted(toy_labelers.number(frame) for frame in frames)[number]


@pytest.mark.parametrize(
    ("second", "shift_eV", "in_process", "failed"),
    [
        ("right", 12.0, False, 0),  # a better state is found
        ("same", 12.0, False, 0),  # it is so: confirmed
        ("higher", 12.0, False, 1),  # nothing confirms it
        ("same", 500.0, False, 1),  # no physics, whatever confirms it
        ("right", 500.0, True, 1),  # there is no other guess
        ("same", 12.0, True, 0),  # nor is anything asked then
    ],
)
def test_a_suspect_label_is_computed_once_more(
    tmp_path: Path,
    launchpad: Any,
    monkeypatch: pytest.MonkeyPatch,
    second: str,
    shift_eV: float,
    in_process: bool,
    failed: int,
) -> None:
    toy_labelers.register(tmp_path, monkeypatch)
    frames, log = coppers(30), tmp_path / "log"
    share = share_of(frames, 5)
    bad = wrong_ones(frames, share)
    assert len(bad) == 5
    toy = {"kind": "toy", "wrong": share, "shift_eV": shift_eV, "second": second, "in_process": in_process}
    label = toy | {"log": str(log), "frames_per_firework": 30}
    config = labelling.label_campaign(tmp_path, frames, label)
    store, states = labelling.label_through_fireworks(launchpad, config)
    assert states == {"COMPLETED": 1, "READY": 1, "WAITING": 3}
    theory = config.plugins(None).labeler.theory().id
    labels = {frame: label for frame, (_, label) in store.get_labels([f.id for f in frames], theory).items()}
    assert set(labels) == {frame.id for frame in frames} - (bad if failed else set())
    asked = bad if not in_process else set()
    runs = Counter(json.loads(line)["frame"] for line in log.read_text().splitlines())
    assert runs == {frame.id: 2 if frame.id in asked else 1 for frame in frames}
    failures = campaigns.collection(store, "failures")
    assert {f["frame"] for f in failures if f["final"]} == (bad if failed else set())
    assert {f["frame"] for f in failures if not f["final"]} == asked
    assert {f["class"] for f in failures} <= {"SUSPECT"}
    assert all("eV off the median of" in f["message"] and f["run"] for f in failures)
    assert {i for i, label in labels.items() if label.confirmed} == (
        asked if second == "same" and not failed else set()
    )
    if second == "right" and not failed:
        assert all(labels[i].energy < 12.0 for i in bad)
    guesses = {
        json.loads(line)["frame"] for line in log.read_text().splitlines() if json.loads(line)["other_guess"]
    }
    assert guesses == asked


@pytest.mark.slow
def test_killed_on_the_way_to_a_second_opinion(
    tmp_path: Path, launchpad: Any, launchpad_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_labelers.register(tmp_path, monkeypatch)
    frames, log = coppers(30), tmp_path / "log"
    share = share_of(frames, 5)
    bad = wrong_ones(frames, share)
    toy = {"kind": "toy", "wrong": share, "shift_eV": 12.0, "second": "same", "log": str(log)}
    config = labelling.label_campaign(tmp_path, frames, toy | {"frames_per_firework": 30})
    store = campaigns.begin(launchpad, config)
    fw_id = campaigns.fly_to(launchpad, "CalculateLabels")
    for point, when, within in [
        (
            "alfw.steps.verdict:record_failure",
            "before",
            "",
        ),  # its run is stored, nobody knows that it is suspect
        ("alfw.steps.verdict:record_failure", "after", ""),  # the next one: known, not computed again
        (TOY, "before", ""),  # about to be computed again
        (TOY, "after", ""),
        ("alfw.store:Store.put_labels", "before", ""),  # both runs are there
        ("alfw.store:Store.put_labels", "after", ""),
        (TOY, "before", "judge"),  # the next suspect one
    ]:
        campaigns.kill(launchpad_file, fw_id, point, when, within)
        _, lost, _ = launchpad.detect_lostruns(expiration_secs=0, rerun=True)
        assert lost == [fw_id]
    for _ in range(2):  # once more changes nothing
        assert campaigns.launch(launchpad, fw_id) == "COMPLETED"
        before = campaigns.snapshot(store)
        launchpad.rerun_fw(fw_id)
    assert campaigns.launch(launchpad, fw_id) == "COMPLETED" and campaigns.snapshot(store) == before
    labels = campaigns.collection(store, "labels")
    assert len(labels) == 30 and {label["frame"] for label in labels if label["confirmed"]} == bad
    assert sorted(f["frame"] for f in campaigns.collection(store, "failures")) == sorted(bad)
    runs = Counter(run["frame"] for run in campaigns.collection(store, "runs"))
    assert runs == {frame.id: 2 if frame.id in bad else 1 for frame in frames}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.0, 0.15])
def test_what_the_ensemble_said_tells_wrong_states_from_right_ones(
    tmp_path: Path, launchpad: Any, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    """A whole campaign of a rough model, some of whose own labels are wrong as well: no right label is asked twice."""
    toy_labelers.register(tmp_path, monkeypatch)
    raw = campaigns.raw_copper(tmp_path, frames=30) | {
        "label": {"kind": "toy", "wrong": wrong, "frames_per_firework": 6}
    }
    raw["select"] |= {"max_frames": 24, "audit_frames": 6}
    raw["sample"][0] |= {"walkers": 4, "n_steps": 200}
    store = campaigns.begin(launchpad, CampaignConfig(raw))
    campaigns.fly(launchpad)
    campaigns.assert_whole(store, launchpad, raw["name"])
    selected = [row["frame"] for row in store.get_candidates(raw["name"], 1)]
    bad = wrong_ones(store.get_frames(selected), wrong)
    suspect = {failure["frame"] for failure in campaigns.collection(store, "failures")}
    assert suspect <= bad
    assert len(bad - suspect) <= 2  # before there were ten residuals to compare with
    assert suspect or len(bad) <= 2
    assert all(not failure["final"] for failure in campaigns.collection(store, "failures"))
