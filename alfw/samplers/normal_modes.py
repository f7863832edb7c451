"""Thermal displacements along the normal modes of a potential."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from alfw.core.errors import SamplingError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.ids import derive_seed
from alfw.core.protocols import Potential
from alfw.core.records import Resources
from alfw.core.registry import private
from alfw.samplers._structures import block, check_starts, close_atoms, record

if TYPE_CHECKING:
    from alfw.samplers._harmonic import Vibrations


class NormalModesSampler(BaseModel):
    """Independent frames of the harmonic surface about relaxed starts: no dynamics, and no two frames are alike.

    The first `max_starts` starts are relaxed in their cells on the mean of the ensemble, and their Hessians made of
    differences of forces. The modes of molecules leave out translations and rotations, those of crystals translations;
    of frames with fixed atoms only the others move. Frame i is of relaxed start i % (how many there are); frames are
    spread evenly over the temperatures, the first ones at the first.

    Modes that are softer than `min_frequency_per_cm`, or imaginary, get the amplitudes of that frequency and are
    counted (``n_modes_clipped``).

    Attributes
    ----------
    count : int
        Frames in all.
    statistics : {"classical", "wigner"}
        Amplitudes of classical oscillators (kT/2 in each mode), or of quantum ones, with their zero-point motion.
    relax_force_eV_per_A : float
        Largest force on an atom of a relaxed start.
    relax_steps : int
        At most; a start that is not relaxed by then is used where it is, and counted (``n_not_relaxed``). 0 = starts
        are taken as they are.
    displacement_A : float
        Of the differences.
    min_distance_fraction : float
        Closest distance of two atoms over the sum of their covalent radii; a frame with closer ones is drawn again.
        0 = not looked at.
    tries : int
        How often, before the frame is given up and counted (``n_rejected_close``).

    Source
    ------
    As in J. S. Smith et al., Chem. Sci. 8, 3192 (2017), doi:10.1039/C6SC05720A, with normally distributed amplitudes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["normal-modes"] = "normal-modes"
    temperatures_K: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    count: PositiveInt
    statistics: Literal["classical", "wigner"] = "classical"
    max_starts: PositiveInt = 8
    relax_force_eV_per_A: PositiveFloat = 0.05
    relax_steps: Annotated[int, Field(ge=0)] = 200
    min_frequency_per_cm: PositiveFloat = 100.0
    displacement_A: Annotated[float, Field(ge=1e-3, le=0.1)] = 0.01
    min_distance_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.6
    tries: PositiveInt = 100

    @model_validator(mode="after")
    def _consistent(self) -> NormalModesSampler:
        if self.count < len(self.temperatures_K):
            raise ValueError(f"count {self.count} is too small for {len(self.temperatures_K)} temperatures")
        return self

    def run(
        self,
        potential: Potential,
        starts: Sequence[Frame],
        seed: int,
        workdir: Path,
        resources: Resources,
        progress: Callable[[str], None] | None = None,
    ) -> Exploration:
        """The frames: walker = index of the start, step = how many of it came before; no time.

        Starts of which the potential says NaN, or that collapse on the way down, are left out and counted
        (``n_starts_not_finite``, ``n_starts_too_close``).

        Raises
        ------
        SamplingError
            No starts, an element that the potential does not know, or no frame that can be used.
        DataError
            A start is periodic in some directions only.
        """
        check_starts(self.kind, potential, starts)
        counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        minima: list[tuple[int, Vibrations]] = []
        some = starts[: self.max_starts]
        for walker, start in enumerate(some):
            found = self._vibrations(potential, start, counts)
            if found is not None:
                minima.append((walker, found))
                counts["n_modes"] += len(found.curvature)
                counts["n_modes_clipped"] += int((found.per_cm() < self.min_frequency_per_cm).sum())
            if progress is not None:
                progress(f"normal modes of start {walker + 1}/{len(some)}")
        made, temperature = self._frames(minima, seed)
        counts["n_rejected_close"] = self.count - len(made) if minima else 0
        if not made:
            why = ", ".join(f"{name} {n}" for name, n in counts.items() if n)
            raise SamplingError(f"sampler 'normal-modes': of {len(some)} starts came no frame: {why}")
        return record(made, dict(counts), np.array(temperature))

    def _vibrations(self, potential: Potential, start: Frame, counts: Counter[str]) -> Vibrations | None:
        """The modes of one start, relaxed; None where it cannot be used."""
        harmonic: Any = private("alfw.samplers._harmonic", self.kind)
        try:
            frame = start
            if self.relax_steps:
                frame, done = harmonic.relaxed(potential, start, self.relax_force_eV_per_A, self.relax_steps)
                counts["n_not_relaxed"] += not done
            if len(close_atoms(frame, self.min_distance_fraction)):
                counts["n_starts_too_close"] += 1
                return None
            return harmonic.vibrations(potential, frame, self.displacement_A)  # type: ignore[no-any-return]
        except harmonic.NotFiniteError:
            counts["n_starts_not_finite"] += 1
            return None

    def _frames(
        self, minima: Sequence[tuple[int, Vibrations]], seed: int
    ) -> tuple[list[tuple[Frame, int, int]], list[float]]:
        """The frames with walker and step, and their temperatures."""
        made, temperature = [], []
        for i in range(self.count if minima else 0):
            step, which = divmod(i, len(minima))
            walker, surface = minima[which]
            T = self.temperatures_K[block(i, self.count, len(self.temperatures_K))]
            widths = surface.widths(T, self.statistics, self.min_frequency_per_cm)
            rng = np.random.default_rng(derive_seed(seed, "normal-modes", i))
            for _ in range(self.tries):
                frame = surface.displaced(widths * rng.standard_normal(len(widths)))
                if not len(close_atoms(frame, self.min_distance_fraction)):
                    made.append((frame, walker, step))
                    temperature.append(T)
                    break
        return made, temperature


COUNTED = (
    *("n_modes", "n_modes_clipped", "n_not_relaxed"),
    *("n_starts_not_finite", "n_starts_too_close", "n_rejected_close"),
)
