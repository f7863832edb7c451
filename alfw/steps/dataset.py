"""Dataset versions: which label is on which side, and how training data are read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alfw.core.errors import StoreError
from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Side
from alfw.io.stacked import Stacked, joined, stack
from alfw.steps.context import Context


@dataclass(frozen=True)
class Row:
    """One label of a dataset version.

    Attributes
    ----------
    side : {"train", "valid", "test"}
    region : str or None
        Test region; None on the other sides.
    trajectory : str or None
    round : int
        When it came in.
    audit : bool
        Whether it was drawn at random to measure the error.
    """

    frame: str
    label: str
    side: Side
    region: str | None
    trajectory: str | None
    round: int
    audit: bool = False

    def as_entry(self) -> dict[str, Any]:
        """The row as it stands in a dataset version, under its label."""
        return {key: value for key, value in asdict(self).items() if key != "label"}


def rows_of(ctx: Context, dataset: str | None) -> list[Row]:
    """The rows of a dataset version; none of None."""
    if dataset is None:
        return []
    return [Row(label=label, **entry) for label, entry in ctx.store.dataset_entries(dataset).items()]


def labeled(ctx: Context, rows: Sequence[Row]) -> list[Labeled]:
    """Frames and labels of rows, in their order."""
    ids = [row.frame for row in rows]
    frames = ctx.store.get_frames(ids)
    labels = ctx.store.get_labels(ids, ctx.plugins.labeler.theory().id)
    missing = [i for i in ids if i not in labels]
    if missing:
        raise StoreError(f"frame {missing[0][:12]} (and {len(missing) - 1} more) lost its label")
    return [Labeled(frame, labels[i][1]) for i, frame in zip(ids, frames, strict=True)]


def put_shard(ctx: Context, rows: Sequence[Row], labels: Mapping[str, Label]) -> str | None:
    """sha256 of a blob with these rows stacked, by which training reads them in one go; None without rows."""
    if not rows:
        return None
    frames = ctx.store.get_frames([row.frame for row in rows])
    items = [Labeled(frame, labels[row.frame]) for row, frame in zip(rows, frames, strict=True)]
    return ctx.store.put_blob(stack(items, label_id=np.array([row.label for row in rows])))


def stacked(ctx: Context, rows: Sequence[Row]) -> Sequence[Labeled]:
    """Frames and labels of rows of this round's dataset, in their order, out of the shards of all rounds."""
    merged = [ctx.result("merge", round=number)["outputs"] for number in range(ctx.round + 1)]
    if not rows or any("shard" not in outputs for outputs in merged):  # rounds of an older version have none
        return labeled(ctx, rows)
    shards = [Stacked.read(ctx.store.get_blob(o["shard"])) for o in merged if o["shard"] is not None]
    everything = joined(shards)
    place = {str(label): i for i, label in enumerate(everything.arrays["label_id"])}
    return everything.take(np.array([place[row.label] for row in rows]))


def frames_on(ctx: Context, rows: Sequence[Row], *sides: str) -> list[Frame]:
    """Frames of the rows on these sides."""
    return ctx.store.get_frames([row.frame for row in rows if row.side in sides])


def previous_dataset(ctx: Context) -> str | None:
    """Id of the dataset version of the round before; None in round 0."""
    return None if ctx.round == 0 else ctx.result("merge", round=ctx.round - 1)["outputs"]["dataset"]
