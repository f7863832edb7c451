"""The state of a training, kept now and then, so that one that was killed goes on where it was."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from alfw.models._nequix_step import Kept, State

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


def write(path: Path, state: State, kept: Kept, step: int, idle: int) -> None:
    """Write the state after `step` steps; the file is there as a whole or not at all."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((state, kept.params))]
    numbers = np.array([step, idle, kept.step, kept.valid_loss], np.float64)
    temporary = path.with_suffix(".part")
    with open(temporary, "wb") as file:
        np.savez(
            file, numbers=numbers, allow_pickle=False, **{f"leaf{i}": leaf for i, leaf in enumerate(leaves)}
        )
    os.replace(temporary, path)


def read(path: Path, like: State) -> tuple[State, Kept, int, int] | None:
    """State, what is kept, steps done and idle evaluations; None where there is none, or one of another network.

    `like`: a state of the same network, which has the structure that the file lacks.
    """
    leaves, tree = jax.tree.flatten((like, like.params))
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            numbers = file["numbers"]
            found = [file[f"leaf{i}"] for i in range(len(leaves))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(found, leaves, strict=True)):
        return None
    state, params = jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in found])
    return state, Kept(params, int(numbers[2]), float(numbers[3])), int(numbers[0]), int(numbers[1])
