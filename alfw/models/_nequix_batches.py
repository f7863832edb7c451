"""Many frames through one compiled function: padded batches of few shapes, several on their way at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
from alfw.models._nequix_network import Program
from alfw.models.graphs import TOO_WIDE, Graphs, Shape, atom_bucket, edge_room, species_index, stack

CPU_ATOMS, GPU_ATOMS = 256, 16384  # atoms in a batch: what fits a core's cache, what fills a GPU
Compute = Callable[[Graphs, bool], Any]
QUEUED = 4  # batches per worker whose arrays may wait in memory


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Done(NamedTuple):
    """What a function gave for a batch: the frames' indices, and arrays with at least as many rows."""

    frames: list[int]
    result: Any


@lru_cache(maxsize=64)
def _known_shapes(program: Program) -> list[Shape]:
    """The shapes of batches that this network has met in this process, oldest first; it grows."""
    return []


class Batches:
    """How one network is given frames.

    A batch takes the first shape the network has met before that is not much too wide, so that another ensemble of
    the same networks, in the next round, compiles nothing.
    """

    def __init__(self, program: Program, atoms_per_batch: int | None) -> None:
        gpu = jax.default_backend() == "gpu"
        self._workers = 1 if gpu else cores()
        self._atoms_per_batch = atoms_per_batch or (GPU_ATOMS if gpu else CPU_ATOMS)
        self._shapes = _known_shapes(program)
        self._species, self._cutoff_A = program.spec.atomic_numbers, program.spec.cutoff
        self._compiled: set[tuple[Any, ...]] = set()

    def map(self, name: str, compute: Compute, frames: Sequence[Frame]) -> list[Done]:
        """What ``compute(graphs, any of them periodic)`` gives for all frames.

        A bounded number of batches is on its way at a time; `name` tells one compiled function from another.

        Batches run beside each other because the networks are too small for XLA to share one out among the cores.

        Raises
        ------
        TrainingError
            An element the model does not know.
        DataError
            A frame is periodic in some directions only.
        """
        kinds = species_index(frames, self._species)
        pending: list[Future[Done]] = []
        with ThreadPoolExecutor(self._workers) as pool:
            for i, chosen in enumerate(self._cut(frames)):
                if i >= QUEUED * self._workers:
                    pending[i - QUEUED * self._workers].result()
                pending.append(self._start(name, compute, frames, kinds, chosen, pool))
        return [future.result() for future in pending]

    def _cut(self, frames: Sequence[Frame]) -> list[list[int]]:
        """Indices of the frames of each batch, largest frames first, so that a batch needs little padding."""
        order = sorted(range(len(frames)), key=lambda i: -len(frames[i]))
        batches = []
        while order:
            size = self._batch_size(len(frames[order[0]]))
            batches.append(order[:size])
            order = order[size:]
        return batches

    def _batch_size(self, atoms: int) -> int:
        """The power of 2 of frames of this size that has about `atoms_per_batch` atoms."""
        return 1 << max(self._atoms_per_batch // atoms, 1).bit_length() - 1

    def _start(
        self,
        name: str,
        compute: Compute,
        all_frames: Sequence[Frame],
        all_kinds: Sequence[NDArray[np.int32]],
        chosen: list[int],
        pool: ThreadPoolExecutor,
    ) -> Future[Done]:
        """One batch, on its way: meanwhile the caller makes the neighbour lists of the next one."""
        frames, kinds = [all_frames[i] for i in chosen], [all_kinds[i] for i in chosen]
        edges = [neighbours(frame, self._cutoff_A) for frame in frames]
        largest = len(frames[0])
        room = edge_room(frames, max(map(len, edges)))
        shape = self._shape(Shape(self._batch_size(largest), atom_bucket(largest), room))
        graphs = stack(frames, edges, kinds, shape, self._cutoff_A)
        periodic = any(frame.periodic for frame in frames)
        future = pool.submit(lambda: Done(chosen, jax.block_until_ready(compute(graphs, periodic))))
        signature = (name, shape, periodic)
        if signature not in self._compiled:
            self._compiled.add(signature)
            future.result()  # else two threads would compile the same program
        return future

    def _shape(self, needed: Shape) -> Shape:
        """A shape met before that is not much too wide, else this one."""
        for shape in self._shapes:
            if shape[:2] == needed[:2] and needed.edges <= shape.edges <= TOO_WIDE * needed.edges:
                return shape
        self._shapes.append(needed)
        return needed
