"""A potential on trial: its frames, what it said of them, and how far it may be off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from alfw.core.frame import DECIMALS, Float, Frame
from alfw.core.protocols import HasFeatures, Potential
from alfw.core.records import Prediction

# Positions on this grid stay on the grid of 1e-6 Å, on which frames are kept, when they are turned by `TURN`.
GRID_A = 125 * 10.0**-DECIMALS
_ANGLE = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
# Three turns about x, y and z by the angle of the 3-4-5 triangle; entries are multiples of 1/125.
TURN = _ANGLE @ np.roll(_ANGLE, (1, 1), (0, 1)) @ np.roll(_ANGLE, (2, 2), (0, 1))


class Skip(Exception):
    """A clause does not apply; its message says why."""


def snapped(frame: Frame) -> Frame:
    """The frame with positions and cell on `GRID_A`: it can be turned, strained and shifted without rounding."""
    positions, cell = (np.round(x / GRID_A) * GRID_A for x in (frame.positions, frame.cell))
    return frame.moved(positions, cell)


def reordered(frame: Frame, order: Any) -> Frame:
    """The frame with its atoms in another order."""
    arrays = {"numbers", "positions", "fixed", "moments", "masses"}
    values = {name: getattr(frame, name) for name in arrays}
    return replace(frame, **{name: v[order] for name, v in values.items() if v is not None})


@dataclass(frozen=True, eq=False)
class Case:
    """A potential and the frames it is tried on.

    Attributes
    ----------
    rtol : float
        What float32 may cost, relative: 1e-5.
    """

    potential: Potential
    frames: list[Frame]
    rtol: float = 1e-5

    @cached_property
    def said(self) -> Prediction:
        """What the potential says of its frames, all at once."""
        return self.potential.predict(self.frames)

    @cached_property
    def features(self) -> list[Float] | None:
        """Its features of the frames, where it has them."""
        return self.potential.features(self.frames) if isinstance(self.potential, HasFeatures) else None

    def molecules(self) -> list[int]:
        """Indices of the frames that are not periodic; Skip where there is none."""
        return self._where(False, "no molecules among the frames")

    def crystals(self) -> list[int]:
        """Indices of the periodic frames; Skip where there is none."""
        return self._where(True, "no periodic frames")

    def _where(self, periodic: bool, otherwise: str) -> list[int]:
        found = [i for i, frame in enumerate(self.frames) if frame.periodic == periodic]
        if not found:
            raise Skip(otherwise)
        return found

    def energy_allowed(self, i: int) -> float:
        """How far an energy of frame i may be off, eV: `rtol` of 1 eV, or of the largest force times 1 Å, an atom."""
        return len(self.frames[i]) * self.force_allowed(i)

    def force_allowed(self, i: int) -> float:
        """How far a force on frame i may be off, eV/Å: `rtol` of 1 eV/Å or of its largest force."""
        return self.rtol * max(1.0, float(np.abs(self.said.forces[i]).max()))

    def same(
        self,
        frames: Sequence[Frame],
        indices: Sequence[int],
        vector: Callable[[Float], Float] = lambda x: x,
        tensor: Callable[[Float], Float] = lambda x: x,
        order: Callable[[int], Any] = lambda i: slice(None),
    ) -> Iterator[str]:
        """Where the predictions for `frames` are not those for our frames `indices`, changed like this.

        Parameters
        ----------
        vector, tensor : callables
            What forces and dipoles (…, 3), and stresses (…, 3, 3), become.
        order : callable
            The atoms of frame i, in their new order.
        """
        new, old = self.potential.predict(frames), self.said
        for j, i in enumerate(indices):
            of, force = self.frames[i].formula, self.force_allowed(i)
            yield from off(
                f"energy of {of}", new.energy[:, j], old.energy[:, i], self.energy_allowed(i), "eV"
            )
            turned = vector(old.forces[i])[:, order(i)]
            yield from off(f"forces on {of}", new.forces[j], turned, force, "eV/Å")
            before, after = of_frame(old, i), of_frame(new, j)
            if (before is None) != (after is None):
                yield f"stress of {of}: there or not"
            elif before is not None and after is not None:
                allowed = self.rtol * max(0.1, float(np.abs(before).max()))
                yield from off(f"stress of {of}", after, tensor(before), allowed, "eV/Å^3")
            if old.dipole is not None and new.dipole is not None and not self.frames[i].periodic:
                allowed = len(self.frames[i]) * self.rtol
                yield from off(f"dipole of {of}", new.dipole[:, j], vector(old.dipole[:, i]), allowed, "e·Å")
        yield from self._same_features(frames, indices, order)

    def _same_features(
        self, frames: Sequence[Frame], indices: Sequence[int], order: Callable[[int], Any]
    ) -> Iterator[str]:
        if self.features is None or not isinstance(self.potential, HasFeatures):
            return
        for new, i in zip(self.potential.features(frames), indices, strict=True):
            allowed = 10 * self.rtol * max(1.0, float(np.abs(self.features[i]).max()))
            yield from off(f"features of {self.frames[i].formula}", new, self.features[i][order(i)], allowed)


def of_frame(said: Prediction, i: int) -> Float | None:
    """(K, 3, 3) eV/Å^3: the stress of frame i, where there is one."""
    return None if said.stress is None else said.stress[i]


def off(what: str, found: Any, expected: Any, allowed: float, unit: str = "") -> Iterator[str]:
    """One line where `found` is not `expected`: how far it is off, and what is allowed."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        yield f"{what}: shape {found.shape} instead of {expected.shape}"
        return
    worst = float(np.abs(found - expected).max(initial=0.0))
    if not worst <= allowed:  # NaN is not allowed either
        yield f"{what}: off by {worst:.2g} {unit}".rstrip() + f" (allowed: {allowed:.2g})"
