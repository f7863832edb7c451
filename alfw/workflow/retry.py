"""`alfw qm retry`: frames that a campaign gave up get back to where they can be computed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from fireworks import LaunchPad

from alfw.steps import retry as step
from alfw.steps.context import Context
from alfw.store import Store
from alfw.workflow import control
from alfw.workflow.relabel import labels_of, newest_round, rerun_reopened


@dataclass(frozen=True)
class Report:
    """What was put back.

    Attributes
    ----------
    classes : {str: int}
        Failures put back, by class.
    frames : list of str
        Their frames.
    fireworks : list of int
        Label Fireworks that run again.
    later : list of str
        All frames so far that join the next selection.
    sealed : list of str
        Frames of the test side, which was sealed without them: they stay out.
    note : str
        What is left to do for the user.
    """

    classes: dict[str, int]
    frames: list[str]
    fireworks: list[int]
    later: list[str]
    sealed: list[str]
    note: str = ""


def retry(
    launchpad: LaunchPad,
    store: Store,
    campaign: str,
    classes: Collection[str] = (),
    frames: Collection[str] = (),
    dry_run: bool = False,
) -> Report:
    """Put back final failures of these classes and frames (none given: all); what a call before began is finished.

    A campaign that was held because too many labels had failed goes on. With `dry_run` nothing is done.

    Raises
    ------
    ConfigError
        No final failure ever was of such a class or frame.
    """
    ctx = newest_round(store, campaign)
    chosen = step.choose(ctx, classes, frames)
    mine = [failure["frame"] for failure in chosen]
    if not dry_run:
        step.reopen(ctx, chosen)
    places = step.places(ctx, mine if dry_run else step.reopened(ctx))
    fireworks = [item["fw_id"] for item in labels_of(launchpad, ctx, places.here)]
    note = ""
    if not dry_run:
        fireworks = rerun_reopened(launchpad, ctx)
        note = _let_go(launchpad, ctx) if places.here else ""
    if (places.here or places.later) and control.state(store, campaign) == "ended":
        note = f"{campaign} has ended: `alfw amend FILE` with other stop rules opens the round that computes them"
    counts = dict(Counter(failure["class"] for failure in chosen))
    return Report(counts, mine, fireworks, places.later, places.sealed, note)


def _let_go(launchpad: LaunchPad, ctx: Context) -> str:
    """Let a campaign go on that was held for its failures; if paused for another reason, what to do."""
    record = ctx.store.get_campaign(ctx.campaign)
    if record["state"] != "paused":
        return ""
    if not (ctx.store.get_round(ctx.campaign, ctx.round) or {}).get("held"):
        return f"{ctx.campaign} is paused ({record['reason']}): alfw resume {ctx.campaign}"
    ctx.store.set_round(ctx.campaign, ctx.round, held=None)  # so that resuming accepts nothing
    control.resume(launchpad, ctx.store, ctx.campaign)
    return ""
