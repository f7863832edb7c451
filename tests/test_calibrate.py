"""Error bars of a campaign: learnt from the rounds before, checked on the next, with an alarm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import campaigns
import numpy as np
import pytest

from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled
from alfw.steps import calibrate
from alfw.steps.calibrate import FrameError
from alfw.steps.context import Context
from alfw.store import Store


def context(store: Store, tmp_path: Path, number: int, **sections: Any) -> Context:
    return Context(store, campaigns.copper(tmp_path, **sections), number, tmp_path)


def audited(rng: np.random.Generator, n: int, wrong: float = 1.0, elements: str = "Cu") -> list[FrameError]:
    """n frames whose errors are force_std times |normal| times `wrong`."""
    std = rng.uniform(0.05, 0.2, n)
    error = wrong * std * np.abs(rng.standard_normal(n))
    return [
        FrameError(f"{i}", "jaxmd 300 K" if i % 2 else "jaxmd 600 K", e, s, {elements: [e, s]})
        for i, (e, s) in enumerate(zip(error.tolist(), std.tolist(), strict=True))
    ]


def commit(ctx: Context, errors: list[FrameError], members: int = 3) -> dict[str, Any]:
    """Calibrate in this round and commit it, as `evaluate` does."""
    found = calibrate.calibration(ctx, errors, members)
    outputs = {"audit_errors": ctx.put_json(calibrate.rows(errors))}
    ctx.store.commit_result(
        ctx.campaign, ctx.round, "evaluate", 0, outputs, counts={}, metrics={"calibration": found}, cost={}
    )
    return found


def test_the_factor_of_a_round_is_made_of_the_rounds_before_and_checked_on_it(store, tmp_path):
    rng = np.random.default_rng(0)
    rounds = [audited(rng, 30) for _ in range(3)]
    found = [commit(context(store, tmp_path, r + 1), errors) for r, errors in enumerate(rounds)]
    assert found[0]["checked"] is None and found[0]["cumulative"] is None
    assert [one["n_calibration"] for one in found] == [30, 60, 90]
    scores = [np.array([e.error / e.force_std for e in errors]) for errors in rounds]
    first = np.sort(scores[0])[27]  # ⌈31 · 0.9⌉-th of 30
    assert found[0]["factor"] == pytest.approx(first)
    checked = found[1]["checked"]
    assert checked["factor"] == pytest.approx(first)
    assert (checked["n_frames"], checked["n_inside"]) == (30, int((scores[1] <= first).sum()))
    assert checked["interval_95"][0] < checked["fraction"] < checked["interval_95"][1]
    assert set(checked["strata"]) == {"jaxmd 300 K", "jaxmd 600 K"}
    assert sum(one["n_frames"] for one in checked["strata"].values()) == 30
    width = first * np.mean([e.force_std for e in rounds[1]]) / np.mean([e.error for e in rounds[1]])
    assert checked["width_over_error"] == pytest.approx(width)
    inside = checked["n_inside"] + found[2]["checked"]["n_inside"]
    assert (found[2]["cumulative"]["n_frames"], found[2]["cumulative"]["n_inside"]) == (60, inside)


def test_error_bars_that_stop_holding_raise_an_alarm_and_good_ones_do_not(store, tmp_path):
    rng = np.random.default_rng(1)
    assert commit(context(store, tmp_path, 1), audited(rng, 40))["alarm"] is None
    assert commit(context(store, tmp_path, 2), audited(rng, 40))["alarm"] is None
    worse = commit(context(store, tmp_path, 3), audited(rng, 40, wrong=3.0))
    assert worse["checked"]["off"] == -1
    assert "too narrow" in worse["alarm"] and "90%" in worse["alarm"] and "audit_frames" in worse["alarm"]
    better = commit(context(store, tmp_path, 4), audited(rng, 200, wrong=0.1))
    assert "too wide" in better["alarm"]


def test_false_alarms_are_as_rare_as_the_interval_says(store, tmp_path):
    """400 campaigns of exchangeable audit labels: a 99 % interval may be left by 1 % of the rounds or so."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(400):
        before, now = audited(rng, 40), audited(rng, 20)
        old = calibrate._factors(before, 0.9)
        alarms += calibrate._checked(now, old, 0.9)["off"] != 0
    assert alarms <= 12


def test_too_few_labels_make_no_factor_and_say_so(store, tmp_path):
    rng = np.random.default_rng(3)
    found = commit(context(store, tmp_path, 1), audited(rng, 5))
    assert found["factor"] is None and found["checked"] is None
    assert found["note"] == "too few audit labels for 90%: 4 more are needed"
    assert commit(context(store, tmp_path, 2), audited(rng, 5))["factor"] is not None
    wide = calibrate.calibration(
        context(store, tmp_path, 3, calibration={"coverage": 0.99}), audited(rng, 5), 3
    )
    assert wide["factor"] is None and "84 more" in wide["note"]


