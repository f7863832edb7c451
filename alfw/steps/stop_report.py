"""The report of a campaign: why it ended, or what is missing, argued in numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alfw import __version__
from alfw.core.errors import ConfigError
from alfw.core.frame import Float
from alfw.core.learning_curve import LearningCurve
from alfw.core.metrics import as_json
from alfw.core.registry import private
from alfw.io.files import write_file
from alfw.io.report import Picture
from alfw.steps.context import load_config
from alfw.steps.summary import campaign_summary
from alfw.store import Store

FORMAT = "alfw campaign report 1"
SUFFIXES = (".html", ".md", ".json")
AHEAD = 1.5  # times the labels so far, or the next round's: how far the law is drawn


def campaign_report(store: Store, campaign: str) -> dict[str, Any]:
    """All that the report tells, as JSON data: `campaign_summary` and what the campaign is made of.

    Raises
    ------
    StoreError
        No such campaign.
    """
    summary = campaign_summary(store, campaign)
    config = load_config(store, campaign)
    plugins = config.plugins(None)
    rejected: dict[str, int] = {}
    for row in summary["rounds"]:
        for reason, number in (row["rejected"] or {}).items():
            rejected[reason] = rejected.get(reason, 0) + number
    made_of = {
        "theory": str(plugins.labeler.theory()),
        "model": config.raw["model"]["kind"],
        "members": plugins.model.members,
        "samplers": [options["kind"] for options in config.raw["sample"]],
        "selector": config.raw["select"]["kind"],
    }
    head = {"format": FORMAT, "alfw": __version__, "made_of": made_of, "rejected": rejected}
    found: dict[str, Any] = as_json({**head, **summary})
    return found


def save(store: Store, campaign: str, path: Path) -> dict[str, Any]:
    """Write the report as HTML, Markdown or JSON, by the name of the file; complete or not at all.

    Raises
    ------
    ConfigError
        A file name of another kind.
    PluginError
        HTML, and matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: the name of a report ends in {', '.join(SUFFIXES)}")
    report = campaign_report(store, campaign)
    write_file(path, _written(report, path.suffix).encode())
    return report


def _written(report: Mapping[str, Any], suffix: str) -> str:
    if suffix == ".json":
        return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    from alfw.io.report import render

    shown: dict[str, Any] = {
        "report": report,
        "temperatures": temperatures(report),
        "regions": regions(report),
    }
    if suffix == ".md":
        return render("campaign.md", **shown)
    return render("campaign.html", **shown, pictures=list(pictures(report)))


def temperatures(report: Mapping[str, Any]) -> list[str]:
    """Names of the temperatures that audit labels are of, in the order they came."""
    return list(dict.fromkeys(name for row in report["rounds"] for name in row["audit_by_temperature"] or {}))


def regions(report: Mapping[str, Any]) -> list[str]:
    """Names of the test regions, where there are several."""
    names = list(dict.fromkeys(name for row in report["rounds"] for name in row["test_regions"] or {}))
    return names if len(names) > 1 else []


def pictures(report: Mapping[str, Any]) -> Iterator[Picture]:
    """The pictures that this campaign has the numbers for.

    Raises
    ------
    PluginError
        matplotlib is not installed.
    """
    plots = private("alfw.io._campaign_plots", "report")
    measured = [row for row in report["rounds"] if row["force_rmse_eV_per_A"] is not None]
    if measured:
        caption = (
            "Sealed test set; vertical lines: 95 % bootstrap intervals. Dotted: now; beyond it, predicted."
        )
        yield Picture("curve", "learning curve", _learning_curve(plots, report, measured), caption)
    audited = [row for row in report["rounds"] if row["audit_by_temperature"]]
    if audited:
        rounds = [row["round"] for row in audited]
        errors = {name: _errors(audited, "audit_by_temperature", name) for name in temperatures(report)}
        test = np.array([_nan(row["force_rmse_eV_per_A"]) for row in audited])
        caption = (
            "Audit labels: frames drawn at random from each round's pool, predicted before they were trained on. "
            "The pool changes from round to round, so that no law is fitted to them."
        )
        yield Picture("audit", "audit", plots.audit(rounds, errors, test), caption)
    checked = [(row["round"], row["calibration"]) for row in report["rounds"] if _checked(row)]
    if checked:
        drawn = plots.coverage(
            [number for number, _ in checked],
            [found["checked"] for _, found in checked],
            checked[-1][1]["promised"],
        )
        caption = (
            "Error bars made of the rounds before, checked on each round. Thick: 95 %, thin: 99 % interval."
        )
        yield Picture("calibration", "coverage", drawn, caption)
    if report["rounds"]:
        stages = report["costs"]["stages"]
        hours = {s: np.array([row["cpu_hours"].get(s, 0.0) for row in report["rounds"]]) for s in stages}
        drawn = plots.costs([row["round"] for row in report["rounds"]], hours)
        yield Picture(
            "costs", "costs", drawn, "CPU-hours of each round by stage, without failed calculations."
        )


def _checked(row: Mapping[str, Any]) -> bool:
    return bool((row["calibration"] or {}).get("checked"))


def _learning_curve(plots: Any, report: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> bytes:
    labels = np.array([row["n_train"] + row["n_valid"] for row in rows], float)
    points = {"sealed test set": (labels, np.array([row["force_rmse_eV_per_A"] for row in rows], float))}
    for name in regions(report):
        points[name] = (labels, _errors(rows, "test_regions", name))
    bounds = [row["force_rmse_interval_95_eV_per_A"] or (np.nan, np.nan) for row in rows]
    stored = (report["stop"] or {}).get("learning_curve")
    band = None
    if stored:
        curve = LearningCurve.from_dict(stored)
        end = max(AHEAD * labels[-1], labels[-1] + stored["gain"]["labels"])
        where = np.geomspace(labels.min(), end, 60)
        band = (where, curve.band(where))
    return bytes(plots.learning_curve(points, np.array(bounds, float).T, band, labels[-1]))


def _errors(rows: list[Mapping[str, Any]], key: str, name: str) -> Float:
    """(n,) eV/Å: force RMSE of one region or temperature by round; NaN where there is none."""
    found = [((row[key] or {}).get(name) or {}).get("force_rmse_eV_per_A") for row in rows]
    return np.array([_nan(value) for value in found])


def _nan(value: float | None) -> float:
    return np.nan if value is None else value
