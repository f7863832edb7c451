"""The walkers of a run of molecular dynamics: where they start, how hot they are, what is random in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError, SamplingError
from alfw.core.frame import Frame
from alfw.core.ids import derive_seed
from alfw.core.neighbours import closest_fraction
from alfw.core.units import KB_eV_PER_K

HALVINGS = 10
RING_fs = 100.0  # how far back the last physical frame can be looked for
RING_EVERY_fs = 2.0
Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Walkers:
    """The start frames of R walkers and their temperatures, concatenated.

    Attributes
    ----------
    starts : list of R Frames
    temperature_K : (R,) float64
        Of the velocities at the start, and of the thermostat where there is one.
    final_K : (R,) float64 or None
        The thermostat's target at the end of a ramp; None = as in the start.
    life : (R,) int64 or None
        How often each walker began again; None = never. What is random in a walker hangs on the seed, its place among
        the walkers and this number, so that it does not matter which others are there.
    """

    starts: list[Frame]
    temperature_K: NDArray[np.float64]
    final_K: NDArray[np.float64] | None = None
    life: NDArray[np.int64] | None = None

    @property
    def slices(self) -> list[slice]:
        """Where the atoms of each walker are."""
        ends = np.cumsum([len(frame) for frame in self.starts])
        return [slice(int(end) - len(frame), int(end)) for end, frame in zip(ends, self.starts, strict=True)]

    def target_K(self, done: NDArray[np.float64]) -> NDArray[np.float64]:
        """(R,) K: the thermostat's target when each walker has done this share of the steps of a run."""
        final = self.temperature_K if self.final_K is None else self.final_K
        return self.temperature_K + (final - self.temperature_K) * np.clip(done, 0.0, 1.0)

    @property
    def lives(self) -> NDArray[np.int64]:
        """(R,): `life`, 0 where it is None."""
        return np.zeros(len(self.starts), np.int64) if self.life is None else self.life

    def number(self, w: int) -> int:
        """The walker in place w: it has another number each time it begins again."""
        return w + len(self.starts) * int(self.lives[w])

    def again(self, which: Sequence[int], starts: Sequence[Frame], seed: int) -> Walkers:
        """The walkers after those in the places `which` began again.

        Each does so from one of `starts` that has as many atoms, another one than before if there is one.
        """
        life, now = self.lives.copy(), list(self.starts)
        life[which] += 1
        walkers = replace(self, starts=now, life=life)
        for w in which:
            alike = [frame for frame in starts if len(frame) == len(now[w])]
            others = [frame for frame in alike if frame.id != now[w].id] or alike or [now[w]]
            now[w] = others[walkers.generator(seed, "start", w).integers(len(others))]
        return walkers

    def concatenated(self, arrays: Sequence[NDArray[np.generic]], dummy: float) -> Array:
        """Per-atom arrays of all walkers one after the other, and the dummy's value."""
        first = np.asarray(arrays[0])
        return np.concatenate([*arrays, np.full((1, *first.shape[1:]), dummy, first.dtype)])

    def generator(self, seed: int, what: str, w: int) -> np.random.Generator:
        """Random numbers of walker w for one purpose."""
        life = int(self.lives[w])
        return np.random.default_rng(derive_seed(seed, what, w, *([life] if life else [])))

    def positions(self, displaced: Displacement, seed: int) -> NDArray[np.float32]:
        """(N, 3) float32, Å: of the starts, displaced."""
        parts = [
            displaced.positions(frame, self.generator(seed, "displacements", w))
            for w, frame in enumerate(self.starts)
        ]
        return self.concatenated(parts, 0.0).astype(np.float32)  # type: ignore[return-value]

    def momenta(self, seed: int) -> NDArray[np.float32]:
        """(N, 3) float32, sqrt(amu eV): Maxwell–Boltzmann; without drift of a walker that has no fixed atoms."""
        parts = []
        for w, (frame, T) in enumerate(zip(self.starts, self.temperature_K, strict=True)):
            noise = self.generator(seed, "velocities", w).standard_normal((len(frame), 3))
            p = noise * np.sqrt(frame.masses[:, None] * KB_eV_PER_K * T) * frame.free[:, None]  # type: ignore[index]
            if drifts_not(frame):
                p -= frame.masses[:, None] * (p.sum(0) / frame.masses.sum())  # type: ignore[index,union-attr]
            parts.append(p)
        return self.concatenated(parts, 0.0).astype(np.float32)  # type: ignore[return-value]

    def keys(self, seed: int) -> NDArray[np.uint32]:
        """(N, 2) uint32: of the random numbers of each atom inside the program."""
        parts = [
            self.generator(seed, "noise", w).integers(0, 2**32, (len(frame), 2), np.uint32)
            for w, frame in enumerate(self.starts)
        ]
        return self.concatenated(parts, 0)  # type: ignore[return-value]


