"""HDF5 files as plain arrays: the only module that imports h5py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError

CHUNK_BYTES = 1 << 20


def write_arrays(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    units: Mapping[str, str],
    attributes: Mapping[str, str],
) -> None:
    """Write one dataset an array, with its unit as attribute ``unit``, and attributes of the whole file."""
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        for name, array in arrays.items():
            if array.dtype.kind == "U":
                dataset = file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
            else:
                row = max(1, array.nbytes // max(1, len(array)))
                rows = max(1, min(len(array), CHUNK_BYTES // row))
                chunks = (rows, *array.shape[1:]) if array.size else None
                dataset = file.create_dataset(name, data=array, chunks=chunks)
            if name in units:
                dataset.attrs["unit"] = units[name]


def read_groups(path: Path) -> Iterator[tuple[str, dict[str, NDArray[Any]], dict[str, str], dict[str, str]]]:
    """Name, arrays, units of them and attributes of each group that holds arrays; the root is ``/``.

    Raises
    ------
    DataError
        Not HDF5, or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            groups = [file]
            file.visititems(lambda _, node: groups.append(node) if isinstance(node, h5py.Group) else None)
            for group in groups:
                members = {n: node for n, node in group.items() if isinstance(node, h5py.Dataset)}
                units = {
                    n: _text(node.attrs.get("unit", node.attrs.get("units"))) for n, node in members.items()
                }
                attributes = {n: _text(value) for n, value in group.attrs.items()}
                arrays = {n: _array(node) for n, node in members.items()}
                if members or attributes:
                    yield str(group.name), arrays, {n: u for n, u in units.items() if u}, attributes
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path}: cannot be read as HDF5 ({reason})") from error


def _array(node: h5py.Dataset) -> NDArray[Any]:
    """The content of a dataset; text as str."""
    if h5py.check_string_dtype(node.dtype) is not None:
        return np.asarray(node.asstr()[()], dtype=str)
    value = np.asarray(node[()])
    if value.dtype.kind == "O":
        raise ValueError(f"{node.name} holds objects, not numbers")
    return value


def _text(value: Any) -> str:
    """An attribute as text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)
