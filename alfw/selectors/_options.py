"""Options that all selectors share."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from alfw.core.errors import ConfigError
from alfw.core.exploration import Pool
from alfw.core.frame import Float, Int


class Physical(BaseModel):
    """What counts as a physical frame.

    Attributes
    ----------
    min_distance_fraction : float or None
        Two atoms must not be closer than this fraction of the sum of their covalent radii
        (doi:10.1039/b801115j). None = no limit.
    max_force_quantile : float or None
        Frames whose largest force lies above this quantile of the pool are left out; the quantile is rounded up to
        a frame of the pool, so 0.999 leaves out nothing below 1,000 frames. None = no limit.
    max_force_eV_per_A : float or None, eV/Å
        Frames with a larger force are left out, whatever the pool is like. None = no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_distance_fraction: Annotated[float, Field(gt=0, lt=1)] | None = 0.6
    max_force_quantile: Annotated[float, Field(gt=0, le=1)] | None = 0.999
    max_force_eV_per_A: Annotated[float, Field(gt=0)] | None = None


class Dedup(BaseModel):
    """What counts as the same frame twice.

    Attributes
    ----------
    min_distance_A : float, Å
        Two frames are duplicates when each atom of one has a counterpart of its element in the other whose distances
        to its neighbours all differ by less than this; see `alfw.selectors._duplicates`. 0 = keep duplicates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_distance_A: Annotated[float, Field(ge=0)] = 0.05


def _ordered(band: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = band
    if low is not None and high is not None and low >= high:
        raise ValueError(f"the lower end {low} must be below the upper end {high}")
    return band


_End = Annotated[float, Field(ge=0)] | None
# Lowest and highest force_std (eV/Å) of a candidate; None = open.
Band = Annotated[tuple[_End, _End], AfterValidator(_ordered)]


class Options(Protocol):
    """What all selectors have."""

    @property
    def kind(self) -> str:
        """As in campaign.yaml."""
        ...

    @property
    def physical(self) -> Physical:
        """What counts as a physical frame."""
        ...

    @property
    def band_eV_per_A(self) -> Band:
        """Lowest and highest force_std of a candidate."""
        ...

    @property
    def dedup(self) -> Dedup:
        """What counts as the same frame twice."""
        ...


def band_needs(options: BaseModel) -> dict[str, Literal["members", "heads"]]:
    """What a selector's ``band_eV_per_A`` asks of the ensemble, where the user has set it; see `NeedsSpread`."""
    band = getattr(options, "band_eV_per_A", (None, None))
    asked = "band_eV_per_A" in options.model_fields_set and band != (None, None)
    return {"band_eV_per_A": "members"} if asked else {}


def force_std_of(pool: Pool, rows: Int, key: str) -> Float:
    """(R,) float64, eV/Å: force_std of these frames, where the option `key` needs it.

    Raises
    ------
    ConfigError
        The ensemble has one member.
    """
    std: Float = np.asarray(pool.force_std, np.float64)[rows]
    if np.isnan(std).any():
        raise ConfigError(f"select.{key} needs force_std: set model.members to 2 or more")
    return std
