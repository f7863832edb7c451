"""Which atom of one molecule is which of another: the search behind `alfw.core.superposition`.

Positions are centred and sorted by element; `groups` are the slices of the elements. An order says which atom of `y`
goes to each place of `x`; only like atoms are exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from scipy.optimize import linear_sum_assignment

from alfw.core.frame import Float, Int

ANCHORS = 24  # so many pairs of atoms are laid upon one pair
SHORT = 0.3  # of the longest: too near to the centre, or to the line, to say how a molecule is turned
STRAIGHT_A = 1e-3  # atoms on one line do not say it at all


def _octahedral() -> Float:
    """(24, 3, 3): the proper rotations that exchange and turn round axes."""
    signed = [
        np.diag(signs)[list(axes)] for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)
    ]
    return np.array([matrix for matrix in signed if np.linalg.det(matrix) > 0], np.float64)


OCTAHEDRAL = _octahedral()


def superposed(x: Float, y: Float, orders: Int) -> tuple[Float, Float]:
    """(S, 3, 3) proper rotations that turn y (n, 3) in each of S orders onto x, and (S,) Å, the RMSDs.

    Source
    ------
    W. Kabsch, Acta Cryst. A 32, 922 (1976), doi:10.1107/S0567739476001873.
    """
    moved = y[orders]
    left, _, right = np.linalg.svd(x.T @ moved)
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    rotations = left @ right
    apart = x - moved @ rotations.transpose(0, 2, 1)
    return rotations, np.sqrt((apart**2).sum((1, 2)) / len(x))


def refined(x: Float, y: Float, orders: Int, groups: Sequence[slice], hopeless: float = np.inf) -> float:
    """Smallest RMSD (Å) found from these orders (S, n): turn, match anew, and so on; it never rises.

    A start that is above `hopeless` (Å) after the first turn does not go on.
    """
    rotations, values = superposed(x, y, orders)
    best = float(values.min())
    rotations = rotations[values < hopeless]
    while len(rotations):
        before, orders = orders, matched(x, y, rotations, groups)
        if np.array_equal(before, orders):
            break
        rotations, values = superposed(x, y, orders)
        best = min(best, float(values.min()))
    return best


def matched(x: Float, y: Float, rotations: Float, groups: Sequence[slice]) -> Int:
    """(≤ S, n): the best orders for y turned by each of S rotations, every one once."""
    turned = y @ rotations.transpose(0, 2, 1)
    orders = np.tile(np.arange(len(x)), (len(rotations), 1))
    for group in groups:
        if group.stop - group.start > 1:
            overlap = x[group] @ turned[:, group].transpose(0, 2, 1)
            for order, each in zip(orders, overlap, strict=True):
                order[group] = group.start + linear_sum_assignment(each, maximize=True)[1]
    return np.array(list({order.tobytes(): order for order in orders}.values()))


def every_order(groups: Sequence[slice]) -> Int:
    """(S, n): all of them."""
    each = [list(permutations(range(group.start, group.stop))) for group in groups]
    return np.array([sum(parts, ()) for parts in product(*each)], np.int64)


def alike(one: Float, other: Float, groups: Sequence[slice]) -> Int:
    """(1, n): the order that gives each atom the one whose environment, a row of `other`, is most like its own."""
    order = np.empty(len(one), np.int64)
    for group in groups:
        cost = ((one[group][:, None] - other[group][None]) ** 2).sum(-1)
        order[group] = group.start + linear_sum_assignment(cost)[1]
    return order[None]


def anchored(x: Float, y: Float, groups: Sequence[slice]) -> Float:
    """(≤ ANCHORS, 3, 3): rotations that lay pairs of atoms of y upon one pair of x, the best fitting ones.

    The pair of x: atoms of rare elements, far from the centre and from one line with it.
    """
    group_of = np.repeat(np.arange(len(groups)), [g.stop - g.start for g in groups])
    like = np.bincount(group_of)[group_of]
    far = np.linalg.norm(x, axis=1)
    first = _rarest(like, far)
    second = _rarest(like, np.linalg.norm(np.cross(x[first], x), axis=1))
    frame = _axes(x[first], x[second])
    if frame is None:
        return np.zeros((0, 3, 3))
    one, two = (np.arange(len(x))[groups[group_of[i]]] for i in (first, second))
    lengths = np.linalg.norm(y, axis=1)
    apart = np.linalg.norm(y[one][:, None] - y[two][None], axis=-1) - np.linalg.norm(x[first] - x[second])
    misfit = (lengths[one] - far[first])[:, None] ** 2 + (lengths[two] - far[second])[None] ** 2 + apart**2
    best = np.argsort(misfit, axis=None, kind="stable")[:ANCHORS]
    pairs = [_axes(y[one[k // len(two)]], y[two[k % len(two)]]) for k in best]
    return np.array([frame @ pair.T for pair in pairs if pair is not None]).reshape(-1, 3, 3)


def by_axes(x: Float, y: Float) -> Float:
    """(24, 3, 3): rotations that lay the principal axes of y upon those of x, in every order and direction."""
    axes = [_principal_axes(x), _principal_axes(y)]
    return np.asarray(axes[0] @ OCTAHEDRAL @ axes[1].T, np.float64)


def _rarest(like: Int, size: Float) -> int:
    """Of the atoms that are not too small in size: the one of the rarest element, the largest of these."""
    able = np.flatnonzero(size >= SHORT * size.max())
    return int(min(able, key=lambda atom: (like[atom], -size[atom])))


def _axes(one: Float, two: Float) -> Float | None:
    """(3, 3): orthonormal columns along `one` and in the plane with `two`; None where the two are on one line."""
    normal = np.cross(one, two)
    length, height = np.linalg.norm(one), np.linalg.norm(normal)
    if height <= STRAIGHT_A * max(float(length), STRAIGHT_A):
        return None
    along, normal = one / length, normal / height
    return np.stack([along, np.cross(normal, along), normal], 1)


def _principal_axes(x: Float) -> Float:
    """(3, 3): right-handed columns, in order of their moment."""
    axes = np.linalg.eigh(x.T @ x)[1]
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    return np.asarray(axes, np.float64)
