"""What a campaign's ledger says of each frame it has to label, and what earlier attempts teach the next one."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alfw.core.errors import ExecutableError, LabelError, SuspectError, WalltimeError
from alfw.core.records import Attempt, Resources, Run
from alfw.steps.context import Context
from alfw.store import Store, run_id

Record = Mapping[str, Any]
MAX_LONGER = 4  # times the walltime that a campaign states, at most
MAX_KEPT_BYTES = 256 << 20  # of one file of a calculation that was stopped


class WorkerDiedError(LabelError):
    """The worker died (or was killed) each time this frame was computed."""

    failure_class = "NODE_LOST"


class StoppedError(LabelError):
    """The user stopped the worker while it computed this frame."""

    failure_class = "STOPPED"


# These say nothing of how hard a frame is, and use up none of its tries.
UNCOUNTED = (ExecutableError.failure_class, StoppedError.failure_class, SuspectError.failure_class)


@dataclass(frozen=True)
class History:
    """What is known of one frame at the campaign's theory.

    Attributes
    ----------
    labelled : bool
    failures : sequence of records
        Of this campaign, by attempt, all of them.
    attempt : int
        Number of the newest attempt in any campaign; 0 = none yet.
    complete : int or None
        Number of the newest attempt whose calculation came to its end.
    """

    labelled: bool
    failures: Sequence[Record] = ()
    attempt: int = 0
    complete: int | None = None

    @property
    def given_up(self) -> bool:
        """Whether this campaign is not to try the frame again."""
        return any(failure["final"] and "reopened" not in failure for failure in self.failures)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.labelled or self.given_up

    @property
    def judgeable(self) -> bool:
        """Whether there is an output that this campaign has not found wanting."""
        spoilt = {failure["attempt"] for failure in self.failures}
        return self.complete is not None and self.complete not in spoilt

    @property
    def open(self) -> bool:
        """Whether the frame has to be computed."""
        return not self.settled and not self.judgeable

    @property
    def since(self) -> list[Record]:
        """The failures since the frame was put back last."""
        return [failure for failure in self.failures if failure["attempt"] > self._reopened]

    @property
    def _reopened(self) -> int:
        """Number of the attempt after which the frame was put back; 0 = never."""
        return max((failure["attempt"] for failure in self.failures if "reopened" in failure), default=0)

    @property
    def tried(self) -> bool:
        """Whether any attempt was made since the frame was put back last."""
        return bool(self.since) or self.attempt > self._reopened

    @property
    def tries(self) -> int:
        """How many of them say something of the frame, or of a calculation on a worker that could do it."""
        return sum(
            failure.get("policy") != "pause" and failure["class"] not in UNCOUNTED for failure in self.since
        )

    @property
    def forgotten(self) -> int:
        """How often the campaign had begun with the frame when it was put back last."""
        return max((f["reopened"]["claimed"] for f in self.failures if "reopened" in f), default=0)

    @property
    def suspect(self) -> Record | None:
        """The record of a result that was far off what was expected."""
        found = [failure for failure in self.since if failure["class"] == SuspectError.failure_class]
        return found[0] if found else None

    @property
    def failed(self) -> Record | None:
        """The newest failure, where the frame waits for another try because of it, elsewhere or later."""
        last = self.since[-1] if self.open and self.since else None
        return None if last is None or last["class"] == SuspectError.failure_class else last


def histories(ctx: Context, frame_ids: Sequence[str]) -> dict[str, History]:
    """What is known of each of these frames; a few queries however many they are."""
    theory, store = ctx.plugins.labeler.theory().id, ctx.store
    labelled = store.labelled(frame_ids, theory)
    failures: dict[str, list[Record]] = {}
    for failure in store.failures(None, frame_ids, theory):
        failures.setdefault(failure["frame"], []).append(failure)
    attempts = store.attempts(frame_ids, theory)
    found = {}
    for frame in frame_ids:
        latest, complete = attempts.get(frame, (0, None))
        known = failures.get(frame, [])
        mine = [failure for failure in known if failure["campaign"] == ctx.campaign]
        number = max([latest, *(failure["attempt"] for failure in known)])
        found[frame] = History(frame in labelled, mine, number, complete)
    return found


def unfinished(ctx: Context, frame_ids: Sequence[str]) -> list[str]:
    """Frames with neither label, usable output nor final failure; in order."""
    known = histories(ctx, frame_ids)
    return [frame for frame in frame_ids if known[frame].open]


def next_attempt(store: Store, history: History) -> Attempt:
    """What the next attempt is to do other than the first: start where time was up, or from another guess."""
    last = history.since[-1] if history.since else None
    restart: Mapping[str, bytes] = {}
    if last and last["class"] == WalltimeError.failure_class and last.get("run"):
        restart = store.get_run(last["run"]).files
    return Attempt(other_guess=history.suspect is not None, restart=restart)


def longer(failures: Iterable[Record]) -> int:
    """How many times the stated walltime a frame gets: twice as much after each time it was over, 4 times at most."""
    over = sum(failure["class"] == WalltimeError.failure_class for failure in failures)
    return int(min(2**over, MAX_LONGER))


def with_time(resources: Resources, history: History) -> Resources:
    """The resources with the time that this frame gets; nothing changes where no walltime is stated."""
    if resources.walltime_s is None:
        return resources
    return replace(resources, walltime_s=resources.walltime_s * longer(history.since))


def record_failure(
    ctx: Context,
    frame_id: str,
    error: LabelError,
    run: Run | None = None,
    *,
    final: bool,
    attempt: int,
) -> Record:
    """The record of the failure of one attempt, in the ledger from now on.

    Parameters
    ----------
    run : Run, optional
        The output it was read from. What `error.partial` has of a calculation that never ended is stored first.
    """
    theory = ctx.plugins.labeler.theory().id
    output: Run | None = run or error.partial
    if error.partial is not None:
        kept = {k: data for k, data in error.partial.files.items() if len(data) <= MAX_KEPT_BYTES}
        ctx.store.put_run(frame_id, theory, attempt, replace(error.partial, files=kept), partial=True)
    return ctx.store.put_failure(
        ctx.campaign,
        frame_id,
        theory,
        attempt=attempt,
        failure_class=error.failure_class,
        signature=error.signature,
        message=str(error),
        final=final,
        corrections=[dict(c) for c in output.corrections] if output else [],
        policy=error.policy,
        run=run_id(frame_id, theory, attempt) if output else None,
        host=output.host if output else socket.gethostname(),
        command=output.command if output else getattr(ctx.plugins.labeler, "command", None),
    )


def give_up(ctx: Context, frame_ids: Sequence[str], reason: str) -> int:
    """Write a final failure for each frame that was tried and has neither label nor final failure; how many."""
    known = histories(ctx, frame_ids)
    tried = [i for i in frame_ids if not known[i].settled and known[i].tried]
    for frame_id in tried:
        last: Record = known[frame_id].since[-1] if known[frame_id].since else {}
        ctx.store.put_failure(
            ctx.campaign,
            frame_id,
            ctx.plugins.labeler.theory().id,
            attempt=known[frame_id].attempt + 1,
            failure_class=last.get("class", LabelError.failure_class),
            signature=last.get("signature", reason),
            message=reason,
            final=True,
            **{key: last[key] for key in ("run", "host", "command") if key in last},
        )
    return len(tried)
