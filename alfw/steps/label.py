"""label: reference calculations of a pack of frames, each done once in the whole database.

Two Firetasks: `calculate` stores raw outputs as runs, `judge` turns runs into labels or failures; either may be
repeated.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alfw.core.errors import ExecutableError, LabelError, StoreError
from alfw.core.frame import Frame
from alfw.core.records import Label, Run
from alfw.steps.context import Context
from alfw.store import Claims, run_id

FLUSH_SECONDS, FLUSH_RUNS = 2.0, 50  # what a killed worker may lose of in-process labels
WAIT_SECONDS = 0.5  # between two looks at a frame that another worker computes


class WorkerDiedError(LabelError):
    """The worker died (or was killed) each time this frame was computed."""

    failure_class = "NODE_LOST"


class StoppedError(LabelError):
    """The user stopped the worker while it computed this frame."""

    failure_class = "STOPPED"


@dataclass
class Buffer:
    """Runs that are not stored yet; in-process labelers fill it, external programs store one by one."""

    ctx: Context
    claims: Claims
    theory: str
    patient: bool
    runs: dict[str, tuple[int, Run]] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def add(self, frame: str, attempt: int, run: Run) -> None:
        """Keep a run; store all kept ones when there are many, they are old, or the labeler is external."""
        self.runs[frame] = (attempt, run)
        if not self.patient or len(self.runs) >= FLUSH_RUNS or time.monotonic() - self.since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store what is kept, then let go of the claims."""
        if self.runs:
            self.ctx.store.put_runs(self.theory, self.runs)
        for frame in self.runs:
            self.claims.done(frame, self.theory)
        self.runs, self.since = {}, time.monotonic()


def wanted(ctx: Context) -> list[str]:
    """Ids of the frames that this round has to label, in the committed order."""
    if ctx.round == 0:
        return list(ctx.get_json(ctx.result("start")["outputs"]["to_label"]))
    return [row["frame"] for row in ctx.get_json(ctx.result("select")["outputs"]["candidates"])]


def pack(ctx: Context, first: int, count: int) -> list[str]:
    """The slice of `wanted` that one label Firework is responsible for."""
    return wanted(ctx)[first : first + count]


def calculate(ctx: Context, frame_ids: Sequence[str]) -> None:
    """Raw outputs of all frames that have neither label, usable run nor final failure.

    A frame that another worker is computing is waited for, not computed again.

    Raises
    ------
    LabelError
        Something hit the worker, not the frame (program missing, disk full, walltime): rerun elsewhere.
    """
    open_ = unfinished(ctx, frame_ids)
    if not open_:
        return
    labeler = ctx.at_work("label").labeler  # without its values a worker stops here, before it claims a frame
    frames = dict(zip(open_, ctx.store.get_frames(open_), strict=True))
    with Claims(ctx.store, ctx.campaign) as claims:
        buffer = Buffer(ctx, claims, ctx.plugins.labeler.theory().id, patient=labeler.in_process)
        try:
            while open_:
                later = [i for i in open_ if not _attempt(ctx, frames[i], buffer)]
                buffer.flush()
                if later:
                    time.sleep(WAIT_SECONDS)
                open_ = unfinished(ctx, later)
        finally:
            buffer.flush()


def unfinished(ctx: Context, frame_ids: Sequence[str]) -> list[str]:
    """Frames with neither label, usable run nor final failure; in order."""
    theory, store = ctx.plugins.labeler.theory().id, ctx.store
    failures = store.failures(ctx.campaign, frame_ids, theory)
    spoilt = {(failure["frame"], failure["attempt"]) for failure in failures}
    done = store.labelled(frame_ids, theory) | {failure["frame"] for failure in failures if failure["final"]}
    runs = store.latest_attempts(frame_ids, theory)
    return [i for i in frame_ids if i not in done and (i not in runs or (i, runs[i]) in spoilt)]


def _attempt(ctx: Context, frame: Frame, buffer: Buffer) -> bool:
    """Compute one frame if nobody else does; False when it has to be looked at again later."""
    claim = buffer.claims.take(frame.id, buffer.theory)
    if not claim.acquired:
        return False
    if not unfinished(ctx, [frame.id]):  # somebody finished it between our look and our claim
        buffer.claims.done(frame.id, buffer.theory)
        return True
    failures = [f for f in ctx.store.records_of_frame("failures", frame.id) if f["theory"] == buffer.theory]
    attempts = ctx.store.latest_attempts([frame.id], buffer.theory)
    attempt = 1 + max([attempts.get(frame.id, 0), *(failure["attempt"] for failure in failures)])
    run = _run(ctx, frame, attempt, claim.tries, [f for f in failures if f["campaign"] == ctx.campaign])
    if run is None:
        buffer.claims.done(frame.id, buffer.theory)
    else:
        buffer.add(frame.id, attempt, run)
    return True


