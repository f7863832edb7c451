"""An ensemble of PhysNet and DCMNet networks that predicts many molecules at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
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
from alfw.models._nequix_network import energy_and_gradient
from alfw.models._physnet_data import as_graphs, centre
from alfw.models._physnet_files import different, load
from alfw.models._physnet_network import Networks, dipoles, mixed, networks, potentials
from alfw.models.graphs import species_index

BATCH = 32  # molecules at once
SOURCES = ("physnet", "dcmnet", "mixed")


@lru_cache(maxsize=8)
def evaluator(nets: Networks) -> Callable[..., Any]:
    """The compiled ``f(params, graphs, positions, charge)`` of all members, one after the other.

    It gives energies, forces, dipoles in the order of `SOURCES`, and atomic charges.
    """

    def member(params: Any, graphs: Any, positions: Any, charge: Any) -> Any:
        energy, forces, _ = energy_and_gradient(nets.atom_energies, params, graphs)
        state = nets.electrostatics(params, graphs, charge)
        atomic, distributed = dipoles(state, positions)
        mixture = mixed(params["mixing"]["dipole"], atomic, distributed)
        return energy, forces, jnp.stack([atomic, distributed, mixture]), state.charges

    return jax.jit(lambda params, *batch: jax.lax.map(lambda p: member(p, *batch), params))


@lru_cache(maxsize=8)
def esp_evaluator(nets: Networks) -> Callable[..., Any]:
    """The compiled ``f(params, graphs, positions, charge, points)``: potentials of atomic and distributed charges."""

    def member(params: Any, graphs: Any, positions: Any, charge: Any, points: Any) -> Any:
        return potentials(nets.electrostatics(params, graphs, charge), positions, points)

    return jax.jit(lambda params, *batch: jax.lax.map(lambda p: member(p, *batch), params))


@lru_cache(maxsize=8)
def feature_evaluator(nets: Networks) -> Callable[..., Any]:
    """The compiled ``f(params, graphs)`` of the first member: see `Networks.features`."""
    return jax.jit(lambda params, graphs: nets.features(jax.tree.map(lambda x: x[0], params), graphs))


class PhysNetPotential:
    """K members for molecules: a `JaxPotential` with `HasElectrostatics` and `HasFeatures`, see `core.protocols`.

    Attributes
    ----------
    species : (S,) int
    cutoff_A : float
        Of PhysNet, which alone makes energies, unless a Coulomb energy is mixed in.
    members : int
    reference_eV : {atomic number: float}
    """

    def __init__(self, weights: Sequence[Path]) -> None:
        """Load `weights`, one ``.npz`` a member.

        Raises
        ------
        TrainingError
            No weights, an unreadable file, or members that do not share sizes and reference energies.
        """
        use_compilation_cache()
        if not weights:
            raise TrainingError("an ensemble needs at least one member: no weights were given")
        members = [load(path) for path in weights]
        for path, member in zip(weights, members, strict=True):
            unlike = different(member, members[0])
            if unlike:
                raise TrainingError(
                    f"{path} and {weights[0]} differ in {unlike}: members of one ensemble share these; train them on"
                    " the same statistics"
                )
        self._sizes = members[0].sizes
        # Whose dipole is shown changes no program: one for all sources.
        self._networks = networks(replace(self._sizes, dipole_source="dcmnet"))
        self._params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[member.params for member in members])
        self.species = self._sizes.atomic_numbers
        self.cutoff_A = self._sizes.cutoff_A
        self.members = len(weights)
        self.reference_eV = members[0].reference

    def atom_energy_function(self) -> tuple[Callable[..., Any], Any]:
        """See `JaxPotential`."""
        return self._networks.atom_energies, self._params

    def member(self, k: int) -> PhysNetPotential:
        """See `HasMembers`."""
        alone = copy(self)
        alone._params = jax.tree.map(lambda leaf: leaf[k : k + 1], self._params)
        alone.members = 1
        return alone

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """What each member says of each molecule; `dipole`: of the model's `dipole_source`, about the centre of mass.

        Raises
        ------
        TrainingError
            An element the model does not know, a periodic frame, or, with a Coulomb energy, a charged one.
        """
        energy = np.tile(reference_sums(frames, self._known(frames)), (self.members, 1))
        forces, source = [np.empty(0)] * len(frames), SOURCES.index(self._sizes.dipole_source)
        dipole = np.zeros((self.members, len(frames), 3))
        for first, chosen in _batches(frames):
            e, f, d, _ = self._evaluate(chosen)
            rows = slice(first, first + len(chosen))
            energy[:, rows] += e[:, : len(chosen)]
            dipole[:, rows] = d[:, source, : len(chosen)]
            for b, frame in enumerate(chosen):
                forces[first + b] = f[:, b, : len(frame)].copy()
        return Prediction(energy=energy, forces=forces, dipole=dipole)

    def dipoles(self, frames: Sequence[Frame]) -> tuple[Float, Float]:
        """(K, B, 3) e·Å about the centres of mass: of the atomic charges, and of the distributed ones.

        Of any frames, those of a trajectory among them: their autocorrelation gives its infrared spectrum.
        """
        found = np.zeros((2, self.members, len(frames), 3))
        for first, chosen in _batches(frames):
            d = self._evaluate(chosen)[2]
            found[:, :, first : first + len(chosen)] = d[:, :2, : len(chosen)].swapaxes(0, 1)
        return found[0], found[1]

    def charges(self, frames: Sequence[Frame]) -> list[Float]:
        """B × (K, n) e: atomic charges, which sum to the charge of the frame."""
        found: list[Float] = []
        for _, chosen in _batches(frames):
            q = self._evaluate(chosen)[3]
            for b, frame in enumerate(chosen):
                own = q[:, b, : len(frame)]
                # What float32 rounded away comes back, so that the sum is the charge in float64, too.
                found.append(own + (frame.charge - own.sum(1, keepdims=True)) / len(frame))
        return found

    def esp(self, frame: Frame, points: Float) -> tuple[Float, Float]:
        """(K, G) V at `points` (G, 3) Å of one molecule: of the atomic charges, and of the distributed ones."""
        graphs, positions, charge = self._batch([frame])
        room = 1 << max(len(points) - 1, 0).bit_length()  # few sizes mean few compilations
        at = np.full((1, room, 3), 1e3, np.float32)
        at[0, : len(points)] = points - centre(frame)
        atomic, distributed = esp_evaluator(self._networks)(
            self._params, graphs, positions, charge, jnp.asarray(at)
        )
        n = len(points)
        return np.asarray(atomic, np.float64)[:, 0, :n], np.asarray(distributed, np.float64)[:, 0, :n]

    def features(self, frames: Sequence[Frame]) -> list[Float]:
        """See `HasFeatures`: the scalars that the first member's energies and charges are read from."""
        found: list[Any] = []
        for _, chosen in _batches(frames):
            graphs, *_ = self._batch(chosen)
            x = np.asarray(feature_evaluator(self._networks)(self._params, graphs), np.float32)
            found += [x[b, : len(frame)].copy() for b, frame in enumerate(chosen)]
        return found

    def _known(self, frames: Sequence[Frame]) -> dict[int, float]:
        """E0 by atomic number, once all elements are known to have one."""
        species_index(frames, self.species)
        return self.reference_eV

    def _batch(self, frames: Sequence[Frame]) -> Any:
        """Graphs, positions and charges of at most `BATCH` molecules, padded to a power of 2 of them."""
        rows = 1 << (len(frames) - 1).bit_length()
        graphs, positions = as_graphs(frames, self._sizes, rows)
        charge = np.zeros(rows, np.float32)
        charge[: len(frames)] = [frame.charge for frame in frames]
        return jax.tree.map(jnp.asarray, (graphs, positions, charge))

    def _evaluate(self, frames: Sequence[Frame]) -> list[Float]:
        """Energies (K, b), forces (K, b, n, 3), dipoles (K, 3, b, 3), charges (K, b, n), b >= len(frames)."""
        found = evaluator(self._networks)(self._params, *self._batch(frames))
        return [np.asarray(x, np.float64) for x in found]


def _batches(frames: Sequence[Frame]) -> Iterator[tuple[int, Sequence[Frame]]]:
    """Index of the first frame of each batch, and its frames."""
    return ((first, frames[first : first + BATCH]) for first in range(0, len(frames), BATCH))
