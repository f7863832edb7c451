"""A toy molecule with charges that jax-md can drive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sampler_toys import Toy

from alfw.core.frame import Frame
from alfw.core.records import Prediction


class Charged(Toy):
    """A spring between two atoms, and charges by element that stay; a second kind of charges is half as large."""

    def __init__(self, charges: dict[int, float], spring: float, length_A: float, cutoff_A: float) -> None:
        super().__init__("bond", [[spring, length_A]], cutoff_A, tuple(sorted(charges)))
        self.charge_of, self.spring, self.length_A = charges, spring, length_A

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """As the parent; molecules of two atoms faster."""
        if any(len(frame) != 2 for frame in frames):
            return super().predict(frames)
        bonds = np.array([frame.positions[1] - frame.positions[0] for frame in frames])
        r = np.linalg.norm(bonds, axis=1)
        pull = self.spring * ((r - self.length_A) / r)[:, None] * bonds
        forces = [np.array([[f, -f]]) for f in pull]
        return Prediction(energy=self.spring / 2 * (r - self.length_A)[None] ** 2, forces=forces)

    def dipoles(self, frames: Sequence[Frame]) -> tuple[Any, Any]:
        """Both (1, B, 3) e·Å about the centres of mass."""
        found = []
        for frame in frames:
            centre = np.average(frame.positions, axis=0, weights=frame.masses)
            found.append(np.array([self.charge_of[z] for z in frame.numbers]) @ (frame.positions - centre))
        return np.array([found]), 0.5 * np.array([found])

    def charges(self, frames: Sequence[Frame]) -> list[Any]:
        """B × (1, n) e."""
        return [np.array([[self.charge_of[z] for z in frame.numbers]]) for frame in frames]

    def esp(self, frame: Frame, points: Any) -> tuple[Any, Any]:
        """Of no use here."""
        raise NotImplementedError
