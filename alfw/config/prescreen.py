"""A pre-screen has to suit the campaign's labeler."""

from __future__ import annotations

from alfw.core.errors import ConfigError
from alfw.core.protocols import Labeler


def check_prescreen(labeler: Labeler, cheap: Labeler | None) -> None:
    """Raise ConfigError where the labeler of `select.prescreen` could not look at what `labeler` is to label."""
    key = "select.prescreen.labeler"
    if cheap is None:
        return
    names = {True: "periodic systems", False: "molecules"}
    mine, theirs = cheap.periodic, labeler.periodic
    if mine is not None and theirs is not None and mine != theirs:
        raise ConfigError(
            f"{key}: {cheap.kind} is for {names[mine]}, label.kind {labeler.kind} for {names[theirs]}"
        )
    if cheap.kind == labeler.kind and cheap.theory().id == labeler.theory().id:
        raise ConfigError(
            f"{key}: it is the labeler of the campaign itself; leave prescreen out, or take a cheaper one"
        )
