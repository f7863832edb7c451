"""What users take home: the dataset, the ensemble, the candidates."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from alfw.core.errors import ConfigError, StoreError
from alfw.io.datasets import check_suffix, write_dataset
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.steps.context import Context
from alfw.steps.dataset import labeled, rows_of
from alfw.steps.ensemble import save_members
from alfw.store import Store, surface


def dataset(store: Store, campaign: str, path: Path, number: int | None = None) -> dict[str, Any]:
    """Write all labels of a campaign, with side, trajectory and theory, as .npz, .extxyz, .h5 or .db.

    A label whose remedies changed the theory carries the id of the one it is of.
    """
    check_suffix(path)
    ctx = _context(store, campaign, number, "merge")
    version = ctx.result("merge")["outputs"]["dataset"]
    rows = rows_of(ctx, version)
    theory = ctx.plugins.labeler.theory()
    items = [
        Imported(item.frame, item.label, row.trajectory, row.side, surface(theory, item.label).id)
        for row, item in zip(rows, labeled(ctx, rows), strict=True)
    ]
    _replace(path, lambda temporary: write_dataset(temporary, items))
    changed = sum(item.theory != theory.id for item in items)
    report = {"file": str(path), "labels": len(items), "dataset": version, "theory": theory.id}
    return {**report, "changed_surface": changed, "round": ctx.round}


def ensemble(store: Store, campaign: str, path: Path, number: int | None = None) -> dict[str, Any]:
    """Write the members of a campaign's ensemble and its ensemble.json into a folder."""
    ctx = _context(store, campaign, number, "evaluate")  # every member is there, and measured
    identity = ctx.result("train")["outputs"]["ensemble"]
    if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
        raise ConfigError(f"{path} is there already and not empty: choose another folder")
    provenance = {"ensemble": identity, "campaign": campaign, "round": ctx.round}
    with tempfile.TemporaryDirectory(prefix="alfw_") as folder:
        weights = save_members(ctx, identity, Path(folder))
        _replace(path, lambda temporary: ctx.plugins.model.export(weights, temporary, provenance))
    return {"folder": str(path), "members": len(weights), "ensemble": identity, "round": ctx.round}


def candidates(store: Store, campaign: str, path: Path, number: int | None = None) -> dict[str, Any]:
    """Write the frames proposed in a round (labelled or not) as .extxyz."""
    if path.suffix != ".extxyz":
        raise ConfigError(f"{path}: candidates are written as .extxyz, its name must end so")
    ctx = _context(store, campaign, number, "select")
    rows = ctx.get_json(ctx.result("select")["outputs"]["candidates"])
    frames = store.get_frames([row["frame"] for row in rows])
    items = [Imported(frame, None, row["trajectory"]) for frame, row in zip(frames, rows, strict=True)]
    _replace(path, lambda temporary: write_extxyz(temporary, items))
    return {"file": str(path), "candidates": len(items), "round": ctx.round}


def _context(store: Store, campaign: str, number: int | None, stage: str) -> Context:
    """The context of this round, or of the newest one in which the stage is done.

    Raises
    ------
    StoreError
        There is none.
    """
    done = [result["round"] for result in store.get_results(campaign, number, stage)]
    if not done:
        store.get_campaign(campaign)
        where = "no round" if number is None else f"round {number}"
        verb = "has come" if number is None else "has not come"
        raise StoreError(
            f"campaign {campaign}: {where} {verb} to its {stage} stage yet: alfw status {campaign}"
        )
    return Context.load(store, campaign, done[-1], Path(tempfile.gettempdir()))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file or folder that appears at `path` complete or not at all.

    Raises
    ------
    ConfigError
        It cannot be written there.
    """
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}): choose another path") from None
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
