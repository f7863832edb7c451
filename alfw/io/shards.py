"""Shards: many frames and what belongs to them as stacked NPZ; no pickle, equal content gives equal bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.io.imported import has_own_masses

RESERVED = "frame_"  # prefix of the arrays that make up the frames
OF_FRAMES = ("cell", "pbc", "charge", "multiplicity")
OF_THEIR_ATOMS = ("numbers", "positions", "fixed", "moments", "masses")
PER_ATOM = "atoms_"  # prefix of a caller's arrays with one row an atom; all others have one row a frame

Columns = Mapping[str, NDArray[Any]]


def pack(frames: Sequence[Frame], **arrays: Any) -> bytes:
    """B frames of n_1 … n_B atoms, and arrays that travel with them, as the bytes of an NPZ file.

    Parameters
    ----------
    frames : sequence of B Frames
    **arrays : array
        (B, …), or (sum n, …) where the name starts with ``atoms_``; numbers, booleans or text.

    Raises
    ------
    ValueError
        An array of another length, of Python objects, or named ``frame_…``.
    """
    stacked = _stack(frames)
    n_atoms = int(stacked["frame_offsets"][-1])
    for name, value in arrays.items():
        array = np.asarray(value)
        length = n_atoms if name.startswith(PER_ATOM) else len(frames)
        if name.startswith(RESERVED) or array.dtype.hasobject or array.ndim == 0 or len(array) != length:
            raise ValueError(
                f"shard array {name!r} ({array.dtype}, {array.shape}): needs {length} plain rows"
            )
        stacked[name] = array
    buffer = io.BytesIO()
    # numpy dates the entries of the archive 1 January 1980: the same content has the same SHA-256
    np.savez(buffer, allow_pickle=False, **stacked)
    return buffer.getvalue()


def _stack(frames: Sequence[Frame]) -> dict[str, NDArray[Any]]:
    """The arrays that make up the frames; moments, fixed atoms and own masses only if a frame has them."""
    sizes = [len(frame) for frame in frames]
    stacked: dict[str, NDArray[Any]] = {
        "frame_offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "frame_numbers": _flat([frame.numbers for frame in frames], np.int16),
        "frame_positions": _flat([frame.positions for frame in frames], np.float64, 3),
        "frame_cell": np.array([frame.cell for frame in frames]).reshape(-1, 3, 3),
        "frame_pbc": np.array([frame.pbc for frame in frames], bool).reshape(-1, 3),
        "frame_charge": np.array([frame.charge for frame in frames], np.int64),
        "frame_multiplicity": np.array([frame.multiplicity for frame in frames], np.int64),
    }
    if any(frame.fixed is not None for frame in frames):
        stacked["frame_fixed"] = _flat([~frame.free for frame in frames], np.bool_)
    if any(frame.moments is not None for frame in frames):
        zero_or = [np.zeros(len(f)) if f.moments is None else f.moments for f in frames]
        stacked["frame_moments"] = _flat(zero_or, np.float64)
    if any(has_own_masses(frame) for frame in frames):
        stacked["frame_masses"] = _flat([np.asarray(frame.masses) for frame in frames], np.float64)
    return stacked


def _flat(parts: list[NDArray[Any]], dtype: Any, *tail: int) -> NDArray[Any]:
    return np.concatenate([np.empty((0, *tail), dtype), *(np.asarray(part, dtype) for part in parts)])


def columns(data: bytes) -> Columns:
    """All arrays of a shard, those that make up the frames under ``frame_…``; no Frame is made yet.

    Raises
    ------
    DataError
        Not a shard.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"not a shard of frames ({len(data)} bytes): {error}") from error
    if "frame_offsets" not in arrays:
        raise DataError(f"not a shard of frames ({len(data)} bytes): it has no frame_offsets")
    return arrays


def frame_at(arrays: Columns, index: int) -> Frame:
    """The frame in this row of the `columns` of a shard."""
    first, last = arrays["frame_offsets"][index : index + 2]
    own = {name: arrays[RESERVED + name][index] for name in OF_FRAMES}
    own |= {name: arrays[RESERVED + name][first:last] for name in OF_THEIR_ATOMS if RESERVED + name in arrays}
    return Frame(**own)


def unpack(data: bytes) -> tuple[list[Frame], dict[str, NDArray[Any]]]:
    """The frames of a shard and the arrays that travelled with them.

    Raises
    ------
    DataError
        Not a shard.
    """
    arrays = columns(data)
    frames = [frame_at(arrays, index) for index in range(len(arrays["frame_offsets"]) - 1)]
    return frames, {name: value for name, value in arrays.items() if not name.startswith(RESERVED)}
