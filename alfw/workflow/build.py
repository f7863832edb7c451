"""One round as a Workflow: skeletons from fw_templates, filled in and linked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from fireworks import Firework, Workflow
from fireworks.utilities.fw_serializers import load_object
from ruamel.yaml import YAML

from alfw.steps.context import Context
from alfw.steps.label import wanted

MAX_WIDE = (
    150  # FireWorks' cost per completion grows with the width of a workflow: more labels than this are packed
)
PACKS = 100  # into about this many Fireworks
TASKS = "alfw.firetasks."


@cache
def _skeleton(stage: str) -> dict[str, Any]:
    """The editable skeleton of a stage."""
    text = files("alfw.fw_templates").joinpath("fireworks", f"{stage}.yaml").read_text(encoding="utf-8")
    return dict(YAML(typ="safe").load(text))


def firework(
    ctx: Context, stage: str, tasks: Sequence[dict[str, Any]], parents: Any = None, **names: Any
) -> Firework:
    """A Firework of one stage: its skeleton, with category, queue settings and tasks filled in."""
    skeleton = _skeleton(stage)
    resources = ctx.resources(stage)
    spec: dict[str, Any] = {"_add_launchpad_and_fw_id": True, **(skeleton.get("spec") or {})}
    if resources.category:
        spec["_category"] = resources.category
    adapter = {**resources.queue_adapter(), **spec.get("_queueadapter", {})}
    if adapter:
        spec["_queueadapter"] = adapter
    own = {"campaign": ctx.campaign, "round": ctx.round}
    # FireWorks loads the tasks by their names, so this module need not know the Firetasks.
    loaded = [load_object({"_fw_name": "{{" + TASKS + t["task"] + "}}", **own, **t["params"]}) for t in tasks]
    return Firework(loaded, spec=spec, name=skeleton["name"].format(**names), parents=parents)


def round_workflow(ctx: Context, token: str) -> Workflow:
    """The workflow of `ctx.round`; `token` tells its roots whether they are the round's registered ones."""
    if ctx.round == 0:
        heads = label_fireworks(ctx, token=token)
        fireworks = [*heads]
    else:
        heads, fireworks = _exploration(ctx, token)
    root = {} if heads else {"token": token}
    merge = firework(ctx, "merge", [_task("Merge", **root)], heads or None)
    trains = _trainings(ctx, merge)
    evaluate = firework(ctx, "evaluate", [_task("Evaluate")], trains)
    decide = firework(ctx, "decide", [_task("Decide")], [evaluate])
    return Workflow(
        [*fireworks, merge, *trains, evaluate, decide],
        name=f"{ctx.campaign} r{ctx.round:03d}",
        metadata={"campaign": ctx.campaign, "round": ctx.round},
    )


def _task(name: str, **params: Any) -> dict[str, Any]:
    return {"task": name, "params": params}


def _exploration(ctx: Context, token: str) -> tuple[list[Firework], list[Firework]]:
    """sample → screen for each sampler, and the select that waits for all; the heads, then all Fireworks."""
    samplers = ctx.plugins.samplers
    fireworks, screens = [], []
    for part, sampler in enumerate(samplers):
        names = {"kind": sampler.kind, "index": part + 1, "total": len(samplers)}
        sample = firework(ctx, "sample", [_task("Sample", part=part, token=token)], **names)
        screen = firework(ctx, "screen", [_task("Screen", part=part)], [sample], **names)
        fireworks += [sample, screen]
        screens.append(screen)
    select = firework(ctx, "select", [_task("Select")], screens)
    return [select], [*fireworks, select]


def _trainings(ctx: Context, merge: Firework) -> list[Firework]:
    """All members in one Firework, or one each."""
    model = ctx.plugins.model
    members = list(range(model.members))
    groups = [[k] for k in members] if ctx.config.file.train.firework_per_member else [members]
    return [
        firework(
            ctx,
            "train",
            [_task("Train", members=group)],
            [merge],
            kind=model.kind,
            index=i + 1,
            total=len(groups),
        )
        for i, group in enumerate(groups)
    ]


def label_fireworks(ctx: Context, token: str | None = None) -> list[Firework]:
    """One Firework a pack of the round's frames; packs of one by default, larger ones when there are very many.

    A pack is a slice of the committed list of what is to be labelled, so specs stay small however large it is.
    """
    number = len(wanted(ctx))
    size = ctx.config.label.frames_per_firework
    if math.ceil(number / size) > MAX_WIDE:
        size = math.ceil(number / PACKS)
    root = {"token": token} if token else {}
    firsts = range(0, number, size)
    return [
        firework(
            ctx,
            "label",
            [
                _task("CalculateLabels", first=first, count=size, **root),
                _task("JudgeLabels", first=first, count=size),
            ],
            kind=ctx.plugins.labeler.kind,
            index=i + 1,
            total=len(firsts),
        )
        for i, first in enumerate(firsts)
    ]
