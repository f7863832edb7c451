"""Two runs of molecular dynamics compared: explosions, forces, how long trajectories last, spectra."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alfw.core.errors import DataError
from alfw.core.metrics import as_json
from alfw.core.spectrum import overlap
from alfw.steps.md_spectrum import NAME, read_spectra
from alfw.steps.md_table import lasting, number, rate
from alfw.steps.sample_files import SUMMARY

# What has to be the same for a comparison of two models, and where it stands in a summary.
ALIKE = {
    **{"molecules": ("formulas",), "ensemble": ("sampler", "ensemble"), "time step": ("sampler", "dt_fs")},
    **{"temperatures": ("sampler", "temperatures_K"), "limits": ("sampler", "limits")},
}
SIGNIFICANT = 0.05


def compare(first: Path, second: Path) -> dict[str, Any]:
    """How two runs differ.

    Returns
    -------
    dict
        JSON data. `runs`: {"first", "second"} with the folder and the numbers compared; `rate_p_value`: how probable
        it is that two equal rates of explosion give counts as different as these; `spectrum_overlap` {name: cosine}
        where both have a spectrum of that name; `rows` and `findings` for people; `notes`: what differs that should
        not.

    Raises
    ------
    DataError
        A folder without the summary of a run of molecular dynamics.
    """
    both = {"first": _summary(first), "second": _summary(second)}
    a, b = both["first"], both["second"]
    overlaps = _overlaps(first, second)
    p_value = rate_p_value(a["n_explosions"], a["simulated_ns"], b["n_explosions"], b["simulated_ns"])
    keys = (
        *("n_walkers", "simulated_ns", "n_explosions", "explosions_per_ns", "explosions_per_ns_lower"),
        *("explosions_per_ns_upper", "level", "n_high_force", "n_uncertain", "max_force_eV_per_A"),
        *("mean_max_force_eV_per_A", "median_ps", "median_interval_ps", "median_text", "mean_temperature_K"),
        "energy_drift_eV_per_atom_per_ps",
    )
    runs = {
        name: {"folder": str(folder), **{key: both[name].get(key) for key in keys}}
        for name, folder in (("first", first), ("second", second))
    }
    result: dict[str, Any] = as_json(
        {
            "runs": runs,
            "rate_p_value": p_value,
            "spectrum_overlap": overlaps,
            "rows": _rows(a, b),
            "findings": _findings(a, b, p_value, overlaps),
            "notes": [
                f"not alike: {what} {_at(a, path)} and {_at(b, path)}"
                for what, path in ALIKE.items()
                if _at(a, path) != _at(b, path)
            ],
        }
    )
    return result


def rate_p_value(n_a: int, time_a: float, n_b: int, time_b: float) -> float:
    """Two-sided probability of counts as different as these in these times, when the rates are equal.

    Source
    ------
    Given their sum, one of two Poisson counts is binomial: Przyborowski and Wilenski, doi:10.1093/biomet/31.3-4.313.
    """
    from scipy.stats import binomtest

    if n_a + n_b == 0 or time_a + time_b == 0:
        return 1.0
    return float(binomtest(n_a, n_a + n_b, time_a / (time_a + time_b)).pvalue)


def _summary(folder: Path) -> Mapping[str, Any]:
    path = folder / SUMMARY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: no run there ({error.strerror}): give a folder of alfw sample") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict) or "explosions_per_ns" not in content:
        raise DataError(f"{path}: not the summary of a run of molecular dynamics")
    return content


def _overlaps(first: Path, second: Path) -> dict[str, float]:
    files = [folder / f"{NAME}.npz" for folder in (first, second)]
    if not all(file.is_file() for file in files):
        return {}
    a, b = map(read_spectra, files)
    return {name: overlap(a[name], b[name]) for name in a if name in b}


def _rows(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    shown = {
        "simulated": lambda s: f"{s['n_walkers']} × {s['run_ps']:.4g} ps",
        "explosions": lambda s: str(s["n_explosions"]),
        "explosions per ns": rate,
        "stable for (median)": lasting,
        "high forces, per ns": lambda s: (
            number(s["n_high_force"] / s["simulated_ns"]) if s["simulated_ns"] else "–"
        ),
        "largest force, eV/Å": lambda s: number(s["max_force_eV_per_A"]),
        "mean largest force, eV/Å": lambda s: number(s["mean_max_force_eV_per_A"]),
        "temperature, K": lambda s: number(s.get("mean_temperature_K")),
        "energy drift, meV/atom/ps": lambda s: number(_milli(s.get("energy_drift_eV_per_atom_per_ps"))),
    }
    return [{"what": what, "shown": [show(a), show(b)]} for what, show in shown.items()]


def _findings(
    a: Mapping[str, Any], b: Mapping[str, Any], p_value: float, overlaps: Mapping[str, float]
) -> list[str]:
    lines = []
    more, fewer = (
        ("first", "second") if a["explosions_per_ns"] > b["explosions_per_ns"] else ("second", "first")
    )
    if p_value < SIGNIFICANT:
        lines.append(f"the {fewer} run explodes less often than the {more} one (p = {p_value:.2g})")
    else:
        lines.append(
            f"no difference in the rate of explosions is shown (p = {p_value:.2g}): longer runs would tell"
        )
    for name, value in overlaps.items():
        lines.append(f"overlap of the infrared spectra, {name}: {value:.3f} (1 = the same bands)")
    return lines


def _at(summary: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = summary
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _milli(value: float | None) -> float | None:
    return None if value is None else 1000 * value
