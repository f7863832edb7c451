"""calibrate: what force_std has to be multiplied with to bound the force error of a frame, learnt from audit labels.

Audit frames are drawn at random from unbiased walkers and predicted by the ensemble that made the pool, before it is
trained on them: their errors are those of frames that nobody has labelled. One score a frame, for the atoms of a frame
are not independent: the largest |ΔF| over its free atoms / its force_std. The factor is made of the rounds before and
checked on this round's labels (prequential), so that no label ever vouches for itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from ase.data import chemical_symbols

from alfw.core.calibration import Coverage, conformal_factor, coverage_of, frames_needed, standardised
from alfw.core.frame import Float
from alfw.core.metrics import as_json
from alfw.core.records import Labeled
from alfw.core.uncertainty import force_std
from alfw.steps.context import Context
from alfw.steps.validation.spread import ONE_MEMBER, not_vanishing

SCORE = "largest |ΔF| over the atoms of a frame / force_std of the frame"
MIN_FOR_ELEMENT = 100  # calibration frames that hold an element, before it gets a factor of its own
S = TypeVar("S")


@dataclass(frozen=True)
class FrameError:
    """The force error of one audit frame, and what the ensemble thought it was.

    Attributes
    ----------
    stratum : str
        Sampler and temperature.
    error, force_std : float, eV/Å
        The largest over the atoms that may move; None where it is not finite.
    elements : {symbol: (error, force_std)}, eV/Å
        The same over the atoms of one element.
    """

    frame: str
    stratum: str
    error: float | None
    force_std: float | None
    elements: Mapping[str, Sequence[float | None]]


def frame_errors(
    items: Sequence[Labeled], forces: Sequence[Float], strata: Sequence[str]
) -> list[FrameError]:
    """The errors of B audit frames, of the mean of the members.

    Parameters
    ----------
    items : sequence of B Labeled
    forces : B × (K, n, 3) float64, eV/Å
    strata : sequence of B str
    """
    found = []
    for item, said, stratum in zip(items, forces, strata, strict=True):
        free = item.frame.free
        size = np.linalg.norm(said.mean(0) - item.label.forces, axis=1)[free]
        std, numbers = force_std(said)[free], item.frame.numbers[free]
        by_element = {
            chemical_symbols[z]: [_largest(size[numbers == z]), _largest(std[numbers == z])]
            for z in np.unique(numbers)
        }
        found.append(FrameError(item.frame.id, stratum, _largest(size), _largest(std), by_element))
    return found


def _largest(values: Float) -> float | None:
    top = float(values.max(initial=0.0))
    return top if math.isfinite(top) else None


def rows(errors: Sequence[FrameError]) -> list[dict[str, Any]]:
    """JSON data; what `past_errors` reads back."""
    return [asdict(error) for error in errors]


def past_errors(ctx: Context) -> list[FrameError]:
    """The audit errors of all rounds before this one."""
    found: list[FrameError] = []
    for number in range(1, ctx.round):
        outputs = ctx.result("evaluate", round=number)["outputs"]
        if outputs.get("audit_errors"):
            found += [FrameError(**row) for row in ctx.get_json(outputs["audit_errors"])]
    return found


def calibration(ctx: Context, new: Sequence[FrameError], members: int) -> dict[str, Any]:
    """What this round's audit labels say of the factor made before, and the factor made with them: JSON data.

    Returns
    -------
    dict
        promised, score · factor, n_calibration, elements: for the rounds to come, None where labels are too few ·
        checked: coverage and sharpness of the factor made before, also by stratum and element · cumulative: coverage
        over the rounds · alarm, note: one line, or None.
    """
    promised = ctx.config.file.calibration.coverage
    head = {"promised": promised, "score": SCORE, "n_frames": len(new)}
    if members < 2:
        return {**head, "factor": None, "alarm": None, "note": ONE_MEMBER}
    before, now = _counted(past_errors(ctx)), _counted(new)
    old, fresh = _factors(before, promised), _factors([*before, *now], promised)
    checked = _checked(now, old, promised)
    total = Coverage(0, 0)
    if checked is not None:
        here, past = Coverage(checked["n_frames"], checked["n_inside"]), latest(ctx) or {}
        total = _coverage(past.get("cumulative")) + here
    lacking = frames_needed(promised) - fresh["n_calibration"]
    found = {
        **head,
        **fresh,
        "n_vanishing": len(new) - len(now),
        "n_not_finite": sum(one.error is None or one.force_std is None for one in now),
        "checked": checked,
        "cumulative": total.as_dict() if total.n else (latest(ctx) or {}).get("cumulative"),
        "alarm": _alarm(checked, total, promised),
        "note": f"too few audit labels for {promised:.0%}: {lacking} more are needed"
        if lacking > 0
        else None,
    }
    return dict(as_json(found))


def _note(lacking: int, checked: Mapping[str, Any] | None, promised: float) -> str | None:
    if lacking > 0:
        return f"too few audit labels for {promised:.0%}: {lacking} more are needed"
    return None if checked else "nothing to check: no factor before, or no force that does not vanish"


def _counted(errors: Sequence[FrameError]) -> list[FrameError]:
    """Those whose forces do not vanish by symmetry."""
    kept = not_vanishing(_column(errors, "error"), _column(errors, "force_std"))
    return [error for error, one in zip(errors, kept, strict=True) if one]


def _column(errors: Sequence[FrameError], name: str) -> Float:
    values = [getattr(error, name) for error in errors]
    return np.array([math.nan if value is None else value for value in values], float)


def _scores(errors: Sequence[FrameError]) -> Float:
    """(B,): infinite where anything is not finite."""
    found = standardised(_column(errors, "error"), _column(errors, "force_std"))
    return np.where(np.isfinite(found), found, np.inf)


def _of_element(errors: Sequence[FrameError], symbol: str) -> list[FrameError]:
    """The part of each frame that is of this element."""
    parts = []
    for error in errors:
        if symbol in error.elements:
            size, std = error.elements[symbol]
            parts.append(FrameError(error.frame, error.stratum, size, std, {}))
    return _counted(parts)


def _factors(errors: Sequence[FrameError], promised: float) -> dict[str, Any]:
    """factor and n_calibration of the frames, and of each element that enough of them hold."""
    elements = {}
    for symbol in sorted({symbol for error in errors for symbol in error.elements}):
        part = _of_element(errors, symbol)
        if len(part) >= MIN_FOR_ELEMENT:
            elements[symbol] = {"factor": _factor(part, promised), "n_calibration": len(part)}
    return {"factor": _factor(errors, promised), "n_calibration": len(errors), "elements": elements}


def _factor(errors: Sequence[FrameError], promised: float) -> float | None:
    factor = conformal_factor(_scores(errors), promised)
    return factor if math.isfinite(factor) else None


def _checked(now: Sequence[FrameError], old: Mapping[str, Any], promised: float) -> dict[str, Any] | None:
    """How the factors made before did on these; None without factor or frames."""
    if old["factor"] is None or not now:
        return None
    elements = {}
    for symbol, own in old["elements"].items():
        part = _of_element(now, symbol)
        if part and own["factor"] is not None:
            elements[symbol] = _held(part, own["factor"], promised)
    pooled = _held(now, old["factor"], promised)
    strata = by_stratum(now, old["factor"], promised)
    return {**pooled, "n_calibration": old["n_calibration"], "strata": strata, "elements": elements}


def by_stratum(errors: Sequence[FrameError], factor: float | None, promised: float) -> dict[str, Any]:
    """{stratum: coverage and sharpness of this factor}, JSON data; nothing without a factor.

    Of a stratum that the calibration frames were not drawn from nothing is promised: `off` marks where it shows.
    """
    counted = [] if factor is None else _counted(errors)
    found = {
        name: _held([error for error in counted if error.stratum == name], factor or 0.0, promised)
        for name in sorted({error.stratum for error in counted})
    }
    return dict(as_json(found))


def _held(errors: Sequence[FrameError], factor: float, promised: float) -> dict[str, Any]:
    """Coverage and sharpness (mean width / mean error) of one factor; `off`: −1 or +1 where the 99 % interval is."""
    coverage = coverage_of(_scores(errors), factor)
    size, std = _column(errors, "error"), _column(errors, "force_std")
    known = np.isfinite(size) & np.isfinite(std)
    width, error = (float(v[known].mean()) if known.any() else math.nan for v in (factor * std, size))
    return {
        "factor": factor,
        **coverage.as_dict(),
        "off": coverage.off(promised),
        "mean_width_eV_per_A": width,
        "mean_error_eV_per_A": error,
        "width_over_error": width / error if error else math.nan,
    }


def _coverage(stored: Mapping[str, Any] | None) -> Coverage:
    return Coverage(stored["n_frames"], stored["n_inside"]) if stored else Coverage(0, 0)


def _alarm(checked: Mapping[str, Any] | None, total: Coverage, promised: float) -> str | None:
    """One line where this round's coverage, or that of all rounds, leaves its 99 % interval; and what to do."""
    if checked is None:
        return None
    here = Coverage(checked["n_frames"], checked["n_inside"])
    for coverage, when in ((here, "of this round"), (total, "of all rounds")):
        off = coverage.off(promised)
        if off:
            low, high = coverage.as_dict()["interval_99"]
            what = (
                "error bars are too narrow: raise select.audit_frames, and trust neither them nor a band until the "
                "alarm ends"
                if off < 0
                else "error bars are too wide: they promise less than they keep, and a band of errors takes in too much"
            )
            return (
                f"{coverage.fraction:.0%} of the {coverage.n} audit frames {when} are within error bars that promise "
                f"{promised:.0%} (99 % interval {low:.0%} to {high:.0%}); {what}"
            )
    return None


