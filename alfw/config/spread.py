"""A campaign whose sampler or selector looks at how far members are apart needs members that can be apart."""

from __future__ import annotations

from collections.abc import Mapping

from alfw.core.errors import ConfigError
from alfw.core.protocols import Model, spread_lacking


def check_spread(model: Model, plugins: Mapping[str, object]) -> None:
    """Raise ConfigError where an option asks for a spread that the ensemble will not have.

    Parameters
    ----------
    plugins : {path of the section: sampler or selector}
    """
    heads = int(getattr(model, "heads", 0))  # of a shallow ensemble
    for section, plugin in plugins.items():
        lacking = spread_lacking(plugin, max(model.members, heads), cheap=heads > 1)
        if lacking:
            raise ConfigError(f"{section}.{lacking}")
