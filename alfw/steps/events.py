"""Event files of an exploration: what a walker met, with what the ensemble says of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.exploration import Event
from alfw.core.frame import Float, Frame
from alfw.core.ids import content_id
from alfw.core.protocols import HasElectrostatics, Potential
from alfw.core.uncertainty import frame_force_std
from alfw.io.event_files import Predicted, SavedEvent, largest_component, write_event

# What the older system calls the limits; "velocity" and "position" are its words.
TYPES = {"speed": "velocity", "growth": "position", "high_force": "warning"}
# Beyond this a frame is no frame for a neighbour list: the atoms are lost.
LOST_A = 1e4


def save_events(
    folder: Path, events: Sequence[Event], potential: Potential, about: Mapping[str, Any]
) -> list[Path]:
    """The paths of the event files, one for each event, in the layout of `alfw.io.event_files`.

    The ensemble predicts energy and forces (mean of the members) of the frames beyond the limits and of the last good
    ones.

    Parameters
    ----------
    folder : Path
        ``<output_dir>/active_learning``; made where it is missing.
    about : mapping
        ``ensemble`` ("nvt", "nve" …), ``timestep_fs`` and ``model``, the id of the ensemble of models.
    """
    frames = {frame.id: frame for event in events for frame in (event.good, event.bad) if frame is not None}
    judged = _predicted(potential, list(frames.values()))
    now = datetime.now()
    return [write_event(folder, _saved(event, judged, about), now) for event in events]


def _saved(event: Event, judged: Mapping[str, Predicted], about: Mapping[str, Any]) -> SavedEvent:
    """What the file of an event holds."""
    good = judged[event.good.id]
    good = Predicted(**{**vars(good), "dipoles": event.dipoles or good.dipoles})
    shown = good if event.bad is None else judged[event.bad.id]
    what = {"frames": [event.good.id, shown.frame.id], "reason": event.reason}
    where = {
        "walker": event.walker,
        "step": event.step,
        "time_fs": event.time_fs,
        "model": about.get("model"),
    }
    return SavedEvent(
        shown=shown,
        good=good if event.explosion else None,
        reason="explosion" if event.explosion else event.reason,
        instability_type=TYPES.get(event.reason, event.reason),
        ensemble=str(about.get("ensemble", "unknown")),
        model=str(about.get("model", "")),
        # of the content: an event that is saved twice can be told by it
        uuid=str(uuid.UUID(content_id("event", what | where)[:32])),
        walker=event.walker,
        step=event.step,
        time_fs=event.time_fs,
        timestep_fs=float(about.get("timestep_fs", np.nan)),
        temperature_K=event.temperature_K,
        max_velocity=largest_component(event.velocities),
        max_position=largest_component(shown.frame.positions),
        value=event.value,
        velocities=event.velocities,
    )


def _predicted(potential: Potential, frames: Sequence[Frame]) -> dict[str, Predicted]:
    """What the ensemble says of these frames, by id; nothing of those whose atoms are lost."""
    near = [frame for frame in frames if np.ptp(frame.positions, axis=0).max() < LOST_A]
    judged = {frame.id: Predicted(frame, forces=np.full((len(frame), 3), np.nan)) for frame in frames}
    if not near:
        return judged
    prediction = potential.predict(near)
    dipoles = _dipoles(potential, near)
    for index, (frame, forces) in enumerate(zip(near, prediction.forces, strict=True)):
        mean = np.asarray(forces, np.float64).mean(0)
        judged[frame.id] = Predicted(
            frame=frame,
            energy=float(np.mean(prediction.energy[:, index])),
            forces=mean,
            force_std=frame_force_std(forces, frame.free) if len(forces) > 1 else float("nan"),
            max_force=largest_component(mean),
            dipoles=dipoles[index],
        )
    return judged


def _dipoles(potential: Potential, frames: Sequence[Frame]) -> list[dict[str, Float]]:
    """Mean dipoles of the atomic and of the distributed charges, where the potential has charges."""
    if not isinstance(potential, HasElectrostatics):
        return [{} for _ in frames]
    atomic, distributed = (dipole.mean(0) for dipole in potential.dipoles(frames))
    return [
        {"dipole_physnet": one, "dipole_dcmnet": other}
        for one, other in zip(atomic, distributed, strict=True)
    ]
