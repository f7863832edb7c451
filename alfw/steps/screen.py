"""screen: what the ensemble says of each frame of a pool, and its features for the selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.records import Prediction
from alfw.core.uncertainty import frame_force_std, frame_max_force
from alfw.io.shards import pack, unpack
from alfw.steps import features
from alfw.steps.context import Context, Outcome
from alfw.steps.ensemble import load_potential
from alfw.steps.in_flight import in_flight

BATCH = 1024  # frames predicted at once, so that memory stays bounded


def run(ctx: Context, part: int) -> dict[str, Any]:
    """The committed screening of the pool of sampler `part`."""
    return ctx.once("screen", part, lambda: _screen(ctx, part))


def _screen(ctx: Context, part: int) -> Outcome:
    """Pool frames, then those that only events offer, with force_std, the largest force, mean predictions, features.

    Energy and forces that the ensemble predicts tell later whether a label may be believed.
    """
    sampled = ctx.result("sample", part)["outputs"]
    frames, arrays = with_events(ctx, sampled)
    ensemble = sampled["ensemble"]
    first = part == 0 and features.wanted(ctx)  # of all parts, it sees to what is labelled
    potential = load_potential(ctx, ensemble) if frames or first else None
    arrays |= _predictions(ctx, potential, frames)
    outputs: dict[str, Any] = {}
    if potential is not None and features.wanted(ctx):
        source = features.source_of(ctx, ensemble, potential)
        ctx.progress(f"features of {len(frames)} frames")
        if source.covers(frames):
            arrays |= _features(source, frames)
            outputs["features"] = source.id
        if first:
            outputs["labelled_features"] = features.put_labelled(ctx, source, in_flight(ctx))
    force, std = arrays["max_force"], arrays["force_std"]
    finite = np.isfinite(force)
    metrics = {
        "max_force_eV_per_A": float(force[finite].max(initial=0.0)),
        "force_std_mean_eV_per_A": float(np.nanmean(std)) if np.isfinite(std).any() else None,
    }
    outputs["pool"] = ctx.store.put_blob(pack(frames, **arrays))
    return Outcome(outputs, {"n_pool": len(frames), "n_not_finite": int((~finite).sum())}, metrics)


def with_events(ctx: Context, sampled: dict[str, Any]) -> tuple[list[Frame], dict[str, np.ndarray]]:
    """The frames that a sampler kept and those that its events offer, each once, and where they are from.

    `reason` (B,) tells why an event offers a frame. Frames that only an event offers are marked `event`: they may be
    proposed, but never drawn as audit frames. The bad frames of events are no part of it.
    """
    frames, arrays = unpack(ctx.store.get_blob(sampled["pool"]))
    events = ctx.get_json(sampled["events"])
    place = {frame.id: i for i, frame in enumerate(frames)} if events else {}
    offered = [event for event in events if event["good"] not in place]
    offered = list({event["good"]: event for event in reversed(offered)}.values())[
        ::-1
    ]  # the first event of each
    good = ctx.store.get_frames([event["good"] for event in offered])
    place |= {frame.id: len(frames) + i for i, frame in enumerate(good)}
    reason = [""] * (len(frames) + len(good))
    for event in events:
        i = place[event["good"]]
        reason[i] = reason[i] or reason_of(event)

    def column(name: str, missing: float, kind: type) -> np.ndarray:
        mine = [missing if event[name] is None else event[name] for event in offered]
        return np.concatenate([arrays[name], np.array(mine, kind)]).astype(kind)

    return [*frames, *good], {
        "walker": column("walker", 0, np.int64),
        "step": column("step", 0, np.int64),
        "time_fs": column("time_fs", 0.0, np.float64),
        "temperature_K": column("temperature_K", np.nan, np.float64),
        "event": np.repeat([False, True], [len(frames), len(good)]),
        "reason": np.array(reason, np.str_),
    }


def reason_of(event: dict[str, Any]) -> str:
    """The reason of an event's record, as a pool tells it: "explosion: force", "uncertain", "high_force"."""
    from alfw.core.exploration import NO_EXPLOSION

    return event["reason"] if event["reason"] in NO_EXPLOSION else f"explosion: {event['reason']}"


def _predictions(ctx: Context, potential: Potential | None, frames: Sequence[Frame]) -> dict[str, np.ndarray]:
    """force_std, largest force, mean energy and mean forces of the frames, some at a time."""
    std, force, energy = (np.empty(len(frames)) for _ in range(3))
    forces = [np.empty((0, 3), np.float32)]
    for first in range(0, len(frames) if potential else 0, BATCH):
        batch, rows = frames[first : first + BATCH], slice(first, first + BATCH)
        ctx.progress(f"screening {first + len(batch)}/{len(frames)}")
        prediction = potential.predict(batch)  # type: ignore[union-attr]
        std[rows], force[rows] = screened(batch, prediction)
        energy[rows] = prediction.energy.mean(0)
        forces += mean_forces(prediction)
    return {"force_std": std, "max_force": force, "energy": energy, "atoms_forces": np.concatenate(forces)}


def _features(source: features.Source, frames: Sequence[Frame]) -> dict[str, np.ndarray]:
    """The features of the frames' atoms, some frames at a time; nothing of no frames."""
    blocks = [
        block
        for first in range(0, len(frames), BATCH)
        for block in source.compute(frames[first : first + BATCH])
    ]
    if not blocks:
        return {}
    numbers = np.concatenate([frame.numbers for frame in frames])
    return {"atoms_features": features.compact(features.joined(blocks), numbers)}


def mean_forces(prediction: Prediction) -> list[np.ndarray]:
    """B × (n, 3) float32, eV/Å: means of the members; infinite where a frame is beyond all bounds."""
    with np.errstate(over="ignore"):
        return [forces.mean(0).astype(np.float32) for forces in prediction.forces]


def screened(frames: Sequence[Frame], prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """force_std and largest mean force of each frame, both (B,) float64 eV/Å, over the atoms that may move."""
    std = [frame_force_std(f, frame.free) for frame, f in zip(frames, prediction.forces, strict=True)]
    force = [frame_max_force(f, frame.free) for frame, f in zip(frames, prediction.forces, strict=True)]
    return np.array(std), np.array(force)
