"""The files of the user that samplers read, in the store, so that workers elsewhere have them."""

from __future__ import annotations

from typing import Any

from alfw.core.protocols import ReadsFiles
from alfw.io.frames import expand_paths
from alfw.io.multi_copy import self_contained
from alfw.steps.context import Context


def store_files(ctx: Context) -> list[dict[str, Any]]:
    """Blobs of these files: ``part`` of the sampler, ``name``, ``blob``.

    Raises
    ------
    DataError
        A path without files, or a file without the one that belongs beside it.
    """
    stored = []
    for part, sampler in enumerate(ctx.plugins.samplers):
        if isinstance(sampler, ReadsFiles):
            for path in expand_paths(sampler.paths):
                whole = self_contained(path)
                blob = ctx.store.put_file(path) if whole is None else ctx.store.put_blob(whole)
                stored.append({"part": part, "name": path.name, "blob": blob})
    return stored
