"""A shallow ensemble on one trained network: K readouts drawn from the posterior of its last, linear layer.

The energy of a frame is linear in the readout's weights w: E = Φ·w with Φ = Σ_a φ_a, and so are forces. With a
Gaussian prior and Gaussian errors the weights have the covariance α² (C + ς² 1)⁻¹, C = Σ rows rowsᵀ over the labelled
energies and forces; α is calibrated on the errors of the valid side. Nothing is trained again, and the energies of all
K readouts cost hardly more than that of one.

Source: F. Bigi, S. Chong, M. Ceriotti, F. Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024),
doi:10.1088/2632-2153/ad805f, eqs. 20-24 and 28 (last-layer prediction rigidity and its ensembles).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from alfw.models._nequix_data import Batch, Dataset
from alfw.models._nequix_network import Params, Program

PROBES = 8  # random directions in which the forces of a frame enter C; an unbiased estimate of all 3n
RIDGE = 1e-6  # ς², as a share of the mean diagonal of C
Float = NDArray[np.float64]


class Rows(NamedTuple):
    """Of one frame: what multiplies w in its energy per atom, and in its forces along random directions.

    Attributes
    ----------
    energy : (D,) float32
    forces : (P, D) float32
    """

    energy: jax.Array
    forces: jax.Array


def heads(program: Program, params: Params, data: Dataset, number: int, seed: int) -> Float:
    """(K, D) float64: readout weights whose mean are the trained ones; K is even.

    They come in pairs w ± δ, so that the mean prediction of the shallow ensemble is that of the trained network.
    """
    key = jax.random.key(seed)
    fit = [_rows_of(program, params, data, i, jax.random.fold_in(key, i)) for i in range(data.n_train)]
    stacked = np.concatenate([np.vstack([rows.energy[None], rows.forces]) for rows in fit]).astype(np.float64)
    precision = stacked.T @ stacked
    precision += RIDGE * np.trace(precision) / len(precision) * np.eye(len(precision))
    values, vectors = np.linalg.eigh(precision)
    spread = vectors / np.sqrt(values)  # spread spreadᵀ = precision⁻¹
    alpha = _calibrated(program, params, data, spread, key)
    draws = np.random.default_rng(seed).standard_normal((number // 2, len(values)))
    delta = alpha * draws @ spread.T
    return readout(params) + np.concatenate([delta, -delta])


def readout(params: Params) -> Float:
    """(D,) float64: weights of the last layer."""
    return np.asarray(jax.tree.leaves(params.readout)[0], np.float64).ravel()


def _calibrated(program: Program, params: Params, data: Dataset, spread: Float, key: Any) -> float:
    """α: root mean square of force errors over their predicted spread, on the valid side (or the train side)."""
    first, n = (data.n_train, data.n_valid) if data.n_valid else (0, data.n_train)
    ratios = []
    for i in range(first, first + n):
        rows = np.asarray(_rows_of(program, params, data, i, jax.random.fold_in(key, i)).forces, np.float64)
        variance = ((rows @ spread) ** 2).sum(1)
        ratios.append(_force_errors(program, params, data, i, jax.random.fold_in(key, i)) ** 2 / variance)
    return float(np.sqrt(np.mean(np.concatenate(ratios))))


def _frame(data: Dataset, i: int) -> Batch:
    return jax.tree.map(jnp.asarray, data.rows(np.array(i)))


def _rows_of(program: Program, params: Params, data: Dataset, i: int, key: Any) -> Rows:
    return _compiled(program)[0](params, _frame(data, i), key)


def _force_errors(program: Program, params: Params, data: Dataset, i: int, key: Any) -> Float:
    """(P,) eV/Å: errors of the forces along the same directions as in `_rows_of`."""
    return np.asarray(_compiled(program)[1](params, _frame(data, i), key), np.float64)


def _summed(program: Program, params: Params, vectors: Any, batch: Batch) -> Any:
    """(D,) eV: Φ of a frame, the factor of the readout's weights in its energy."""
    g = batch.graphs
    features = program.atom_features(params, vectors, g.species, g.senders, g.receivers)
    phi = jnp.where(g.mask[:, None], features, 0.0).sum(0)
    return program.spec.scale / jnp.sqrt(jnp.float32(phi.shape[0])) * phi


@lru_cache(maxsize=16)
def _compiled(program: Program) -> tuple[Any, Any]:
    """Compiled functions of one network: rows of a frame, and its force errors along random directions."""

    def directions(batch: Batch, key: Any) -> Any:
        """(P, n, 3): random displacements of the free atoms, such that the rows sum to C on average."""
        free = batch.targets.free
        return (
            jax.random.normal(key, (PROBES, *free.shape, 3)) * free[None, :, None] / jnp.sqrt(float(PROBES))
        )

    def moved(batch: Batch, d: Any) -> Any:
        """(E, 3): how the edge vectors change along a displacement of the atoms."""
        g = batch.graphs
        return d[g.senders] - d[g.receivers]

    @jax.jit
    def rows(params: Params, batch: Batch, key: Any) -> Rows:
        energy = _summed(program, params, batch.graphs.vectors, batch) / batch.targets.atoms
        along = lambda d: jax.jvp(  # noqa: E731
            lambda v: _summed(program, params, v, batch), (batch.graphs.vectors,), (moved(batch, d),)
        )[1]
        return Rows(energy, -jax.lax.map(along, directions(batch, key)))

    @jax.jit
    def errors(params: Params, batch: Batch, key: Any) -> Any:
        def energy(v: Any) -> Any:
            g = batch.graphs
            per_atom = program.atom_energies(params, v, g.species, g.senders, g.receivers)
            return jnp.where(g.mask, per_atom, 0.0).sum()

        gradient = jax.grad(energy)(batch.graphs.vectors)
        d = directions(batch, key)
        said = -jax.vmap(lambda one: (gradient * moved(batch, one)).sum())(d)
        return said - (d * batch.targets.forces[None]).sum((1, 2))

    return rows, errors
