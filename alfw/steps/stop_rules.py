"""The rules by which a campaign ends: of each whether it is met, by which number, and what is missing.

How they combine: each budget (max_rounds, max_labels, cpu_hours, gpu_hours) ends the campaign by itself; of the quality
rules (force_rmse_eV_per_A, min_gain_percent, max_failures_per_ns) all that are given have to be met, after min_rounds.
A selection that comes back empty ends it, too. Every bound is an upper one at 95 %: a rule that knows too little is not
met.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from alfw.core.learning_curve import MIN_POINTS, LearningCurve, learning_curve
from alfw.core.survival import poisson_bounds
from alfw.steps.context import Context
from alfw.steps.costs import campaign_costs
from alfw.steps.evaluate import audit_upper_bound

LAST_ROUNDS = 3  # what audit labels and failures of exploration are counted over
# Reasons to turn a frame down that mean: there is nothing to learn from it, or it cannot be labelled at all.
NOTHING_NEW = frozenset(
    {"below_band", "duplicate", "nothing_new", "known", "not_labelable", "not_finite", "too_close"}
)
NORMAL_95 = 3.92  # widths of a normal 95 % interval in standard errors


@dataclass(frozen=True)
class Rule:
    """One rule that campaign.yaml gives.

    Attributes
    ----------
    kind : {"budget", "quality"}
    limit, value : float
        What is given, and what it is compared with (of quality rules an upper bound); `value` None: not known.
    text : str
        The evidence, and what is missing where the rule is not met.
    """

    rule: str
    kind: Literal["budget", "quality"]
    limit: float
    value: float | None
    met: bool
    text: str

    @property
    def reason(self) -> str:
        """Why a campaign ends by this rule."""
        done = "spent" if self.rule.endswith("_hours") else "reached"
        joint = (
            ""
            if self.rule == "max_rounds"
            else f": {self.text}"
            if self.kind == "quality"
            else f" ({self.text})"
        )
        return f"{self.rule} {self.limit:g} {done}{joint}"


@dataclass(frozen=True)
class Evidence:
    """What the results of a campaign up to this round say to its stop rules."""

    ctx: Context

    @cached_property
    def n_labels(self) -> int:
        """Labels of all sides."""
        counts = self.ctx.result("merge")["counts"]
        return int(counts["n_train"] + counts["n_valid"] + counts["n_test"])

    @cached_property
    def costs(self) -> dict[str, Any]:
        """See `campaign_costs`."""
        return campaign_costs(self.ctx.store, self.ctx.campaign)

    @cached_property
    def audit_bound(self) -> float | None:
        """Upper 95 % bound (eV/Å) of the audit force RMSE of the last rounds."""
        return audit_upper_bound(self.ctx, LAST_ROUNDS) if self.ctx.round > 0 else None

    @cached_property
    def curve(self) -> LearningCurve | None:
        """The learning curve of the sealed test side."""
        return self._curve(lambda metrics: metrics["test"])

    @cached_property
    def region_curves(self) -> dict[str, LearningCurve]:
        """The same by test region, where there are several."""
        regions = self.ctx.result("evaluate")["metrics"].get("test_regions") or {}
        found = {
            name: self._curve(lambda m, n=name: (m.get("test_regions") or {}).get(n)) for name in regions
        }
        return {name: curve for name, curve in found.items() if curve is not None and len(regions) > 1}

    def _curve(self, errors_of: Any) -> LearningCurve | None:
        labels, error, std = [], [], []
        for number in range(self.ctx.round + 1):
            counts = self.ctx.result("merge", round=number)["counts"]
            errors = errors_of(self.ctx.result("evaluate", round=number)["metrics"]) or {}
            low, high = errors.get("force_rmse_interval_95_eV_per_A") or (None, None)
            labels.append(counts["n_train"] + counts["n_valid"])
            error.append(errors.get("force_rmse_eV_per_A"))
            std.append(None if low is None or high is None else (high - low) / NORMAL_95)
        return learning_curve(labels, error, std)

    @cached_property
    def next_labels(self) -> int:
        """How many labels the next round asks for."""
        return self.ctx.config.select.max_frames + self.ctx.config.select.audit_frames

    @cached_property
    def failures(self) -> tuple[int, float]:
        """Explosions, and ns of unbiased dynamics, of the last rounds."""
        n, time = 0, 0.0
        for number in range(max(self.ctx.round - LAST_ROUNDS + 1, 1), self.ctx.round + 1):
            for result in self.ctx.store.get_results(self.ctx.campaign, number, "sample"):
                lasted = failures_of(result)
                n, time = n + lasted[0], time + lasted[1]
        return n, time


def failures_of(result: Mapping[str, Any]) -> tuple[int, float]:
    """Explosions and ns of one exploration; nothing of a biased one, or of one that is no dynamics."""
    metrics = result["metrics"]
    time = float(metrics["counters"].get("time_ps") or 0.0) / 1000
    return (int(result["counts"]["n_explosions"]), time) if metrics["unbiased"] and time > 0 else (0, 0.0)


def rules(evidence: Evidence) -> list[Rule]:
    """The rules that the campaign gives: budgets, then quality."""
    return [*_budgets(evidence), *_quality(evidence)]


def stop_reason(ctx: Context, evidence: Evidence | None = None) -> str | None:
    """Why the campaign ends after this round; None when it goes on."""
    evidence = evidence or Evidence(ctx)
    for rule in _budgets(evidence):
        if rule.met:
            return rule.reason
    if ctx.round == 0:
        return None
    empty = _nothing_left(ctx)
    if empty is not None:
        return empty
    quality = list(_quality(evidence))
    if quality and all(rule.met for rule in quality):
        return "; ".join(rule.reason for rule in quality if rule.rule != "min_rounds")
    return None


def _nothing_left(ctx: Context) -> str | None:
    """Why there is nothing to go on with: nothing was selected, or but for audit frames the selector saw nothing new.

    Frames that cost too much, that a pre-screen rejects, or that are on their way elsewhere, say nothing of that kind.
    """
    selected = ctx.result("select")
    counts, notes = selected["counts"], selected["metrics"].get("notes") or []
    rejected = selected["metrics"].get("rejected") or {}
    proposed = counts["n_selected"] - counts.get("n_audit", 0) - counts.get("n_retry", 0)
    seen_all = counts["n_candidates"] and rejected.keys() <= NOTHING_NEW and not counts.get("n_in_flight")
    if counts["n_selected"] and (proposed or not seen_all):
        return None
    why = "; ".join(notes) or _rejected(rejected)
    return "nothing left to label: the selection of this round is empty" + (f" ({why})" if why else "")


def _rejected(rejected: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in rejected.items())


def _budgets(evidence: Evidence) -> Iterator[Rule]:
    ctx, stop = evidence.ctx, evidence.ctx.config.file.stop
    yield _budget("max_rounds", stop.max_rounds, ctx.round, f"round {ctx.round}")
    if stop.max_labels is not None:
        n = evidence.n_labels
        yield _budget("max_labels", stop.max_labels, n, f"{n} labels")
    for key in ("cpu_hours", "gpu_hours"):
        limit = getattr(stop, key)
        if limit is not None:
            spent = evidence.costs[key]
            yield _budget(key, limit, spent, f"{spent:.4g} h so far")


def _budget(name: str, limit: float, value: float, now: str) -> Rule:
    met = value >= limit
    text = now if met else f"{now} of {limit:g}; {limit - value:.4g} left"
    return Rule(name, "budget", limit, value, met, text)


def _quality(evidence: Evidence) -> Iterator[Rule]:
    """Those that are given, with min_rounds before them; none at all where only budgets are."""
    stop, number = evidence.ctx.config.file.stop, evidence.ctx.round
    judges = (
        (stop.force_rmse_eV_per_A, _accuracy),
        (stop.min_gain_percent, _gain),
        (stop.max_failures_per_ns, _failure_rate),
    )
    given = [(limit, judge) for limit, judge in judges if limit is not None]
    if given:
        least = max(stop.min_rounds, 1)
        text = f"round {number}; the rules of quality count from round {least} on"
        yield Rule("min_rounds", "quality", least, number, number >= least, text)
    for limit, judge in given:
        yield judge(evidence, limit)


def _accuracy(evidence: Evidence, limit: float) -> Rule:
    """Met when the sealed test RMSE *and* the upper bound of the audit RMSE are below the target."""
    test = (evidence.ctx.result("evaluate")["metrics"]["test"] or {}).get("force_rmse_eV_per_A")
    bound = evidence.audit_bound
    told = "no sealed test error" if test is None else f"sealed test {test:.4f}"
    audit = "too few audit labels" if bound is None else f"audit labels at most {bound:.4f}"
    told += f", {audit} (95 % bootstrap bound of the last rounds)"
    name = "force_rmse_eV_per_A"
    if test is None or bound is None:
        return Rule(name, "quality", limit, None, False, f"{told}; both have to be below {limit:g}")
    met = max(test, bound) < limit
    text = told if met else f"{told}; both have to be below {limit:g}"
    return Rule(name, "quality", limit, max(test, bound), met, text)


def _gain(evidence: Evidence, limit: float) -> Rule:
    """Met when the upper bound of what the next round's labels gain is below the limit."""
    name, curve = "min_gain_percent", evidence.curve
    if curve is None:
        text = f"not enough rounds for a learning curve: {MIN_POINTS} with different numbers of labels"
        return Rule(name, "quality", limit, None, False, text)
    gain = curve.gain(evidence.next_labels)
    met = gain.high < limit
    text = str(gain) if met else f"{gain}; its upper end has to be below {limit:g} %"
    return Rule(name, "quality", limit, gain.high, met, text)


