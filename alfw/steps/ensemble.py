"""Ensembles: their identity, their members' weights on disk, and the one that drives a round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alfw.core.errors import StoreError
from alfw.core.ids import content_id
from alfw.core.protocols import Potential
from alfw.steps.context import Context


def model_identity(ctx: Context) -> dict[str, Any]:
    """The model's options without those that never change a result."""
    options = ctx.config.raw["model"]
    return {key: value for key, value in options.items() if key not in ctx.plugins.model.execution_only}


def ensemble_id(ctx: Context, dataset: str, seeds: list[int]) -> str:
    """SHA-256 of dataset, model options and seeds."""
    return content_id("ensemble", {"dataset": dataset, "model": model_identity(ctx), "seeds": seeds})


def member_weights(ctx: Context, ensemble: str) -> list[str]:
    """sha256 of the weights of every member, in order.

    Raises
    ------
    StoreError
        The ensemble or one of its members is missing.
    """
    record = ctx.store.get_ensemble(ensemble)
    members = ctx.store.get_members(ensemble)
    if len(members) < len(record["seeds"]):
        raise StoreError(
            f"ensemble {ensemble[:12]} of {ctx.campaign} is not complete: rerun its train Firework"
        )
    return [member["blob"] for member in members]


def save_members(ctx: Context, ensemble: str, directory: Path) -> list[Path]:
    """Paths of the weights of every member, written into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    suffix = ctx.store.get_ensemble(ensemble)["suffix"]
    paths = []
    for k, sha in enumerate(member_weights(ctx, ensemble)):
        path = directory / f"member_{k}{suffix}"
        ctx.store.save_blob(sha, path)
        paths.append(path)
    return paths


def load_potential(ctx: Context, ensemble: str) -> Potential:
    """The ensemble, ready to predict."""
    weights = save_members(ctx, ensemble, ctx.workdir / f"ensemble_{ensemble[:12]}")
    return ctx.at_work("model").model.load(weights)


def driving_ensemble(ctx: Context) -> str:
    """Id of the ensemble that explores in this round: the one trained in the round before."""
    return ctx.result("train", round=ctx.round - 1)["outputs"]["ensemble"]