def latest(ctx: Context) -> dict[str, Any] | None:
    """The newest committed calibration of the rounds before this one."""
    for number in range(ctx.round - 1, 0, -1):
        result = ctx.store.get_result(ctx.campaign, number, "evaluate")
        if result is not None and result["metrics"].get("calibration"):
            return dict(result["metrics"]["calibration"])
    return None


def resolved_band(ctx: Context) -> tuple[float | None, float | None] | None:
    """``select.band_error_eV_per_A`` as a band of force_std, eV/Å; None without that option, or before any factor."""
    wanted = ctx.config.select.band_error_eV_per_A
    factor = (latest(ctx) or {}).get("factor")
    if wanted is None or not factor:
        return None
    low, high = (None if end is None else end / factor for end in wanted)
    return low, high


def with_band(ctx: Context, selector: S) -> tuple[S, list[str]]:
    """The selector with that band, and a line that says what became of it; unchanged where no such band is given."""
    if ctx.config.select.band_error_eV_per_A is None:
        return selector, []
    band = resolved_band(ctx)
    if band is None:
        return selector, ["band_error_eV_per_A: no calibration yet, the selector's own band is used"]
    low, high = ("open" if end is None else f"{end:.4g}" for end in band)
    note = f"band_error_eV_per_A is force_std {low} to {high} eV/Å by the calibration so far"
    return selector.model_copy(update={"band_eV_per_A": band}), [note]  # type: ignore[attr-defined]


def strata_of(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sampler and temperature of each candidate."""
    names = temperature_names([row["temperature_K"] for row in candidates])
    return [f"{row['source']} {name}" for row, name in zip(candidates, names, strict=True)]


def temperature_names(kelvins: Sequence[float | None], most: int = 12) -> list[str]:
    """A name of the temperature of each: as it is where there are few of them, else its hundred (of a ramp)."""
    few = len(set(kelvins)) <= most

    def name(kelvin: float | None) -> str:
        if kelvin is None:
            return "no temperature"
        below = 100 * math.floor(kelvin / 100)
        return (f"{kelvin:g} K" if few else f"{below:g} to {below + 100:g} K").replace(".", "_")

    return [name(kelvin) for kelvin in kelvins]
