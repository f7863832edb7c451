"""How often and how long XLA compiles: round 0 of a campaign, the next round, and the same round in other processes.

A round trains an ensemble, predicts frames, takes their features and runs MD, for ethanol; the next one has more
labels, other frames and seeds, and starts warm. "other process" finds the persistent cache that this one has filled,
"no cache" an empty one. Labels are of EMT (their values change nothing here).

    python benchmarks/compiling.py [-o FILE]

prints a table and writes JSON to FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ase.build import molecule
from ase.calculators.emt import EMT
from machine import describe_machine

from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.models.nequix import NequixModel
from alfw.samplers.jaxmd import JaxMDSampler

COMPILED, HIT = "/jax/core/compile/backend_compile_duration", "/jax/compilation_cache/cache_hits"
MODELS = {"deep, 2 members": {"members": 2}, "shallow, 8 heads": {"members": 1, "heads": 8}}


class Compilations:
    """Programs compiled and read from the persistent cache, and the seconds of both."""

    def __init__(self) -> None:
        self.compiled = self.retrieved = 0
        self.compile_s = self.retrieve_s = 0.0
        self._hit = False
        jax.monitoring.register_event_listener(self._event)
        jax.monitoring.register_event_duration_secs_listener(self._duration)

    def _event(self, name: str, **_: Any) -> None:
        self._hit |= name == HIT

    def _duration(self, name: str, seconds: float, **_: Any) -> None:
        if name != COMPILED:
            return
        if self._hit:
            self.retrieved, self.retrieve_s, self._hit = self.retrieved + 1, self.retrieve_s + seconds, False
        else:
            self.compiled, self.compile_s = self.compiled + 1, self.compile_s + seconds

    def take(self, began: float) -> dict[str, float]:
        """What there was since the last call, and since `began` (wall clock)."""
        said = {"compiled": self.compiled, "compile_s": round(self.compile_s, 2)}
        said |= {"retrieved": self.retrieved, "retrieve_s": round(self.retrieve_s, 2)}
        self.compiled = self.retrieved = 0
        self.compile_s = self.retrieve_s = 0.0
        return said | {"wall_s": round(time.perf_counter() - began, 2)}


def frames(count: int, seed: int, noise: float) -> list[Frame]:
    """Rattled ethanols."""
    atoms, rng = molecule("CH3CH2OH"), np.random.default_rng(seed)
    return [Frame(atoms.numbers, atoms.positions + noise * rng.standard_normal((9, 3))) for _ in range(count)]


def labels(count: int, seed: int, noise: float) -> list[Labeled]:
    """With EMT's energies and forces."""
    found = []
    for frame in frames(count, seed, noise):
        atoms = frame.to_atoms()
        atoms.calc = EMT()
        found.append(Labeled(frame, Label(atoms.get_potential_energy(), atoms.get_forces())))
    return found


def play(rounds: int, options: dict[str, Any], steps: int, folder: Path) -> list[dict[str, float]]:
    """The rounds of a campaign, and what each compiled."""
    model = NequixModel(**options, warm_start=True, training={"steps": steps})
    sampler = JaxMDSampler(temperatures_K=(100.0, 200.0), walkers=8, n_steps=200, keep_every=20)
    counter, train, valid, statistics = Compilations(), [], [], None
    members: list[Path | None] = [None] * model.members
    said = []
    for r in range(rounds):
        train += labels(60 + 20 * r, r, 0.04 + 0.02 * r)
        valid += labels(10 + r, 50 + r, 0.05)
        began = time.perf_counter()
        statistics = statistics or model.statistics(TrainingData(train, valid))
        data = TrainingData(train, valid, statistics)
        members = [
            model.train(data, 100 * r + k, start, folder / f"{r}_{k}", Resources())
            for k, start in enumerate(members)
        ]
        potential: Any = model.load([path for path in members if path is not None])
        potential.predict(frames(300 + 50 * r, 200 + r, 0.04 + 0.02 * r))
        potential.features(frames(300 + 50 * r, 200 + r, 0.04 + 0.02 * r))
        sampler.run(potential, frames(5 + r, 300 + r, 0.02), 7 * r, folder, Resources())
        said.append(counter.take(began))
    return said


def process(rounds: int, options: dict[str, Any], steps: int, cache: Path) -> list[dict[str, float]]:
    """`play` in a process of its own, with this cache."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--play", json.dumps([rounds, options, steps, folder])]
        environment = os.environ | {"ALFW_CACHE": str(cache)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measured(options: dict[str, Any], steps: int) -> dict[str, dict[str, float]]:
    """All cases of one kind of ensemble."""
    with tempfile.TemporaryDirectory() as name:
        first, second = process(2, options, steps, Path(name) / "shared")
        (other,) = process(1, options, steps, Path(name) / "shared")
        (alone,) = process(1, options, steps, Path(name) / "empty")
    return {"round 0": first, "round 1": second, "other process": other, "no cache": alone}


def table(results: dict[str, Any]) -> str:
    """For reading."""
    lines = [
        f"{'':34}{'compiled':>9}{'seconds':>9}{'from cache':>12}{'seconds':>9}{'round, wall s':>15}",
    ]
    for kind, rows in results.items():
        lines += [
            f"{kind + ': ' + name:34}{row['compiled']:9}{row['compile_s']:9.2f}{row['retrieved']:12}"
            f"{row['retrieve_s']:9.2f}{row['wall_s']:15.2f}"
            for name, row in rows.items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="write JSON here")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--play", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.play:
        rounds, options, steps, folder = json.loads(args.play)
        print(json.dumps(play(rounds, options, steps, Path(folder))))
        return
    results = {kind: measured(options, args.steps) for kind, options in MODELS.items()}
    again = max(rows["round 1"]["compiled"] for rows in results.values())
    result = {
        "benchmark": "compiling",
        "machine": describe_machine(),
        "system": "ethanol, 9 atoms, default Nequix network; train, predict, features, MD of 8 walkers",
        "goal": "round 1 compiles nothing",
        "reached": again == 0,
        "results": results,
    }
    print(table(results))
    print(json.dumps({"goal": result["goal"], "reached": result["reached"]}))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
