"""Frames on their way to a label: selected, but neither labelled nor given up."""

from __future__ import annotations

from alfw.core.errors import AlfwError
from alfw.core.frame import Frame
from alfw.steps.context import Context, load_config
from alfw.store import Store


def in_flight(ctx: Context) -> list[Frame]:
    """Frames that this campaign selected before this round, or another one that runs now at the same theory.

    They count as labelled: in another round they can be chosen, when it is known what their labels taught. Those of
    campaigns that are paused or have ended may never get a label, and hold up nobody.
    """
    store, theory = ctx.store, ctx.plugins.labeler.theory().id
    waiting = [
        row for row in store.get_candidates(ctx.campaign, state="selected") if row["round"] < ctx.round
    ]
    for other in store.list_campaigns():
        runs = other["_id"] != ctx.campaign and other["state"] == "running"
        if runs and _theory(store, other["_id"]) == theory:
            waiting += store.get_candidates(other["_id"], state="selected")
    ids = list(dict.fromkeys(row["frame"] for row in waiting))
    settled = store.labelled(ids, theory) | set(store.final_failures(ctx.campaign, ids, theory))
    return store.get_frames([frame for frame in ids if frame not in settled])


def _theory(store: Store, campaign: str) -> str | None:
    """Id of the theory of a campaign; None where its labeler is not installed here."""
    try:
        return load_config(store, campaign).plugins(None).labeler.theory().id
    except AlfwError:
        return None
