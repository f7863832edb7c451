"""An ensemble of PhysNet and DCMNet networks that predicts many molecules at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from alfw.models._physnet_files import load
from alfw.models._physnet_network import Networks, dipoles, networks, potentials

BATCH = 32  # molecules at once


@lru_cache(maxsize=8)
def evaluator(nets: Networks) -> Callable[..., Any]:
    """The compiled ``f(params, graphs, positions, charge)`` of all members, one after the other."""

    def member(params: Any, graphs: Any, positions: Any, charge: Any) -> Any:
        energy, forces, _ = energy_and_gradient(nets.atom_energies, params, graphs)
        state = nets.electrostatics(params, graphs, charge)
        return energy, forces, *dipoles(state, positions), state.charges

    return jax.jit(lambda params, *batch: jax.lax.map(lambda p: member(p, *batch), params))


@lru_cache(maxsize=8)
def esp_evaluator(nets: Networks) -> Callable[..., Any]:
    """The compiled ``f(params, graphs, positions, charge, points)``: potentials of atomic and distributed charges."""

    def member(params: Any, graphs: Any, positions: Any, charge: Any, points: Any) -> Any:
        return potentials(nets.electrostatics(params, graphs, charge), positions, points)

    return jax.jit(lambda params, *batch: jax.lax.map(lambda p: member(p, *batch), params))


class PhysNetPotential:
    """K members (see `core.protocols.JaxPotential`), for molecules.

    Attributes
    ----------
    species : (S,) int
    cutoff_A : float
        Of PhysNet, which alone makes energies.
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
            if member.sizes != members[0].sizes or member.reference != members[0].reference:
                raise TrainingError(
                    f"{path} and {weights[0]} are not members of one ensemble: their headers differ"
                )
        sizes = members[0].sizes
        self._networks = networks(sizes)
        self._params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[member.params for member in members])
        self._reach = max(sizes.physnet_cutoff, sizes.dcmnet_cutoff)
        self.species = sizes.atomic_numbers
        self.cutoff_A = sizes.physnet_cutoff
        self.members = len(weights)
        self.reference_eV = members[0].reference

    def atom_energy_function(self) -> tuple[Callable[..., Any], Any]:
        """See `JaxPotential`."""
        return self._networks.atom_energies, self._params

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """What each member says of each molecule; `dipole`: of the distributed charges, about the centre of mass.

        Raises
        ------
        TrainingError
            An element the model does not know, or a periodic frame.
        """
        energy = np.tile(reference_sums(frames, self.reference_eV), (self.members, 1))
        dipole, forces = np.zeros((self.members, len(frames), 3)), [np.empty(0)] * len(frames)
        for first in range(0, len(frames), BATCH):
            chosen = frames[first : first + BATCH]
            e, f, _, distributed, _ = self._evaluate(chosen)
            rows = slice(first, first + len(chosen))
            energy[:, rows] += e
            dipole[:, rows] = distributed
            for b, frame in enumerate(chosen):
                forces[first + b] = f[:, b, : len(frame)].copy()
        return Prediction(energy=energy, forces=forces, dipole=dipole)

    def dipoles(self, frames: Sequence[Frame]) -> tuple[Float, Float]:
        """(K, B, 3) e·Å about the centres of mass: of the atomic charges, and of the distributed ones."""
        parts = [self._evaluate(frames[i : i + BATCH])[2:4] for i in range(0, len(frames), BATCH)]
        atomic, distributed = zip(*parts, strict=True)
        return np.concatenate(atomic, 1), np.concatenate(distributed, 1)

    def charges(self, frames: Sequence[Frame]) -> list[Float]:
        """B × (K, n) e: atomic charges, which sum to the charge of the frame."""
        found: list[Float] = []
        for i in range(0, len(frames), BATCH):
            chosen = frames[i : i + BATCH]
            q = self._evaluate(chosen)[4]
            found += [q[:, b, : len(frame)].copy() for b, frame in enumerate(chosen)]
        return found

    def esp(self, frame: Frame, points: Float) -> tuple[Float, Float]:
        """(K, G) V at `points` (G, 3) Å of one molecule: of the atomic charges, and of the distributed ones."""
        graphs, positions = as_graphs([frame], self.species, self._reach)
        charge = np.array([frame.charge], np.float32)
        at = np.asarray(points - centre(frame), np.float32)[None]
        batch = jax.tree.map(jnp.asarray, (graphs, positions, charge, at))
        atomic, distributed = esp_evaluator(self._networks)(self._params, *batch)
        return np.asarray(atomic, np.float64)[:, 0], np.asarray(distributed, np.float64)[:, 0]

    def _evaluate(self, frames: Sequence[Frame]) -> list[Float]:
        graphs, positions = as_graphs(frames, self.species, self._reach)
        charge = np.array([frame.charge for frame in frames], np.float32)
        batch = jax.tree.map(jnp.asarray, (graphs, positions, charge))
        return [np.asarray(x, np.float64) for x in evaluator(self._networks)(self._params, *batch)]
