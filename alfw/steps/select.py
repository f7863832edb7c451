"""select: audit frames first, drawn at random; then what the selector proposes, as far as the budget goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alfw.config.sections import SelectStage
from alfw.core.errors import InputError
from alfw.core.exploration import Choice, Pool, Selection
from alfw.core.frame import Frame
from alfw.core.protocols import Labeler
from alfw.io.scales import pack_scale
from alfw.io.shards import pack
from alfw.steps import calibrate, features, label_cost
from alfw.steps.audit import draw_audit
from alfw.steps.context import Context, Outcome
from alfw.steps.dataset import frames_on, previous_dataset, rows_of
from alfw.steps.in_flight import in_flight
from alfw.steps.label_cost import LabelCost, Purse
from alfw.steps.pool import Screened, gather
from alfw.steps.prescreen import PreScreen
from alfw.steps.retry import put_back
from alfw.steps.sample import trajectory_id


def run(ctx: Context) -> dict[str, Any]:
    """The committed selection of this round; its candidates are recorded from the committed one only.

    Frames that failed in an earlier round and that the user put back (`alfw qm retry`) come first, beside the frames
    that `max_frames`, `audit_frames` and `budget_cpu_hours` allow.
    """
    result = ctx.once("select", 0, lambda: _select(ctx))
    ctx.store.put_candidates(ctx.campaign, ctx.round, ctx.get_json(result["outputs"]["candidates"]))
    return result


def _select(ctx: Context) -> Outcome:
    pool, settings, rows = gather(ctx), ctx.config.select, rows_of(ctx, previous_dataset(ctx))
    again, on_the_way = put_back(ctx, {row.frame for row in rows}), in_flight(ctx)
    known = {row.frame for row in rows} | {row["frame"] for row in again} | {f.id for f in on_the_way}
    fresh, unfit = sort_out(ctx.plugins.labeler, pool.frames, known)
    cost = label_cost.learn(ctx, rows)
    purse = Purse(settings.budget_cpu_hours, None if cost is None else cost.hours(pool.frames))
    n_audit = purse.audit_frames(settings.audit_frames, settings.max_frames, pool.auditable & fresh)
    audit = draw_audit(pool, fresh, n_audit, ctx.seed("select", "audit"))
    rest = np.setdiff1d(np.flatnonzero(fresh), audit)
    coming = ctx.store.get_frames([row["frame"] for row in again])
    labelled = frames_on(ctx, rows, "train", "valid")
    offered, outputs = _offered(ctx, pool, rest, audit, labelled, [*coming, *on_the_way])
    chosen, cheap = _choose(ctx, offered, purse.without(audit), rest)
    picks = [(int(i), "audit", 0.0) for i in audit]
    picks += [(int(rest[choice.index]), choice.reason, choice.score) for choice in chosen.chosen]
    candidates = again + [_candidate(ctx, pool, purse, *pick) for pick in picks]
    indices = [i for i, _, _ in picks]
    ctx.store.put_frames([pool.frames[i] for i in indices])
    outputs |= {
        "candidates": ctx.put_json(candidates),
        "predictions": ctx.store.put_blob(_predictions(pool, indices)),
        "prescreen": None if cheap is None else ctx.put_json(cheap.record()),
    }
    counts = {
        "n_pool": len(pool.frames),
        "n_candidates": len(rest),
        "n_selected": len(candidates),
        "n_audit": len(audit),
        "n_retry": len(again),
        "n_in_flight": len(on_the_way),
        **{f"n_{reason}": number for reason, number in unfit.items()},
    }
    metrics = {
        "rejected": {key: int(value) for key, value in {**chosen.rejected, **unfit}.items() if value},
        "notes": _notes(chosen, on_the_way),
        **_predicted_cost(cost, [*coming, *(pool.frames[i] for i in indices)]),
    }
    return Outcome(outputs, counts, metrics)


def _offered(
    ctx: Context,
    pool: Screened,
    rest: np.ndarray,
    audit: np.ndarray,
    labelled: Sequence[Frame],
    coming: Sequence[Frame],
) -> tuple[Pool, dict[str, Any]]:
    """What the selector chooses from, the frames `rest` of the pool, and what the result keeps of it.

    Labelled frames are those of the dataset, those `coming` (put back, or in flight), and this round's audit frames.
    Features are left out altogether where they are not known of the whole dataset (rounds of an older version).
    """
    frames, drawn = [pool.frames[i] for i in rest], [pool.frames[i] for i in audit]
    reasons = pool.reason[rest].tolist()
    driven = np.array([getattr(sampler, "driven", False) for sampler in ctx.plugins.samplers], bool)
    plain = Pool(
        frames,
        pool.force_std[rest],
        pool.max_force[rest],
        [*labelled, *drawn, *coming],
        reasons=reasons if any(reasons) else (),
        driven=driven[pool.part[rest]].tolist(),
    )
    if pool.features is None or pool.source is None:
        return plain, {}
    known = features.labelled_features(ctx, pool.source, before=ctx.round + 1)
    if any(frame.id not in known for frame in labelled):
        return plain, {}
    usable = [*labelled, *(frame for frame in coming if frame.id in known)]
    full = Pool(
        frames,
        plain.force_std,
        plain.max_force,
        [*usable, *drawn],
        features=[pool.features[i] for i in rest],
        labelled_features=[known[frame.id] for frame in usable] + [pool.features[i] for i in audit],
        reasons=plain.reasons,
        driven=plain.driven,
    )
    scale = features.scale_of(ctx, pool.source, full)
    kept = {"features": pool.source, "scale": ctx.store.put_blob(pack_scale(scale))}
    return replace(full, scale=scale), kept


def _choose(ctx: Context, pool: Pool, purse: Purse, rest: np.ndarray) -> tuple[Selection, PreScreen | None]:
    """What the selector picks of the pool offered, without what is too costly or what the pre-screen rejects.

    Parameters
    ----------
    purse : Purse
        Of the frames of the whole pool, of which `rest` (B,) are offered.
    """
    settings, plugins = ctx.config.select, ctx.at_work("select")
    selector, notes = calibrate.with_band(ctx, plugins.selector)
    limit, cost_h = settings.max_frames, None if purse.cost_h is None else purse.cost_h[rest]
    if (
        settings.prescreen
    ):  # more than are wanted: the budget is kept when it is known which of them are rejected
        limit = math.ceil(settings.prescreen.oversample * limit)
    if purse.budget_h is not None and cost_h is not None:
        mine = purse.empty or settings.prescreen is not None
        pool = replace(pool, cost_h=cost_h, budget_h=None if mine else purse.budget_h)
    picked = selector.select(pool, limit=0 if purse.empty else limit, seed=ctx.seed("select"))
    cheap = PreScreen(ctx, pool.labelled) if settings.prescreen and picked.chosen else None
    taken, refused = _accepted(ctx, pool, picked, Purse(purse.budget_h, cost_h), cheap)
    rejected = dict(picked.rejected)
    for reason in refused:
        rejected[reason] = rejected.get(reason, 0) + 1
    notes = [*notes, *picked.notes, *_remarks(settings, purse, picked, taken, refused)]
    return Selection(taken, rejected, notes), cheap


def _accepted(
    ctx: Context, pool: Pool, picked: Selection, purse: Purse, cheap: PreScreen | None
) -> tuple[list[Choice], list[str]]:
    """The picks that are proposed, `max_frames` at most, and why others are not."""
    taken: list[Choice] = []
    refused: list[str] = []
    for number, choice in enumerate(picked.chosen):
        if len(taken) == ctx.config.select.max_frames:
            break
        objection = None if purse.covers(choice.index) else "over_budget"
        if objection is None and cheap is not None:
            ctx.progress(f"pre-screening {number + 1}/{len(picked.chosen)}")
            objection = cheap.objection(pool.frames[choice.index])
        if objection is None:
            taken.append(choice)
            purse = purse.without(np.array([choice.index]))
        else:
            refused.append(objection)
    return taken, refused


def _remarks(
    settings: SelectStage, purse: Purse, picked: Selection, taken: Sequence[Choice], refused: Sequence[str]
) -> list[str]:
    """What the user should know beside what the selector says, one line each."""
    found = []
    if purse.empty and settings.budget_cpu_hours:
        found.append(f"budget_cpu_hours {settings.budget_cpu_hours:g}: audit frames use it up")
    elif purse.empty:
        found.append("budget_cpu_hours 0: nothing is selected")
    elif purse.budget_h is not None and purse.cost_h is None:
        found.append("budget_cpu_hours limits nothing yet: no finished label tells what one costs")
    if (dear := list(refused).count("over_budget")) > 0:
        found.append(f"budget_cpu_hours: {dear} of the frames picked cost more than was left")
    cheap = [reason for reason in refused if reason != "over_budget"]
    if cheap and len(taken) < settings.max_frames and not dear:
        told = ", ".join(
            f"{reason.removeprefix('prescreen: ')} {cheap.count(reason)}" for reason in sorted(set(cheap))
        )
        found.append(f"prescreen: {len(cheap)} of {len(picked.chosen)} frames picked were rejected ({told})")
    if not picked.chosen and not picked.notes and not purse.empty:
        told = ", ".join(f"{reason} {number}" for reason, number in sorted(picked.rejected.items()))
        found.append("the selector chose nothing" + (f": {told}" if told else ""))
    return found


def _notes(chosen: Selection, on_the_way: Sequence[Frame]) -> list[str]:
    """The notes of a selection, each once."""
    notes = list(dict.fromkeys(chosen.notes))
    if on_the_way and not chosen.chosen:
        notes.append(
            f"{len(on_the_way)} frames on their way to a label, in other campaigns too, count as labelled"
        )
    return notes


def _predicted_cost(cost: LabelCost | None, frames: Sequence[Frame]) -> dict[str, Any]:
    """What the labels of these frames are expected to cost, beside `label_cpu_s` of merge; and by which law."""
    return {
        "label_cpu_s_predicted": None if cost is None else 3600 * float(cost.hours(frames).sum()),
        "label_cost": label_cost.as_metrics(cost),
    }


def _predictions(pool: Screened, chosen: list[int]) -> bytes:
    """A shard of the chosen frames with what the ensemble said of them."""
    forces = [np.empty((0, 3), np.float32), *(pool.forces[i] for i in chosen)]
    return pack(
        [pool.frames[i] for i in chosen],
        energy=pool.energy[chosen],
        force_std=pool.force_std[chosen],
        atoms_forces=np.concatenate(forces),
    )


def sort_out(labeler: Labeler, frames: list[Frame], known: set[str]) -> tuple[np.ndarray, dict[str, int]]:
    """(B,) bool: frames that may be labelled; and how many others there are, by reason.

    `known`: labelled already or on their way, or seen earlier in the pool; `not_labelable`: the labeler refuses them.
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


def _candidate(
    ctx: Context, pool: Screened, purse: Purse, index: int, reason: str, score: float
) -> dict[str, Any]:
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
        "event": str(pool.reason[index]) or None,
        "score": number(score),
        "force_std": number(pool.force_std[index]),
        "cost_h": None if purse.cost_h is None else number(purse.cost_h[index]),
        "audit": reason == "audit",
    }
