"""An ensemble of Nequix networks that predicts many frames at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.frame import Float, Frame
from alfw.core.neighbours import neighbours
from alfw.core.records import Prediction
from alfw.core.reference import reference_sums
from alfw.models._jax import use_compilation_cache
from alfw.models._nequix_network import (
    Params,
    Program,
    Weights,
    energy_and_gradient,
    load,
    program,
    stacked,
    virial,
    with_readout,
)
from alfw.models.graphs import Graphs, Shape, atom_bucket, bucket, species_index, stack

CPU_ATOMS, GPU_ATOMS = 256, 16384  # atoms in a batch: what fits a core's cache, what fills a GPU
QUEUED = 4  # batches per worker whose arrays may wait in memory
TOO_WIDE = 1.3  # a compiled shape is used for graphs that need fewer edges, up to this ratio


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Block(NamedTuple):
    """Predictions of the K members for one batch of b frames, in eV, eV/Å, eV."""

    frames: list[int]
    energy: jax.Array  # (K, b)
    forces: jax.Array  # (K, b, n, 3)
    virial: jax.Array | None  # (K, b, 3, 3)


def spread_out(member: Weights) -> list[Params]:
    """The networks that a file stands for: itself, or one for each readout of its shallow ensemble."""
    if member.heads is None:
        return [member.params]
    return [with_readout(member.params, head) for head in member.heads]


@lru_cache(maxsize=16)
def evaluator(program_: Program, periodic: bool, at_once: bool) -> Callable[..., Any]:
    """The compiled ``f(params, graphs) -> energy, forces, virial or None`` of all members.

    `at_once`: all members in one batch of matrix products, which suits a GPU; a CPU is faster one after the other.
    """

    def member(params: Any, graphs: Graphs) -> Any:
        energy, forces, gradient = energy_and_gradient(program_.atom_energies, params, graphs)
        return energy, forces, virial(graphs.vectors, gradient) if periodic else None

    def ensemble(params: Any, graphs: Graphs) -> Any:
        graphs = Graphs(*map(jnp.asarray, graphs))
        if at_once:
            return jax.vmap(member, in_axes=(0, None))(params, graphs)
        return jax.lax.map(lambda p: member(p, graphs), params)

    return jax.jit(ensemble)


class NequixPotential:
    """K Nequix members, or the K readouts of a shallow ensemble (see `core.protocols.JaxPotential`).

    Attributes
    ----------
    species : (S,) int
        Atomic numbers, sorted.
    cutoff_A : float
    members : int
    reference_eV : {atomic number: float}
        E0, added in float64.
    """

    def __init__(
        self, weights: Sequence[Path], atoms_per_batch: int | None = None, at_once: bool | None = None
    ) -> None:
        """Load `weights`, one ``.nqx`` a member; `at_once` as in `evaluator`, None = on a GPU.

        Raises
        ------
        TrainingError
            No weights, an unreadable file, or members that do not share their statistics.
        """
        use_compilation_cache()
        if not weights:
            raise TrainingError("an ensemble needs at least one member: no weights were given")
        members = [load(path) for path in weights]
        for path, member in zip(weights, members, strict=True):
            if member.spec != members[0].spec or member.reference != members[0].reference:
                raise TrainingError(
                    f"{path} and {weights[0]} are not members of one ensemble: their headers differ"
                )
        self._program = program(members[0].spec)
        params = [each for member in members for each in spread_out(member)]
        self._params = stacked(params)
        gpu = jax.default_backend() == "gpu"
        self._at_once = gpu if at_once is None else at_once
        self._workers = 1 if gpu else cores()
        self._atoms_per_batch = atoms_per_batch or (GPU_ATOMS if gpu else CPU_ATOMS)
        self._shapes: list[Shape] = []
        self._compiled: set[tuple[Any, ...]] = set()
        self.species: tuple[int, ...] = members[0].spec.atomic_numbers
        self.cutoff_A: float = members[0].spec.cutoff
        self.members: int = len(params)
        self.reference_eV: dict[int, float] = members[0].reference

    def atom_energy_function(self) -> tuple[Callable[..., Any], Any]:
        """See `JaxPotential`."""
        return self._program.atom_energies, self._params

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """What each member says of each frame; float32 networks, E0 added in float64.

        Raises
        ------
        TrainingError
            An element the model does not know.
        DataError
            A frame is periodic in some directions only.
        """
        kinds = species_index(frames, self.species)
        blocks = self._blocks(frames, kinds)
        energy = np.tile(reference_sums(frames, self.reference_eV), (self.members, 1))
        forces: list[Float] = [np.empty(0)] * len(frames)
        stress: list[Float | None] = [None] * len(frames)
        for block in blocks:
            energy[:, block.frames] += np.asarray(block.energy, np.float64)[:, : len(block.frames)]
            f = np.asarray(block.forces, np.float64)
            w = None if block.virial is None else np.asarray(block.virial, np.float64)
            for b, i in enumerate(block.frames):
                forces[i] = f[:, b, : len(frames[i])].copy()
                if w is not None and frames[i].periodic:
                    stress[i] = w[:, b] / abs(np.linalg.det(frames[i].cell))
        return Prediction(energy=energy, forces=forces, stress=stress)

    def _blocks(self, frames: Sequence[Frame], kinds: Sequence[NDArray[np.int32]]) -> list[Block]:
        """All batches; a bounded number of them is on its way at a time.

        Batches run beside each other because the networks are too small for XLA to share one out among the cores.
        """
        pending: list[Future[Block]] = []
        with ThreadPoolExecutor(self._workers) as pool:
            for i, chosen in enumerate(self._batches(frames)):
                if i >= QUEUED * self._workers:
                    pending[i - QUEUED * self._workers].result()
                pending.append(self._evaluate(frames, kinds, chosen, pool))
        return [future.result() for future in pending]

    def _batches(self, frames: Sequence[Frame]) -> list[list[int]]:
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

    def _evaluate(
        self,
        all_frames: Sequence[Frame],
        all_kinds: Sequence[NDArray[np.int32]],
        chosen: list[int],
        pool: ThreadPoolExecutor,
    ) -> Future[Block]:
        """One batch, on its way: meanwhile the caller makes the neighbour lists of the next one."""
        frames, kinds = [all_frames[i] for i in chosen], [all_kinds[i] for i in chosen]
        edges = [neighbours(frame, self.cutoff_A) for frame in frames]
        largest = len(frames[0])
        needed = Shape(self._batch_size(largest), atom_bucket(largest), max(map(len, edges)))
        graphs = stack(frames, edges, kinds, self._shape(needed), self.cutoff_A)
        periodic = any(frame.periodic for frame in frames)
        compute = evaluator(self._program, periodic, self._at_once)
        signature = (graphs.vectors.shape, graphs.mask.shape, periodic)
        future = pool.submit(lambda: Block(chosen, *jax.block_until_ready(compute(self._params, graphs))))
        if signature not in self._compiled:
            self._compiled.add(signature)
            future.result()  # else two threads would compile the same program
        return future

    def _shape(self, needed: Shape) -> Shape:
        """A shape compiled before that is not much too wide, else a new one."""
        for shape in self._shapes:
            if shape[:2] == needed[:2] and needed.edges <= shape.edges <= TOO_WIDE * max(needed.edges, 8):
                return shape
        self._shapes.append(needed._replace(edges=bucket(needed.edges)))
        return self._shapes[-1]
