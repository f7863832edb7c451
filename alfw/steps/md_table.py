"""The summary of a run in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def lines(folder: Path, summary: Mapping[str, Any]) -> Iterator[str]:
    """What a run found: stability, energies, spectrum, and where it all is."""
    if "n_explosions" not in summary:
        counted = ", ".join(f"{key} {value:g}" for key, value in summary["counters"].items())
        yield f"{folder}: {summary['n_frames']} frames{f' ({counted})' if counted else ''}"
        return
    walkers = "1 walker" if summary["n_walkers"] == 1 else f"{summary['n_walkers']} walkers"
    yield f"{folder}: {walkers}, {1000 * summary['simulated_ns']:.4g} ps, {summary['n_frames']} frames"
    causes = ", ".join(f"{cause} {count}" for cause, count in summary["causes"].items())
    yield (
        f"explosions: {summary['n_explosions']}{f' ({causes})' if causes else ''}, {rate(summary)};"
        f" high forces: {summary['n_high_force']}, uncertain: {summary['n_uncertain']}"
    )
    yield f"stable for (median): {lasting(summary)}"
    yield (
        f"largest force: {number(summary['max_force_eV_per_A'])} eV/Å,"
        f" mean over frames {number(summary['mean_max_force_eV_per_A'])} eV/Å"
    )
    if summary.get("mean_temperature_K") is not None:
        yield (
            f"kinetic temperature: {summary['mean_temperature_K']:.1f} K,"
            f" standard deviation {summary['std_temperature_K']:.1f} K"
        )
    if summary.get("energy_drift_eV_per_atom_per_ps") is not None:
        yield (
            f"energy drift: {1000 * summary['energy_drift_eV_per_atom_per_ps']:.2g} meV per atom and ps,"
            f" fluctuation {1000 * summary['energy_fluctuation_eV_per_atom']:.2g} meV per atom"
        )
    yield from _spectrum(summary.get("infrared"))
    if summary["n_events"]:
        yield f"event files: {folder / 'active_learning'} ({summary['n_events']})"


def rate(summary: Mapping[str, Any]) -> str:
    """Explosions per nanosecond with their bounds."""
    level = f"{2 * summary['level'] - 1:.0%}"
    if not summary["n_explosions"]:
        return f"fewer than {number(summary['explosions_per_ns_upper'])} per ns ({summary['level']:.0%})"
    bounds = f"{number(summary['explosions_per_ns_lower'])}–{number(summary['explosions_per_ns_upper'])}"
    return f"{number(summary['explosions_per_ns'])} per ns ({level}: {bounds})"


def lasting(summary: Mapping[str, Any]) -> str:
    """Median time to an explosion with its interval."""
    low, high = ("–" if end is None else f"{end:.3g} ps" for end in summary["median_interval_ps"])
    if low == high == "–":
        return str(summary["median_text"])
    return f"{summary['median_text']} ({summary['level']:.0%}: {low} to {high})"


def number(value: float | None) -> str:
    """Three digits, or – where there is none."""
    return "–" if value is None else f"{value:.3g}"


def _spectrum(found: Mapping[str, Any] | None) -> Iterator[str]:
    for name, peaks in (found or {}).get("peaks", {}).items():
        places = ", ".join(f"{peak['wavenumber_per_cm']:.0f}" for peak in peaks[:6]) or "none"
        yield f"infrared, {name}: strongest at {places} 1/cm"
