"""Model-free geometric descriptors of atomic environments, for pools without features of a model.

Around each atom, per element e of its neighbours and with a smooth cutoff f:
radial part       Σ_j f(r_j) exp(−(r_j − μ)²/2σ²)
angular part      Σ_jk g(r_j) g(r_k) P_l(cos θ_jk), l = 1 … 3, for each pair of elements of j and k,
where g is a broad Gaussian times f and P_l a Legendre polynomial. Because cos^l θ_jk = (r̂_j · r̂_k)^l, the angular part
is made of products of moments Σ_j g r̂_j ⊗ … ⊗ r̂_j, so that the cost is linear in the number of neighbours.

Source
------
Symmetry functions: doi:10.1063/1.3553717. Products of moments: power spectrum, doi:10.1103/PhysRevB.87.184115, and
moment tensors, doi:10.1137/15M1054183.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from alfw.core.frame import Float, Frame, Int
from alfw.selectors._neighbourhood import Neighbourhoods, neighbourhoods

CUTOFF_A = 5.0
RADIAL_A = np.linspace(0.8, 4.8, 10)
RADIAL_WIDTH_A = 0.4
ANGULAR_A = np.array([1.0, 2.25, 3.5])
ANGULAR_WIDTH_A = 0.8
# Components x^a y^b z^c of r̂ ⊗ … ⊗ r̂ (l = 0 … 3) and how often each occurs in the full tensor.
POWERS = np.array(
    [(a, b, rank - a - b) for rank in range(4) for a in range(rank, -1, -1) for b in range(rank - a, -1, -1)]
)
FACTORIAL = np.array([1, 1, 2, 6])
MULTIPLICITY = FACTORIAL[POWERS.sum(1)] / FACTORIAL[POWERS].prod(1)

Descriptors = NDArray[np.float32]


def descriptors(frames: Sequence[Frame], species: Sequence[int]) -> list[Descriptors]:
    """Descriptors of all atoms of B frames: B × (n, D) float32.

    Invariant under rotation, reflection, translation, order of the atoms and choice of the periodic cell.

    Parameters
    ----------
    frames : sequence of B Frames
    species : sequence of S int
        Atomic numbers of all elements in them; D = 10 S + 9 S (S + 1) / 2.
    """
    found: list[Descriptors] = []
    for batch in neighbourhoods(frames, CUTOFF_A):
        rows = _describe(batch, np.sort(np.asarray(species)))
        sizes = [len(frame) for frame in frames[batch.first_frame : batch.last_frame]]
        found += np.split(rows, np.cumsum(sizes)[:-1])
    return found


def _describe(batch: Neighbourhoods, species: Int) -> Descriptors:
    """(A, D) float32 of the atoms of a batch."""
    n, s = len(batch.numbers), len(species)
    r = batch.lengths[:, None]
    smooth = 0.5 * (1 + np.cos(np.pi * r / CUTOFF_A))
    radial = smooth * np.exp(-0.5 * ((r - RADIAL_A) / RADIAL_WIDTH_A) ** 2)
    weights = smooth * np.exp(-0.5 * ((r - ANGULAR_A) / ANGULAR_WIDTH_A) ** 2)
    unit = batch.vectors / np.maximum(r, 1e-9)
    power = np.stack([np.ones_like(unit), unit, unit**2, unit**3], axis=1)  # (E, 4, 3)
    tensors = np.prod([power[:, POWERS[:, axis], axis] for axis in range(3)], axis=0)  # (E, 20)
    moments = (weights[:, :, None] * tensors[:, None, :]).reshape(len(r), len(ANGULAR_A) * len(POWERS))
    rows = batch.receivers * s + np.searchsorted(species, batch.numbers[batch.senders])
    summed = _sum_rows(np.hstack([radial, moments]), rows, n * s).reshape(n, s, -1)
    radial = summed[:, :, : len(RADIAL_A)].reshape(n, -1)
    moments = summed[:, :, len(RADIAL_A) :].reshape(n, s, len(ANGULAR_A), len(POWERS))
    pairs = [_angular(moments[:, a], moments[:, b]) for a, b in combinations_with_replacement(range(s), 2)]
    return np.hstack([radial, *pairs]).astype(np.float32)


def _angular(a: Float, b: Float) -> Float:
    """(n, 9): Σ_jk g g' P_l(cos θ_jk) for l = 1, 2, 3, from the moments (n, 3, 20) of two elements."""
    terms = a * b * MULTIPLICITY
    c0, c1, c2, c3 = (terms[..., POWERS.sum(1) == power].sum(-1) for power in range(4))
    return np.hstack([c1, (3 * c2 - c0) / 2, (5 * c3 - 3 * c1) / 2])


def _sum_rows(values: Float, rows: Int, n_rows: int) -> Float:
    """(n_rows, C): the values (E, C) summed over all edges of the same row."""
    total = np.zeros((n_rows, values.shape[1]))
    if len(rows):
        order = np.argsort(rows, kind="stable")
        present, starts = np.unique(rows[order], return_index=True)
        total[present] = np.add.reduceat(values[order], starts)
    return total
