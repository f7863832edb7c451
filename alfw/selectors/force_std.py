"""The frames the ensemble disagrees most about."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.errors import ConfigError
from alfw.core.exploration import Pool, Selection
from alfw.selectors._filters import candidates
from alfw.selectors._options import Band, Dedup, Physical
from alfw.selectors._ranked import take


class ForceStdSelector(BaseModel):
    """Picks the frames of largest force_std inside the band; needs an ensemble of at least two members.

    Source
    ------
    Selection by model deviation: doi:10.1103/PhysRevMaterials.3.023804.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["force-std"] = "force-std"
    physical: Physical = Physical()
    band_eV_per_A: Band = (None, 3.0)
    dedup: Dedup = Dedup()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return {"kind": "members"}

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; rejected counts as `candidates`, and ``duplicate``. The seed changes nothing.

        Raises
        ------
        ConfigError
            The ensemble has one member.
        """
        good, rejected = candidates(pool, self.physical, self.band_eV_per_A)
        std = np.asarray(pool.force_std, np.float64)
        if np.isnan(std[good]).any():
            raise ConfigError("select.kind: force-std needs force_std: set model.members to 2 or more")
        ranking = good[np.argsort(-std[good], kind="stable")]
        return take(pool, ranking, std, limit, self.dedup.min_distance_A, "force-std", rejected)
