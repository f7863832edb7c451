"""merge: the labels of a round join the dataset, each on its side for good."""

from __future__ import annotations

from typing import Any

import numpy as np

from alfw.core.errors import AlfwError, DataError
from alfw.core.records import Label
from alfw.core.split import side_of_trajectory
from alfw.steps.context import Context, Outcome
from alfw.steps.dataset import Row, previous_dataset, put_shard, rows_of

# Of the calculation itself; walltime, memory and the like, and results that nothing confirms, do not count.
SCIENCE = ("SCF_NOT_CONVERGED", "SCF_DIVERGED", "LINEAR_DEPENDENCY", "GEOMETRY")
MIN_FOR_FRACTION = 5  # max_failed_fraction is judged from this many frames on
SPOT_FORCE_eV_PER_A, SPOT_ENERGY_eV = 1e-2, 1e-2  # how far imported labels of theory `same` may be off


class HoldError(AlfwError):
    """The campaign cannot go on without its user: it is paused, with this reason."""


def run(ctx: Context) -> dict[str, Any]:
    """The committed dataset version of this round."""
    return ctx.once("merge", 0, lambda: _merge(ctx))


def _merge(ctx: Context) -> Outcome:
    parent = previous_dataset(ctx)
    wanted = _initial_rows(ctx) if ctx.round == 0 else _selected_rows(ctx)
    theory = ctx.plugins.labeler.theory().id
    ids = [row["frame"] for row in wanted]
    labels = ctx.store.get_labels(ids, theory)
    final = ctx.store.final_failures(ctx.campaign, ids, theory)
    failed = {i: failure for i, failure in final.items() if i not in labels}
    open_ = [i for i in ids if i not in labels and i not in failed]
    if open_:
        raise DataError(f"frame {open_[0][:12]} has neither label nor final failure: alfw reconcile")
    if not (ctx.store.get_round(ctx.campaign, ctx.round) or {}).get(
        "accepted"
    ):  # `alfw resume` accepts what held it
        _check_failures(ctx, ids, labels, failed)
        _spot_check(ctx, labels)
    new = [_row(ctx, row, labels[row["frame"]][0]) for row in wanted if row["frame"] in labels]
    rows = rows_of(ctx, parent) + new
    if not any(row.side == "train" for row in rows):
        raise HoldError("no label on the train side: give more initial frames")
    counts = {f"n_{side}": sum(row.side == side for row in rows) for side in ("train", "valid", "test")}
    entries = {row.label: row.as_entry() for row in new}
    dataset = ctx.store.put_dataset(parent, entries, counts, ctx.campaign)
    states = {i: ("labeled", "") if i in labels else ("failed", failed[i]["class"]) for i in ids}
    ctx.store.set_candidate_states(ctx.campaign, ctx.round, states)
    counts |= {
        "n_labeled": len(new),
        "n_failed": len(failed),
        **_marked(ctx, [found for _, found in labels.values()]),
    }
    wall = sum(labels[row["frame"]][1].wall_s for row in wanted if row["frame"] in labels)
    asked = ctx.resources("label")
    cost = {"label_cpu_s": wall * asked.resources().threads, "label_gpu_s": wall * asked.gpus}
    shard = put_shard(ctx, new, {i: label for i, (_, label) in labels.items()})
    return Outcome({"dataset": dataset, "shard": shard}, counts, cost)


def _marked(ctx: Context, labels: list[Label]) -> dict[str, int]:
    """How many labels of the dataset so far are of a changed surface, and how many were suspect and are confirmed."""
    before = ctx.result("merge", round=ctx.round - 1)["counts"] if ctx.round else {}
    counts = {
        "n_changed_surface": sum(bool(label.changes) for label in labels),
        "n_confirmed": sum(label.confirmed for label in labels),
    }
    return {key: number + before.get(key, 0) for key, number in counts.items()}


def _initial_rows(ctx: Context) -> list[dict[str, Any]]:
    return ctx.get_json(ctx.result("start", round=0)["outputs"]["entries"])


def _selected_rows(ctx: Context) -> list[dict[str, Any]]:
    """Candidates of this round; a trajectory goes to one side for good, so nothing leaks from train to valid.

    An imported frame that comes back (`alfw qm retry`) has its side already.
    """
    split, seed = ctx.config.file.data.split, ctx.config.file.seed
    rows = ctx.get_json(ctx.result("select")["outputs"]["candidates"])

    def side(row: dict[str, Any]) -> str:
        if row.get("side"):
            return str(row["side"])
        return side_of_trajectory(row["trajectory"], valid=split.valid, seed=seed)

    return [{"region": None, **row, "side": side(row)} for row in rows]


def _row(ctx: Context, row: dict[str, Any], label: str) -> Row:
    return Row(
        frame=row["frame"],
        label=label,
        side=row["side"],
        region=row["region"],
        trajectory=row["trajectory"],
        round=ctx.round,
        audit=bool(row.get("audit", False)),
    )


def _check_failures(ctx: Context, ids: list[str], labels: dict[str, Any], failed: dict[str, Any]) -> None:
    """Hold the campaign when too many labels failed for good."""
    limit = ctx.config.label.max_failed_fraction
    science = [f for f in failed.values() if f["class"] in SCIENCE]
    if len(ids) >= MIN_FOR_FRACTION and len(science) > limit * len(ids):
        classes = sorted({f["class"] for f in science})
        raise HoldError(
            f"{len(science)} of {len(ids)} labels of round {ctx.round} failed for good ({', '.join(classes)}), "
            f"more than max_failed_fraction {limit}: alfw show {science[0]['_id'][:12]}, then "
            f"alfw resume {ctx.campaign} to go on without them, or alfw qm retry {ctx.campaign}"
        )
    if not labels and ids:
        classes = sorted({f["class"] for f in failed.values()})
        raise HoldError(
            f"none of the {len(ids)} frames of round {ctx.round} could be labelled ({', '.join(classes)}): "
            f"alfw show {min(f['_id'] for f in failed.values())[:12]}"
        )


def _spot_check(ctx: Context, labels: dict[str, Any]) -> None:
    """Compare imported labels of theory `same` with the campaign's own labeler."""
    spot = ctx.get_json(ctx.result("start", round=0)["outputs"]["spot"]) if ctx.round == 0 else {}
    for frame, imported in spot.items():
        if frame not in labels:
            continue
        label = labels[frame][1]
        force = float(np.abs(label.forces - np.array(imported["forces"])).max())
        energy = abs(label.energy - imported["energy"])
        if force > SPOT_FORCE_eV_PER_A or energy > SPOT_ENERGY_eV:
            raise HoldError(
                f"imported labels are not of the campaign's theory: frame {frame[:12]} differs by {energy:.3g} eV and "
                f"{force:.3g} eV/Å when computed again; set `theory: ignore` in data.initial"
            )
