"""select: audit frames first, drawn at random; then what the selector proposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from alfw.core.errors import InputError
from alfw.core.exploration import Pool
from alfw.core.frame import Frame
from alfw.core.protocols import Labeler
from alfw.io.shards import pack, unpack
from alfw.steps.context import Context, Outcome
from alfw.steps.dataset import frames_on, previous_dataset, rows_of
from alfw.steps.retry import put_back
from alfw.steps.sample import trajectory_id


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
        Finite frames of unbiased walkers, none of them from an event.
    energy : (B,) float64, eV
        Mean of the members.
    forces : list of B × (n, 3) float32, eV/Å
        Means of the members.
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


def run(ctx: Context) -> dict[str, Any]:
    """The committed selection of this round; its candidates are recorded from the committed one only.

    Frames that failed in an earlier round and that the user put back (`alfw qm retry`) come first, beside the frames
    that `max_frames` and `audit_frames` allow.
    """
    result = ctx.once("select", 0, lambda: _select(ctx))
    ctx.store.put_candidates(ctx.campaign, ctx.round, ctx.get_json(result["outputs"]["candidates"]))
    return result


def _select(ctx: Context) -> Outcome:
    pool = gather(ctx)
    rows = rows_of(ctx, previous_dataset(ctx))
    settings = ctx.config.select
    again = put_back(ctx, {row.frame for row in rows})
    known = {row.frame for row in rows} | {row["frame"] for row in again}
    fresh, unfit = sort_out(ctx.plugins.labeler, pool.frames, known)
    audit = draw_audit(pool, fresh, settings.audit_frames, ctx.seed("select", "audit"))
    rest = np.setdiff1d(np.flatnonzero(fresh), audit)
    labelled = frames_on(ctx, rows, "train", "valid") + [pool.frames[i] for i in audit]
    labelled += ctx.store.get_frames([row["frame"] for row in again])
    selection = ctx.at_work("select").selector.select(
        Pool([pool.frames[i] for i in rest], pool.force_std[rest], pool.max_force[rest], labelled),
        limit=settings.max_frames,
        seed=ctx.seed("select"),
    )
    picks = [(int(i), "audit", 0.0) for i in audit]
    picks += [(int(rest[choice.index]), choice.reason, choice.score) for choice in selection.chosen]
    candidates = again + [_candidate(ctx, pool, *pick) for pick in picks]
    ctx.store.put_frames([pool.frames[i] for i, _, _ in picks])
    outputs = {
        "candidates": ctx.put_json(candidates),
        "predictions": ctx.store.put_blob(_predictions(pool, [i for i, _, _ in picks])),
    }
    counts = {
        "n_pool": len(pool.frames),
        "n_candidates": len(rest),
        "n_selected": len(candidates),
        "n_audit": len(audit),
        "n_retry": len(again),
        **{f"n_{reason}": number for reason, number in unfit.items()},
    }
    rejected = {key: int(value) for key, value in {**selection.rejected, **unfit}.items() if value}
    return Outcome(outputs, counts, {"rejected": rejected})


def _predictions(pool: Screened, chosen: list[int]) -> bytes:
    """A shard of the chosen frames with what the ensemble said of them."""
    forces = [np.empty((0, 3), np.float32), *(pool.forces[i] for i in chosen)]
    return pack(
        [pool.frames[i] for i in chosen],
        energy=pool.energy[chosen],
        force_std=pool.force_std[chosen],
        atoms_forces=np.concatenate(forces),
    )


def gather(ctx: Context) -> Screened:
    """The pools of all samplers of this round."""
    frames: list[Frame] = []
    forces: list[np.ndarray] = []
    columns: dict[str, list[np.ndarray]] = {}
    for part in range(len(ctx.plugins.samplers)):
        found, arrays = unpack(ctx.store.get_blob(ctx.result("screen", part)["outputs"]["pool"]))
        unbiased = bool(ctx.result("sample", part)["metrics"]["unbiased"])
        finite = np.isfinite(arrays["max_force"])
        arrays = {
            **arrays,
            "part": np.full(len(found), part),
            "auditable": finite & ~arrays["event"] & unbiased,
        }
        ends = np.cumsum([len(frame) for frame in found], dtype=int)
        unknown = np.full((int(ends[-1]) if found else 0, 3), np.nan)  # screened by an older version
        forces += np.split(arrays.get("atoms_forces", unknown), ends[:-1]) if found else []
        arrays.setdefault("energy", np.full(len(found), np.nan))
        frames += found
        for name in Screened.__dataclass_fields__.keys() - {"frames", "forces"}:
            columns.setdefault(name, []).append(arrays[name])
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Screened(frames=frames, forces=forces, **joined)


def draw_audit(pool: Screened, fresh: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Indices of audit frames: uniform over what is auditable, stratified by sampler × temperature.

    Each stratum gets its share of `number` by size (largest remainders), so every frame is as likely as any other.
    """
    random = np.random.default_rng(seed)
    open_ = np.flatnonzero(pool.auditable & fresh)
    number = min(number, len(open_))
    if number == 0:
        return np.zeros(0, np.int64)
    keys = [(int(pool.part[i]), float(np.nan_to_num(pool.temperature_K[i], nan=-1.0))) for i in open_]
    strata = [
        np.array([i for i, k in zip(open_, keys, strict=True) if k == key]) for key in sorted(set(keys))
    ]
    share = np.array([len(s) for s in strata]) * number / len(open_)
    quota = np.floor(share).astype(int)
    for i in np.argsort(-(share - quota), kind="stable")[: number - quota.sum()]:
        quota[i] += 1
    drawn = [random.choice(s, q, replace=False) for s, q in zip(strata, quota, strict=True)]
    return np.concatenate(drawn).astype(np.int64)


def sort_out(labeler: Labeler, frames: list[Frame], known: set[str]) -> tuple[np.ndarray, dict[str, int]]:
    """(B,) bool: frames that may be labelled; and how many others there are, by reason.

    `known`: labelled already, or seen earlier in the pool; `not_labelable`: the labeler refuses them.
    """
    seen = set(known)
    fresh = np.zeros(len(frames), bool)
    rejected = {"known": 0, "not_labelable": 0}
    for i, frame in enumerate(frames):
        if frame.id in seen:
            rejected["known"] += 1
            continue
        seen.add(frame.id)
        try:
            labeler.check(frame)
        except InputError:
            rejected["not_labelable"] += 1
        else:
            fresh[i] = True
    return fresh, rejected


def _candidate(ctx: Context, pool: Screened, index: int, reason: str, score: float) -> dict[str, Any]:
    """The candidate record of one pool frame."""

    def number(value: Any) -> float | None:
        return float(value) if np.isfinite(value) else None

    part, walker = int(pool.part[index]), int(pool.walker[index])
    return {
        "frame": pool.frames[index].id,
        "source": ctx.plugins.samplers[part].kind,
        "part": part,
        "walker": walker,
        "step": int(pool.step[index]),
        "time_fs": number(pool.time_fs[index]),
        "temperature_K": number(pool.temperature_K[index]),
        "trajectory": trajectory_id(ctx, part, walker),
        "reason": reason,
        "score": number(score),
        "force_std": number(pool.force_std[index]),
        "audit": reason == "audit",
    }
