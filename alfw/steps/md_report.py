"""How stable molecular dynamics was, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alfw.core.exploration import Exploration
from alfw.core.survival import poisson_bounds
from alfw.io.trajectory_npz import Track
from alfw.steps.validation.langevin import Stop
from alfw.steps.validation.stability import LEVEL, lifetimes


def stability(seen: Exploration, tracks: Sequence[Track], n_steps: int, dt_fs: float) -> dict[str, Any]:
    """Stability of a run of molecular dynamics.

    Returns
    -------
    dict
        `n_walkers`, `n_frames`; `simulated_ns` of all walkers, `run_ps` of one that lasts; `n_explosions`, `causes`
        {cause: count}, `n_high_force`, `n_uncertain`; `explosions_per_ns` with `explosions_per_ns_lower` and `_upper`,
        exact bounds that hold at `level` each; `median_ps` to an explosion (Kaplan–Meier; None: more than half lasted)
        with `median_interval_ps` and `median_text`; `survival`, see `steps.validation.stability`.
        `max_force_eV_per_A` of all steps where the sampler counts it, else of the frames kept, as
        `mean_max_force_eV_per_A`, the mean over frames of the largest force, always is. Of runs with velocities
        `mean_temperature_K`, `std_temperature_K`; `energy_drift_eV_per_atom_per_ps`, see `energy_drift`.
    """
    reasons = Counter(event.reason for event in seen.events)
    found = lifetimes(lives(seen, n_steps * dt_fs), n_steps * dt_fs / 1000)
    simulated_ns = found["simulated_ps"] / 1000
    lower, upper = poisson_bounds(found["n_failed"], LEVEL)
    per_ns = 1 / simulated_ns if simulated_ns else float("inf")
    return {
        "n_walkers": _walkers(seen),
        "n_frames": len(seen.frames),
        "simulated_ns": simulated_ns,
        "run_ps": n_steps * dt_fs / 1000,
        "n_explosions": found["n_failed"],
        "causes": found["causes"],
        "n_high_force": reasons["high_force"],
        "n_uncertain": reasons["uncertain"],
        "explosions_per_ns": found["failures_per_ns"],
        "explosions_per_ns_lower": lower * per_ns if lower else 0.0,
        "explosions_per_ns_upper": upper * per_ns,
        "level": LEVEL,
        **{key: found[key] for key in ("median_ps", "median_interval_ps", "median_text", "survival")},
        **_forces(seen.counters, tracks),
        **_temperature(tracks),
    }


def lives(seen: Exploration, end_fs: float) -> list[Stop]:
    """How long each walker lived, and why it exploded; no cause: it lasted, or was stopped for being uncertain."""
    stops = {event.walker: event for event in seen.events if event.reason != "high_force"}
    known = seen.life_fs or {
        walker: stops[walker].time_fs if walker in stops else end_fs for walker in range(_walkers(seen))
    }
    causes = {walker: event.reason for walker, event in stops.items() if event.explosion}
    return [Stop(time_fs, causes.get(walker)) for walker, time_fs in known.items()]


def energy_drift(tracks: Sequence[Track]) -> dict[str, Any]:
    """How well constant-energy dynamics kept the energy.

    Returns
    -------
    dict
        `energy_drift_eV_per_atom_per_ps`: mean over walkers of the slope of the total energy,
        `energy_drift_largest_eV_per_atom_per_ps` the one of the largest size; `energy_fluctuation_eV_per_atom`: root
        mean square about that line. Nothing where no walker has two frames with velocities.
    """
    slopes, left = [], []
    for track in tracks:
        total = track.total_eV
        if total is None or len(track) < 2:
            continue
        time = (track.time_fs - track.time_fs.mean()) / 1000
        energy = (total - total.mean()) / len(track.first)
        slope = float(time @ energy / (time @ time))
        slopes.append(slope)
        left.append(float(np.mean((energy - slope * time) ** 2)))
    if not slopes:
        return {}
    return {
        "energy_drift_eV_per_atom_per_ps": float(np.mean(slopes)),
        "energy_drift_largest_eV_per_atom_per_ps": max(slopes, key=abs),
        "energy_fluctuation_eV_per_atom": float(np.sqrt(np.mean(left))),
    }


def mean_temperature(tracks: Sequence[Track]) -> float:
    """Mean kinetic temperature (K) over all frames; NaN without velocities."""
    known = [track.temperature_K for track in tracks if track.temperature_K is not None]
    return float(np.concatenate(known).mean()) if known else float("nan")


def _walkers(seen: Exploration) -> int:
    return int(seen.counters.get("n_walkers", np.max(seen.walker, initial=-1) + 1))


def _forces(counters: Mapping[str, float], tracks: Sequence[Track]) -> dict[str, Any]:
    kept = np.concatenate([track.max_force_eV_per_A for track in tracks]) if tracks else np.array([np.nan])
    return {
        "max_force_eV_per_A": float(counters.get("max_force_eV_per_A", kept.max())),
        "mean_max_force_eV_per_A": float(kept.mean()),
    }


def _temperature(tracks: Sequence[Track]) -> dict[str, Any]:
    known = [track.temperature_K for track in tracks if track.temperature_K is not None]
    if not known:
        return {}
    every = np.concatenate(known)
    return {"mean_temperature_K": float(every.mean()), "std_temperature_K": float(every.std())}
