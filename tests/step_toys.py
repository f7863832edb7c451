"""A campaign whose stages are called one after the other, without FireWorks: a toy model, sampler and labeler."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from ase.build import molecule
from pydantic import BaseModel, ConfigDict

from alfw.config import CampaignConfig
from alfw.core import registry
from alfw.core.exploration import Event, Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Prediction, Run, Theory
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.steps import label, merge, sample, screen, select, start, train
from alfw.steps.context import Context
from alfw.store import Store

SCRIPTS: dict[
    str, Callable[[Sequence[Frame]], Exploration]
] = {}  # what a scripted sampler explores, by its name
COMPUTED: list[tuple[str, list[str]]] = []  # (tag of the weights, ids) of each call for features
WATER = Frame.from_atoms(molecule("H2O"))


def shaken(count: int, seed: int, size: float = 0.1, frame: Frame = WATER) -> list[Frame]:
    """Frames with displaced atoms."""
    rng = np.random.default_rng(seed)
    return [frame.moved(frame.positions + size * rng.standard_normal((len(frame), 3))) for _ in range(count)]


def kept(frames: Sequence[Frame], events: Sequence[Event] = (), **fields: Any) -> Exploration:
    """An exploration of one walker that kept these frames."""
    step = np.arange(1, len(frames) + 1)
    given = {
        "walker": np.zeros(len(frames), np.int64),
        "step": step,
        "time_fs": step * 1.0,
        "temperature_K": np.full(len(frames), 300.0),
        "counters": {"n_walkers": 1, "time_ps": len(frames) / 1000},
    }
    return Exploration(frames=list(frames), events=list(events), **{**given, **fields})


def event(good: Frame, reason: str = "force", bad: Frame | None = None, **fields: Any) -> Event:
    """An event of walker 0."""
    given = {"walker": 0, "step": 7, "time_fs": 7.0, "temperature_K": 300.0, "value": 40.0}
    return Event(reason=reason, good=good, bad=bad, **{**given, **fields})


class Springs:
    """K members that pull all atoms to their centroid, each a bit harder; NaN for frames wider than 50 Å."""

    cutoff_A = 5.0

    def __init__(self, tag: str, members: int, features: bool) -> None:
        self.tag, self.members, self.species = tag, members, (1, 8)
        if features:
            self.features = self._features

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """Mean force constant 1 eV/Å^2, standard deviation of the members 0.1."""
        k = np.ones(1) if self.members == 1 else 1 + 0.1 * np.resize([-1, 1], self.members)
        away = [frame.positions - frame.positions.mean(0) for frame in frames]
        away = [x if np.abs(x).max() < 50 else np.full_like(x, np.nan) for x in away]
        energy = np.array([[0.5 * kk * (x**2).sum() for x in away] for kk in k]).reshape(self.members, -1)
        return Prediction(energy=energy, forces=[-k[:, None, None] * x for x in away])

    def _features(self, frames: Sequence[Frame]) -> list[np.ndarray]:
        COMPUTED.append((self.tag, [frame.id for frame in frames]))
        found = []
        for frame in frames:
            r = np.linalg.norm(frame.positions - frame.positions.mean(0), axis=1)
            found.append(np.column_stack([r, r**2, frame.numbers / 8]).astype(np.float32))
        return found


class ToyModel(BaseModel):
    """Springs; the weights are a file with a tag."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["toymodel"] = "toymodel"
    members: int = 2
    start_from: str | None = None
    has_features: bool = True

    def statistics(self, data: Any, start: Path | None = None) -> dict[str, Any]:
        return {}

    def known_species(self) -> frozenset[int] | None:
        return None

    def train(self, data: Any, seed: int, start: Any, workdir: Path, resources: Any, **rest: Any) -> Path:
        path = workdir / "member.json"
        path.write_text(json.dumps({"tag": f"trained {seed}"}))
        return path

    def load(self, weights: Sequence[Path]) -> Springs:
        tag = json.loads(Path(weights[0]).read_text())["tag"]
        return Springs(tag, len(weights), self.has_features)

    def export(self, *arguments: Any) -> None:
        raise NotImplementedError


