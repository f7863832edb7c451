"""A shallow ensemble: K readouts on one network. What it costs is one network, not K.

Energies are linear in a readout's weights, so all K follow from the features of one pass. So are forces: each of the
r ≤ min(K, D) independent combinations of readouts takes one backward pass, and every member's forces are a combination
of these. Readouts drawn in pairs w ± δ have r = K/2 + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alfw.models._nequix_network import (
    Params,
    Program,
    Weights,
    flat_ends,
    forces_of,
    readout_scale,
    virial,
)
from alfw.models.graphs import Graphs

Array = jax.Array
NEGLIGIBLE = 1e-7  # of the largest singular value of the readouts: rounding, not a direction


class Ensemble(NamedTuple):
    """K readouts by their mean.

    Attributes
    ----------
    trunk : Params
        Arrays of the network; its own readout is not looked at.
    mean : (D,) float32
        Mean readout.
    deviations : (K, D) float32
        Each readout minus the mean.
    """

    trunk: Params
    mean: Array
    deviations: Array


class Shallow(NamedTuple):
    """K readouts for prediction: readout k is ``coefficients[k] @ basis``.

    Attributes
    ----------
    ensemble : Ensemble
    coefficients : (K, r) float32
    basis : (r, D) float32
    """

    ensemble: Ensemble
    coefficients: Array
    basis: Array


def shallow(weights: Weights) -> Shallow:
    """The shallow ensemble of a file that has `heads`."""
    heads = weights.heads
    if heads is None:
        raise ValueError("these weights have one readout")
    mean = heads.mean(0)
    left, values, right = np.linalg.svd(heads, full_matrices=False)
    r = int((values > NEGLIGIBLE * values[0]).sum())
    parts = (mean, heads - mean, left[:, :r] * values[:r], right[:r])
    mean_, deviations, coefficients, basis = (jnp.asarray(part, jnp.float32) for part in parts)
    return Shallow(Ensemble(weights.params, mean_, deviations), coefficients, basis)


@lru_cache(maxsize=16)
def atom_spread(program: Program) -> Callable[..., tuple[Array, Array]]:
    """``f(Ensemble, vectors, species, senders, receivers) -> mean (N,), deviations (K, N)`` eV: see `HasSpread`."""

    def spread(
        ensemble: Ensemble, vectors: Array, species: Array, senders: Array, receivers: Array
    ) -> tuple[Array, Array]:
        features = program.atom_features(ensemble.trunk, vectors, species, senders, receivers)
        scaled = readout_scale(program.spec, features.shape[1]) * features
        return scaled @ ensemble.mean + np.float32(program.spec.shift), ensemble.deviations @ scaled.T

    return spread


@lru_cache(maxsize=16)
def heads_evaluator(program: Program, periodic: bool, at_once: bool) -> Callable[..., Any]:
    """The compiled ``f(Shallow, graphs)``; results and `at_once` as of `_nequix_potential.evaluator`."""

    def predict(model: Shallow, graphs: Graphs) -> Any:
        graphs = Graphs(*map(jnp.asarray, graphs))
        frames, atoms = graphs.species.shape
        ends = flat_ends(graphs)

        def scaled(vectors: Array) -> Array:
            """(B, D) eV: what the weights of a readout are multiplied by in the energy of a frame."""
            flat = vectors.reshape(-1, 3)
            features = program.atom_features(model.ensemble.trunk, flat, graphs.species.ravel(), *ends)
            real = jnp.where(graphs.mask[..., None], features.reshape(frames, atoms, -1), jnp.float32(0))
            return readout_scale(program.spec, real.shape[-1]) * real.sum(1)

        def backward(readout: Array) -> Any:
            gradient = pull(jnp.broadcast_to(readout, phi.shape))[0]
            return forces_of(graphs, gradient), virial(graphs.vectors, gradient) if periodic else None

        phi, pull = jax.vjp(scaled, graphs.vectors)
        forces, virials = (jax.vmap if at_once else _one_by_one)(backward)(model.basis)
        shift = np.float32(program.spec.shift) * graphs.mask.sum(1).astype(jnp.float32)
        energy = model.coefficients @ (model.basis @ phi.T) + shift[None]
        members = lambda x: jnp.tensordot(model.coefficients, x, 1)  # noqa: E731
        return energy, members(forces), members(virials) if periodic else None

    return jax.jit(predict)


def _one_by_one(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """Like `jax.vmap`, in a loop."""
    return lambda xs: jax.lax.map(function, xs)