def test_an_ensemble_of_one_has_no_error_bar_and_says_so(store, tmp_path):
    found = commit(context(store, tmp_path, 1), audited(np.random.default_rng(4), 20), members=1)
    assert found["factor"] is None and found["note"] == "no spread: one member"


def test_predictions_that_are_not_finite_are_outside_and_counted(store, tmp_path):
    rng = np.random.default_rng(5)
    commit(context(store, tmp_path, 1), audited(rng, 30))
    broken = [FrameError("x", "jaxmd 300 K", None, None, {"Cu": [None, None]})] * 4
    found = commit(context(store, tmp_path, 2), [*broken, *audited(rng, 6)])
    assert found["n_not_finite"] == 4
    assert found["checked"]["n_frames"] == 10 and found["checked"]["n_inside"] <= 6
    vanishing = [FrameError("y", "jaxmd 300 K", 1e-7, 1e-8, {"Cu": [1e-7, 1e-8]})]
    found = commit(context(store, tmp_path, 3), vanishing)
    assert found["n_vanishing"] == 1 and found["checked"] is None
    assert found["cumulative"]["n_frames"] == 10, "what was known stays known"


def test_an_element_has_its_own_factor_from_a_hundred_frames_on(store, tmp_path):
    rng = np.random.default_rng(6)
    first = commit(context(store, tmp_path, 1), audited(rng, 99))
    assert first["elements"] == {}
    second = commit(context(store, tmp_path, 2), audited(rng, 10))
    assert second["elements"]["Cu"]["n_calibration"] == 109
    assert second["checked"]["elements"] == {}, "checked is what was promised before"
    assert (
        commit(context(store, tmp_path, 3), audited(rng, 10))["checked"]["elements"]["Cu"]["n_frames"] == 10
    )


def test_scores_are_of_the_worst_free_atom_and_of_each_element():
    frame = Frame(
        numbers=np.array([8, 1, 1]), positions=np.eye(3) * 1.5, fixed=np.array([False, False, True])
    )
    forces = np.zeros((2, 3, 3))
    forces[:, 0, 0] = [0.1, 0.3]  # mean 0.2, force_std 0.1
    forces[:, 1, 1] = [0.4, 0.6]  # mean 0.5, force_std 0.1
    forces[:, 2] = 9.0  # fixed: counts nowhere
    item = Labeled(frame, Label(energy=0.0, forces=np.zeros((3, 3))))
    [found] = calibrate.frame_errors([item], [forces], ["jaxmd 300 K"])
    assert (found.error, found.force_std) == pytest.approx((0.5, 0.1))
    assert found.elements["O"] == pytest.approx([0.2, 0.1])
    assert found.elements["H"] == pytest.approx([0.5, 0.1])


def test_a_band_of_errors_becomes_one_of_force_std(store, tmp_path):
    from alfw.selectors.force_std import ForceStdSelector

    chosen = {"kind": "force-std", "band_error_eV_per_A": [0.2, None]}
    ctx = context(store, tmp_path, 1, select=chosen)
    selector = ForceStdSelector()
    same, [note] = calibrate.with_band(ctx, selector)
    assert same == selector and "no calibration yet" in note
    factor = commit(ctx, audited(np.random.default_rng(7), 30))["factor"]
    later = context(store, tmp_path, 2, select=chosen)
    assert calibrate.resolved_band(later) == (pytest.approx(0.2 / factor), None)
    changed, [note] = calibrate.with_band(later, selector)
    assert changed.band_eV_per_A == (pytest.approx(0.2 / factor), None)
    assert "force_std" in note and "open" in note
    plain = context(store, tmp_path, 2)
    assert calibrate.with_band(plain, selector) == (selector, [])


def test_regions_that_the_factor_was_not_made_from_are_marked():
    rng = np.random.default_rng(8)
    near, far = audited(rng, 60), audited(rng, 60, wrong=5.0)
    errors = [FrameError(e.frame, "thermal", e.error, e.force_std, {}) for e in near]
    errors += [FrameError(e.frame, "transition state", e.error, e.force_std, {}) for e in far]
    found = calibrate.by_stratum(errors, 1.7, 0.9)
    assert (found["thermal"]["off"], found["transition state"]["off"]) == (0, -1)
    assert found["transition state"]["interval_95"][1] < 0.6
    assert calibrate.by_stratum(errors, None, 0.9) == {}


def test_temperatures_of_a_ramp_are_taken_together():
    assert calibrate.temperature_names([300.0, 600.0, None]) == ["300 K", "600 K", "no temperature"]
    ramp = calibrate.temperature_names([300.0 + 7.5 * i for i in range(20)])
    assert set(ramp) == {"300 to 400 K", "400 to 500 K"}
