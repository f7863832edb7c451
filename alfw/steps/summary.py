"""What `alfw status` tells of a campaign: one row a round, read from results only."""

from __future__ import annotations

from typing import Any

from alfw.store import Store


def campaign_summary(store: Store, campaign: str) -> dict[str, Any]:
    """State of a campaign and one row a round, as JSON data; fields grow, they never change meaning."""
    record = store.get_campaign(campaign)
    rounds = [round_summary(store, campaign, item["number"]) for item in store.rounds(campaign)]
    return {
        "campaign": campaign,
        "state": record["state"],
        "stop_reason": record["reason"] or None,
        "revision": len(record["revisions"]),
        "failures": store.failure_counts(campaign, final=True),
        "rounds": rounds,
    }


def round_summary(store: Store, campaign: str, number: int) -> dict[str, Any]:
    """What the results of one round say; None where a stage has not committed yet."""
    results = store.get_results(campaign, number)
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_stage.setdefault(result["stage"], []).append(result)

    def count(stage: str, key: str) -> int | None:
        return sum(r["counts"].get(key, 0) for r in by_stage[stage]) if stage in by_stage else None

    def metric(name: str, key: str) -> float | None:
        found = by_stage.get("evaluate", [{"metrics": {}}])[0]["metrics"].get(name)
        return found[key] if found else None

    decided = by_stage.get("decide")
    return {
        "round": number,
        "state": "done" if decided else "running",
        "n_pool": count("select", "n_pool"),
        "n_candidates": count("select", "n_candidates"),
        "n_selected": count("select", "n_selected"),
        "n_audit": count("select", "n_audit"),
        "n_labeled": count("merge", "n_labeled"),
        "n_failed": count("merge", "n_failed"),
        "n_train": count("merge", "n_train"),
        "n_valid": count("merge", "n_valid"),
        "n_test": count("merge", "n_test"),
        "force_rmse_eV_per_A": metric("test", "force_rmse_eV_per_A"),
        "energy_rmse_eV_per_atom": metric("test", "energy_rmse_eV_per_atom"),
        "audit_force_rmse_eV_per_A": metric("audit", "force_rmse_eV_per_A"),
        "test_regions": by_stage.get("evaluate", [{"metrics": {}}])[0]["metrics"].get("test_regions"),
        "n_explosions": count("sample", "n_explosions"),
        "max_force_eV_per_A": max(
            (r["metrics"]["max_force_eV_per_A"] for r in by_stage.get("screen", [])), default=None
        ),
        "median_ps_to_failure": min(
            (
                r["metrics"]["median_ps_to_failure"]
                for r in by_stage.get("sample", [])
                if r["metrics"]["median_ps_to_failure"] is not None
            ),
            default=None,
        ),
        "rejected": by_stage["select"][0]["metrics"]["rejected"] if "select" in by_stage else None,
        "cpu_hours": _cpu_hours(by_stage),
        "decision": (decided[0]["outputs"]["why"] or "go on") if decided else None,
    }


def _cpu_hours(by_stage: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """CPU-hours by stage; of labels the wall time times the threads they asked for."""
    seconds = {stage: sum(r["cost"].get("cpu_s", 0.0) for r in found) for stage, found in by_stage.items()}
    if "merge" in by_stage:
        seconds["label"] = by_stage["merge"][0]["metrics"]["label_cpu_s"]
    return {stage: round(value / 3600, 5) for stage, value in seconds.items()}
