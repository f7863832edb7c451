"""Made-up pools and tables for the benchmark of selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.build import molecule
from scipy.spatial.transform import Rotation

from alfw.core.exploration import Pool
from alfw.core.frame import Frame

ATOMS, FEATURES, LABELLED = 10, 128, 100
RARE = 0.002  # of the frames: far from all others


def features_of(n: int, seed: int, kind: str, dtype: Any = np.float32) -> np.ndarray:
    """(n, ATOMS, FEATURES) of this kind.

    "clustered": each atom's cloud has 12 directions around a centre of its own; in rare frames it is 3 × as wide.
    "manifold": three motions, normally distributed, move all atoms; features are cosines of them.
    "independent": independent normal numbers, so that no frame stands out.
    """
    fixed = np.random.default_rng(0)
    centres = fixed.standard_normal((ATOMS, FEATURES), np.float32)
    wide = fixed.standard_normal((ATOMS, 12, FEATURES), np.float32)
    random = np.random.default_rng(seed)
    z = np.empty((n, ATOMS, FEATURES), dtype)
    part: np.ndarray
    for start in range(0, n, 5000):
        m = min(5000, n - start)
        if kind == "clustered":
            width = np.where(random.random(m) < RARE, 0.9, 0.3).astype(np.float32)
            inside = random.standard_normal((ATOMS, m, 12), np.float32) * width[:, None]
            part = (inside @ wide).swapaxes(0, 1) + 2 * centres
            part += 0.05 * random.standard_normal(part.shape, np.float32)
        elif kind == "manifold":
            motions = random.standard_normal((m, 3), np.float32)
            part = np.cos((0.5 * motions @ wide[:, :3]).swapaxes(0, 1) + 3 * centres)
        else:
            part = random.standard_normal((m, ATOMS, FEATURES), np.float32)
        z[start : start + m] = part
    return z


def acetones(n: int, seed: int) -> list[Frame]:
    """Frames of ten atoms, each displaced by 0.05 Å."""
    atoms = molecule("CH3COCH3")
    noise = 0.05 * np.random.default_rng(seed).standard_normal((n, ATOMS, 3))
    return [Frame(atoms.numbers, atoms.positions + step) for step in noise]


def pool_of(frames: list[Frame], z: Sequence[np.ndarray], kind: str) -> Pool:
    """A pool with features of its frames and of labelled ones."""
    rng = np.random.default_rng(1)
    return Pool(
        frames,
        rng.uniform(0, 1, len(frames)),
        rng.uniform(1, 5, len(frames)),
        acetones(LABELLED, 99),
        features=z,
        labelled_features=list(features_of(LABELLED, 98, kind)),
    )


def rows_with_copies(
    n: int, columns: int, fraction: float, limit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, columns) float32 rows; which of them repeat another, and which they repeat.

    24 independent motions move all columns by 0.25 in the mean; a repetition differs in every column by a uniform
    number within the limit: as badly as it may.
    """
    random = np.random.default_rng(0)
    mixing = (random.standard_normal((24, columns)) * 0.25 / np.sqrt(24)).astype(np.float32)
    x = random.standard_normal((n, 24), np.float32) @ mixing + np.float32(3.0)
    twins, originals = np.split(random.choice(n, 2 * int(fraction * n), replace=False), 2)
    x[twins] = x[originals] + random.uniform(-limit, limit, (len(twins), columns)).astype(np.float32)
    within = (np.abs(x[twins] - x[originals]) < limit).all(1)  # rounding puts a few at the limit
    twins, originals = twins[within], originals[within]
    return x, twins, originals


def frames_with_copies(n: int, fraction: float) -> tuple[list[Frame], int]:
    """n frames of 20 atoms, displaced by 0.08 Å; and how many at the end are turned, reordered copies of the first."""
    ethane = molecule("C2H6")
    part = ethane[:4]
    positions = np.concatenate(
        [ethane.positions, ethane.positions + [0, 0, 6.0], part.positions + [0, 5.0, 2.0]]
    )
    numbers = np.concatenate([ethane.numbers, ethane.numbers, part.numbers])
    random = np.random.default_rng(0)
    frames = [Frame(numbers, x) for x in positions + 0.08 * random.standard_normal((n, 20, 3))]
    n_copies = int(fraction * n)
    for target in range(n - n_copies, n):
        step = random.uniform(-1, 1, (20, 3)) * 0.024 / np.sqrt(3)  # no distance changes by the limit
        order = random.permutation(20)
        turned = (frames[target - n + n_copies].positions + step) @ Rotation.random(rng=random).as_matrix()
        frames[target] = Frame(numbers[order], turned[order])
    return frames, n_copies
