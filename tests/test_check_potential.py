"""Contract checks of potentials: every clause finds a fault planted for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alfw.core.frame import Frame
from alfw.core.neighbours import neighbours
from alfw.core.records import Prediction
from alfw.models.ase import ASEModel
from alfw.testing import ContractError, check_potential, example_data
from alfw.testing.case import Case
from alfw.testing.contract import LAWS

EMT = "ase.calculators.emt:EMT"


class Wrapped:
    """A potential that keeps the contract, and what a fault does to it."""

    cutoff_A, members = 6.0, 1
    species: tuple[int, ...] = (29, 79)

    def __init__(self, change: Callable[[list[Frame], Prediction], Prediction] | None = None) -> None:
        self.inner = ASEModel(calculator=EMT, species=self.species).load([Path("x")])
        self.change = change or (lambda frames, said: said)

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        return self.change(list(frames), self.inner.predict(frames))


def each(function: Callable[[Frame, Any], Any], what: str = "forces") -> Callable[..., Prediction]:
    """A fault in the forces, or the stress, of each frame."""

    def change(frames: list[Frame], said: Prediction) -> Prediction:
        values = getattr(said, what) or [None] * len(frames)
        found = [None if v is None else function(f, v) for f, v in zip(frames, values, strict=True)]
        return replace(said, **{what: found})

    return change


def energies(function: Callable[[Frame], float]) -> Callable[..., Prediction]:
    """A fault in the energy of each frame."""
    return lambda frames, said: replace(said, energy=said.energy + np.array([[function(f) for f in frames]]))


class Touching(Wrapped):
    def predict(self, frames: Sequence[Frame]) -> Prediction:
        said = self.inner.predict(frames)
        for frame in frames:
            frame.positions.flags.writeable = True
            frame.positions[:] += 0.1
        return said


class Random(Wrapped):
    rng = np.random.default_rng(0)

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        return each(lambda f, v: v + self.rng.normal(scale=1e-3, size=v.shape))(
            frames, self.inner.predict(frames)
        )


class AnyElement(Wrapped):
    def predict(self, frames: Sequence[Frame]) -> Prediction:
        bare = [replace(f, numbers=np.where(f.numbers == 54, 29, f.numbers)) for f in frames]
        return self.inner.predict(bare)


class Lonely(Wrapped):
    """A member that says something else when it is asked alone."""

    def member(self, k: int) -> Wrapped:
        return Wrapped(energies(lambda f: 1e-2))


class Features(Wrapped):
    width = np.float32

    def features(self, frames: Sequence[Frame]) -> list[Any]:
        return [f.positions.astype(self.width) for f in frames]


class WideFeatures(Features):
    width = np.float64  # type: ignore[assignment]


class Slabs(Wrapped):
    """Ignores periodic images where not all directions are periodic."""

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        molecules = [
            f if f.pbc.all() else replace(f, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool)) for f in frames
        ]
        return self.inner.predict(molecules)


class Charged(Wrapped):
    def charges(self, frames: Sequence[Frame]) -> list[Any]:
        return [np.full((1, len(f)), 0.1) for f in frames]

    def dipoles(self, frames: Sequence[Frame]) -> Any:
        return np.zeros((1, len(frames), 3)), np.zeros((1, len(frames), 3))

    def esp(self, frame: Frame, points: Any) -> Any:
        return np.zeros((1, len(points))), np.zeros((1, len(points)))


def dipole(frames: list[Frame], said: Prediction) -> Prediction:
    """One that does not turn."""
    return replace(said, dipole=np.ones((1, len(frames), 3)))


def far_pairs(frame: Frame) -> float:
    """A repulsion that has no end, of the atoms' distances squared."""
    away = frame.positions[:, None] - frame.positions[None]
    return float(1e-4 * (away**2).sum()) * (not frame.periodic)


X = np.array([1.0, 0.0, 0.0])
PLANTED: dict[str, tuple[str, Any]] = {
    "no rows": ("shapes and types", lambda: Wrapped(lambda f, p: replace(p, energy=p.energy[0]))),
    "float32": ("shapes and types", lambda: Wrapped(each(lambda f, v: v.astype(np.float32)))),
    "NaN": ("shapes and types", lambda: Wrapped(each(lambda f, v: v * np.nan))),
    "stress of a molecule": (
        "shapes and types",
        lambda: Wrapped(lambda f, p: replace(p, stress=[np.zeros((1, 3, 3)) for _ in f])),
    ),
    "touches positions": ("inputs untouched", Touching),
    "not the same twice": ("the same again", Random),
    "sorted results": (
        "order of the frames",
        lambda: Wrapped(lambda f, p: replace(p, energy=np.sort(p.energy, axis=1))),
    ),
    "batch sees the batch": ("batch = single", lambda: Leaking()),
    "first atom is special": (
        "permutation of the atoms",
        lambda: Wrapped(energies(lambda f: 1e-2 * f.numbers[0])),
    ),
    "origin is special": ("translation", lambda: Wrapped(energies(lambda f: 1e-3 * f.positions.sum()))),
    "axes are special": ("rotation", lambda: Wrapped(energies(lambda f: 1e-3 * np.ptp(f.positions[:, 0])))),
    "forces do not turn": ("rotation", lambda: Wrapped(each(lambda f, v: v + 1e-3 * X))),
    "dipole does not turn": ("rotation", lambda: Wrapped(dipole)),
    "hands differ": (
        "mirror image",
        lambda: Wrapped(energies(lambda f: 1e-3 * np.linalg.det((f.positions - f.positions.mean(0))[:3]))),
    ),
    "images differ": ("periodic images", lambda: Wrapped(energies(lambda f: 1e-4 * (f.positions**2).sum()))),
    "not extensive": ("supercell", lambda: Wrapped(energies(lambda f: 1e-3 * len(f) ** 2))),
    "sign of forces": ("forces = -dE/dx", lambda: Wrapped(each(lambda f, v: -v))),
    "forces 2 % off": ("forces = -dE/dx", lambda: Wrapped(each(lambda f, v: 1.02 * v))),
    "sign of stress": ("stress = (1/V) dE/dε", lambda: Wrapped(each(lambda f, v: -v, "stress"))),
    "stress without 1/V": ("stress = (1/V) dE/dε", lambda: Wrapped(each(lambda f, v: 47 * v, "stress"))),
    "no end": ("molecules far apart", lambda: Wrapped(energies(far_pairs))),
    "other when alone": ("members alone", Lonely),
    "any element": ("unknown element", AnyElement),
    "slabs": ("partly periodic frames", Slabs),
    "features turn": ("rotation", Features),
    "wide features": ("features", WideFeatures),
    "charges": ("charges and their potentials", Charged),
}
FRAMES = [item.frame for item in example_data().train[:4]]


