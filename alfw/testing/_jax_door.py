"""What jax-md is given must say what `predict` says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from alfw.core.frame import Float, Frame
from alfw.core.neighbours import neighbours
from alfw.core.protocols import HasSpread, JaxPotential
from alfw.testing.case import Case, off

Graph = tuple[Any, ...]
PADDING = 8


def atom_energies(case: Case, potential: JaxPotential) -> Iterator[str]:
    """Its sum over atoms differs from `predict` by E0 alone: the same for all members and frames of a formula."""
    f, params = potential.atom_energy_function()
    rows = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(params)}
    if rows != {(potential.members,)}:
        yield f"its parameters: leading axes {sorted(rows)} instead of ({potential.members},)"
        return
    compiled = jax.jit(f)
    members = [jax.tree.map(lambda x, k=k: x[k], params) for k in range(potential.members)]
    for i in _few(case):
        frame = case.frames[i]
        pair = [frame, _shaken(frame)]
        room = max(len(neighbours(each, potential.cutoff_A)) for each in pair) + PADDING
        graphs = [graph(potential, each, room) for each in pair]
        sums = [[_sum(compiled(member, *each)) for each in graphs] for member in members]
        rest = potential.predict(pair).energy - np.array(sums)
        what, allowed = f"{frame.formula}: predict less the sum over atoms", 2 * case.energy_allowed(i)
        yield from off(what, rest, np.full_like(rest, rest[0, 0]), allowed, "eV")
        padded, plain = (np.asarray(compiled(members[0], *g)) for g in (graphs[0], graph(potential, frame)))
        beyond = f"{frame.formula}: energies with edges beyond the cutoff"
        yield from off(beyond, padded, plain, case.force_allowed(i), "eV")


def spread(case: Case, potential: HasSpread) -> Iterator[str]:
    """Its deviations sum to zero, and with its mean they are the members of `atom_energy_function`."""
    f, params = potential.atom_spread_function()
    one, of_members = potential.atom_energy_function()
    compiled, compiled_one = jax.jit(f), jax.jit(one)
    for i in _few(case):
        edges, formula = graph(potential, case.frames[i]), case.frames[i].formula
        mean, deviations = (np.asarray(x, np.float64) for x in compiled(params, *edges))
        allowed = case.force_allowed(i)
        yield from off(f"{formula}: mean deviation", deviations.mean(0), np.zeros_like(mean), allowed, "eV")
        for k in range(potential.members):
            alone = compiled_one(jax.tree.map(lambda x, k=k: x[k], of_members), *edges)
            yield from off(f"{formula}: member {k}", mean + deviations[k], np.asarray(alone), allowed, "eV")


def _few(case: Case) -> list[int]:
    """A molecule and a crystal, where there are: each frame is compiled anew."""
    return list({case.frames[i].periodic: i for i in reversed(range(len(case.frames)))}.values())


def graph(potential: JaxPotential, frame: Frame, room: int | None = None) -> Graph:
    """Vectors, species, senders, receivers of a frame; filled up to `room` with edges beyond the cutoff."""
    edges = neighbours(frame, potential.cutoff_A)
    vectors = edges.vectors(frame.positions, frame.cell)
    species = np.searchsorted(potential.species, frame.numbers).astype(np.int32)
    more = 0 if room is None else room - len(edges)
    beyond = np.tile([[2.0 * potential.cutoff_A, 0.0, 0.0]], (more, 1))
    pad = np.zeros(more, np.int32)
    return (
        np.r_[vectors, beyond].astype(np.float32),
        species,
        np.r_[edges.senders, pad],
        np.r_[edges.receivers, pad],
    )


def _shaken(frame: Frame) -> Frame:
    return frame.moved(frame.positions + 0.03 * np.random.default_rng(5).standard_normal((len(frame), 3)))


def _sum(energies: Float) -> float:
    return float(np.asarray(energies, np.float64).sum())