def _failure_rate(evidence: Evidence, limit: float) -> Rule:
    """Met when the upper bound of explosions per ns of the last rounds' dynamics is below the limit."""
    name, (n, time) = "max_failures_per_ns", evidence.failures
    if not time:
        text = "no unbiased dynamics in the last rounds"
        return Rule(name, "quality", limit, None, False, text)
    bound = poisson_bounds(n)[1] / time
    told = f"{n} explosions in {time:.3g} ns of the last rounds, at most {bound:.3g} per ns (95 % bound)"
    if bound < limit:
        return Rule(name, "quality", limit, bound, True, told)
    least = poisson_bounds(0)[1] / limit
    more = f"; even without any, {least:.3g} ns are needed" if time < least else ""
    return Rule(name, "quality", limit, bound, False, f"{told}; it has to be below {limit:g}{more}")


def as_metrics(evidence: Evidence) -> dict[str, Any]:
    """What `decide` commits of the evidence: rules, learning curves with their gain, audit bound, cost so far."""

    def told(curve: LearningCurve | None) -> dict[str, Any] | None:
        if curve is None:
            return None
        return {**curve.as_dict(), "gain": asdict(curve.gain(evidence.next_labels))}

    return {
        "audit_force_rmse_upper_eV_per_A": evidence.audit_bound,
        "rules": [asdict(rule) for rule in rules(evidence)],
        "learning_curve": told(evidence.curve),
        "region_curves": {name: told(curve) for name, curve in evidence.region_curves.items()},
        "spent": {key: evidence.costs[key] for key in ("cpu_hours", "gpu_hours")},
    }
