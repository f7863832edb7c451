"""What exploration finds and what is chosen from it: plain frozen records, numpy arrays, alfw's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from alfw.core.frame import Float, Frame
from alfw.core.scaling import ElementScale

# Events that are no explosion: the ensemble disagrees and the walker is stopped; the force is high and it goes on.
NO_EXPLOSION = frozenset({"uncertain", "high_force"})


@dataclass(frozen=True, eq=False)
class Event:
    """Something worth a look happened to one walker; but for "high_force" it stands still from then on.

    Attributes
    ----------
    reason : {"nan", "force", "speed", "growth", "distance", "uncertain", "high_force"}
        Which limit was passed first; see `explosion`.
    good : Frame
        The last physical frame before; of a "high_force" event the frame itself.
    bad : Frame or None
        The first frame beyond the limit; None where its coordinates are not finite, and of "high_force".
    value : float
        What was measured, in the unit of the limit.
    velocities : (n, 3) float64 or None, Å/fs
        Of the last step before the limit was passed, where the sampler has velocities.
    dipoles : {"dipole_physnet", "dipole_dcmnet": (3,) float64}, e·Å
        Of `good`, where the potential has charges: the mean over members of the dipole of the atomic charges, and of
        the distributed ones.
    """

    reason: str
    walker: int
    step: int
    time_fs: float
    temperature_K: float
    good: Frame
    bad: Frame | None
    value: float
    velocities: Float | None = None
    dipoles: Mapping[str, Float] = field(default_factory=dict)

    @property
    def explosion(self) -> bool:
        """Whether the walker left what is physical."""
        return self.reason not in NO_EXPLOSION


@dataclass(frozen=True, eq=False)
class Exploration:
    """What a sampler saw.

    Attributes
    ----------
    frames : list of B Frames
        The frames kept.
    walker, step : (B,) int64
    time_fs, temperature_K : (B,) float64
        `temperature_K` is the thermostat's target at that time; NaN where there is none.
    events : list of Event
    counters : mapping
        Plain numbers: n_steps, n_walkers, total simulated time_ps …
    unbiased : bool
        Whether audit frames may be drawn from these.
    velocities : sequence of B × (n, 3) float32, or None, Å/fs
        Of the frames kept, where the sampler has them.
    life_fs : {walker: fs}
        How long each walker lasted, of all that began, whether frames of it were kept or not: until an event stopped it
        or the run was over. A walker that stopped may have begun again, as another one with another number.
    """

    frames: list[Frame]
    walker: np.ndarray
    step: np.ndarray
    time_fs: Float
    temperature_K: Float
    events: list[Event] = field(default_factory=list)
    counters: Mapping[str, float] = field(default_factory=dict)
    unbiased: bool = True
    velocities: Sequence[Float] | None = None
    life_fs: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pool:
    """What a selector chooses from.

    Attributes
    ----------
    frames : list of B Frames
    force_std, max_force : (B,) float64, eV/Å
        Of the ensemble; force_std is NaN when the ensemble has one member.
    labelled : list of Frames
        What is labelled or on its way (train and valid side), audit frames of this round included.
    features, labelled_features : lists of (n, D) float32, or None
        Per-atom features, all from one source: the frozen checkpoint's, the model's, or geometric ones.
    scale : ElementScale or None
        How the campaign scales these features; None = fitted on pool and labelled frames.
    reasons : sequence of B str, or ()
        Why an event offered the frame ("explosion: force", "uncertain", "high_force"); "" for others, () = no events.
    driven : sequence of B bool, or ()
        Whether dynamics on the model made the frame: where the model is wrong, so may be the frame. () = none.
    cost_h : (B,) float64 or None, CPU-hours
        What a label is expected to cost; None = not known, all the same.
    budget_h : float or None
        CPU-hours that the labels chosen may cost in all; None = no limit.
    """

    frames: list[Frame]
    force_std: Float
    max_force: Float
    labelled: list[Frame] = field(default_factory=list)
    features: Sequence[Float] | None = None
    labelled_features: Sequence[Float] | None = None
    scale: ElementScale | None = None
    reasons: Sequence[str] = ()
    driven: Sequence[bool] = ()
    cost_h: Float | None = None
    budget_h: float | None = None


@dataclass(frozen=True)
class Choice:
    """One chosen frame of a pool: its index there, why, and the selector's score."""

    index: int
    reason: str
    score: float


@dataclass(frozen=True)
class Selection:
    """What a selector chose.

    Attributes
    ----------
    chosen : sequence of Choice
        In order.
    rejected : mapping
        How many frames it turned down for which reason.
    notes : sequence of str
        What the user should know, one line each: everything was above the band, the budget was spent …
    """

    chosen: Sequence[Choice]
    rejected: Mapping[str, int]
    notes: Sequence[str] = ()
