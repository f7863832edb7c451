"""What `alfw status` tells of a campaign: one row a round, read from results only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alfw.core.survival import poisson_bounds
from alfw.steps.costs import campaign_costs
from alfw.steps.stop_rules import failures_of
from alfw.store import Store

Result = dict[str, Any]
# Which stage counts what.
COUNTS = {
    "n_pool": "select",
    "n_candidates": "select",
    "n_selected": "select",
    "n_audit": "select",
    "n_labeled": "merge",
    "n_failed": "merge",
    "n_train": "merge",
    "n_valid": "merge",
    "n_test": "merge",
    "n_changed_surface": "merge",
    "n_confirmed": "merge",
    "n_explosions": "sample",
    "n_high_force": "sample",
}


def campaign_summary(store: Store, campaign: str) -> dict[str, Any]:
    """State of a campaign and one row a round, as JSON data; fields grow, they never change meaning."""
    record = store.get_campaign(campaign)
    rounds = [round_summary(store, campaign, item["number"]) for item in store.rounds(campaign)]
    calibrated = [row["calibration"] for row in rounds if row["calibration"]]
    return {
        "campaign": campaign,
        "state": record["state"],
        "stop_reason": record["reason"] or None,
        "revision": len(record["revisions"]),
        "failures": store.failure_table(campaign),
        "rounds": rounds,
        "stop": stop_summary(store, campaign, len(rounds)),
        "alarm": calibrated[-1]["alarm"] if calibrated else None,
        "costs": campaign_costs(store, campaign),
    }


def stop_summary(store: Store, campaign: str, n_rounds: int) -> dict[str, Any] | None:
    """What the newest decision was made by: its round, rules, learning curves; None before the first one."""
    for number in range(n_rounds - 1, -1, -1):
        decided = store.get_result(campaign, number, "decide")
        if decided is not None:
            known = decided["metrics"]
            curves = {key: known.get(key) for key in ("learning_curve", "region_curves")}
            audit = known.get("audit_force_rmse_upper_eV_per_A")
            return {"round": number, "rules": known.get("rules", []), **curves, "audit_upper_eV_per_A": audit}
    return None


def round_summary(store: Store, campaign: str, number: int) -> dict[str, Any]:
    """What the results of one round say; None where a stage has not committed yet."""
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for result in store.get_results(campaign, number):
        by_stage.setdefault(result["stage"], []).append(result)
    decided = by_stage.get("decide")
    rejected = by_stage["select"][0]["metrics"]["rejected"] if "select" in by_stage else None
    return {
        "round": number,
        "state": "done" if decided else "running",
        **{key: _count(by_stage.get(stage), key) for key, stage in COUNTS.items()},
        **_errors(by_stage.get("evaluate")),
        "max_force_eV_per_A": _extreme(max, by_stage.get("screen"), "max_force_eV_per_A"),
        "median_ps_to_failure": _extreme(min, by_stage.get("sample"), "median_ps_to_failure"),
        **_failures(by_stage.get("sample")),
        "rejected": rejected,
        "notes": by_stage["select"][0]["metrics"].get("notes", []) if "select" in by_stage else [],
        "cpu_hours": _cpu_hours(by_stage),
        "decision": (decided[0]["outputs"]["why"] or "go on") if decided else None,
    }


def _count(results: list[Result] | None, key: str) -> int | None:
    """Sum of a count over the parts of a stage."""
    return None if results is None else sum(result["counts"].get(key, 0) for result in results)


def _failures(results: list[Result] | None) -> dict[str, float | None]:
    """Time of unbiased dynamics, explosions per ns of it, and their upper 95 % bound."""
    found = [failures_of(result) for result in results or []]
    n, time = sum(one[0] for one in found), sum(one[1] for one in found)
    return {
        "exploration_ns": None if results is None else time,
        "failures_per_ns": n / time if time else None,
        "failures_per_ns_upper": poisson_bounds(n)[1] / time if time else None,
    }


def _extreme(choose: Callable[[list[float]], float], results: list[Result] | None, key: str) -> float | None:
    """Largest or smallest of a metric over the parts of a stage that have it."""
    values = [result["metrics"][key] for result in results or [] if result["metrics"].get(key) is not None]
    return choose(values) if values else None


def _errors(evaluated: list[Result] | None) -> dict[str, Any]:
    """Errors on the sealed test side, by region, and on the audit labels."""
    metrics = evaluated[0]["metrics"] if evaluated else {}
    test, audit = metrics.get("test") or {}, metrics.get("audit") or {}
    return {
        "force_rmse_eV_per_A": test.get("force_rmse_eV_per_A"),
        "energy_rmse_eV_per_atom": test.get("energy_rmse_eV_per_atom"),
        "audit_force_rmse_eV_per_A": audit.get("force_rmse_eV_per_A"),
        "test_regions": metrics.get("test_regions"),
        "force_rmse_interval_95_eV_per_A": test.get("force_rmse_interval_95_eV_per_A"),
        "audit_by_temperature": metrics.get("audit_by_temperature"),
        "calibration": metrics.get("calibration"),
    }


def _cpu_hours(by_stage: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """CPU-hours by stage; of labels the wall time times the threads they asked for."""
    seconds = {stage: sum(r["cost"].get("cpu_s", 0.0) for r in found) for stage, found in by_stage.items()}
    if "merge" in by_stage:
        seconds["label"] = by_stage["merge"][0]["metrics"]["label_cpu_s"]
    return {stage: round(value / 3600, 5) for stage, value in seconds.items()}
