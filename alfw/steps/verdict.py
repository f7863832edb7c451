"""From raw outputs to labels or failures: what is stored, what is tried again, what is given up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from alfw.core.errors import LabelError, SuspectError
from alfw.core.frame import Frame
from alfw.core.records import Label, Run
from alfw.steps.context import Context
from alfw.steps.ledger import History, record_failure
from alfw.steps.suspect import Doubt, Expectations, SAME_eV, can_guess, composition, same_state
from alfw.store import run_id

Runs = Mapping[str, tuple[int, Run]]


def settle(
    ctx: Context,
    expectations: Expectations,
    frames: Mapping[str, Frame],
    runs: Runs,
    known: Mapping[str, History],
) -> None:
    """Write the label or the failure of each of these outputs; repeating it changes nothing.

    Raises
    ------
    LabelError
        Of policy ``pause``: every other frame would end so, too. All others are in the ledger only.
    """
    labels: dict[str, Label] = {}
    failed: dict[str, LabelError] = {}
    for i, (_, run) in runs.items():
        try:
            labels[i] = ctx.plugins.labeler.parse(frames[i], run)
        except LabelError as error:
            failed[i] = error
    for i, doubt in expectations.doubts(frames, labels).items():
        label = _second_opinion(ctx, frames[i], labels.pop(i), known[i], doubt)
        if label is None:
            failed[i] = SuspectError(f"frame {i[:12]}: {doubt.text}")
        else:
            labels[i] = label
    theory = ctx.plugins.labeler.theory()
    origins = {i: run_id(i, theory.id, runs[i][0]) for i in labels}
    if labels:
        ctx.store.put_labels(theory, labels, origins, {i: composition(frames[i]) for i in labels})
    for i, problem in failed.items():
        attempt, run = runs[i]
        record_failure(ctx, i, problem, run, final=is_final(ctx, problem, known[i]), attempt=attempt)
    for problem in failed.values():
        if problem.policy == "pause":
            raise problem


def is_final(ctx: Context, error: LabelError, history: History) -> bool:
    """Whether this failure is the last one of its frame in this campaign."""
    if isinstance(error, SuspectError):
        return history.suspect is not None or not can_guess(ctx.plugins.labeler)
    if error.policy == "retry":
        return history.tries + 1 >= ctx.config.label.max_tries
    return error.policy == "final"


def _second_opinion(ctx: Context, frame: Frame, label: Label, history: History, doubt: Doubt) -> Label | None:
    """The label if it may be stored in spite of the doubt: when another calculation came before, from another guess."""
    if doubt.absurd or history.suspect is None:
        return None
    try:
        first = ctx.plugins.labeler.parse(frame, ctx.store.get_run(history.suspect["run"]))
    except LabelError:
        return None
    if same_state(first, label):
        return replace(label, confirmed=True)
    return label if label.energy < first.energy - SAME_eV else None
