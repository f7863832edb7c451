"""label: reference calculations of a pack of frames, each done once in the whole database.

Two Firetasks: `calculate` stores raw outputs as runs, `judge` turns runs into labels or failures. Either may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alfw.core.errors import ExecutableError, LabelError, OutOfDiskError, StoreError, UnknownLabelError, WalltimeError
from alfw.core.frame import Frame
from alfw.core.records import Label, Run
from alfw.steps.context import Context
from alfw.store import Claims

FLUSH_SECONDS, FLUSH_RUNS = 2.0, 50  # what a killed worker may lose of in-process labels
WAIT_SECONDS = 0.5  # between two looks at a frame that another worker computes


class WorkerDiedError(LabelError):
    """The worker died (or was killed) each time this frame was computed."""

    failure_class = "NODE_LOST"


@dataclass
class Buffer:
    """Runs that are not stored yet; in-process labelers fill it, external programs store one by one."""

    ctx: Context
    claims: Claims
    theory: str
    patient: bool
    runs: list[tuple[str, Run]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def add(self, frame: str, run: Run) -> None:
        """Keep a run; store all kept ones when there are many, they are old, or the labeler is external."""
        self.runs.append((frame, run))
        if not self.patient or len(self.runs) >= FLUSH_RUNS or time.monotonic() - self.since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store what is kept, then let go of the claims."""
        if self.runs:
            self.ctx.store.put_runs([(frame, self.theory, run) for frame, run in self.runs])
            self.claims.release([frame for frame, _ in self.runs])
        self.runs, self.since = [], time.monotonic()


def calculate(ctx: Context, frame_ids: Sequence[str]) -> None:
    """Raw outputs of all frames that have neither label, run nor final failure.

    A frame that another worker is computing is waited for, not computed again.

    Raises
    ------
    LabelError
        Something hit the worker, not the frame (program missing, disk full, walltime): rerun elsewhere.
    """
    labeler = ctx.plugins.labeler
    theory = labeler.theory()
    open_ = [i for i in frame_ids if i in unfinished(ctx, frame_ids)]
    if not open_:
        return
    frames = dict(zip(open_, ctx.store.get_frames(open_), strict=True))
    with Claims(ctx.store, theory.id, ctx.campaign) as claims:
        buffer = Buffer(ctx, claims, theory.id, patient=labeler.in_process)
        try:
            while open_:
                later = [i for i in open_ if not _attempt(ctx, frames[i], claims, buffer)]
                buffer.flush()
                if later:
                    time.sleep(WAIT_SECONDS)
                open_ = [i for i in later if i in unfinished(ctx, later)]
        finally:
            buffer.flush()


def unfinished(ctx: Context, frame_ids: Sequence[str]) -> set[str]:
    """Frames with neither label, run nor final failure."""
    theory, store = ctx.plugins.labeler.theory().id, ctx.store
    done = store.labelled(frame_ids, theory) | store.have_runs(frame_ids, theory)
    return set(frame_ids) - done - set(store.final_failures(ctx.campaign, frame_ids, theory))


def _attempt(ctx: Context, frame: Frame, claims: Claims, buffer: Buffer) -> bool:
    """Compute one frame if nobody else does; False when it has to be looked at again later."""
    claim = claims.acquire(frame.id)
    if not claim.acquired:
        return False
    if ctx.store.have_runs([frame.id], buffer.theory) or ctx.store.labelled([frame.id], buffer.theory):
        claims.release([frame.id])
        return True
    limit = ctx.config.label.max_tries
    if claim.tries > limit:
        died = WorkerDiedError(f"the worker was lost in each of {limit} tries")
        record_failure(ctx, frame.id, died, (), final=True, attempt=claim.tries)
        claims.release([frame.id])
        return True
    buffer.add(frame.id, _run(ctx, frame, claims, claim.tries))
    return True


def _run(ctx: Context, frame: Frame, claims: Claims, tries: int) -> Run:
    """The raw output; an error of the worker is recorded and passed on."""
    workdir = ctx.workdir / frame.id[:16]
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        return ctx.plugins.labeler.run(frame, workdir, ctx.resources("label").resources())
    except (ExecutableError, OutOfDiskError, WalltimeError) as error:
        record_failure(ctx, frame.id, error, (), final=False, attempt=tries)
        claims.release([frame.id])
        raise


def judge(ctx: Context, frame_ids: Sequence[str]) -> dict[str, int]:
    """Labels or failures of all frames with a run; counts of both.

    Raises
    ------
    LabelError
        A frame failed in a way that another try may cure; the Firework fizzles and is rerun.
    """
    labeler, store = ctx.plugins.labeler, ctx.store
    theory = labeler.theory()
    done = store.labelled(frame_ids, theory.id) | set(store.final_failures(ctx.campaign, frame_ids, theory.id))
    pending = [i for i in frame_ids if i not in done]
    runs = store.get_runs(pending, theory.id)
    retry: LabelError | None = None
    labels: list[tuple[str, Label]] = []
    for frame, attempt, run in _with_runs(ctx, pending, runs):
        try:
            labels.append((frame.id, labeler.parse(frame, run)))
        except LabelError as error:
            final = error.policy == "final" or attempt >= ctx.config.label.max_tries
            record_failure(ctx, frame.id, error, run.corrections, final=final, attempt=attempt)
            if not final:
                store.discard_run(frame.id, theory.id)
                retry = error
    store.put_labels([(frame, theory, label) for frame, label in labels])
    if retry is not None:
        raise retry
    return {"n_labeled": len(store.labelled(frame_ids, theory.id)), "n_frames": len(frame_ids)}


def _with_runs(
    ctx: Context, pending: Sequence[str], runs: Mapping[str, tuple[int, Run]]
) -> list[tuple[Frame, int, Run]]:
    """The pending frames with the attempt number and raw output of each."""
    lost = [i for i in pending if i not in runs]
    if lost:
        raise StoreError(f"frame {lost[0][:12]} has neither run nor failure: rerun its label Firework")
    return [(frame, *runs[frame.id]) for frame in ctx.store.get_frames(list(pending))]


def record_failure(
    ctx: Context,
    frame_id: str,
    error: LabelError,
    corrections: Sequence[Mapping[str, Any]],
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
    """Write a final failure for each frame that has neither label nor final failure; how many there were."""
    left = unfinished(ctx, frame_ids)
    for frame_id in left:
        record_failure(ctx, frame_id, UnknownLabelError(reason), (), final=True, attempt=0)
    return len(left)
