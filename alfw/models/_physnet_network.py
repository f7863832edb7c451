"""PhysNet-like energies and charges, and DCMNet's distributed charges, of padded graphs.

The energy is a sum over atoms of what message passing over edges within the cutoff makes of each; so is a first guess
of the atomic charges, which are then shifted by the same amount on every atom, so that they sum to the charge of the
molecule exactly. DCMNet puts `n_dcm` point charges near every atom; they sum to the same total.

Source: O. T. Unke, M. Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), doi:10.1021/acs.jctc.9b00181 (PhysNet; here
with equivariant features); E. Boittier, O. T. Unke, M. Meuwly and co-workers, doi:10.1021/acs.jctc.4c00759 (DCMNet);
O. T. Unke, H. Maennel, arXiv:2401.07595 (e3x).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import e3x
import flax.linen as nn
import jax
import jax.numpy as jnp

from alfw.models._jax import foreign_code
from alfw.models._physnet_coulomb import REACH_A, COULOMB_eV_A, coulomb_energies, neutral

Array = jax.Array
MAX_AWAY_A = 0.6  # how far a distributed charge may be from its atom


@dataclass(frozen=True)
class Sizes:
    """All that is not a weight; names as the seed's trainer has them."""

    atomic_numbers: tuple[int, ...]
    physnet_features: int
    physnet_iterations: int
    physnet_basis: int
    physnet_cutoff: float
    physnet_n_res: int
    dcmnet_features: int
    dcmnet_iterations: int
    dcmnet_basis: int
    dcmnet_cutoff: float
    n_dcm: int
    max_degree: int
    scale_eV: float
    dipole_source: str = "dcmnet"
    mix_coulomb_energy: bool = False

    @property
    def cutoff_A(self) -> float:
        """How far the energy of an atom reaches."""
        return REACH_A if self.mix_coulomb_energy else self.physnet_cutoff

    @property
    def reach_A(self) -> float:
        """How long the edges of both networks are."""
        return max(self.cutoff_A, self.dcmnet_cutoff)


class Electrostatics(NamedTuple):
    """Charges of B frames with n atoms.

    Attributes
    ----------
    charges : (B, n) e
        Atomic, of PhysNet.
    monopoles : (B, n, d) e
        Distributed, of DCMNet.
    away : (B, n, d, 3) Å
        Where they are, from their atom.
    """

    charges: Array
    monopoles: Array
    away: Array


def _basis(vectors: Array, number: int, degree: int, cutoff: float) -> Array:
    return e3x.nn.basis(
        vectors,
        num=number,
        max_degree=degree,
        radial_fn=e3x.nn.reciprocal_bernstein,
        cutoff_fn=functools.partial(e3x.nn.smooth_cutoff, cutoff=cutoff),
    )


class MessagePassing(nn.Module):
    """Features of atoms after some rounds of messages."""

    features: int
    iterations: int
    basis: int
    cutoff: float
    n_res: int
    degree: int

    @nn.compact
    def __call__(self, x: Array, vectors: Array, senders: Array, receivers: Array) -> Array:
        """(N, 1, (L+1)², F) from features (N, 1, 1, F) and edge vectors (E, 3) Å."""
        basis = _basis(vectors, self.basis, self.degree, self.cutoff)
        for _ in range(self.iterations):
            y = e3x.nn.MessagePass(max_degree=self.degree, include_pseudotensors=False)(
                x, basis, dst_idx=receivers, src_idx=senders, num_segments=x.shape[0]
            )
            x = e3x.nn.add(x, y)
            for _ in range(self.n_res):
                y = e3x.nn.Dense(self.features)(e3x.nn.silu(x))
                y = e3x.nn.Dense(self.features)(e3x.nn.silu(y))
                x = e3x.nn.add(x, y)
        return x


