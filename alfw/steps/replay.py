"""Frames that a fine-tuned checkpoint is not to forget: read where the campaign starts, kept as a shard for workers."""

from __future__ import annotations

from pathlib import Path

from alfw.core.errors import ConfigError
from alfw.core.frame import Frame
from alfw.core.protocols import Model
from alfw.io.frames import read_frames
from alfw.io.shards import pack, unpack
from alfw.steps.context import Context


def replay_of(model: Model) -> list[Frame]:
    """The frames of the file that the model's option `replay` names; none without it.

    Raises
    ------
    ConfigError
        It is not there any more.
    DataError
        It cannot be read, or has no frames.
    """
    named = getattr(model, "replay", None)
    if named is None:
        return []
    if not Path(named).is_file():
        raise ConfigError(f"model.replay: {named} is not there: start where it is")
    return [item.frame for item in read_frames(named, units="eV" if str(named).endswith(".npz") else None)]


def put_replay(ctx: Context) -> str | None:
    """Blob of these frames; None without any."""
    frames = replay_of(ctx.plugins.model)
    return ctx.store.put_blob(pack(frames)) if frames else None


def get_replay(ctx: Context) -> list[Frame]:
    """The frames that `start` stored."""
    blob = ctx.result("start", round=0)["outputs"].get("replay")
    return [] if blob is None else unpack(ctx.store.get_blob(blob))[0]
