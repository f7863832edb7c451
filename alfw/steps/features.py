"""Per-atom features for the selection: where they come from, and those of labelled frames, kept from round to round.

In this order: the frozen features of the checkpoint that the campaign starts from, which never change; what the readout
of the driving ensemble's first member sees, which is another source in each round; geometric descriptors, of no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.exploration import Pool
from alfw.core.frame import Frame
from alfw.core.protocols import HasFeatures, Potential
from alfw.core.scaling import ElementScale, joined
from alfw.io.scales import unpack_scale
from alfw.io.shards import columns, pack
from alfw.selectors.geometric import geometric_features
from alfw.steps.context import Context
from alfw.steps.dataset import previous_dataset, rows_of
from alfw.steps.retry import put_back
from alfw.steps.train import checkpoint

GEOMETRIC = "geometric"
# Distances of features are wrong by about this share of an element's spread when they are stored as float16.
MAX_ROUNDING = 3e-3

Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Source:
    """Where features come from.

    Attributes
    ----------
    id : str
        Features of one id can be compared.
    elements : frozenset of int, or None
        Atomic numbers that it has features of; None = any.
    compute : callable
        B frames -> B × (n, D) float32.
    """

    id: str
    elements: frozenset[int] | None
    compute: Callable[[Sequence[Frame]], Sequence[NDArray[Any]]]

    def covers(self, frames: Sequence[Frame]) -> bool:
        """Whether it has features of all these frames."""
        return self.elements is None or all(self.elements.issuperset(f.numbers.tolist()) for f in frames)


def wanted(ctx: Context) -> bool:
    """Whether the selector looks at features; one that does not may say ``uses_features = False``."""
    return bool(getattr(ctx.plugins.selector, "uses_features", True))


def source_of(ctx: Context, ensemble: str, potential: Potential) -> Source:
    """Where this round's features come from; `potential`: the ensemble that drives it, loaded."""
    path = checkpoint(ctx)
    if path is not None:
        sha = ctx.result("start", round=0)["outputs"]["checkpoint"]
        try:
            frozen = ctx.at_work("model").model.load([path])
        except TrainingError:  # something to start a training from, but no potential
            frozen = None
        if isinstance(frozen, HasFeatures):
            return Source(f"checkpoint {sha}", _elements(frozen), frozen.features)
    if isinstance(potential, HasFeatures):
        return Source(f"ensemble {ensemble}", _elements(potential), potential.features)
    frames = ctx.store.get_frames([row.frame for row in rows_of(ctx, previous_dataset(ctx))])
    elements = sorted({int(z) for frame in frames for z in np.unique(frame.numbers)})
    name = " ".join([GEOMETRIC, *map(str, elements)])
    return Source(name, frozenset(elements), lambda some: geometric_features(some, elements))


def _elements(potential: object) -> frozenset[int] | None:
    """Atomic numbers that a potential knows; None = it does not say."""
    return frozenset(int(z) for z in getattr(potential, "species", ())) or None


def compact(z: Features, numbers: NDArray[np.int64]) -> NDArray[np.floating]:
    """Features (A, D) as float16 where that rounds away little of the spread of any element, else as float32."""
    with np.errstate(over="ignore"):
        half = z.astype(np.float16)
    for element in np.unique(numbers):
        block = z[numbers == element]
        finite = np.isfinite(block).all(1)
        error = (half[numbers == element][finite] - block[finite]).astype(np.float64)
        spread = (block[finite] - block[finite].mean(0)) if finite.any() else block[finite]
        if np.square(error).sum() > MAX_ROUNDING**2 * np.square(spread, dtype=np.float64).sum():
            return np.asarray(z, np.float32)
    return half


def put_labelled(ctx: Context, source: Source, on_the_way: Sequence[Frame]) -> str | None:
    """Blob of the features of frames that are labelled or on their way, without those of earlier rounds; None: no new.

    Together with theirs, if they are from the same source, it is what `labelled_features` reads.
    """
    rows = [row for row in rows_of(ctx, previous_dataset(ctx)) if row.side != "test"]
    ids = [row.frame for row in rows]
    ids += [row["frame"] for row in put_back(ctx, set(ids))]
    frames = {frame.id: frame for frame in (*ctx.store.get_frames(ids), *on_the_way)}
    known = labelled_features(ctx, source.id, before=ctx.round)
    new = [frame for key, frame in frames.items() if key not in known and source.covers([frame])]
    if not new:
        return None
    z = joined(source.compute(new))
    stored = compact(z, np.concatenate([frame.numbers for frame in new]))
    return ctx.store.put_blob(pack(new, id=np.array([frame.id for frame in new]), atoms_features=stored))


def labelled_features(ctx: Context, source: str, before: int) -> dict[str, Features]:
    """(n, D) float32 by frame id, as rounds before this number stored them, all from this source."""
    found: dict[str, Features] = {}
    for number in range(1, before):
        screened = ctx.store.get_result(ctx.campaign, number, "screen", 0)
        outputs = screened["outputs"] if screened else {}
        if outputs.get("features") == source and outputs.get("labelled_features"):
            arrays = columns(ctx.store.get_blob(outputs["labelled_features"]))
            blocks = np.split(arrays["atoms_features"].astype(np.float32), arrays["frame_offsets"][1:-1])
            found |= dict(zip(arrays["id"].tolist(), blocks, strict=True))
    return found


def scale_of(ctx: Context, source: str, pool: Pool) -> ElementScale:
    """The scale of the campaign for features of this source: as an earlier round fitted it, else of this pool.

    Elements that it does not have yet are fitted on this pool and what is labelled. Frames whose prediction is not
    finite do not count: their features may not be either.
    """
    fit = [i for i, force in enumerate(pool.max_force) if np.isfinite(force)]
    blocks: list[Any] = [(pool.features or [])[i] for i in fit] + list(pool.labelled_features or [])
    numbers = [frame.numbers for frame in [*(pool.frames[i] for i in fit), *pool.labelled]]
    return _fitted_before(ctx, source).extended_frames(
        blocks, numbers, by_column=source.startswith(GEOMETRIC)
    )


def _fitted_before(ctx: Context, source: str) -> ElementScale:
    """The scale that the newest selection before left for this source; one of no elements, where there is none."""
    for number in range(ctx.round - 1, 0, -1):
        chosen = ctx.store.get_result(ctx.campaign, number, "select")
        outputs = chosen["outputs"] if chosen else {}
        if outputs.get("features") == source and outputs.get("scale"):
            return unpack_scale(ctx.store.get_blob(outputs["scale"]))
    return ElementScale()
