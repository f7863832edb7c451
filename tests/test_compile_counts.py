"""Nothing is compiled twice: not in the next round of the same system, and not in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT

from alfw.core.frame import Frame
from alfw.core.records import Label, Labeled, Resources, TrainingData
from alfw.models.nequix import NequixModel
from alfw.samplers.jaxmd import JaxMDSampler

NETWORK = {"hidden_irreps": "2x0e + 1x1o", "n_layers": 1, "radial_mlp_size": 4}
COMPILED, HIT = "/jax/core/compile/backend_compile_duration", "/jax/compilation_cache/cache_hits"


class Compilations:
    """What was compiled, and what came from the persistent cache.

    Attributes
    ----------
    seconds : list of float
        Of each program that was compiled.
    retrieved : int
        Programs that came from the cache.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.retrieved = 0
        self._hit = False

    def event(self, name: str, **_: Any) -> None:
        """A program was found in the cache; the duration that follows is that of reading it."""
        self._hit |= name == HIT

    def duration(self, name: str, seconds: float, **_: Any) -> None:
        """A program is ready."""
        if name != COMPILED:
            return
        if self._hit:
            self.retrieved, self._hit = self.retrieved + 1, False
        else:
            self.seconds.append(seconds)


@contextmanager
def compilations() -> Iterator[Compilations]:
    """All that happens inside."""
    found = Compilations()
    jax.monitoring.register_event_listener(found.event)
    jax.monitoring.register_event_duration_secs_listener(found.duration)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_listener(found.event)
        jax.monitoring.unregister_event_duration_listener(found.duration)


def frames(count: int, seed: int, noise: float) -> list[Frame]:
    """Rattled ethanols."""
    atoms, rng = molecule("CH3CH2OH"), np.random.default_rng(seed)
    return [Frame(atoms.numbers, atoms.positions + noise * rng.standard_normal((9, 3))) for _ in range(count)]


def labels(count: int, seed: int, noise: float) -> list[Labeled]:
    """What EMT, which knows H, C and O, says of them."""
    found = []
    for frame in frames(count, seed, noise):
        atoms = frame.to_atoms()
        atoms.calc = EMT()
        found.append(Labeled(frame, Label(atoms.get_potential_energy(), atoms.get_forces())))
    return found


def play(rounds: int, folder: Path, **options: Any) -> list[Compilations]:
    """Rounds of one campaign: more labels, other seeds, warm starts, more frames to screen, ever farther away."""
    model = NequixModel(**NETWORK, warm_start=True, training={"steps": 120, "batch_size": 4}, **options)
    sampler = JaxMDSampler(temperatures_K=(50.0, 80.0), walkers=4, n_steps=20, keep_every=20)
    train, valid, statistics = [], [], None
    members: list[Path | None] = [None] * model.members
    seen = []
    for r in range(rounds):
        train += labels(20 + 7 * r, r, 0.04 + 0.03 * r)
        valid += labels(3 + r, 50 + r, 0.05)
        with compilations() as found:
            statistics = statistics or model.statistics(TrainingData(train, valid))
            data = TrainingData(train, valid, statistics)
            members = [
                model.train(data, 100 * r + k, start, folder / f"{r}_{k}", Resources())
                for k, start in enumerate(members)
            ]
            potential = model.load([path for path in members if path is not None])
            potential.predict(frames(60 + 30 * r, 200 + r, 0.05 + 0.03 * r))
            potential.features(frames(60 + 30 * r, 200 + r, 0.05 + 0.03 * r))  # type: ignore[attr-defined]
            sampler.run(potential, frames(5 + r, 300 + r, 0.02), 7 * r, folder, Resources())
        seen.append(found)
    return seen


@pytest.mark.slow
def test_the_next_round_compiles_nothing(tmp_path: Path) -> None:
    """Of a shallow ensemble, which compiles all that a deep one does, and more; the other test has a deep one."""
    first, second = play(2, tmp_path, members=1, heads=4)
    assert first.seconds or first.retrieved  # the listener works
    assert (second.seconds, second.retrieved) == ([], 0)


@pytest.mark.slow
def test_another_process_finds_every_program_in_the_cache(tmp_path: Path) -> None:
    """Those that compile fast as well: what is kept in real life depends on a clock."""
    code = (
        "import json, sys; from pathlib import Path; from alfw.models import _jax; _jax.MIN_COMPILE_S = 0.0;"
        "from test_compile_counts import play; (found,) = play(1, Path(sys.argv[1]), members=2);"
        "print(json.dumps([len(found.seconds), found.retrieved]))"
    )
    environment = os.environ | {
        "ALFW_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    said = []
    for process in ("first", "second"):
        command = [sys.executable, "-c", code, str(tmp_path / process)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        said.append(json.loads(done.stdout.splitlines()[-1]))
    (compiled, _), (compiled_again, retrieved_again) = said
    assert compiled > 5 and compiled_again == 0 and retrieved_again >= 5
