"""The scale of per-atom features as NPZ; no pickle, equal content gives equal bytes."""

from __future__ import annotations

import io

import numpy as np

from alfw.core.scaling import ElementScale


def pack_scale(scale: ElementScale) -> bytes:
    """The scale as the bytes of an NPZ file: ``mean_Z`` and ``width_Z`` (D,) float32 of each element Z."""
    arrays = {f"mean_{z}": scale.mean[z] for z in sorted(scale.mean)}
    arrays |= {f"width_{z}": scale.width[z] for z in sorted(scale.width)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack_scale(data: bytes) -> ElementScale:
    """The scale of `pack_scale`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    parts = {
        kind: {int(name.removeprefix(kind)): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in ("mean_", "width_")
    }
    return ElementScale(parts["mean_"], parts["width_"])
