"""How events and frames of files are listed: in the older system's summary, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alfw.io.event_files import Predicted, SavedEvent, largest_component
from alfw.io.imported import Imported
from alfw.steps.frame_files import Found

TOP = 10


def summary_lines(events: Sequence[SavedEvent]) -> list[str]:
    """The summary as the older system prints it, to the letter; what is not known is left out of its statistics."""
    forces = np.array([e.shown.max_force for e in events if np.isfinite(e.shown.max_force)])
    lines = ["", "=" * 70, "ACTIVE LEARNING STRUCTURE SUMMARY", "=" * 70, f"Total structures: {len(events)}"]
    for title, values in (
        ("By failure reason:", Counter(event.reason for event in events)),
        ("By instability type:", Counter(event.instability_type for event in events)),
    ):
        lines += ["", title, *(f"  {name}: {count}" for name, count in sorted(values.items()))]
    if len(forces):
        lines += [
            "",
            "Max force statistics (eV/Å):",
            f"  Min: {forces.min():.2f}",
            f"  Max: {forces.max():.2f}",
        ]
        lines += [f"  Mean: {forces.mean():.2f}", f"  Median: {np.median(forces):.2f}"]
    known = sorted({e.temperature_K for e in events if np.isfinite(e.temperature_K)})
    lines += ["", f"Temperatures: {known} K", "", f"Molecule sizes: {_sizes(events)} atoms"]
    lines += ["", f"Top {TOP} most challenging structures (by max force):"]
    hardest = sorted(events, key=lambda e: -e.shown.max_force if np.isfinite(e.shown.max_force) else np.inf)
    for i, event in enumerate(hardest[:TOP], 1):
        name = event.source.name if event.source else ""
        why = f"({event.reason}, {event.instability_type})"
        lines.append(f"  {i}. {name}: F_max={event.shown.max_force:.2f} eV/Å {why}")
    return lines


def _sizes(events: Sequence[SavedEvent]) -> list[int]:
    return sorted({len(event.shown.frame) for event in events})


def addition_lines(events: Sequence[SavedEvent]) -> list[str]:
    """What the older summary does not say."""
    lines = []
    good = [event.good for event in events if event.good is not None]
    if good:
        forces = [each.max_force for each in good if np.isfinite(each.max_force)]
        most = f", F_max up to {max(forces):.2f} eV/Å" if forces else ""
        lines.append(f"Explosions with their last good frame: {len(good)}{most}")
    times = [e.time_fs / 1000 for e in events if e.explosion and np.isfinite(e.time_fs) and e.velocity_unit]
    if times:
        lines.append(f"Median time to explosion: {np.median(times):.4g} ps (of those that exploded)")
    spread = [e.offered.force_std for e in events if np.isfinite(e.offered.force_std)]
    if spread:
        lines.append(
            f"force_std of what is offered: median {np.median(spread):.3f}, max {max(spread):.3f} eV/Å"
        )
    models = sorted({event.model for event in events if event.model})
    if models:
        lines.append(f"Models: {', '.join(model[:12] for model in models)}")
    return ["", *lines] if lines else []


def listing(found: Found) -> dict[str, Any]:
    """What --json says."""
    forces = [e.shown.max_force for e in found.events if np.isfinite(e.shown.max_force)]
    return {
        "n_events": len(found.events),
        "n_frames": found.n_frames,
        "reasons": dict(Counter(event.reason for event in found.events)),
        "instability_types": dict(Counter(event.instability_type for event in found.events)),
        "max_force_eV_per_A": None
        if not forces
        else {
            "min": min(forces),
            "max": max(forces),
            "mean": float(np.mean(forces)),
            "median": float(np.median(forces)),
        },
        "events": [about(event) for event in found.events],
        "files": [_about_file(path, items) for path, items in found.files.items()],
        "unreadable": [vars(each) for each in found.unreadable],
        "notes": found.notes,
    }


def stands_for(merged: Mapping[str, Any]) -> str:
    """One line about a frame that is kept, and those merged into it."""
    names = [Path(name).name for name in merged["merged"]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{merged['kept']} stands for {', '.join(names[:3])}{more}"


def about(event: SavedEvent) -> dict[str, Any]:
    """An event as JSON data, the older system's keys first; what is not known is null."""
    shown = event.shown
    values = {
        "source": str(event.source or ""),
        "max_force": shown.max_force,
        "max_velocity": event.max_velocity,
        "temperature": event.temperature_K,
        "time_fs": event.time_fs,
        "reason": event.reason,
        "instability_type": event.instability_type,
        "model_energy": shown.energy,
        "step": event.step,
        "timestep_fs": event.timestep_fs,
        "ensemble": event.ensemble,
        "walker": event.walker,
        "model": event.model,
        "uuid": event.uuid,
        "velocity_unit": event.velocity_unit or None,
        "formula": shown.frame.formula,
        "n_atoms": len(shown.frame),
        "force_std": shown.force_std,
        "good_max_force": event.good.max_force if event.good is not None else None,
        "good_force_std": event.good.force_std if event.good is not None else None,
        "ignored_keys": list(event.unknown),
    }
    return {key: finite(value) for key, value in values.items()}


def finite(value: Any) -> Any:
    """The value, or None where it is a number that is none."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _about_file(path: str, items: Sequence[Imported]) -> dict[str, Any]:
    """An ordinary file as JSON data."""
    forces = [judged(item).max_force for item in items if item.label is not None]
    return {
        "source": path,
        "n_frames": len(items),
        "n_labelled": len(forces),
        "formulas": dict(Counter(item.frame.formula for item in items)),
        "max_force": max(forces) if forces else None,
    }


def judged(item: Imported) -> Predicted:
    """A frame of an ordinary file with the force that its label knows."""
    if item.label is None:
        return Predicted(item.frame)
    return Predicted(
        item.frame, item.label.energy, item.label.forces, max_force=largest_component(item.label.forces)
    )
