"""Ensembles of Nequix networks that predict many frames at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alfw.core.errors import TrainingError
from alfw.core.frame import Float, Frame
from alfw.core.records import Prediction
from alfw.core.reference import reference_sums
from alfw.models._jax import use_compilation_cache
from alfw.models._nequix_batches import Batches
from alfw.models._nequix_network import (
    Params,
    Program,
    Weights,
    different,
    energy_and_gradient,
    flat_ends,
    load,
    program,
    stacked,
    virial,
    with_readout,
)
from alfw.models._nequix_shallow import atom_spread, heads_evaluator, shallow
from alfw.models.graphs import Graphs


def spread_out(member: Weights) -> list[Params]:
    """The networks that a file stands for: itself, or one for each readout of its shallow ensemble."""
    if member.heads is None:
        return [member.params]
    return [with_readout(member.params, head) for head in member.heads]


@lru_cache(maxsize=16)
def evaluator(program_: Program, periodic: bool, at_once: bool) -> Callable[..., Any]:
    """The compiled ``f(params, graphs) -> energy (K, B), forces (K, B, n, 3), virial (K, B, 3, 3) or None``.

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


@lru_cache(maxsize=16)
def featurizer(program_: Program) -> Callable[..., Any]:
    """The compiled ``f(params of one member, graphs) -> features (B, n, D)``."""

    def features(params: Params, graphs: Graphs) -> Any:
        graphs = Graphs(*map(jnp.asarray, graphs))
        ends = flat_ends(graphs)
        flat = program_.atom_features(params, graphs.vectors.reshape(-1, 3), graphs.species.ravel(), *ends)
        return flat.reshape(*graphs.species.shape, -1)

    return jax.jit(features)


def open_ensemble(weights: Sequence[Path], atoms_per_batch: int | None = None) -> NequixPotential:
    """The ensemble of these ``.nqx`` files: a shallow one, where it is one file with several readouts.

    Raises
    ------
    TrainingError
        As `NequixPotential`.
    """
    if len(weights) == 1 and load(weights[0]).heads is not None:
        return ShallowNequixPotential(weights, atoms_per_batch)
    return NequixPotential(weights, atoms_per_batch)


class NequixPotential:
    """K Nequix members (see `core.protocols.JaxPotential` and `HasFeatures`).

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
            if keys := different(member, members[0]):
                raise TrainingError(
                    f"{path} and {weights[0]} are not members of one ensemble: they differ in {', '.join(keys)}"
                )
        self._first = members[0]
        self._program = program(members[0].spec)
        self._networks = [each for member in members for each in spread_out(member)]
        self._at_once = jax.default_backend() == "gpu" if at_once is None else at_once
        self._batches = Batches(self._program, atoms_per_batch)
        self.species: tuple[int, ...] = members[0].spec.atomic_numbers
        self.cutoff_A: float = members[0].spec.cutoff
        self.members: int = len(self._networks)
        self.reference_eV: dict[int, float] = members[0].reference

    @cached_property
    def _params(self) -> Params:
        """The arrays of all members, on a leading axis."""
        return stacked(self._networks)

    def atom_energy_function(self) -> tuple[Callable[..., Any], Any]:
        """See `JaxPotential`."""
        return self._program.atom_energies, self._params

    def features(self, frames: Sequence[Frame]) -> list[Float]:
        """B × (n, D) float32: what the readout of the first member sees of each atom; see `HasFeatures`.

        Raises
        ------
        TrainingError, DataError
            As `predict`.
        """
        result: list[Float] = [np.empty(0)] * len(frames)
        compute, params = featurizer(self._program), self._first.params
        for done in self._batches.map("features", lambda graphs, periodic: compute(params, graphs), frames):
            values = np.asarray(done.result)
            for b, i in enumerate(done.frames):
                result[i] = values[b, : len(frames[i])].copy()
        return result

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """What each member says of each frame; float32 networks, E0 added in float64.

        Raises
        ------
        TrainingError
            An element the model does not know.
        DataError
            A frame is periodic in some directions only.
        """
        batches = self._batches.map("members", self._compute, frames)
        energy = np.tile(reference_sums(frames, self.reference_eV), (self.members, 1))
        forces: list[Float] = [np.empty(0)] * len(frames)
        stress: list[Float | None] = [None] * len(frames)
        for done in batches:
            e, f, w = (None if x is None else np.asarray(x, np.float64) for x in done.result)
            energy[:, done.frames] += e[:, : len(done.frames)]  # type: ignore[index]
            for b, i in enumerate(done.frames):
                forces[i] = f[:, b, : len(frames[i])].copy()  # type: ignore[index]
                if w is not None and frames[i].periodic:
                    stress[i] = w[:, b] / abs(np.linalg.det(frames[i].cell))
        return Prediction(energy=energy, forces=forces, stress=stress)

    def _compute(self, graphs: Graphs, periodic: bool) -> Any:
        """Energy, forces and virial of all members for one batch, as `evaluator` gives them."""
        return evaluator(self._program, periodic, self._at_once)(self._params, graphs)


class ShallowNequixPotential(NequixPotential):
    """The K readouts of a shallow ensemble on one Nequix network (see `core.protocols.HasSpread`)."""

    @cached_property
    def _shallow(self) -> Any:
        """The network once, and its readouts."""
        return shallow(self._first)

    def atom_spread_function(self) -> tuple[Callable[..., Any], Any]:
        """See `HasSpread`."""
        return atom_spread(self._program), self._shallow.ensemble

    def _compute(self, graphs: Graphs, periodic: bool) -> Any:
        """As for a deep ensemble, but with one pass for all energies."""
        return heads_evaluator(self._program, periodic, self._at_once)(self._shallow, graphs)
