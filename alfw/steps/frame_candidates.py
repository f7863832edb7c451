"""Which frames of what was found are exported: physical, each once, diverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from alfw.core.errors import ConfigError, DataError
from alfw.core.frame import Frame
from alfw.core.neighbours import closest_fraction
from alfw.io.event_files import Predicted, SavedEvent
from alfw.steps.frame_choice import diverse, unique
from alfw.steps.frame_files import Found
from alfw.steps.frame_listing import judged

# The physical cap, where no --max-force says otherwise: so many times this quantile of the forces of frames that are no
# wreck of an explosion; where there is none of these, the limit at which alfw's own dynamics stops a walker.
CAP_FACTOR = 2.0
CAP_QUANTILE = 0.99
CAP_eV_PER_A = 30.0
CLOSEST = 0.6  # of the sum of two covalent radii, as in alfw's own dynamics


@dataclass(frozen=True)
class Wanted:
    """What is exported.

    Attributes
    ----------
    deduplicate : bool
    rmsd_threshold_A : float
        Two frames with a smaller RMSD (`alfw.core.superposition.rmsd`) are the same.
    min_force : float, eV/Å
        Events with a smaller largest force, and frames of which none is known, are left out.
    max_force : float or None, eV/Å
        Frames with a larger one are left out; None = the physical cap, and atoms that are too close.
    max_structures : int or None
    order : {"diverse", "force"}
        How these are chosen: far from each other, or the largest forces, as the older system does.
    bad : bool
        Of explosions the first frame beyond the limit, in place of the last good one.
    """

    deduplicate: bool = False
    rmsd_threshold_A: float = 0.5
    min_force: float = 0.0
    max_force: float | None = None
    max_structures: int | None = None
    order: Literal["diverse", "force"] = "diverse"
    bad: bool = False


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that may be exported.

    Attributes
    ----------
    name : str
        Its file, with the index of its frame where it has several.
    predicted : Predicted
    event : SavedEvent or None
    wreck : bool
        Whether it is the frame of an explosion, beyond the limit.
    """

    name: str
    predicted: Predicted
    event: SavedEvent | None = None
    wreck: bool = False

    @property
    def frame(self) -> Frame:
        """The frame itself."""
        return self.predicted.frame

    @property
    def severity(self) -> float:
        """Largest force (eV/Å) of the event, also where its last good frame is exported; NaN where not known."""
        return self.predicted.max_force if self.event is None else self.event.shown.max_force


@dataclass(frozen=True)
class Chosen:
    """What is left of the frames found.

    Attributes
    ----------
    candidates : list of Candidate
    excluded : {name: why}
    merged : {name: names}
        Which duplicates a frame stands for.
    cap : float, eV/Å
    notes : list of str
    """

    candidates: list[Candidate]
    excluded: Mapping[str, str]
    merged: Mapping[str, list[str]]
    cap: float
    notes: list[str] = field(default_factory=list)


def filtered(events: Sequence[SavedEvent], min_force: float, max_force: float | None) -> list[SavedEvent]:
    """The events whose largest force (eV/Å) is in this range; all where none is asked for."""
    most = np.inf if max_force is None else max_force
    return [
        e
        for e in events
        if (min_force <= 0 or e.shown.max_force >= min_force) and not e.shown.max_force > most
    ]


