"""screen: what the ensemble says of each frame of a pool."""

from __future__ import annotations

from typing import Any

import numpy as np

from alfw.core.frame import Frame
from alfw.core.records import Prediction
from alfw.core.uncertainty import frame_force_std
from alfw.io.shards import pack, unpack
from alfw.steps.context import Context, Outcome
from alfw.steps.ensemble import load_potential

BATCH = 1024  # frames predicted at once, so that memory stays bounded


def run(ctx: Context, part: int) -> dict[str, Any]:
    """The committed screening of the pool of sampler `part`."""
    return ctx.once("screen", part, lambda: _screen(ctx, part))


def _screen(ctx: Context, part: int) -> Outcome:
    """Pool frames, then the last physical frame of each event, with force_std, the largest force, and mean predictions.

    Energy and forces that the ensemble predicts tell later whether a label may be believed. Frames of events are marked
    `event`: they may be proposed, but never drawn as audit frames.
    """
    sampled = ctx.result("sample", part)
    frames, arrays = unpack(ctx.store.get_blob(sampled["outputs"]["pool"]))
    events = ctx.get_json(sampled["outputs"]["events"])
    good = ctx.store.get_frames([event["good"] for event in events])
    arrays = {
        "walker": np.r_[arrays["walker"], [e["walker"] for e in events]].astype(np.int64),
        "step": np.r_[arrays["step"], [e["step"] for e in events]].astype(np.int64),
        "time_fs": np.r_[arrays["time_fs"], [e["time_fs"] or 0.0 for e in events]].astype(float),
        "temperature_K": np.r_[
            arrays["temperature_K"], [e["temperature_K"] or np.nan for e in events]
        ].astype(float),
        "event": np.r_[np.zeros(len(frames), bool), np.ones(len(events), bool)],
    }
    frames = [*frames, *good]
    potential = load_potential(ctx, sampled["outputs"]["ensemble"]) if frames else None
    std, force, energy = (np.empty(len(frames)) for _ in range(3))
    forces = [np.empty((0, 3), np.float32)]
    for first in range(0, len(frames), BATCH):
        batch, rows = frames[first : first + BATCH], slice(first, first + BATCH)
        ctx.progress(f"screening {first + len(batch)}/{len(frames)}")
        if potential is not None:
            prediction = potential.predict(batch)
            std[rows], force[rows] = screened(batch, prediction)
            energy[rows] = prediction.energy.mean(0)
            forces += mean_forces(prediction)
    arrays |= {"force_std": std, "max_force": force, "energy": energy, "atoms_forces": np.concatenate(forces)}
    finite = np.isfinite(force)
    metrics = {
        "max_force_eV_per_A": float(force[finite].max(initial=0.0)),
        "force_std_mean_eV_per_A": float(np.nanmean(std)) if np.isfinite(std).any() else None,
    }
    outputs = {"pool": ctx.store.put_blob(pack(frames, **arrays))}
    return Outcome(outputs, {"n_pool": len(frames), "n_not_finite": int((~finite).sum())}, metrics)


def mean_forces(prediction: Prediction) -> list[np.ndarray]:
    """B × (n, 3) float32, eV/Å: means of the members; infinite where a frame is beyond all bounds."""
    with np.errstate(over="ignore"):
        return [forces.mean(0).astype(np.float32) for forces in prediction.forces]


def screened(frames: list[Frame], prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """force_std and largest mean force of each frame, both (B,) float64 eV/Å, over the atoms that may move."""
    std = [frame_force_std(f, frame.free) for frame, f in zip(frames, prediction.forces, strict=True)]
    norm = [
        np.linalg.norm(f.mean(0), axis=1)[frame.free]
        for frame, f in zip(frames, prediction.forces, strict=True)
    ]
    return np.array(std), np.array([n.max(initial=0.0) for n in norm])
