"""The state of a training, kept now and then, so that one that was killed goes on where it was."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EVERY_S = 60.0


class Clock:
    """Says when the state is due to be kept again."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether `EVERY_S` have passed since it last was."""
        if time.monotonic() - self._last < EVERY_S:
            return False
        self._last = time.monotonic()
        return True


def write(path: Path, state: Any, numbers: Sequence[float]) -> None:
    """Write a pytree of arrays and some numbers; the file is there as a whole or not at all."""
    leaves = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    temporary = path.with_suffix(".part")
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, numbers=np.array(numbers, np.float64), **leaves)
    os.replace(temporary, path)


def read(path: Path, like: Any) -> tuple[Any, list[float]] | None:
    """The pytree and the numbers; None where there is no such file, or one of another network.

    `like`: a state of the same network, which has the structure that the file lacks.
    """
    leaves, tree = jax.tree.flatten(like)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            numbers = [float(x) for x in file["numbers"]]
            found = [file[f"leaf{i}"] for i in range(len(leaves))]
            more = f"leaf{len(leaves)}" in file.files
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    same = all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(found, leaves, strict=True))
    if more or not same:
        return None
    return jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in found]), numbers
