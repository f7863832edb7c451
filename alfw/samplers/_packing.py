"""Bodies put one after the other at random places and orientations, none too close to those before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from ase.data import covalent_radii
from scipy.spatial.transform import Rotation

from alfw.core.frame import Float, Frame, Int

Place = Callable[[np.random.Generator], Float]  # where the centre of a body goes: (3,) Å


@dataclass
class Packing:
    """Bodies (molecules or single atoms) in a cell or in free space.

    Attributes
    ----------
    cell : (3, 3) float64 or None, Å
        None = free space.
    fraction : float
        Closest distance of atoms of different bodies (or of an image of the same one), over the sum of covalent radii.
    """

    cell: Float | None
    fraction: float
    bodies: list[Frame] = field(default_factory=list)
    positions: Float = field(default_factory=lambda: np.empty((0, 3)))
    numbers: Int = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, body: Frame, place: Place, tries: int, rng: np.random.Generator) -> bool:
        """Put one more body where `place` says, turned at random; False when there is no room after so many tries."""
        centred = body.positions - body.positions.mean(0)
        for _ in range(tries):
            # A normal quaternion, scaled to length one, is a uniform rotation.
            turned = Rotation.from_quat(rng.standard_normal(4)).apply(centred) if len(body) > 1 else centred
            x = place(rng) + turned
            if self._has_room(x, body.numbers):
                self.bodies.append(body)
                self.positions = np.concatenate([self.positions, x])
                self.numbers = np.concatenate([self.numbers, body.numbers])
                return True
        return False

    def _has_room(self, x: Float, numbers: Int) -> bool:
        """Whether atoms at x (n, 3) Å are far enough from all others and, in a cell, from their own images."""
        radii, others = covalent_radii[numbers], covalent_radii[self.numbers]
        least = self.fraction * (radii[:, None] + others)
        if not self._apart(x[:, None] - self.positions, least, itself=False):
            return False
        own = self.fraction * (radii[:, None] + radii)
        return self.cell is None or self._apart(x[:, None] - x, own, itself=True)

    def _apart(self, vectors: Float, least: Float, itself: bool) -> bool:
        """Whether all images of the vectors (a, b, 3) are at least as long as (a, b); of `itself` all other images."""
        if self.cell is None or not vectors.size:
            return bool((np.linalg.norm(vectors, axis=-1) >= least).all())
        inverse = np.linalg.inv(self.cell)
        cells = vectors @ inverse
        if not itself:
            cells = cells - np.round(cells)
        # A vector within reach r has a component of at most r / width in each direction of the cell.
        per_A = np.linalg.norm(inverse, axis=0)
        most = np.floor(least.max() * per_A + np.abs(cells).max((0, 1))).astype(int)
        grid = np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij")
        shifts = np.stack(grid, -1).reshape(-1, 3)
        shifts = shifts[np.any(shifts != 0, axis=1)] if itself else shifts
        distance = np.linalg.norm((cells[:, :, None] + shifts) @ self.cell, axis=-1)
        return bool((distance >= least[..., None]).all())