class PhysNet(nn.Module):
    """Energy, without E0, charge before the shift of every atom, and the features that both are read from."""

    sizes: Sizes

    @nn.compact
    def __call__(
        self, vectors: Array, species: Array, senders: Array, receivers: Array
    ) -> tuple[Array, Array, Array]:
        """Energies (N,) eV, charges (N,) e, and scalar features (N, F)."""
        s = self.sizes
        x = e3x.nn.Embed(len(s.atomic_numbers), s.physnet_features)(species)
        degree = min(s.max_degree, 1)
        x = MessagePassing(
            s.physnet_features,
            s.physnet_iterations,
            s.physnet_basis,
            s.physnet_cutoff,
            s.physnet_n_res,
            degree,
        )(x, vectors, senders, receivers)
        x = x[:, 0, 0, :]
        energy = nn.Dense(1, kernel_init=nn.initializers.zeros)(nn.silu(nn.Dense(s.physnet_features)(x)))[
            :, 0
        ]
        charge = nn.Dense(1, kernel_init=nn.initializers.zeros)(nn.silu(nn.Dense(s.physnet_features)(x)))[
            :, 0
        ]
        elements = (len(s.atomic_numbers),)
        shift = self.param("energy_of_element", nn.initializers.zeros, elements)
        typical = self.param("charge_of_element", nn.initializers.zeros, elements)
        return s.scale_eV * (energy + shift[species]), charge + typical[species], x


class DCMNet(nn.Module):
    """Point charges near every atom."""

    sizes: Sizes

    @nn.compact
    def __call__(
        self, charges: Array, vectors: Array, species: Array, senders: Array, receivers: Array
    ) -> tuple[Array, Array]:
        """Charges (N, d) e before the shift, and where they are from their atom (N, d, 3) Å."""
        s = self.sizes
        x = e3x.nn.Embed(len(s.atomic_numbers), s.dcmnet_features)(species)
        x = x + nn.Dense(s.dcmnet_features)(charges[:, None, None, None])
        x = MessagePassing(
            s.dcmnet_features, s.dcmnet_iterations, s.dcmnet_basis, s.dcmnet_cutoff, 1, s.max_degree
        )(x, vectors, senders, receivers)
        y = e3x.nn.Dense(s.n_dcm, use_bias=False)(e3x.nn.silu(x))
        deviation = nn.Dense(s.n_dcm, kernel_init=nn.initializers.zeros)(nn.silu(x[:, 0, 0, :]))
        arrow = jnp.swapaxes(y[:, 0, 1:4, :], 1, 2) if s.max_degree > 0 else jnp.zeros((*deviation.shape, 3))
        squares = (arrow**2).sum(-1, keepdims=True)
        length = jnp.sqrt(squares + 1e-12)
        away = MAX_AWAY_A * arrow * jnp.tanh(length) / length
        return charges[:, None] / s.n_dcm + deviation, away