def choose(found: Found, wanted: Wanted) -> Chosen:
    """The frames to export, in order; what is left out, with the reason."""
    if wanted.max_structures is not None and wanted.max_structures < 1:
        raise ConfigError(f"--max-structures {wanted.max_structures}: at least 1, or leave it out for all")
    candidates = _candidates(found, wanted.bad)
    cap, note = _cap(candidates, wanted)
    excluded: dict[str, str] = {}
    for candidate in candidates:
        why = _why_not(candidate, wanted, cap)
        if why is not None:
            excluded[candidate.name] = why
    left = [candidate for candidate in candidates if candidate.name not in excluded]
    merged: dict[str, list[str]] = {}
    if wanted.deduplicate and left:
        kept = unique([c.frame for c in left], _forces(left), wanted.rmsd_threshold_A)
        for index, of in enumerate(kept):
            if of != index:
                merged.setdefault(left[of].name, []).append(left[index].name)
        left = [candidate for index, candidate in enumerate(left) if kept[index] == index]
    notes = [note] if excluded and note else []
    n_merged = sum(len(names) for names in merged.values())
    if n_merged > len(left):
        notes.append(
            f"{n_merged} frames are within {wanted.rmsd_threshold_A:g} Å of others: a smaller --rmsd-threshold keeps"
            " more of them"
        )
    return Chosen(_ordered(left, wanted), excluded, merged, cap, notes)


def _candidates(found: Found, bad: bool) -> list[Candidate]:
    """One frame of each event, and all of ordinary files."""
    candidates = []
    for event in found.events:
        wreck = event.explosion and (bad or event.good is None)
        predicted = event.shown if bad else event.offered
        candidates.append(Candidate(str(event.source), predicted, event, wreck))
    for path, items in found.files.items():
        several = len(items) > 1
        candidates += [Candidate(f"{path}:{i}" if several else path, judged(x)) for i, x in enumerate(items)]
    return candidates


def _forces(candidates: Sequence[Candidate]) -> list[float]:
    """Largest forces; those that are not known come last wherever a small force is better."""
    return [c.predicted.max_force if np.isfinite(c.predicted.max_force) else np.inf for c in candidates]


def _cap(candidates: Sequence[Candidate], wanted: Wanted) -> tuple[float, str]:
    """The largest force (eV/Å) that is exported, and where it is from."""
    if wanted.max_force is not None:
        return wanted.max_force, ""
    trusted = [
        c.predicted.max_force for c in candidates if not c.wreck and np.isfinite(c.predicted.max_force)
    ]
    how = "--max-force sets another"
    if not trusted:
        return CAP_eV_PER_A, f"physical cap: {CAP_eV_PER_A:g} eV/Å, no frame tells another; {how}"
    cap = CAP_FACTOR * float(np.quantile(trusted, CAP_QUANTILE))
    what = (
        f"{CAP_FACTOR:g} × the {CAP_QUANTILE:g} quantile of {len(trusted)} frames that are not beyond a limit"
    )
    return cap, f"physical cap: {cap:.2f} eV/Å, {what}; {how}"


def _why_not(candidate: Candidate, wanted: Wanted, cap: float) -> str | None:
    """Why a frame is not exported; None = it is."""
    force, severity = candidate.predicted.max_force, candidate.severity
    if wanted.min_force > 0 and not severity >= wanted.min_force:
        return f"F_max {severity:.2f} eV/Å, below --min-force" if np.isfinite(severity) else "force not known"
    if force > cap:
        return f"F_max {force:.2f} eV/Å, above {cap:.2f}"
    if candidate.wreck and not np.isfinite(force):
        return "an exploded frame of unknown force"
    if wanted.max_force is not None:
        return None
    try:
        closest = closest_fraction(candidate.frame)
    except DataError as error:
        return str(error)
    return f"two atoms at {closest:.2f} of the sum of their covalent radii" if closest < CLOSEST else None


def _ordered(candidates: list[Candidate], wanted: Wanted) -> list[Candidate]:
    """At most as many as are wanted: the most diverse ones, or those of the largest forces."""
    forces = [
        -np.inf if not np.isfinite(c.predicted.max_force) else c.predicted.max_force for c in candidates
    ]
    most = len(candidates) if wanted.max_structures is None else wanted.max_structures
    hardest = sorted(range(len(candidates)), key=lambda i: (-forces[i], candidates[i].frame.id))
    if wanted.order == "force":
        return [candidates[i] for i in hardest[:most]]
    if most >= len(candidates):
        return candidates
    picked = diverse([candidates[i].frame for i in hardest], most)
    return [candidates[hardest[i]] for i in picked]
