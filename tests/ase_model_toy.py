"""Calculators for tests: one whose weights are a file, and some that misbehave; and what trains the first."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT


class FromFile(Calculator):
    """The same energy for everything, told by a file."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, path: str) -> None:
        super().__init__()
        with open(path) as file:
            self.energy = json.load(file)["energy"]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = ()) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": self.energy, "forces": np.zeros((len(atoms), 3))}


class Springs(Calculator):
    """Springs between all atoms, whose length and strength are in a file: something that can be trained."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, path: str) -> None:
        super().__init__()
        with open(path) as file:
            self.weights = json.load(file)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = ()) -> None:
        super().calculate(atoms, properties, system_changes)
        w = self.weights
        away = atoms.get_all_distances(mic=bool(atoms.pbc.any()), vector=True)
        length = np.linalg.norm(away, axis=2) + 1e9 * np.eye(len(atoms))
        stretch = np.where(length < w["cutoff"], length - w["cutoff"], 0.0)
        energy = 0.25 * w["k"] * (stretch**2).sum() + w["E0"] * len(atoms)
        forces = w["k"] * (stretch / length)[..., None] * away
        self.results = {"energy": energy, "forces": forces.sum(1)}


class Chatty(EMT):
    """EMT that prints to what it takes for the terminal."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        print("computing", flush=True)
        os.write(1, b"from a library in C\n")
        super().calculate(*args, **kwargs)


class Crashing(EMT):
    """EMT that takes its process along at the first gold atom, with last words."""

    def calculate(self, atoms: Any = None, *args: Any, **kwargs: Any) -> None:
        if 79 in atoms.numbers:
            sys.stderr.write("before\nCUDA error: an illegal memory access was encountered\n")
            sys.stderr.flush()
            os._exit(134)
        super().calculate(atoms, *args, **kwargs)


class Hanging(EMT):
    """EMT that never comes back from a gold atom; its process is named in a file."""

    def __init__(self, pid: str = os.devnull) -> None:
        super().__init__()
        with open(pid, "w") as file:
            file.write(str(os.getpid()))

    def calculate(self, atoms: Any = None, *args: Any, **kwargs: Any) -> None:
        if 79 in atoms.numbers:
            time.sleep(600)
        super().calculate(atoms, *args, **kwargs)


def train(train: str, valid: str, seed: str, start: str, weights: str) -> None:
    """Fit nothing much: E0 the mean energy per atom, the rest by the seed, from `start` a bit stiffer."""
    from ase.io import read

    frames = read(train, ":")
    e0 = float(np.mean([a.get_potential_energy() / len(a) for a in frames]))
    k = 0.1 + int(seed) % 7 / 100
    if start:
        with open(start) as file:
            k = json.load(file)["k"] + 0.01
    with open(weights, "w") as file:
        json.dump({"E0": e0, "k": k, "cutoff": 3.5, "n": len(frames), "warm": bool(start)}, file)


if __name__ == "__main__":
    train(*sys.argv[1:6])