def _run(
    ctx: Context, frame: Frame, attempt: int, claimed: int, failures: Sequence[Mapping[str, Any]]
) -> Run | None:
    """The raw output; None after a final failure. An error of the worker is recorded and passed on.

    Parameters
    ----------
    claimed : int
        How often this campaign has begun with this frame. What it began without leaving a failure, it lost.
    failures : sequence of failure records
        Those of this frame in this campaign.
    """
    limit = ctx.config.label.max_tries
    if claimed - len(failures) > limit:
        text = f"no result in {limit} tries: the worker was lost, or the calculation stopped, each time"
        record_failure(ctx, frame.id, WorkerDiedError(text), final=True, attempt=attempt)
        return None
    workdir = ctx.workdir / frame.id[:16]
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        return ctx.at_work("label").labeler.run(frame, workdir, ctx.resources("label").resources())
    except LabelError as error:
        final = error.policy != "pause" and counted(failures) + 1 >= limit
        record_failure(ctx, frame.id, error, final=final, attempt=attempt)
        if not final:
            raise
    except KeyboardInterrupt:
        record_failure(ctx, frame.id, StoppedError("stopped by the user"), final=False, attempt=attempt)
        raise
    return None


def counted(failures: Sequence[Mapping[str, Any]]) -> int:
    """How many of these failures say something of the frame, or of a calculation on a worker that could do it."""
    elsewhere = (ExecutableError.failure_class, StoppedError.failure_class)
    return sum(failure["class"] not in elsewhere for failure in failures)


def judge(ctx: Context, frame_ids: Sequence[str]) -> dict[str, int]:
    """Labels or failures of all frames with a run; counts of both.

    Raises
    ------
    LabelError
        A frame failed in a way that another try may cure; the Firework fizzles and is rerun.
    """
    labeler, store = ctx.plugins.labeler, ctx.store
    theory = labeler.theory()
    failures = store.failures(ctx.campaign, frame_ids, theory.id)
    given_up = {failure["frame"] for failure in failures if failure["final"]}
    labelled = store.labelled(frame_ids, theory.id)
    pending = [i for i in frame_ids if i not in labelled and i not in given_up]
    runs = store.get_runs(pending, theory.id)
    labels: dict[str, Label] = {}
    retry: LabelError | None = None
    for frame in store.get_frames(pending):
        if frame.id not in runs:
            raise StoreError(f"frame {frame.id[:12]} has neither run nor failure: rerun its label Firework")
        attempt, run = runs[frame.id]
        try:
            labels[frame.id] = labeler.parse(frame, run)
        except LabelError as error:
            tries = counted([failure for failure in failures if failure["frame"] == frame.id]) + 1
            final = error.policy == "final" or tries >= ctx.config.label.max_tries
            record_failure(ctx, frame.id, error, run.corrections, final=final, attempt=attempt)
            retry = retry if final else error
    attempts = {i: run_id(i, theory.id, runs[i][0]) for i in labels}
    store.put_labels(theory, labels, attempts)
    if retry is not None:
        raise retry
    n_labeled = len(labelled) + len(labels)
    return {"n_labeled": n_labeled, "n_failed": len(frame_ids) - n_labeled}


def record_failure(
    ctx: Context,
    frame_id: str,
    error: LabelError,
    corrections: Sequence[Mapping[str, Any]] = (),
    *,
    final: bool,
    attempt: int,
) -> None:
    """Write the failure of one attempt into the ledger."""
    ctx.store.put_failure(
        ctx.campaign,
        frame_id,
        ctx.plugins.labeler.theory().id,
        attempt=attempt,
        failure_class=error.failure_class,
        signature=error.signature,
        message=str(error),
        final=final,
        corrections=[dict(c) for c in corrections],
    )


def give_up(ctx: Context, frame_ids: Sequence[str], reason: str) -> int:
    """Write a final failure for each frame that was tried and has neither label nor final failure; how many."""
    theory, store = ctx.plugins.labeler.theory().id, ctx.store
    failures = {failure["frame"]: failure for failure in store.failures(ctx.campaign, frame_ids, theory)}
    runs = store.latest_attempts(frame_ids, theory)
    settled = store.labelled(frame_ids, theory) | {i for i, failure in failures.items() if failure["final"]}
    tried = [i for i in frame_ids if i not in settled and (i in failures or i in runs)]
    for frame_id in tried:
        last = failures.get(frame_id, {})
        store.put_failure(
            ctx.campaign,
            frame_id,
            theory,
            attempt=max(runs.get(frame_id, 0), last.get("attempt", 0)),
            failure_class=last.get("class", LabelError.failure_class),
            signature=last.get("signature", reason),
            message=reason,
            final=True,
        )
    return len(tried)
