"""The Coulomb energy of distributed charges, as a function of edges: what jax-md can drive.

All pairs of atoms of a molecule must be edges: then the sum over an atom's edges and itself is the sum over its
molecule, and charges can be made to add up to zero without knowing which atoms form a molecule.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alfw.core.units import BOHR_A, HARTREE_eV

Array = jax.Array
COULOMB_eV_A = HARTREE_eV * BOHR_A  # e²/(4πε0): energy of two unit charges at 1 Å, so e/Å → V
REACH_A = 60.0  # longest edge; a molecule is smaller, also one that has grown in MD
SOFT_A = 0.1  # 1/r becomes 1/sqrt(r² + SOFT²): charges of bonded atoms may meet


def neutral(raw: Array, senders: Array, receivers: Array, real: Array) -> Array:
    """(N, d) e: `raw` shifted by one number a molecule, so that its charges add up to zero.

    Parameters
    ----------
    raw : (N, d) e
    senders, receivers : (E,) int32
        All ordered pairs of atoms of each molecule, and padding.
    real : (E,) bool
        False for padding.
    """
    weight = real.astype(raw.dtype)
    own = raw.sum(1)
    total = own.at[receivers].add(weight * own[senders])
    count = jnp.ones_like(own).at[receivers].add(weight)
    return raw - (total / (count * raw.shape[1]))[:, None]


def coulomb_energies(
    charges: Array, away: Array, vectors: Array, senders: Array, receivers: Array, real: Array
) -> Array:
    """(N,) eV: each atom's share of ½ Σ q_a q_b / r_ab over all pairs of distributed charges, those of one atom too.

    Parameters
    ----------
    charges : (N, d) e
    away : (N, d, 3) Å
        Where the charges are, from their atom.
    vectors : (E, 3) Å
        x[sender] − x[receiver].
    senders, receivers, real
        As for `neutral`.
    """
    others = 1.0 - jnp.eye(charges.shape[1], dtype=charges.dtype)
    within = away[:, :, None] - away[:, None]
    own = (charges[:, :, None] * charges[:, None] * _inverse(within) * others).sum((1, 2))
    apart = vectors[:, None, None] + away[senders][:, :, None] - away[receivers][:, None]
    pairs = (charges[senders][:, :, None] * charges[receivers][:, None] * _inverse(apart)).sum((1, 2))
    return 0.5 * COULOMB_eV_A * own.at[receivers].add(jnp.where(real, pairs, 0.0))


def _inverse(differences: Array) -> Array:
    return 1.0 / jnp.sqrt((differences**2).sum(-1) + SOFT_A**2)
