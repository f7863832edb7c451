"""A campaign whose sampler changes cells needs a stress: from the model, and from the labels that train it."""

from __future__ import annotations

from collections.abc import Mapping

from alfw.core.errors import ConfigError
from alfw.core.protocols import Labeler, Model, NeedsStress


def check_stress(model: Model, labeler: Labeler, plugins: Mapping[str, object]) -> None:
    """Raise ConfigError where an option asks for a stress that the model or the labels will not have.

    A model has one unless its ``has_stress`` is False; a labeler unless its ``has_stress`` is False or, where it does
    not say, it is for molecules only.

    Parameters
    ----------
    plugins : {path of the section: sampler}
    """
    lacking = _lacking(model, labeler)
    for section, plugin in plugins.items():
        keys = plugin.stress_needs() if isinstance(plugin, NeedsStress) else ()
        if lacking and keys:
            raise ConfigError(f"{section}.{keys[0]}: changes cells, which needs a stress, but {lacking}")


def _lacking(model: Model, labeler: Labeler) -> str | None:
    """Who has no stress, and what to do about it; None = both have one."""
    if not getattr(model, "has_stress", True):
        return f"model kind {model.kind!r} has none ('nequix' has one)"
    if not getattr(labeler, "has_stress", labeler.periodic is not False):
        why = " with stress: false" if getattr(labeler, "stress", True) is False else ""
        return f"label kind {labeler.kind!r}{why} gives none; leave this sampler out, or label by a code that does"
    return None
