"""What every stage is given, and the rule that makes each of them safe to run twice."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from alfw.config import CampaignConfig, Plugins, StageResources
from alfw.core.errors import StoreError
from alfw.core.ids import derive_seed
from alfw.store import Store

STAGES = ("start", "sample", "screen", "select", "label", "merge", "train", "evaluate", "decide")


@dataclass(frozen=True)
class Outcome:
    """What a stage produced: pointers to blobs and records, counts, metrics; JSON data."""

    outputs: Mapping[str, Any]
    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def _silent(text: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Context:
    """One round of one campaign on one worker.

    Attributes
    ----------
    env : mapping
        The worker's own values for `>>name<<`.
    workdir : Path
        Scratch folder of this launch; nothing is expected to be in it.
    """

    store: Store
    config: CampaignConfig
    round: int
    workdir: Path
    env: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[str], None] = _silent

    @classmethod
    def load(cls, store: Store, campaign: str, round: int, workdir: Path, **rest: Any) -> Context:
        """The context of a stored campaign, at the revision its round is pinned to.

        Raises
        ------
        StoreError
            No such campaign.
        """
        return cls(store, load_config(store, campaign, round), round, workdir, **rest)

    @property
    def campaign(self) -> str:
        """Name of the campaign."""
        return self.config.name

    @cached_property
    def plugins(self) -> Plugins:
        """The campaign's plug-ins as it states them, `>>name<<` left: the same, with the same ids, on every worker."""
        return self.config.plugins(None)

    def at_work(self, section: str) -> Plugins:
        """The plug-ins, those of this section with the worker's own values for `>>name<<`: ready to work.

        Raises
        ------
        ConfigError
            The worker's env lacks a name.
        """
        return self.config.plugins(self.env, (section,))

    def resources(self, stage: str) -> StageResources:
        """What the campaign asks for at this stage."""
        section = self.config.file.resources
        by_stage = {
            "sample": section.sample,
            "screen": section.sample,
            "train": section.train,
            "evaluate": section.train,
            "label": section.label,
        }
        return by_stage.get(stage, section.control)

    def seed(self, *parts: int | str) -> int:
        """Seed of one random choice: from the campaign's seed, its name, the round, and `parts`."""
        return derive_seed(self.config.file.seed, self.campaign, self.round, *parts)

    def result(self, stage: str, part: int = 0, round: int | None = None) -> dict[str, Any]:
        """The committed result of a stage.

        Raises
        ------
        StoreError
            The stage has none yet.
        """
        number = self.round if round is None else round
        found = self.store.get_result(self.campaign, number, stage, part)
        if found is None:
            raise StoreError(
                f"campaign {self.campaign} round {number} has no result of stage {stage} (part {part}); "
                "rerun that Firework first: alfw reconcile"
            )
        return found

    def once(self, stage: str, part: int, work: Callable[[], Outcome]) -> dict[str, Any]:
        """The one result of this stage: the committed one, or that of `work` if it commits first."""
        existing = self.store.get_result(self.campaign, self.round, stage, part)
        if existing is not None:
            return existing
        wall, cpu = time.perf_counter(), cpu_seconds()
        # Many small matrix products get slower, not faster, on threads that other work on the machine has as well.
        with threadpool_limits(self.resources(stage).resources().threads, user_api="blas"):
            outcome = work()
        cost = {
            "wall_s": (lasted := time.perf_counter() - wall),
            "cpu_s": cpu_seconds() - cpu,
            "gpu_s": lasted * self.resources(stage).gpus,
            "host": socket.gethostname(),
        }
        return self.store.commit_result(
            self.campaign,
            self.round,
            stage,
            part,
            outputs=dict(outcome.outputs),
            counts=dict(outcome.counts),
            metrics=dict(outcome.metrics),
            cost=cost,
        )

    def put_json(self, value: Any) -> str:
        """sha256 of a blob with this JSON data."""
        return self.store.put_blob(json.dumps(value, separators=(",", ":"), allow_nan=False).encode())

    def get_json(self, sha: str) -> Any:
        """The JSON data of a blob."""
        return json.loads(self.store.get_blob(sha))


def load_config(store: Store, campaign: str, round: int | None = None) -> CampaignConfig:
    """The configuration of a campaign: of the revision its round is pinned to, else the newest.

    Raises
    ------
    StoreError
        No such campaign.
    """
    record = store.get_campaign(campaign)
    pinned = None if round is None else store.get_round(campaign, round)
    revision = len(record["revisions"]) if pinned is None else pinned["revision"]
    return CampaignConfig(record["revisions"][revision - 1]["config"])


def cpu_seconds() -> float:
    """CPU time of this process and of its finished children, s."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)
