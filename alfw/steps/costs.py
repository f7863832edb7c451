"""What a campaign has cost: CPU- and GPU-hours by stage, per label, and for each meV/Å that the error fell.

Read from results alone: CPU time that a stage's process and its children used, wall time × the GPUs that its section of
`resources` asks for; of labels their wall time × the threads and GPUs they asked for. Failed calculations count where
they left an output; launches that were killed are in no result, and not counted. A label that another campaign of the
database computed counts in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alfw.steps.context import STAGES
from alfw.store import Store

HOUR = 3600.0
Result = Mapping[str, Any]


def campaign_costs(store: Store, campaign: str) -> dict[str, Any]:
    """Costs of a campaign so far: JSON data.

    Returns
    -------
    dict
        cpu_hours, gpu_hours: in all, failed labels included · stages {stage: cpu_hours, gpu_hours, wall_hours} ·
        labels: n, cpu_hours and gpu_hours, cpu_hours_per_label (of the calculation), campaign_cpu_hours_per_label (of
        everything) · failed_labels: n, n_unknown (no output, so no time), cpu_hours, gpu_hours · rounds: of each
        cpu_hours, gpu_hours, gained_meV_per_A (by which the sealed-test force RMSE fell), cpu_hours_per_meV_per_A.
    """
    results = store.get_results(campaign)
    stages = _by_stage(results)
    failed = _failed(store, campaign)
    counted = [*stages.values(), failed]
    cpu, gpu = (sum(part[key] for part in counted) for key in ("cpu_hours", "gpu_hours"))
    n = sum(int(r["counts"].get("n_labeled", 0)) for r in results if r["stage"] == "merge")
    label = stages.get("label", _nothing())
    return {
        "cpu_hours": cpu,
        "gpu_hours": gpu,
        "stages": stages,
        "labels": {
            "n": n,
            "cpu_hours": label["cpu_hours"],
            "gpu_hours": label["gpu_hours"],
            "cpu_hours_per_label": label["cpu_hours"] / n if n else None,
            "campaign_cpu_hours_per_label": cpu / n if n else None,
        },
        "failed_labels": failed,
        "rounds": _by_round(results),
    }


def _nothing() -> dict[str, float]:
    return {"cpu_hours": 0.0, "gpu_hours": 0.0, "wall_hours": 0.0}


def _by_stage(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """CPU-, GPU- and wall hours by stage, in the order of a round."""
    found: dict[str, dict[str, float]] = {}
    for result in results:
        cost = result["cost"]
        _add(found, result["stage"], cost.get("cpu_s"), cost.get("gpu_s"), cost.get("wall_s"))
        if result["stage"] == "merge":
            metrics = result["metrics"]
            _add(found, "label", metrics.get("label_cpu_s"), metrics.get("label_gpu_s"), None)
    order = {stage: i for i, stage in enumerate(STAGES)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def _add(
    found: dict[str, dict[str, float]],
    stage: str,
    cpu_s: float | None,
    gpu_s: float | None,
    wall_s: float | None,
) -> None:
    part = found.setdefault(stage, _nothing())
    for key, seconds in {"cpu_hours": cpu_s, "gpu_hours": gpu_s, "wall_hours": wall_s}.items():
        part[key] += (seconds or 0.0) / HOUR


def _failed(store: Store, campaign: str) -> dict[str, Any]:
    """What calculations cost that gave no label, with the threads and GPUs of the newest revision."""
    attempts = store.failed_attempts(campaign)
    walls = [wall for _, wall in attempts if wall is not None]
    config = store.get_campaign(campaign)["revisions"][-1]["config"]
    asked = (config.get("resources") or {}).get("label") or {}
    hours = sum(walls) / HOUR
    return {
        "n": len(attempts),
        "n_unknown": len(attempts) - len(walls),
        "cpu_hours": hours * asked.get("ntasks", 1),
        "gpu_hours": hours * asked.get("gpus", 0),
    }


def _by_round(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Costs of each round (without failed labels), and what they bought."""
    rows: list[dict[str, Any]] = []
    before: float | None = None
    for number in sorted({result["round"] for result in results}):
        own = [result for result in results if result["round"] == number]
        stages = _by_stage(own).values()
        cpu, gpu = (sum(part[key] for part in stages) for key in ("cpu_hours", "gpu_hours"))
        tests = [r["metrics"].get("test") or {} for r in own if r["stage"] == "evaluate"]
        error = tests[0].get("force_rmse_eV_per_A") if tests else None
        gained = None if before is None or error is None else 1000 * (before - error)
        rows.append(
            {
                "round": number,
                "cpu_hours": cpu,
                "gpu_hours": gpu,
                "gained_meV_per_A": gained,
                "cpu_hours_per_meV_per_A": cpu / gained if gained and gained > 0 else None,
            }
        )
        before = error
    return rows
