"""A campaign that looks at how far members are apart needs members that can be apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def check_error_band(model: Model, selector: object, raw: Mapping[str, Any], audit_frames: int) -> None:
    """Raise ConfigError where ``band_error_eV_per_A`` of this `select` section cannot become a band of force_std."""
    key = "select.band_error_eV_per_A"
    if raw.get("band_error_eV_per_A") is None:
        return
    if raw.get("band_eV_per_A") is not None:
        raise ConfigError(f"{key}: give either it or band_eV_per_A, not both")
    if "band_eV_per_A" not in getattr(type(selector), "model_fields", {}):
        raise ConfigError(f"{key}: the selector {raw.get('kind')} has no band; leave it out")
    if max(model.members, int(getattr(model, "heads", 0))) < 2:
        raise ConfigError(f"{key}: an ensemble of one has no spread; set model.members or model.heads")
    if audit_frames == 0:
        raise ConfigError(f"{key}: errors are calibrated on audit labels; audit_frames must not be 0")