@dataclass(frozen=True, eq=False)
class Networks:
    """The two networks of one set of sizes, as functions of their weights."""

    sizes: Sizes

    @cached_property
    def physnet(self) -> PhysNet:
        """The network of energies and charges."""
        return PhysNet(self.sizes)

    @cached_property
    def dcmnet(self) -> DCMNet:
        """The network of distributed charges."""
        return DCMNet(self.sizes)

    def build(self, seed: int) -> Any:
        """Random weights: {"physnet": …, "dcmnet": …, "mixing": …}.

        The mixing weights: of the Coulomb energy 0.1, as in the seed's trainer; of the distributed charges in mixed
        dipoles and potentials the logistic function of the number, so ½.
        """
        with foreign_code():
            return self._random(jax.random.key(seed))

    @cached_property
    def _random(self) -> Callable[[Array], Any]:
        """The compiled function of a random key, which `build` calls."""
        vectors, index, species = jnp.ones((2, 3)), jnp.array([0, 1]), jnp.zeros(2, jnp.int32)
        edges = vectors, species, index, index[::-1]

        @jax.jit
        def random(key: Array) -> Any:
            one, two = jax.random.split(key)
            mixing = {"coulomb": jnp.float32(0.1), "dipole": jnp.float32(0.0), "esp": jnp.float32(0.0)}
            physnet, dcmnet = self.physnet.init(one, *edges), self.dcmnet.init(two, jnp.zeros(2), *edges)
            return {"physnet": physnet, "dcmnet": dcmnet, "mixing": mixing}

        return random

    def _physnet(self, params: Any, *edges: Array) -> tuple[Array, Array, Array]:
        return self.physnet.apply(params["physnet"], *edges)  # type: ignore[return-value]

    def _dcmnet(self, params: Any, charges: Array, *edges: Array) -> tuple[Array, Array]:
        return self.dcmnet.apply(params["dcmnet"], charges, *edges)  # type: ignore[return-value]

    def atom_energies(
        self, params: Any, vectors: Array, species: Array, senders: Array, receivers: Array
    ) -> Array:
        """(N,) eV: see `JaxPotential`; with the Coulomb energy, all pairs of a molecule must be edges."""
        edges = vectors, species, senders, receivers
        with foreign_code():
            energy, charge, _ = self._physnet(params, *edges)
            if not self.sizes.mix_coulomb_energy:
                return energy
            ends = senders, receivers, (vectors**2).sum(-1) < REACH_A**2
            charges = neutral(charge[:, None], *ends)[:, 0]
            monopoles, away = self._dcmnet(params, charges, *edges)
            coulomb = coulomb_energies(neutral(monopoles, *ends), away, vectors, *ends)
        return energy + params["mixing"]["coulomb"] * coulomb

    def features(self, params: Any, graphs: Any) -> Array:
        """(B, n, F): what energies and charges are read from."""
        with foreign_code():
            found = self._physnet(params, *_flat(graphs))[2]
        return found.reshape(*graphs.species.shape, -1)

    def electrostatics(self, params: Any, graphs: Any, total: Array) -> Electrostatics:
        """Charges of padded graphs whose edges reach the larger cutoff; `total` (B,) e is conserved exactly."""
        (frames, atoms), edges = graphs.species.shape, _flat(graphs)
        weight = graphs.mask.astype(jnp.float32)
        with foreign_code():
            raw = self._physnet(params, *edges)[1].reshape(frames, atoms)
            charges = conserved(raw, total, weight)
            mono, away = self._dcmnet(params, charges.ravel(), *edges)
        mono = mono.reshape(frames, atoms, -1)
        flat = conserved(mono.reshape(frames, -1), total, jnp.repeat(weight, mono.shape[-1], axis=1))
        return Electrostatics(charges, flat.reshape(mono.shape), away.reshape(*mono.shape, 3))


@lru_cache(maxsize=16)
def networks(sizes: Sizes) -> Networks:
    """The one `Networks` of these sizes in this process."""
    return Networks(sizes)


def _flat(graphs: Any) -> tuple[Array, Array, Array, Array]:
    """Vectors, species, senders and receivers of padded graphs as one graph."""
    frames, atoms = graphs.species.shape
    first = (jnp.arange(frames, dtype=jnp.int32) * atoms)[:, None]
    ends = (graphs.senders + first).ravel(), (graphs.receivers + first).ravel()
    return graphs.vectors.reshape(-1, 3), graphs.species.ravel(), *ends


def conserved(raw: Array, total: Array, weight: Array) -> Array:
    """(B, m): `raw` where `weight` is 1, shifted by one number a row so that the row sums to `total` (B,)."""
    missing = total - (raw * weight).sum(1)
    return weight * (raw + (missing / jnp.maximum(weight.sum(1), 1.0))[:, None])


def dipoles(state: Electrostatics, positions: Array) -> tuple[Array, Array]:
    """(B, 3) e·Å about the origin of `positions` (B, n, 3) Å: of the atomic, and of the distributed charges."""
    atomic = (state.charges[..., None] * positions).sum(1)
    places = positions[:, :, None, :] + state.away
    return atomic, (state.monopoles[..., None] * places).sum((1, 2))


def mixed(weight: Array, atomic: Array, distributed: Array) -> Array:
    """Between the two; the share of the distributed charges is the logistic function of `weight`."""
    share = jax.nn.sigmoid(weight)
    return share * distributed + (1.0 - share) * atomic


def potentials(state: Electrostatics, positions: Array, points: Array) -> tuple[Array, Array]:
    """(B, G) V at `points` (B, G, 3) Å: of the atomic, and of the distributed charges."""
    places = (positions[:, :, None, :] + state.away).reshape(len(positions), -1, 3)
    monopoles = state.monopoles.reshape(len(positions), -1)
    return _potential(state.charges, positions, points), _potential(monopoles, places, points)


def _potential(charges: Array, places: Array, points: Array) -> Array:
    squares = ((points[:, :, None, :] - places[:, None, :, :]) ** 2).sum(-1)
    return COULOMB_eV_A * (charges[:, None, :] / jnp.sqrt(squares + 1e-12)).sum(-1)
