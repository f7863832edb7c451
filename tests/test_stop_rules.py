"""When a campaign ends, by which rule, and what it says is missing."""

from __future__ import annotations

from typing import Any

import pytest
from campaign_results import Round, told

ERRORS = [0.10 * (20 + 60 * r) ** -0.5 * 20**0.5 for r in range(6)]
LEARNING = [Round(error=e, labels=20 + 60 * r) for r, e in enumerate(ERRORS)]


def rule(decision: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [one for one in decision["metrics"]["rules"] if one["rule"] == name]
    return found


def test_budgets_end_it_by_themselves(store, tmp_path):
    rounds = [Round(labels=20), Round(labels=32)]
    first, last = told(store, tmp_path, rounds, stop={"max_rounds": 9, "max_labels": 40})
    assert first["outputs"] == {"continue": True, "why": None}
    assert rule(first, "max_labels")["text"] == "30 labels of 40; 10 left"
    assert rule(first, "max_rounds")["text"] == "round 0 of 9; 9 left"
    assert last["outputs"]["why"] == "max_labels 40 reached (42 labels)"
    assert rule(last, "max_labels")["met"] and not rule(last, "max_rounds")["met"]


@pytest.mark.parametrize("key", ["cpu_hours", "gpu_hours"])
def test_hours_that_are_spent_begin_no_new_round(store, tmp_path, key):
    # each stage: 0.1 h of both; labels: 0.01 CPU-h each, round 0 has 20 of them
    rounds = [Round(gpu_s=360.0)] * 2
    first, last = told(store, tmp_path, rounds, stop={"max_rounds": 9, key: 0.5})
    spent = {"cpu_hours": 0.4, "gpu_hours": 0.2}[key]
    assert first["outputs"]["continue"]
    assert rule(first, key)["value"] == pytest.approx(spent)
    # round 1 adds sample, select, merge, evaluate, the decision of round 0, and 12 labels
    assert not last["outputs"]["continue"]
    assert last["outputs"]["why"].startswith(f"{key} 0.5 spent ({rule(last, key)['value']:.4g} h so far)")


def test_a_budget_of_nothing_ends_after_the_start(store, tmp_path):
    [only] = told(store, tmp_path, [Round()], stop={"max_rounds": 9, "cpu_hours": 0})
    assert only["outputs"]["why"].startswith("cpu_hours 0 spent")


def test_accuracy_needs_the_sealed_test_and_the_audit_labels(store, tmp_path):
    rounds = [
        Round(error=0.02),
        Round(error=0.02, audit=0.2),
        Round(error=0.02, audit=None),
        Round(error=0.02),
    ]
    found = told(store, tmp_path, rounds[:3], stop={"max_rounds": 9, "force_rmse_eV_per_A": 0.05})
    assert all(decision["outputs"]["continue"] for decision in found)
    assert "too few audit labels" in rule(found[0], "force_rmse_eV_per_A")["text"]
    judged = rule(found[1], "force_rmse_eV_per_A")
    assert judged["value"] == pytest.approx(0.2, rel=0.1) and not judged["met"]
    assert "both have to be below 0.05" in judged["text"]


def test_all_quality_rules_that_are_given_have_to_be_met_after_min_rounds(store, tmp_path):
    good = Round(error=0.02, audit=0.03, sampled=[(0, 4000.0, True)])
    stop = {"min_rounds": 2, "max_rounds": 9, "force_rmse_eV_per_A": 0.05, "max_failures_per_ns": 1.0}
    first, second, third = told(store, tmp_path, [good, good, good], stop=stop)
    assert first["outputs"]["continue"]
    assert second["outputs"]["continue"], "min_rounds"
    assert [r["rule"] for r in second["metrics"]["rules"] if not r["met"]] == ["max_rounds", "min_rounds"]
    assert "force_rmse_eV_per_A 0.05 reached: sealed test 0.0200" in third["outputs"]["why"]
    assert "max_failures_per_ns 1 reached: 0 explosions in 8 ns" in third["outputs"]["why"]


def test_the_failure_rate_is_an_upper_bound_over_the_last_rounds_of_unbiased_dynamics(store, tmp_path):
    stop = {"max_rounds": 9, "max_failures_per_ns": 1.0}
    rounds = [Round(), Round(sampled=[(5, 1000.0, True)])]
    rounds += [Round(sampled=[(0, 1000.0, True), (7, 500.0, False), (0, 0.0, True)])] * 3
    found = told(store, tmp_path, rounds, stop=stop)
    assert "no unbiased dynamics" in rule(found[0], "max_failures_per_ns")["text"]
    first = rule(found[1], "max_failures_per_ns")
    assert first["value"] == pytest.approx(10.51, abs=0.01)  # Garwood's 95 % bound of 5
    assert "even without any, 3 ns are needed" in first["text"]
    assert not rule(found[3], "max_failures_per_ns")["met"]
    last = rule(found[4], "max_failures_per_ns")  # the round with failures is not among the last three
    assert last["value"] == pytest.approx(2.996 / 3, abs=1e-3) and last["met"]
    assert not found[4]["outputs"]["continue"]


def test_the_gain_of_the_next_labels_has_to_be_small_for_sure(store, tmp_path):
    stop = {"max_rounds": 20, "min_gain_percent": 0.5}
    found = told(store, tmp_path, LEARNING, stop=stop)
    assert all(decision["outputs"]["continue"] for decision in found)
    assert "not enough rounds" in rule(found[1], "min_gain_percent")["text"]
    curve = found[-1]["metrics"]["learning_curve"]
    assert curve["n_labels"] == [20, 80, 140, 200, 260, 320] and curve["gain"]["labels"] == 3 + 2
    assert curve["b"] == pytest.approx(0.5, abs=0.05)
    assert rule(found[-1], "min_gain_percent")["value"] == curve["gain"]["high"]


def test_a_campaign_that_has_learnt_all_there_is_ends(store, tmp_path):
    flat = [Round(error=0.05 + 0.05 * 3.0**-r, labels=20 + 60 * r) for r in range(8)]
    stop = {"max_rounds": 20, "min_gain_percent": 3.0}
    found = told(store, tmp_path, flat, stop=stop)
    assert not found[-1]["outputs"]["continue"]
    assert "the next 5 labels are predicted to gain" in found[-1]["outputs"]["why"]


def test_a_selection_that_comes_back_empty_ends_it_and_says_why(store, tmp_path):
    note = "all 100 frames are below the band: the campaign may be converged"
    stop = {"max_rounds": 9}
    _, last = told(store, tmp_path, [Round(), Round(proposed=0, notes=[note])], stop=stop)
    assert last["outputs"]["why"] == f"nothing left to label: the selection of this round is empty ({note})"


def test_without_notes_the_reasons_of_the_rejected_are_told(store, tmp_path):
    rounds = [Round(), Round(proposed=0, candidates=0, rejected={"known": 90, "not_labelable": 30})]
    _, last = told(store, tmp_path, rounds, stop={"max_rounds": 9})
    assert "(90 known, 30 not labelable)" in last["outputs"]["why"]


@pytest.mark.parametrize(
    ("rejected", "goes_on"),
    [
        ({"over_budget": 40}, True),
        ({"prescreen: force": 3, "duplicate": 9}, True),
        ({"below_band": 100}, False),
        ({"nothing_new": 60, "duplicate": 40}, False),
    ],
)
def test_beside_audit_frames_only_a_lack_of_news_is_an_end(store, tmp_path, rejected, goes_on):
    rounds = [Round(), Round(proposed=0, audit_frames=5, rejected=rejected)]
    _, last = told(store, tmp_path, rounds, stop={"max_rounds": 9})
    assert last["outputs"]["continue"] is goes_on
