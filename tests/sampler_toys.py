"""Toy potentials that jax-md can drive, for the tests of the sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
from alfw.core.records import Prediction


@dataclass(frozen=True)
class PairEnergy:
    """Half of a pair energy on the receiver of each edge, cut off smoothly; equal objects compile once."""

    kind: str
    cutoff_A: float

    def __call__(self, params: Any, vectors: Any, species: Any, senders: Any, receivers: Any) -> Any:
        square = (vectors**2).sum(1)
        inside = square < self.cutoff_A**2
        r = jnp.sqrt(jnp.where(inside, square, jnp.float32(1)))
        energy = self.pair(params, r) * (1 - (r / self.cutoff_A) ** 2) ** 3 if self.kind != "bond" else None
        energy = self.pair(params, r) if energy is None else energy
        return jax.ops.segment_sum(jnp.where(inside, energy / 2, jnp.float32(0)), receivers, species.shape[0])

    def pair(self, params: Any, r: Any) -> Any:
        if self.kind == "bond":  # params: k (eV/Å^2), r0 (Å)
            return params[0] / 2 * (r - params[1]) ** 2
        if self.kind == "lj":  # params: epsilon (eV), sigma (Å)
            x = (params[1] / r) ** 6
            return 4 * params[0] * (x * x - x)
        return params[0] * jnp.sqrt(params[1] - r)  # "nan": none closer than params[1]


class Toy:
    """K members of a pair potential."""

    def __init__(
        self, kind: str, params: Sequence[Sequence[float]], cutoff_A: float, species: tuple[int, ...]
    ) -> None:
        self.energy, self.params = PairEnergy(kind, cutoff_A), jnp.asarray(params, jnp.float32)
        self.cutoff_A, self.species, self.members = cutoff_A, species, len(params)

    def atom_energy_function(self) -> tuple[Any, Any]:
        return self.energy, self.params

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        one = [self._frame(frame) for frame in frames]
        return Prediction(energy=np.stack([e for e, _ in one], 1), forces=[f for _, f in one])

    def _frame(self, frame: Frame) -> tuple[Any, Any]:
        edges = neighbours(frame, self.cutoff_A)
        pad = -len(edges) % 512  # few shapes, few compilations
        beyond = np.tile([2 * self.cutoff_A, 0, 0], (pad, 1))
        offsets = jnp.asarray(np.concatenate([edges.shifts @ frame.cell, beyond]), jnp.float32)
        ends = [jnp.asarray(np.pad(end, (0, pad))) for end in (edges.senders, edges.receivers)]
        x = jnp.asarray(frame.positions, jnp.float32)
        pairs = [_energy_and_gradient(self.energy, p, x, offsets, *ends) for p in self.params]
        return np.array([float(e) for e, _ in pairs]), -np.array([np.asarray(g, float) for _, g in pairs])


@partial(jax.jit, static_argnums=0)
def _energy_and_gradient(
    energy: PairEnergy, p: Any, x: Any, offsets: Any, senders: Any, receivers: Any
) -> Any:
    species = jnp.zeros(len(x), jnp.int32)
    return jax.value_and_grad(
        lambda x: energy(p, x[senders] - x[receivers] + offsets, species, senders, receivers).sum()
    )(x)