@dataclass(frozen=True)
class Displacement:
    """Gaussian displacements of the atoms that walkers start from; fixed ones stay.

    Attributes
    ----------
    std_A : float
        Of each coordinate.
    min_distance_fraction : float
        Where two atoms get closer than this share of the sum of their covalent radii, all displacements are drawn
        again, half as large.
    """

    std_A: float
    min_distance_fraction: float

    def positions(self, frame: Frame, rng: np.random.Generator) -> NDArray[np.float64]:
        """(n, 3) Å; those of the frame itself where its own atoms are too close."""
        std = self.std_A
        for _ in range(HALVINGS if std else 0):
            moved = frame.moved(frame.positions + rng.normal(0.0, std, (len(frame), 3)) * frame.free[:, None])
            if closest_fraction(moved) >= self.min_distance_fraction:
                return moved.positions
            std /= 2
        return frame.positions


def frame_at(start: Frame, position: Array, scale: Any) -> Frame:
    """The atoms of `start` at these positions (n, 3) Å, its cell vectors `scale` times as long."""
    return start.moved(np.asarray(position, np.float64), start.cell * float(scale))


def drifts_not(frame: Frame) -> bool:
    """Whether the centre of mass of a walker is at rest in the start."""
    return frame.fixed is None and len(frame) > 1


def ring_every(dt_fs: float) -> int:
    """Steps between two frames of the ring."""
    return max(1, round(RING_EVERY_fs / dt_fs))


def ring_size(dt_fs: float) -> int:
    """Frames in the ring."""
    return max(1, round(RING_fs / (ring_every(dt_fs) * dt_fs)))


def walkers_of(options: Any, starts: Sequence[Frame]) -> Walkers:
    """The walkers of a run: temperatures in blocks, starts in turn.

    Parameters
    ----------
    options
        A sampler of molecular dynamics.

    Raises
    ------
    SamplingError
        No starts, or "npt" of one whose cell cannot change.
    DataError
        A start is periodic in some directions only.
    """
    if not starts:
        raise SamplingError(f"sampler {options.kind!r} has no frame to start from")
    for frame in starts:
        _check_cell(options, frame)
    n = options.walkers
    if options.ramp_K is not None:
        first, last = (np.full(n, kelvin) for kelvin in options.ramp_K)
    else:
        first = np.array(options.temperatures_K)[np.arange(n) * len(options.temperatures_K) // n]
        last = first
    return Walkers([starts[w % len(starts)] for w in range(n)], first, last)


def _check_cell(options: Any, frame: Frame) -> None:
    if frame.periodic and not frame.pbc.all():
        raise DataError(
            f"frame {frame.id[:12]} is periodic in some directions only: set `partial_pbc: vacuum`"
        )
    if options.ensemble == "npt" and (not frame.periodic or frame.fixed is not None):
        lacks = "has no cell" if not frame.periodic else "has fixed atoms, which no cell can take along"
        raise SamplingError(
            f"sampler {options.kind!r}, ensemble 'npt': frame {frame.id[:12]} {lacks}; use 'nvt'"
        )
