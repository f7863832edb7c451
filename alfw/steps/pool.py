"""The screened pool of a round: what samplers kept and events offered, with what the ensemble said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alfw.core.frame import Frame
from alfw.io.shards import unpack
from alfw.steps.context import Context

COLUMNS = ("walker", "step", "time_fs", "temperature_K", "force_std", "max_force")  # as `screen` writes them


@dataclass(frozen=True, eq=False)
class Screened:
    """The screened pools of all samplers of a round, one after the other.

    Attributes
    ----------
    frames : list of B Frames
    part, walker, step : (B,) int64
    time_fs, temperature_K : (B,) float64
    force_std, max_force : (B,) float64, eV/Å
    auditable : (B,) bool
        Finite frames that unbiased walkers kept; what only an event offers is none of them.
    energy : (B,) float64, eV
        Mean of the members.
    forces : list of B × (n, 3) float32, eV/Å
        Means of the members.
    reason : (B,) str
        Why an event offers the frame; "" of others.
    features : list of B × (n, D) float32, or None
        None where a part has none, or of another source (screened by an older version).
    source : str or None
        Where the features come from.
    """

    frames: list[Frame]
    part: np.ndarray
    walker: np.ndarray
    step: np.ndarray
    time_fs: np.ndarray
    temperature_K: np.ndarray
    force_std: np.ndarray
    max_force: np.ndarray
    auditable: np.ndarray
    energy: np.ndarray
    forces: list[np.ndarray]
    reason: np.ndarray
    features: list[np.ndarray] | None = None
    source: str | None = None


def gather(ctx: Context) -> Screened:
    """The pools of all samplers of this round."""
    frames: list[Frame] = []
    forces: list[np.ndarray] = []
    features: list[np.ndarray] = []
    sources: set[str | None] = set()
    columns: dict[str, list[np.ndarray]] = {}
    for part in range(len(ctx.plugins.samplers)):
        screened = ctx.result("screen", part)["outputs"]
        found, arrays = unpack(ctx.store.get_blob(screened["pool"]))
        unbiased = bool(ctx.result("sample", part)["metrics"]["unbiased"])
        for name, values in _columns(arrays, part, len(found), unbiased).items():
            columns.setdefault(name, []).append(values)
        frames += found
        unknown = np.full((sum(map(len, found)), 3), np.nan)  # screened by an older version
        forces += by_frame(arrays.get("atoms_forces", unknown), found)
        if found:
            sources.add(screened.get("features") if "atoms_features" in arrays else None)
            features += by_frame(arrays.get("atoms_features", unknown), found)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    source = sources.pop() if len(sources) == 1 else None
    known = None if source is None else [np.asarray(z, np.float32) for z in features]
    return Screened(frames=frames, forces=forces, features=known, source=source, **joined)


def _columns(arrays: dict[str, Any], part: int, number: int, unbiased: bool) -> dict[str, np.ndarray]:
    """What there is one of for each frame of a shard; older versions wrote less."""
    finite = np.isfinite(arrays["max_force"])
    return {
        **{name: arrays[name] for name in COLUMNS},
        "part": np.full(number, part),
        "auditable": finite & ~arrays["event"] & unbiased,
        "energy": arrays.get("energy", np.full(number, np.nan)),
        "reason": arrays.get("reason", np.where(arrays["event"], "event", "")),
    }


def by_frame(rows: np.ndarray, frames: Sequence[Frame]) -> list[np.ndarray]:
    """B arrays, those of the atoms of each frame: rows (sum n, …) cut up."""
    return np.split(rows, np.cumsum([len(frame) for frame in frames])[:-1]) if len(frames) else []
