"""Campaigns that were never run: results as the stages would have committed them, in a real database."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import campaigns

from alfw.config import CampaignConfig
from alfw.steps import decide
from alfw.steps.context import Context
from alfw.store import Store


@dataclass(frozen=True)
class Round:
    """What one round found; `squares` of its audit frames, `sampled` = (explosions, ps, unbiased)."""

    error: float | None = 0.05
    labels: int = 20
    audit: float | None = 0.06
    sampled: Sequence[tuple[int, float, bool]] = ((0, 10.0, True),)
    proposed: int = 12
    candidates: int = 100
    audit_frames: int = 0
    notes: Sequence[str] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    cpu_s: float = 360.0
    gpu_s: float = 0.0
    calibration: Mapping[str, Any] | None = None


def begun(store: Store, folder: Path, name: str = "copper", **sections: Any) -> CampaignConfig:
    """A stored campaign without any round."""
    config = campaigns.copper(folder, name=name, **sections)
    store.insert_campaign(config.name, config.raw, config.id, {})
    return config


def commit(store: Store, config: CampaignConfig, number: int, found: Round) -> Context:
    """The context of a round all of whose results but `decide`'s are there."""
    store.open_round(config.name, number, revision=1, claimed_by=None)
    cost = {"cpu_s": found.cpu_s, "gpu_s": found.gpu_s, "wall_s": found.cpu_s, "host": "here"}

    def put(stage: str, part: int, counts: dict[str, Any], metrics: dict[str, Any]) -> None:
        store.commit_result(config.name, number, stage, part, {}, counts, metrics, cost)

    new = found.proposed if number else found.labels
    if number:
        for part, (explosions, ps, unbiased) in enumerate(found.sampled):
            counters = {"time_ps": ps, "n_high_force": 0}
            more = {"unbiased": unbiased, "median_ps_to_failure": None}
            put("sample", part, {"n_explosions": explosions}, {"counters": counters, **more})
        counts = {"n_pool": 120, "n_candidates": found.candidates, "n_audit": found.audit_frames}
        counts["n_selected"] = new + found.audit_frames
        put("select", 0, counts, {"rejected": dict(found.rejected), "notes": list(found.notes)})
    sides = {"n_train": found.labels, "n_valid": 0, "n_test": 10}
    done = {"n_labeled": new, "n_failed": 0, "n_changed_surface": 0, "n_confirmed": 0}
    put("merge", 0, sides | done, {"label_cpu_s": 36.0 * new, "label_gpu_s": 0.0})
    hot = None if found.error is None else 1.5 * found.error
    regions = {"thermal": _errors(found.error), "hot": _errors(hot)}
    metrics: dict[str, Any] = {"test": _errors(found.error), "test_regions": regions}
    if number and found.audit is not None:
        squares = [[found.audit**2 * (1 + 0.1 * math.sin(i)), 30] for i in range(10)]
        metrics |= {"audit": _errors(found.audit), "audit_squares": squares}
        metrics["audit_by_temperature"] = {"300 K": _errors(found.audit), "600 K": _errors(2 * found.audit)}
    if found.calibration is not None:
        metrics["calibration"] = dict(found.calibration)
    put("evaluate", 0, {"n_audit_labeled": 10 if number else 0}, metrics)
    return campaigns.context(store, config.name, number)


def _errors(rmse: float | None) -> dict[str, Any] | None:
    if rmse is None:
        return None
    bounds = [0.95 * rmse, 1.05 * rmse]
    return {
        "n_frames": 10,
        "force_rmse_eV_per_A": rmse,
        "force_rmse_interval_95_eV_per_A": bounds,
        "energy_rmse_eV_per_atom": rmse / 10,
        "force_rmse_by_element_eV_per_A": {"Cu": rmse},
    }


def told(store: Store, folder: Path, rounds: Sequence[Round], **sections: Any) -> list[dict[str, Any]]:
    """The decisions of a campaign with these rounds, the last of which may end it."""
    config = begun(store, folder, **sections)
    decisions = []
    for number, found in enumerate(rounds):
        decisions.append(decide.run(commit(store, config, number, found)))
    if not decisions[-1]["outputs"]["continue"]:
        store.set_state(config.name, "ended", decisions[-1]["outputs"]["why"])
    return decisions
