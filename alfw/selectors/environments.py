"""Coverage of atomic environments: the default selector."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from alfw.core.exploration import Pool, Selection
from alfw.selectors._choosing import Chooser, selected
from alfw.selectors._covering import cover_greedily
from alfw.selectors._options import Band, Dedup, Physical, band_needs, force_std_of


class EnvironmentsSelector(BaseModel):
    """Picks, one after the other, the frame whose atomic environments are farthest from all those labelled or picked.

    The distance of an atom is that of its features to the nearest environment of the same element, in units of the
    spread of that element; of a frame, the mean over its atoms. Features are the model's where the pool has them, else
    geometric descriptors, so no trained model is needed. The first m picks are the selection for m: picks do not
    depend on the limit, nor on the seed. Without labelled frames the first pick is the most usual frame. It ends early
    when nothing new is left (``nothing_new``). Where the cost of a label is known, the sum over the atoms per cost
    counts instead of the mean, and picks end with the budget.

    Attributes
    ----------
    trust : float or None
        How far from all labelled frames a frame may be that dynamics on the model made (``too_far``): so many times the
        distance that 95 % of the labelled frames have from all others. Farther away lie the holes of a potential, calm
        to it and torn apart in truth, and a coverage would pick them first: with 20 labelled frames of malonaldehyde at
        300 K, true frames up to 700 K and of the proton's transfer were within 2.5 times, unphysical ones of the
        model's dynamics beyond 8 times (two seeds). Each round reaches farther, and where nothing is within reach the
        nearest frames are. Not looked at with fewer than 10 labelled frames; None = never.
    weight : {None, "force-std"}
        "force-std": the distance is multiplied with the frame's force_std, which needs two members or more.
    exact_up_to : int
        Of a pool with more atoms, each of several parts (every p-th frame) first picks by itself as many frames as are
        wanted; the final picks are made among those. It saves memory (the features of so many atoms are copied); what
        it loses is in docs/science.md. The picks do then depend on the limit.

    Source
    ------
    Greedy farthest-point (k-centre) selection, doi:10.1016/0304-3975(85)90224-5, over atoms instead of frames; in two
    stages: doi:10.5555/2969442.2969559 (k-centre), doi:10.5555/2999792.2999842 (greedy choices in general).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["environments"] = "environments"
    physical: Physical = Physical()
    band_eV_per_A: Band = (None, 3.0)
    dedup: Dedup = Dedup()
    trust: PositiveFloat | None = 5.0
    weight: Literal["force-std"] | None = None
    exact_up_to: Annotated[int, Field(gt=0)] = 2_000_000

    def spread_needs(self) -> dict[str, Literal["members", "heads"]]:
        """See `NeedsSpread`."""
        return band_needs(self) | ({"weight": "members"} if self.weight else {})

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames; see `alfw.selectors._choosing.selected`.

        Raises
        ------
        ConfigError
            `weight` is "force-std", and the ensemble has one member.
        """

        def choose(chooser: Chooser) -> None:
            weight = force_std_of(pool, chooser.rows, "weight: force-std") if self.weight else None
            cover_greedily(chooser, self.exact_up_to, weight, self.trust)

        return selected(self, pool, limit, seed, choose)