class ScriptedSampler(BaseModel):
    """Explores what the script of its name says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["scripted"] = "scripted"
    script: str = "pool"

    def run(self, potential: Any, starts: Sequence[Frame], **rest: Any) -> Exploration:
        return SCRIPTS[self.script](starts)


class ToyLabeler(BaseModel):
    """The springs of the mean; a label of n atoms costs n CPU-hours, as it says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    periodic: ClassVar[bool | None] = False
    in_process: ClassVar[bool] = True
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["springs"] = "springs"
    hours_per_atom: float = 1.0

    def theory(self) -> Theory:
        return Theory("springs", {})

    def check(self, frame: Frame) -> None:
        """All frames will do."""

    def run(self, frame: Frame, workdir: Path, resources: Any, attempt: Attempt = FIRST) -> Run:
        return Run({"done": b""}, wall_s=3600.0 * self.hours_per_atom * len(frame))

    def parse(self, frame: Frame, run: Run) -> Label:
        away = frame.positions - frame.positions.mean(0)
        return Label(0.5 * float((away**2).sum()), -away, wall_s=run.wall_s)


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the toys known, and forget what was computed."""
    toys = {
        "alfw.models": {"toymodel": "ToyModel"},
        "alfw.samplers": {"scripted": "ScriptedSampler"},
        "alfw.labelers": {"springs": "ToyLabeler"},
    }
    known = {
        group: {
            **registry.known(group),
            **{k: EntryPoint(k, f"step_toys:{name}", group) for k, name in toys.get(group, {}).items()},
        }
        for group in registry.GROUPS
    }
    monkeypatch.setattr(registry, "known", known.__getitem__)
    COMPUTED.clear()
    SCRIPTS.clear()


class Stages:
    """A campaign that was started, its initial frames labelled and its first ensemble trained.

    `sections` are merged into its sections of these names.
    """

    def __init__(
        self, store: Store, folder: Path, name: str = "toy", initial: Sequence[Frame] = (), **sections: Any
    ) -> None:
        self.store, self.folder, self.name = store, folder, name
        self.initial = list(initial) or shaken(8, seed=1)
        write_extxyz(folder / f"{name}.extxyz", [Imported(frame) for frame in self.initial])
        raw: dict[str, Any] = {
            "schema_version": 1,
            "name": name,
            "data": {
                "initial": [{"path": str(folder / f"{name}.extxyz"), "theory": "ignore"}],
                "split": {"test": 0.2},
            },
            "model": {"kind": "toymodel"},
            "sample": [{"kind": "scripted"}],
            "select": {"kind": "environments", "max_frames": 3, "audit_frames": 0},
            "label": {"kind": "springs"},
        }
        for key, value in sections.items():
            raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
        config = CampaignConfig(raw)
        store.insert_campaign(name, config.raw, config.id, {})
        store.open_round(name, 0, revision=1, claimed_by=None)
        start.run(self.ctx(0))
        self.finish(0)

    def ctx(self, number: int) -> Context:
        """A context with a working folder of its own."""
        workdir = self.folder / f"{self.name}_{number}"
        workdir.mkdir(exist_ok=True)
        return Context.load(self.store, self.name, number, workdir)

    def explore(self, number: int, parts: int = 1) -> None:
        """sample and screen."""
        self.store.open_round(self.name, number, revision=1, claimed_by=None)
        for part in range(parts):
            sample.run(self.ctx(number), part)
            screen.run(self.ctx(number), part)

    def select(self, number: int, parts: int = 1) -> dict[str, Any]:
        """sample, screen and select: its result."""
        self.explore(number, parts)
        return select.run(self.ctx(number))

    def candidates(self, number: int) -> list[dict[str, Any]]:
        """What was proposed, in order."""
        ctx = self.ctx(number)
        return list(ctx.get_json(ctx.result("select")["outputs"]["candidates"]))

    def finish(self, number: int) -> None:
        """label, merge and train."""
        ctx = self.ctx(number)
        label.calculate(ctx, label.wanted(ctx))
        label.judge(ctx, label.wanted(ctx))
        merge.run(ctx)
        train.run(ctx, range(ctx.plugins.model.members))
