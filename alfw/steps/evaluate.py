"""evaluate: how good the ensemble is, on the sealed test regions and on audit labels it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alfw.core.metrics import bootstrap_interval, bootstrap_upper, frame_force_mse, summarise
from alfw.core.protocols import Potential
from alfw.core.records import Labeled, Prediction
from alfw.core.uncertainty import frame_force_std
from alfw.steps import calibrate
from alfw.steps.context import Context, Outcome
from alfw.steps.dataset import Row, labeled, rows_of
from alfw.steps.ensemble import driving_ensemble, load_potential
from alfw.steps.suspect import Expected, residual


def run(ctx: Context) -> dict[str, Any]:
    """The committed evaluation of this round."""
    return ctx.once("evaluate", 0, lambda: _evaluate(ctx))


@dataclass(frozen=True, eq=False)
class _Predicted:
    """Labels, and what an ensemble says of their frames."""

    rows: list[Row]
    items: list[Labeled]
    prediction: Prediction | None

    @classmethod
    def of(cls, ctx: Context, potential: Potential, rows: list[Row]) -> _Predicted:
        """Predict the frames of these rows."""
        items = labeled(ctx, rows)
        return cls(rows, items, potential.predict([item.frame for item in items]) if items else None)

    def summary(self, rows: Sequence[Row]) -> dict[str, Any] | None:
        """Errors of the ensemble's mean on these of the rows; None without any."""
        place = {row.frame: i for i, row in enumerate(self.rows)}
        chosen = [place[row.frame] for row in rows]
        if self.prediction is None or not chosen:
            return None
        items = [self.items[i] for i in chosen]
        energy = self.prediction.energy.mean(0)[chosen]
        forces = [self.prediction.forces[i].mean(0) for i in chosen]
        bounds = bootstrap_interval(frame_force_mse(items, forces))
        return {
            **summarise(items, energy, forces).as_dict(),
            "force_rmse_interval_95_eV_per_A": None if bounds is None else list(bounds),
        }

    def coverage(self, rows: Sequence[Row], calibration: Mapping[str, Any]) -> dict[str, Any]:
        """How the error bars of the rounds to come hold on these of the rows, by test region."""
        place = {row.frame: i for i, row in enumerate(self.rows)}
        chosen = [place[row.frame] for row in rows]
        if self.prediction is None or not chosen:
            return {}
        forces = [self.prediction.forces[i] for i in chosen]
        regions = [row.region or "test" for row in rows]
        errors = calibrate.frame_errors([self.items[i] for i in chosen], forces, regions)
        return calibrate.by_stratum(errors, calibration["factor"], calibration["promised"])

    def residuals(self) -> list[dict[str, Any]]:
        """How far each label is off what was predicted; those that are not finite are left out."""
        if self.prediction is None:
            return []
        parts = zip(self.items, self.prediction.energy.mean(0), self.prediction.forces, strict=True)
        found = [
            residual(item.frame, item.label, Expected(e, f.mean(0), frame_force_std(f, item.frame.free)))
            for item, e, f in parts
        ]
        return [one.as_row() for one in found if np.isfinite([one.energy, one.force]).all()]


def _evaluate(ctx: Context) -> Outcome:
    merged = ctx.result("merge")
    rows = rows_of(ctx, merged["outputs"]["dataset"])
    ensemble = ctx.result("train")["outputs"]["ensemble"]
    test = [row for row in rows if row.side == "test"]
    valid = [row for row in rows if row.side == "valid"]
    predicted = _Predicted.of(ctx, load_potential(ctx, ensemble), test + valid)
    metrics: dict[str, Any] = {"test": predicted.summary(test)}
    metrics["test_regions"] = {
        region: predicted.summary([row for row in test if row.region == region])
        for region in sorted({row.region for row in test if row.region})
    }
    metrics["valid"] = predicted.summary(valid)
    # What the labels of the next round are compared with: the ensemble that will find them was not trained on these.
    outputs = {"ensemble": ensemble, "residuals": ctx.put_json(predicted.residuals())}
    audit = [row for row in rows if row.audit and row.round == ctx.round]
    if audit:
        audited, errors = _audit(ctx, audit)
        metrics |= audited
        metrics["calibration"]["test_regions"] = predicted.coverage(test, metrics["calibration"])
        outputs["audit_errors"] = ctx.put_json(calibrate.rows(errors))
    counts = {
        "n_audit_labeled": len(audit),
        "n_changed_surface": merged["counts"].get("n_changed_surface", 0),
    }
    return Outcome(outputs, counts, metrics)


def _audit(ctx: Context, rows: list[Row]) -> tuple[dict[str, Any], list[calibrate.FrameError]]:
    """Errors on this round's audit labels of the ensemble that made the pool, before it was retrained on them."""
    candidates = {c["frame"]: c for c in ctx.get_json(ctx.result("select")["outputs"]["candidates"])}
    drawn = [candidates[row.frame] for row in rows]
    names = calibrate.temperature_names([c["temperature_K"] for c in drawn])
    before = _Predicted.of(ctx, load_potential(ctx, driving_ensemble(ctx)), rows)
    forces = before.prediction.forces if before.prediction else []
    errors = calibrate.frame_errors(before.items, forces, calibrate.strata_of(drawn))
    by_temperature = {
        name: before.summary([row for row, own in zip(rows, names, strict=True) if own == name])
        for name in sorted(set(names))
    }
    squares = frame_force_mse(before.items, [said.mean(0) for said in forces])
    return {
        "audit": before.summary(rows),
        "audit_by_temperature": by_temperature,
        "audit_squares": [list(pair) for pair in squares],
        "calibration": calibrate.calibration(ctx, errors, len(forces[0]) if forces else 0),
    }, errors


def audit_upper_bound(ctx: Context, rounds: int = 3) -> float | None:
    """Upper 95 % bootstrap bound (eV/Å) of the audit force RMSE of the last rounds; None with too few audits."""
    squares: list[list[float]] = []
    for number in range(max(ctx.round - rounds + 1, 1), ctx.round + 1):
        squares += ctx.result("evaluate", round=number)["metrics"].get("audit_squares", [])
    if not squares:
        return None
    bound = bootstrap_upper(np.array(squares), level=0.95, seed=ctx.seed("decide", "bootstrap"))
    return bound if np.isfinite(bound) else None
