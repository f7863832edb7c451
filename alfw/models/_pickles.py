"""Pickles of others: recognised, refused as models, and read, where the user wants that, without running any of them.

A pickle is a program: reading one the usual way can do anything. `read_plain` knows the few calls that stand for arrays
and plain containers, makes them itself, and refuses all others by name before they could happen.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from alfw.core.errors import TrainingError

SUFFIXES = (".pkl", ".pickle")
PLAIN = (bool, int, float, str, type(None))
NUMBER = re.compile(r"\|?[<>=]?[biufc](1|2|4|8|16)")


def refuse_pickle(path: Path) -> None:
    """Raise TrainingError where `path` is a pickle, or has one inside; the message names the command that reads it."""
    if is_pickle(path):
        raise TrainingError(
            f"{path}: a pickle, which can run code when it is read, is never loaded as a model; its arrays and plain"
            f" types, and nothing else, are read by: alfw convert checkpoint --trust {path} -o OUT.npz"
        )


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, a torch file without Nequix's header, or an NPZ with Python objects."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or path.suffix in SUFFIXES:
            return True
        return head == b"PK\x03\x04" and _has_objects(path)
    except (OSError, ValueError, zipfile.BadZipFile):  # missing or damaged: who reads it says so
        return False


def _has_objects(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                return True
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    read = {1: npy.read_array_header_1_0, 2: npy.read_array_header_2_0}[
                        npy.read_magic(file)[0]
                    ]
                    if read(file)[2].hasobject:
                        return True
    return False


def read_plain(path: Path) -> Any:
    """What a pickle holds: dict, list, tuple, str, int, float, bool, None and numpy arrays; JAX arrays become numpy's.

    Raises
    ------
    TrainingError
        It holds anything else (named; nothing of it was executed), or is damaged.
    """
    try:
        with open(path, "rb") as file:
            return _plain(_Plain(file).load())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror})") from error
    except _RefusedError as refused:
        raise TrainingError(
            f"{path}: holds {refused}, which is neither an array nor a plain type; nothing of it was executed"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        text = f"{type(error).__name__}: {error}"
        raise TrainingError(f"{path}: not a complete pickle ({' '.join(text.split())[:120]})") from None


class _RefusedError(Exception):
    """The name of what is not read."""


class _Array:
    """An array on its way: made empty, then given its state."""

    __slots__ = ("value",)

    def __init__(self, value: NDArray[Any] | None = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


class _DType:
    """The type of an array's numbers: its name, then its byte order."""

    __slots__ = ("name", "order")

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not NUMBER.fullmatch(name):
            raise _RefusedError(f"an array of type {str(name)[:40]!r}")
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = "=" if state[1] == "|" else str(state[1])

    def numpy(self) -> np.dtype[Any]:
        """The same for numpy."""
        return np.dtype(self.name).newbyteorder(self.order)  # type: ignore[call-overload,no-any-return]


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(dtype, _DType) or not isinstance(data, bytes | bytearray):
        raise _RefusedError("an array of Python objects")
    return np.frombuffer(bytes(data), dtype.numpy()).reshape(shape, order="F" if order == "F" else "C")


def _jax_array(_function: Any, _arguments: Any, state: Any, *_more: Any) -> _Array:
    array = _Array()
    array.__setstate__(state)
    return array


def _latin(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"text in {encoding}")
    return text.encode("latin1")


# What a pickle of arrays may call; each is done by a function of ours. Old and new numpy and JAX name them differently.
_NUMPY = ("numpy.core", "numpy._core")
_CALLS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": lambda name, *_: _DType(name),
    "numpy.ndarray": _Array,
    "collections.OrderedDict": lambda *items: dict(*items),
    "flax.core.frozen_dict.FrozenDict": lambda *items: dict(*items),
    "_codecs.encode": _latin,
    **{f"{core}.multiarray._reconstruct": lambda *_: _Array() for core in _NUMPY},
    **{
        f"{core}.multiarray.scalar": lambda dtype, data: _Array(_array(data, dtype, (), "C"))
        for core in _NUMPY
    },
    **{
        f"{core}.numeric._frombuffer": lambda data, dtype, shape, order="C": _Array(
            _array(data, dtype, shape, order)
        )
        for core in _NUMPY
    },
    "jax._src.array._reconstruct_array": _jax_array,
    "jax.array._reconstruct_array": _jax_array,
    "jax._src.device_array.reconstruct_device_array": _jax_array,
}


class _Call:
    """One of these functions as a pickle sees it: it can be called, and nothing of it changed."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("a change of a function")


class _Plain(pickle.Unpickler):
    """Arrays and plain types only."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for ``module.name``; whatever is not known is refused."""
        if f"{module}.{name}" not in _CALLS:
            raise _RefusedError(f"{module}.{name}")
        return _Call(_CALLS[f"{module}.{name}"])

    def persistent_load(self, pid: Any) -> Any:
        """Refused: what lies outside the file is not read."""
        raise _RefusedError("a reference to something outside")


def _plain(value: Any) -> Any:
    """The same with numpy arrays; _RefusedError for what is left that is not plain."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if isinstance(value, Mapping):
        return {_key(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each) for each in value)
    raise _RefusedError("an incomplete array" if isinstance(value, _Array) else f"a {type(value).__name__}")


def _key(key: Any) -> str | int:
    if not isinstance(key, str | int):
        raise _RefusedError(f"a key that is a {type(key).__name__}")
    return key