class Leaking(Wrapped):
    """A frame's energy depends on the others."""

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        return energies(lambda f: 1e-2 * len(frames))(list(frames), self.inner.predict(frames))


def test_a_potential_that_keeps_the_contract_passes() -> None:
    report = check_potential(Wrapped(), FRAMES)
    assert set(report.skipped) == {
        *("features", "charges and their potentials", "atom energies for jax-md", "cheap spread"),
        "members alone",
    }


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_of_a_potential_is_found(fault: str) -> None:
    clause, make = PLANTED[fault]
    with pytest.raises(ContractError) as caught:
        check_potential(make(), FRAMES)
    broken = [line.partition(":")[0].removeprefix("- ") for line in str(caught.value).splitlines()[1:]]
    assert clause in broken, caught.value
    # An unrelated clause must not be blamed.
    assert not {"species, cutoff, members", "cheap spread"} & set(broken)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"species": (79, 29)}, "not a sorted tuple"),
        ({"species": (29,)}, "lacks Au"),
        ({"cutoff_A": -1.0}, "is no length"),
    ],
)
def test_names_of_a_potential_are_looked_at(change: dict[str, Any], words: str) -> None:
    potential = Wrapped()
    vars(potential).update(change)
    with pytest.raises(ContractError, match=words):
        check_potential(potential, FRAMES)


class Pairs:
    """A repulsion of pairs as a JaxPotential with two members that share their spread; E0 of 1 eV an atom."""

    species, cutoff_A, members = (29, 79), 4.0, 2
    strengths = np.array([0.5, 0.7], np.float32)
    e0, beyond, shift = 1.0, 0.0, 0.0

    def energies(self, strength: Any, vectors: Any, species: Any, senders: Any, receivers: Any) -> Any:
        r = jnp.linalg.norm(vectors, axis=1)
        pair = jnp.where(r < self.cutoff_A, strength * (r - self.cutoff_A) ** 2, self.beyond)
        return jnp.zeros(len(species)).at[receivers].add(pair)

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        energy = np.zeros((2, len(frames)))
        for b, frame in enumerate(frames):
            edges = neighbours(frame, self.cutoff_A)
            vectors = edges.vectors(frame.positions, frame.cell)
            for k, strength in enumerate(self.strengths):
                found = self.energies(strength, vectors, frame.numbers, edges.senders, edges.receivers)
                energy[k, b] = float(found.sum()) + self.e0 * len(frame)
        return Prediction(energy, [np.zeros((2, len(frame), 3)) for frame in frames])

    def atom_energy_function(self) -> Any:
        return self.energies, jnp.asarray(self.strengths)

    def atom_spread_function(self) -> Any:
        def both(params: Any, *graph: Any) -> Any:
            members = jax.vmap(lambda s: self.energies(s, *graph))(params)
            return members.mean(0), members - members.mean(0) + self.shift

        return both, jnp.asarray(self.strengths)


def broken_by(change: dict[str, Any], clause: str) -> list[str]:
    potential = Pairs()
    vars(potential).update(change)
    return list(LAWS[clause](Case(potential, FRAMES[:2])))


@pytest.mark.parametrize("clause", ["atom energies for jax-md", "cheap spread"])
def test_what_jax_md_gets_says_what_predict_says(clause: str) -> None:
    assert broken_by({}, clause) == []


@pytest.mark.parametrize(
    ("clause", "change", "words"),
    [
        ("atom energies for jax-md", {"beyond": 1e-3}, "with edges beyond the cutoff"),
        (
            "atom energies for jax-md",
            {"atom_energy_function": lambda: (lambda p, v, s, a, b: p + jnp.zeros(len(s)), jnp.ones(2))},
            "less the sum",
        ),
        ("atom energies for jax-md", {"members": 3}, "leading axes"),
        ("cheap spread", {"shift": 1e-3}, "mean deviation: off by 0.001"),
    ],
)
def test_and_what_does_not_is_found(clause: str, change: dict[str, Any], words: str) -> None:
    faults = broken_by(change, clause)
    assert any(words in fault for fault in faults), faults
