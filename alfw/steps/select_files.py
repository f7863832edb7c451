"""select, without a database: which frames of files are worth a label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from alfw.config.messages import one_line
from alfw.core.errors import ConfigError, DataError, PluginError
from alfw.core.exploration import Pool, Selection
from alfw.core.frame import Frame
from alfw.core.protocols import HasFeatures, Potential, Selector, spread_lacking
from alfw.core.registry import plugin_class
from alfw.io.files import replacing
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.steps.screened import Origin, Screening, frames_of, read_rows


@dataclass(frozen=True, eq=False)
class Selected:
    """What a selector chose of a pool in files.

    Attributes
    ----------
    pool : Pool
    origins : list of B Origin
    selection : Selection
    """

    pool: Pool
    origins: list[Origin]
    selection: Selection

    @property
    def frames(self) -> list[Frame]:
        """The chosen ones, in order."""
        return [self.pool.frames[choice.index] for choice in self.selection.chosen]

    def report(self) -> dict[str, Any]:
        """JSON data: the chosen frames with their reasons, and how many were turned down for which."""
        chosen = [
            {
                "index": choice.index,
                "source": str(self.origins[choice.index].path),
                "frame": self.origins[choice.index].index,
                "id": self.pool.frames[choice.index].id,
                "reason": choice.reason,
                "score": _number(choice.score),
                "force_std": _number(self.pool.force_std[choice.index]),
                "max_force": _number(self.pool.max_force[choice.index]),
            }
            for choice in self.selection.chosen
        ]
        return {
            "n_pool": len(self.pool.frames),
            "n_selected": len(chosen),
            "chosen": chosen,
            "rejected": dict(self.selection.rejected),
            "notes": list(self.selection.notes),
        }


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def make_selector(options: Mapping[str, Any]) -> Selector:
    """The selector of these options, which name its kind.

    Raises
    ------
    ConfigError
        In one line: unknown kind, unknown or wrong option.
    """
    kind = str(options["kind"])
    try:
        cls: Any = plugin_class("alfw.selectors", kind)
    except PluginError as error:
        raise ConfigError(str(error)) from None
    try:
        return cls.model_validate(options)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise ConfigError(one_line(error, cls, kind)) from None


def pool_of(
    screening: Screening, labelled: list[Frame], potential: Potential | None
) -> tuple[Pool, list[str]]:
    """The pool of a screening, and what the user should know of it.

    Features are used where those of the labelled frames can be had, too: from `potential`.
    """
    features, of_labelled, notes = screening.features, None, []
    if features is not None and labelled:
        if isinstance(potential, HasFeatures):
            of_labelled = potential.features(labelled)
        else:
            features = None
            notes.append("features of the labelled frames need the model: geometric ones are used instead")
    finite = screening.finite
    force = np.where(finite, screening.max_force, np.nan)
    return Pool(screening.frames, screening.force_std, force, labelled, features, of_labelled), notes


def pool_of_rows(path: Path, labelled: list[Frame]) -> tuple[Pool, list[Origin]]:
    """The pool of a screening kept as JSON, and where its frames are from.

    Raises
    ------
    DataError
        It is none, it is not ours, or a file that it names has changed.
    """
    rows = read_rows(path)
    if any("force_std_max" not in row for row in rows):
        raise DataError(f"{path}: has no force_std_max: screen the structures with alfw screen")
    std, force = (
        np.array([np.nan if row[key] is None else row[key] for row in rows], np.float64)
        for key in ("force_std_max", "max_force")
    )
    origins = [Origin(Path(row["source"]), int(row["frame"])) for row in rows]
    return Pool(frames_of(rows, path.parent), std, force, labelled), origins


def bare_pool(frames: list[Frame], labelled: list[Frame]) -> Pool:
    """The pool of frames that no model was asked about."""
    return Pool(frames, np.full(len(frames), np.nan), np.zeros(len(frames)), labelled)


def select(pool: Pool, origins: list[Origin], selector: Selector, limit: int, seed: int) -> Selected:
    """At most `limit` frames of a pool.

    Raises
    ------
    ConfigError
        The selector needs a spread that is not known.
    DataError
        The pool is empty.
    """
    if not pool.frames:
        raise DataError("no frames to choose from")
    known = 2 if np.isfinite(pool.force_std).any() else 1
    lacking = spread_lacking(selector, known, cheap=False)
    if lacking:
        raise ConfigError(f"{selector.kind}: {lacking}; or screen with an ensemble: --model")
    with threadpool_limits(1, user_api="blas"):
        return Selected(pool, origins, selector.select(pool, limit, seed))


def save(path: Path, selected: Selected) -> None:
    """Write the chosen frames as extended XYZ, and the report beside them as ``.json``.

    Raises
    ------
    DataError
        It cannot be written.
    """
    with replacing(path) as temporary:
        write_extxyz(temporary, [Imported(frame) for frame in selected.frames])
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(selected.report(), indent=1) + "\n", encoding="utf-8")
