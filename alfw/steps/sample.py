"""sample: exploration with the ensemble of the round before; the pool goes into a shard."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from alfw.core.exploration import Event, Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import ReadsFiles, Sampler
from alfw.core.survival import kaplan_meier
from alfw.io.shards import pack
from alfw.steps.context import Context, Outcome
from alfw.steps.dataset import frames_on, previous_dataset, rows_of
from alfw.steps.ensemble import driving_ensemble, load_potential

MAX_STARTS = 256


def run(ctx: Context, part: int) -> dict[str, Any]:
    """The committed exploration of sampler `part` of the campaign."""
    return ctx.once("sample", part, lambda: _explore(ctx, part))


def _explore(ctx: Context, part: int) -> Outcome:
    ensemble = driving_ensemble(ctx)
    exploration = _sampler(ctx, part).run(
        load_potential(ctx, ensemble),
        start_frames(ctx, part),
        seed=ctx.seed("sample", part),
        workdir=ctx.workdir,
        resources=ctx.resources("sample").resources(),
        progress=ctx.progress,
    )
    events = [_event_record(ctx, event) for event in exploration.events]
    outputs = {
        "ensemble": ensemble,
        "pool": ctx.store.put_blob(pool_shard(exploration)),
        "events": ctx.put_json(events),
    }
    counts = {
        "n_frames": len(exploration.frames),
        "n_explosions": sum(event.explosion for event in exploration.events),
        "n_high_force": sum(event.reason == "high_force" for event in exploration.events),
        "n_events": len(events),
    }
    metrics = {
        "counters": dict(exploration.counters),
        "unbiased": exploration.unbiased,
        "median_ps_to_failure": median_ps_to_failure(exploration),
    }
    return Outcome(outputs, counts, metrics)


def median_ps_to_failure(exploration: Exploration) -> float | None:
    """Median time (ps) until a walker explodes, by Kaplan and Meier; None when more than half lasted to the end."""
    times, failed = lifetimes(exploration)
    return kaplan_meier(times, failed).median if len(times) else None


def lifetimes(exploration: Exploration) -> tuple[np.ndarray, np.ndarray]:
    """(W,) float64: how long each walker was watched, ps; (W,) bool: whether it exploded then.

    One that was stopped because the ensemble disagreed had not exploded yet. Where a sampler does not tell how long its
    walkers lived, those that nothing stopped share what is left of the time simulated.
    """
    ends = {event.walker: event for event in exploration.events if event.reason != "high_force"}
    exploded = {walker for walker, event in ends.items() if event.explosion}
    lives = dict(exploration.life_fs or {})
    if not lives:
        lives = {walker: event.time_fs for walker, event in ends.items()}
        n_left = max(int(exploration.counters.get("n_walkers", 0)) - len(ends), 0)
        left = 1000 * float(exploration.counters.get("time_ps", 0.0)) - sum(lives.values())
        lives |= {-1 - i: max(left, 0.0) / n_left for i in range(n_left)}
    return np.array(list(lives.values())) / 1000.0, np.array([walker in exploded for walker in lives], bool)


def start_frames(ctx: Context, part: int) -> list[Frame]:
    """Labelled frames to start from, of the train and valid sides, in random order.

    Frames whose largest reference force is above the 90 % quantile are left out: a walker should start from a state
    that the ensemble knows, and never from one that exploded.
    """
    rows = [row for row in rows_of(ctx, previous_dataset(ctx)) if row.side != "test"]
    frames = frames_on(ctx, rows, "train", "valid")
    labels = ctx.store.get_labels([row.frame for row in rows], ctx.plugins.labeler.theory().id)
    largest = np.array([np.linalg.norm(labels[row.frame][1].forces, axis=1).max() for row in rows])
    calm = np.flatnonzero(largest <= np.quantile(largest, 0.9)) if len(rows) > 1 else np.arange(len(rows))
    order = np.random.default_rng(ctx.seed("sample", part, "starts")).permutation(calm)
    return [frames[i] for i in order[:MAX_STARTS]]


def pool_shard(exploration: Exploration) -> bytes:
    """The kept frames and where each is from, as a shard."""
    return pack(
        exploration.frames,
        walker=np.asarray(exploration.walker),
        step=np.asarray(exploration.step),
        time_fs=np.asarray(exploration.time_fs),
        temperature_K=np.asarray(exploration.temperature_K),
    )


def trajectory_id(ctx: Context, part: int, walker: int) -> str:
    """Name of one walker's trajectory; the side of its labels hangs on it for good.

    A file is the same trajectory in every round that reads it.
    """
    when = "files" if isinstance(ctx.plugins.samplers[part], ReadsFiles) else f"r{ctx.round:03d}"
    return f"{ctx.campaign}/{when}/s{part}/w{walker}"


def _event_record(ctx: Context, event: Event) -> dict[str, Any]:
    """An event as JSON data, with frame ids in place of frames; both frames are stored.

    The bad one is for the record only: it never enters a pool.
    """
    frames = [event.good] if event.bad is None else [event.good, event.bad]
    ids = ctx.store.put_frames(frames)
    other = ("good", "bad", "dipoles", "velocities")
    plain = {f.name: getattr(event, f.name) for f in dataclasses.fields(event) if f.name not in other}
    plain = {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in plain.items()}
    speeds = None if event.velocities is None else np.asarray(event.velocities, float)
    plain["velocities"] = speeds.tolist() if speeds is not None and np.isfinite(speeds).all() else None
    plain["dipoles"] = {name: np.asarray(dipole).tolist() for name, dipole in event.dipoles.items()}
    return {**plain, "good": ids[0], "bad": ids[1] if event.bad is not None else None}


def _sampler(ctx: Context, part: int) -> Sampler:
    """The sampler, with the files it reads fetched from the store."""
    sampler = ctx.at_work("sample").samplers[part]
    if not isinstance(sampler, ReadsFiles):
        return sampler
    folder = ctx.workdir / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, stored in enumerate(ctx.result("start", round=0)["outputs"]["files"]):
        if stored["part"] == part:
            path = folder / f"{i:04d}_{stored['name']}"
            ctx.store.save_blob(stored["blob"], path)
            paths.append(str(path))
    return sampler.reading(paths)
