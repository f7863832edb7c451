"""Options that all selectors share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_distance_fraction: Annotated[float, Field(gt=0, lt=1)] | None = 0.6
    max_force_quantile: Annotated[float, Field(gt=0, le=1)] | None = 0.999


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


def band_needs(options: BaseModel) -> dict[str, Literal["members", "heads"]]:
    """What a selector's ``band_eV_per_A`` asks of the ensemble, where the user has set it; see `NeedsSpread`."""
    band = getattr(options, "band_eV_per_A", (None, None))
    asked = "band_eV_per_A" in options.model_fields_set and band != (None, None)
    return {"band_eV_per_A": "members"} if asked else {}
