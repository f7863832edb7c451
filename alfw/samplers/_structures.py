"""What samplers that make structures without dynamics have in common: starts, minimum distances, the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import covalent_radii

from alfw.core.errors import SamplingError
from alfw.core.exploration import Event, Exploration
from alfw.core.frame import Float, Frame, Int
from alfw.core.neighbours import neighbours
from alfw.core.protocols import Potential


def check_starts(kind: str, potential: Potential, starts: Sequence[Frame]) -> None:
    """Raise SamplingError where there is nothing to start from, or an element that the potential does not know."""
    if not starts:
        raise SamplingError(f"sampler {kind!r} has no frame to start from")
    for frame in starts:
        check_elements(potential.species, frame)


def check_elements(species: Sequence[int], frame: Frame) -> None:
    """Raise SamplingError where a potential of these species does not know an element of the frame."""
    unknown = sorted(set(frame.numbers.tolist()) - set(species))
    if unknown:
        raise SamplingError(f"frame {frame.id[:12]}: the potential does not know the elements Z = {unknown}")


def close_atoms(frame: Frame, fraction: float) -> Int:
    """(c,) int64: atoms with a neighbour (or image) closer than `fraction` of the sum of covalent radii.

    `fraction` is at most 1. Pairs of fixed atoms are not looked at: nothing that a sampler does brings them apart.
    """
    if fraction <= 0:
        return np.empty(0, np.int64)
    radii = covalent_radii[frame.numbers]
    edges = neighbours(
        frame, 2.0 * float(radii.max())
    )  # a much shorter reach would take longer: many small cells
    distance = np.linalg.norm(edges.vectors(frame.positions, frame.cell), axis=1)
    seen = frame.free[edges.senders] | frame.free[edges.receivers]
    close = seen & (distance < fraction * (radii[edges.senders] + radii[edges.receivers]))
    return np.unique(edges.receivers[close]).astype(np.int64)


def rattled(
    frame: Frame, std_A: float, fraction: float, tries: int, rng: np.random.Generator
) -> Frame | None:
    """The frame with normal displacements of its free atoms; None where they do not get apart.

    Atoms that come closer to another one than `fraction` of the sum of covalent radii get new displacements, as in a
    Monte Carlo move that is turned down, up to `tries` times; atoms of large cells that are not involved keep theirs.
    """
    draw = rng.normal(0.0, std_A, frame.positions.shape) * frame.free[:, None]
    for _ in range(tries):
        shaken = frame.moved(frame.positions + draw)
        close = close_atoms(shaken, fraction)
        if not len(close):
            return shaken
        draw[close] = rng.normal(0.0, std_A, (len(close), 3)) * frame.free[close, None]
    return None


def block(i: int, count: int, n_values: int) -> int:
    """Which of `n_values` values is for item i of `count`: values in blocks of even size, the first one first."""
    return i * n_values // count


def record(
    made: Sequence[tuple[Frame, int, int]],
    counters: Mapping[str, float],
    temperature_K: Float | None = None,
    events: Sequence[Event] = (),
) -> Exploration:
    """The exploration of structures without time.

    Parameters
    ----------
    made : sequence of B (frame, walker, step)
        Frames of one origin, which are alike, are one walker; step counts them.
    counters : mapping
        What was turned down, and the like.
    temperature_K : (B,) float64 or None
        None = there is none.
    """
    nothing = np.full(len(made), np.nan)
    walker = np.array([w for _, w, _ in made], np.int64)
    plain = {"n_frames": len(made), "n_walkers": len(set(walker.tolist())), "n_steps": 0, "time_ps": 0.0}
    return Exploration(
        frames=[frame for frame, _, _ in made],
        walker=walker,
        step=np.array([step for _, _, step in made], np.int64),
        time_fs=nothing,
        temperature_K=nothing.copy() if temperature_K is None else temperature_K,
        events=list(events),
        counters={**plain, **counters},
        unbiased=False,
    )
