"""The frames the ensemble disagrees most about."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from alfw.core.exploration import Pool, Selection
from alfw.selectors._choosing import Chooser, selected
from alfw.selectors._options import Band, Dedup, Physical, force_std_of


class ForceStdSelector(BaseModel):
    """Picks the frames of largest force_std inside the band; needs an ensemble of at least two members.

    The first m picks are the selection for m; the seed changes nothing.

    Source
    ------
    Selection by model deviation: doi:10.1103/PhysRevMaterials.3.023804.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()
    uses_features: ClassVar[bool] = False

    kind: Literal["force-std"] = "force-std"
    physical: Physical = Physical()
    band_eV_per_A: Band = (None, 3.0)
    dedup: Dedup = Dedup()

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return {"kind": "members"}

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; see `alfw.selectors._choosing.selected`.

        Raises
        ------
        ConfigError
            The ensemble has one member.
        """

        def choose(chooser: Chooser) -> None:
            std = force_std_of(pool, chooser.rows, "kind: force-std")
            chooser.offer_in_order(np.argsort(-std, kind="stable"), std)

        return selected(self, pool, limit, seed, choose)
