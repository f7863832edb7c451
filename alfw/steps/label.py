"""label: reference calculations of a pack of frames, each done once in the whole database.

Two Firetasks: `calculate` stores raw outputs as runs and what they say, `judge` sees to what is left; either may be
repeated.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from alfw.core.errors import LabelError
from alfw.core.frame import Frame
from alfw.core.protocols import Labeler
from alfw.core.records import Run
from alfw.steps.context import Context
from alfw.steps.ledger import (
    History,
    StoppedError,
    WorkerDiedError,
    histories,
    next_attempt,
    record_failure,
    unfinished,
    with_time,
)
from alfw.steps.suspect import Expectations
from alfw.steps.verdict import is_final, settle
from alfw.store import Claim, Claims

FLUSH_SECONDS, FLUSH_RUNS = 2.0, 50  # what a killed worker may lose of in-process labels
WAIT_SECONDS = 0.5  # between two looks at a frame that another worker computes


def wanted(ctx: Context) -> list[str]:
    """Ids of the frames that this round has to label, in the committed order."""
    if ctx.round == 0:
        return list(ctx.get_json(ctx.result("start")["outputs"]["to_label"]))
    return [row["frame"] for row in ctx.get_json(ctx.result("select")["outputs"]["candidates"])]


def pack(ctx: Context, first: int, count: int) -> list[str]:
    """The slice of `wanted` that one label Firework is responsible for."""
    return wanted(ctx)[first : first + count]


def calculate(ctx: Context, frame_ids: Sequence[str]) -> None:
    """Raw outputs, with labels or failures, of all frames that have neither label, usable run nor final failure.

    A frame that another worker is computing is waited for, not computed again.

    Raises
    ------
    LabelError
        Something hit the worker (disk full, walltime), or would hit every frame (program or licence missing, a deck
        that the program refuses): nothing is computed after that.
    """
    open_ = unfinished(ctx, frame_ids)
    if not open_:
        return
    labeler = ctx.at_work("label").labeler  # without its values a worker stops here, before it claims a frame
    frames = dict(zip(open_, ctx.store.get_frames(open_), strict=True))
    with Claims(ctx.store, ctx.campaign) as claims:
        work = Work(ctx, labeler, claims, frames)
        while open_:
            open_ = work.all_of(open_)
            if open_:
                time.sleep(WAIT_SECONDS)
                open_ = unfinished(ctx, open_)


@dataclass
class Work:
    """One worker's way through the frames of a pack: claimed, computed, stored and judged some at a time.

    External programs go one by one. Labels of an in-process labeler may take a millisecond each, when a handful of
    database moves for each would take longer: as long as many of them fit into a second, their number is doubled.
    """

    ctx: Context
    labeler: Labeler
    claims: Claims
    frames: dict[str, Frame]
    size: int = 1
    known: dict[str, History] = field(default_factory=dict)
    runs: dict[str, tuple[int, Run]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.theory = self.ctx.plugins.labeler.theory().id
        self.expectations = Expectations(self.ctx)

    def all_of(self, frame_ids: Sequence[str]) -> list[str]:
        """Compute these frames if nobody else does; those that have to be looked at again later."""
        later: list[str] = []
        first = 0
        while first < len(frame_ids):
            some, began = frame_ids[first : first + self.size], time.monotonic()
            later += self._some_of(some)
            first += len(some)
            if self.labeler.in_process:
                quick = time.monotonic() - began < FLUSH_SECONDS / 2
                self.size = min(2 * self.size, FLUSH_RUNS) if quick else max(self.size // 2, 1)
            self.ctx.progress(f"labels {first}/{len(frame_ids)}")
        return later

    def _some_of(self, frame_ids: Sequence[str]) -> list[str]:
        """As `all_of`, of frames that are claimed together."""
        if len(frame_ids) == 1:
            answers = [self.claims.take(frame_ids[0], self.theory)]
        else:
            answers = self.claims.take_many(frame_ids, self.theory)
        # At one of several frames that were claimed together the worker before died: each goes alone from now on.
        alone = [answer.frame_id for answer in answers if answer.lost] if len(answers) > 1 else []
        self.claims.done(alone, self.theory)
        mine = [answer for answer in answers if answer.acquired and answer.frame_id not in alone]
        self._compute(mine)
        later = [answer.frame_id for answer in answers if not answer.acquired]
        for frame in alone:
            later += self._some_of([frame])
        return later

    def _compute(self, claims: Sequence[Claim]) -> None:
        """Runs, and what they say, of frames that are ours now; what is done when an error comes is stored."""
        self.known = histories(self.ctx, [claim.frame_id for claim in claims])
        since = time.monotonic()
        try:
            for claim in claims:
                history = self.known[claim.frame_id]
                if not history.open:  # somebody finished it between our look and our claim
                    continue
                run = self._run(self.frames[claim.frame_id], history, claim.tries)
                if run is not None:
                    self.runs[claim.frame_id] = (history.attempt + 1, run)
                if time.monotonic() - since > FLUSH_SECONDS:
                    self._flush()
                    since = time.monotonic()
            self._flush()
        finally:
            self.ctx.store.put_runs(self.theory, self.runs)
            self.runs = {}
            self.claims.done([claim.frame_id for claim in claims], self.theory)

    def _flush(self) -> None:
        """Store the runs, then judge them; where somebody else stored one before, `judge` reads that one."""
        runs, self.runs = self.runs, {}
        durable = not self.labeler.in_process  # else it is soon computed again, and its label follows at once
        if self.ctx.store.put_runs(self.theory, runs, durable=durable) == len(runs) > 0:
            settle(self.ctx, self.expectations, self.frames, runs, self.known)

    def _run(self, frame: Frame, history: History, claimed: int) -> Run | None:
        """The raw output; None after a final failure. Any other error is recorded and passed on.

        Parameters
        ----------
        claimed : int
            How often this campaign has begun with this frame. What it began without leaving a failure, it lost.
        """
        limit, attempt = self.ctx.config.label.max_tries, history.attempt + 1
        if claimed - history.forgotten - len(history.since) > limit:
            text = f"no result in {limit} tries: the worker was lost, or the calculation stopped, each time"
            record_failure(self.ctx, frame.id, WorkerDiedError(text), final=True, attempt=attempt)
            return None
        workdir = self.ctx.workdir if self.labeler.in_process else self.ctx.workdir / frame.id[:16]
        resources = with_time(self.ctx.resources("label").resources(), history)
        try:
            return self.labeler.run(frame, workdir, resources, next_attempt(self.ctx.store, history))
        except LabelError as error:
            final = is_final(self.ctx, error, history)
            record_failure(self.ctx, frame.id, error, final=final, attempt=attempt)
            if not final:
                raise
        except KeyboardInterrupt:
            stopped = StoppedError("stopped by the user")
            record_failure(self.ctx, frame.id, stopped, final=False, attempt=attempt)
            raise
        return None


def judge(ctx: Context, frame_ids: Sequence[str]) -> dict[str, int]:
    """Counts of labels and failures, when each frame has either: outputs nobody judged yet are, suspect ones repeated.

    Raises
    ------
    LabelError
        A frame failed in a way that another try may cure; the Firework fizzles and is rerun. Or as `calculate`.
    """
    expectations = Expectations(ctx)
    while True:
        known = histories(ctx, frame_ids)
        pending = [i for i in frame_ids if not known[i].settled and known[i].judgeable]
        if pending:
            runs = ctx.store.get_runs(pending, ctx.plugins.labeler.theory().id)
            frames = dict(zip(pending, ctx.store.get_frames(pending), strict=True))
            settle(ctx, expectations, frames, runs, known)
            known = histories(ctx, frame_ids)
        for failure in (history.failed for history in known.values()):
            if failure:
                raise LabelError(f"{failure['class']}: {failure['message']}", failure["signature"])
        if not any(history.open for history in known.values()):
            break
        calculate(ctx, frame_ids)
    n_labeled = sum(history.labelled for history in known.values())
    return {"n_labeled": n_labeled, "n_failed": len(frame_ids) - n_labeled}
