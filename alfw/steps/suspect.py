"""Whether a label may be believed, beyond what its own output says: an SCF may converge, to the wrong state.

Two questions are asked of every label before it is stored.

*Is its energy sane?* The labels of one composition at one theory lie within a window about their median. No chemistry
moves an energy by more than the cohesive energy, which is below 9 eV an atom (tungsten: 8.9): what is more than 10 eV
an atom away, as of a run that ends normally at −2e7 Hartree, is not physics, and no repetition makes it so. Once there
are 20 labels, one that is 1 eV an atom away (or 20 robust standard deviations, if that is more) is suspect.

*Is it what the ensemble expected that found the frame?* A label of round r has residuals: its energy less the mean of
the ensemble of round r − 1, and the largest difference of the forces on one atom. They are compared with those of

- the valid and test labels of round r − 1, measured with the very same ensemble, and
- the labels of this round that are there already,

never with fixed numbers: a poor model of an early round has large residuals everywhere, so nothing stands out. The
median residual of a composition is taken off first (members share an offset). What is usual is the upper quartile of
these residuals, or, where the members disagree more than elsewhere, the upper quartile of residual / force_std times
the frame's own force_std. Suspect is what exceeds 6 times that, and 0.1 eV or 0.5 eV/Å. The quartile stands a quarter
of wrong labels in its sample; of a normal distribution, 6 quartiles are 7 standard deviations. Below 10 residuals
nothing is asked.

A model may also be wrong about a whole region, by far more than it knows (a dissociated molecule). There the neighbours
of a frame deviate as it does: an energy that is off by as much as that of another label of its own trajectory, or of a
label confirmed before, is not suspect, nor is a force that is off by 6 times what one of its trajectory is off.
Measured: ethanol, GFN2-xTB, three rounds of 40 labels, some 30 of them 5 eV above what the ensemble said, as a hydrogen
atom had left: 4 of 120 were suspect. A state 1 eV higher would have been found in 117 of them, 0.5 eV in 97.

A suspect label is not stored. The frame is computed once more, from another first guess, and then

- the same energy (1e-3 eV) and forces (1e-2 eV/Å): two ways led there, it is `confirmed` and stored;
- no longer suspect, or lower in energy: a better state was found, it is stored;
- else it failed for good as SUSPECT, and stays out of training.

Of labelers that cannot start from another guess (in-process ones, unless they say `can_guess = True`) nothing is
suspect, and what is not physics fails at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from alfw.core.frame import Float, Frame
from alfw.core.protocols import Labeler
from alfw.core.records import Label
from alfw.io.shards import unpack
from alfw.steps.context import Context

FEW_LABELS, MANY_LABELS = 4, 20
WIDE_eV, NARROW_eV, SIGMAS = 10.0, 1.0, 20.0  # the first two per atom
REFERENCES, QUANTILE, TIMES = 10, 0.75, 6.0
FLOOR_eV, FLOOR_eV_PER_A = 0.1, 0.5  # smaller residuals are never suspect
SAME_eV, SAME_eV_PER_A = 1e-3, 1e-2  # two calculations that ended in the same state


@dataclass(frozen=True)
class Residual:
    """How far one label is off what an ensemble said.

    Attributes
    ----------
    composition : str
    n_atoms : int
    energy : float, eV
        Label less mean of the members.
    force : float, eV/Å
        The largest |F_label − mean F| of an atom that may move.
    force_std : float or None, eV/Å
        None of an ensemble of one.
    trajectory : str or None
        Where the frame is from.
    confirmed : bool
        Whether the label was suspect, and another calculation said the same.
    """

    composition: str
    n_atoms: int
    energy: float
    force: float
    force_std: float | None
    trajectory: str | None = None
    confirmed: bool = False

    def as_row(self) -> dict[str, Any]:
        """JSON data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Expected:
    """What an ensemble said of a frame: mean energy (eV), mean forces (n, 3) eV/Å, force_std (eV/Å); its trajectory."""

    energy: float
    forces: Float
    force_std: float
    trajectory: str | None = None


@dataclass(frozen=True)
class Doubt:
    """Why a label is not believed; `absurd`: whatever another calculation says."""

    text: str
    absurd: bool = False


def composition(frame: Frame) -> str:
    """Text that is the same for frames whose energies can be compared, e.g. ``H6C2O +0 1``."""
    return f"{frame.formula} {frame.charge:+d} {frame.multiplicity}"


def can_guess(labeler: Labeler) -> bool:
    """Whether the labeler can start an SCF from another first guess."""
    return bool(getattr(labeler, "can_guess", not labeler.in_process))


def residual(frame: Frame, label: Label, expected: Expected) -> Residual:
    """How far a label is off what was expected of its frame."""
    force = np.linalg.norm(label.forces - expected.forces, axis=1)[frame.free].max(initial=0.0)
    std = float(expected.force_std) if np.isfinite(expected.force_std) else None
    return Residual(
        composition(frame),
        len(frame),
        label.energy - float(expected.energy),
        float(force),
        std,
        expected.trajectory,
        label.confirmed,
    )


@dataclass(frozen=True)
class Window:
    """Where the energies (eV) of one composition lie, by those of its labels so far.

    Attributes
    ----------
    labels : int
    median : float
    narrow, wide : float
        Half-widths; infinite where too little is known.
    """

    labels: int
    median: float
    narrow: float
    wide: float

    @classmethod
    def of(cls, energies: Sequence[float], n_atoms: int) -> Window:
        """The window of a composition of n atoms."""
        if len(energies) < FEW_LABELS:
            return cls(len(energies), 0.0, np.inf, np.inf)
        known = np.asarray(energies)
        median = float(np.median(known))
        sigmas = SIGMAS * 1.4826 * float(np.median(np.abs(known - median)))
        wide, narrow = (max(per_atom * n_atoms, sigmas) for per_atom in (WIDE_eV, NARROW_eV))
        return cls(len(energies), median, narrow if len(energies) >= MANY_LABELS else wide, wide)

    def doubt(self, energy: float) -> Doubt | None:
        """Why not to believe an energy; None where it is inside."""
        off = abs(energy - self.median)
        if off <= self.narrow:
            return None
        limit = self.wide if off > self.wide else self.narrow
        what = f"energy {energy:.6g} eV is {off:.4g} eV off the median of {self.labels} labels of this composition"
        return Doubt(f"{what}, more than {limit:.4g} eV", absurd=off > self.wide)


def strange(mine: Residual, others: Sequence[Residual]) -> str | None:
    """In words what is far off in a label, compared with other residuals of the ensemble; None when nothing is."""
    if len(others) < REFERENCES:
        return None
    stds = np.array([_or_one(other.force_std) for other in others])
    floor = 0.25 * float(np.median(stds))  # members may agree by chance
    scale, my_scale = np.maximum(stds, floor), max(_or_one(mine.force_std), floor)
    same = [other for other in others if other.composition == mine.composition]
    known = same if len(same) >= REFERENCES // 2 else others
    offset, root = float(np.median([one.energy / one.n_atoms for one in known])), np.sqrt(mine.n_atoms)
    walk = [other for other in same if other.trajectory and other.trajectory == mine.trajectory]
    centres = [offset * mine.n_atoms, *(one.energy for one in same if one.confirmed or one in walk)]

    def usual(values: Sequence[float]) -> float:
        upper = float(np.quantile(values, QUANTILE))
        return max(upper, my_scale * float(np.quantile(np.array(values) / scale, QUANTILE)))

    energies = [abs(one.energy - offset * one.n_atoms) / np.sqrt(one.n_atoms) for one in others]
    energy = min(abs(mine.energy - centre) for centre in centres)
    expected = float(root) * usual(energies)
    if energy > max(TIMES * expected, FLOOR_eV):
        return f"energy is {energy:.3g} eV off what was expected, usual is {expected:.2g} eV"
    expected = max([usual([one.force for one in others]), *(one.force for one in walk)])
    if mine.force > max(TIMES * expected, FLOOR_eV_PER_A):
        return f"a force is {mine.force:.3g} eV/Å off what was expected, usual is {expected:.2g} eV/Å"
    return None


def _or_one(value: float | None) -> float:
    return 1.0 if value is None or not np.isfinite(value) else value


def same_state(one: Label, other: Label) -> bool:
    """Whether two calculations of a frame ended in the same electronic state."""
    energy, force = abs(one.energy - other.energy), float(np.abs(one.forces - other.forces).max())
    return energy <= SAME_eV and force <= SAME_eV_PER_A


class Expectations:
    """What is known beforehand of the labels of a round; read when the first is judged."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._asks = can_guess(ctx.plugins.labeler)
        self._energies: dict[str, list[float]] = {}

    @cached_property
    def _expected(self) -> dict[str, Expected]:
        """What the ensemble said of each frame selected in this round; nothing where nobody asks."""
        asks = self._asks and self._ctx.round > 0
        blob = self._ctx.result("select")["outputs"].get("predictions") if asks else None
        if blob is None:
            return {}
        frames, arrays = unpack(self._ctx.store.get_blob(blob))
        forces = np.split(arrays["atoms_forces"], np.cumsum([len(frame) for frame in frames])[:-1])
        rows = self._ctx.get_json(self._ctx.result("select")["outputs"]["candidates"])
        trajectory = {row["frame"]: row["trajectory"] for row in rows}
        return {
            frame.id: Expected(arrays["energy"][i], forces[i], arrays["force_std"][i], trajectory[frame.id])
            for i, frame in enumerate(frames)
        }

    @cached_property
    def _measured(self) -> list[Residual]:
        """Residuals of the same ensemble on the valid and test labels of the round before."""
        blob = self._ctx.result("evaluate", round=self._ctx.round - 1)["outputs"].get("residuals")
        return [] if blob is None else [Residual(**row) for row in self._ctx.get_json(blob)]

    def doubts(self, frames: Mapping[str, Frame], labels: Mapping[str, Label]) -> dict[str, Doubt]:
        """Why not to believe them, by frame id, of those of these labels that are not to be believed."""
        found = self._off(frames, labels)
        asked = {i: residual(frames[i], labels[i], self._expected[i]) for i in labels if i in self._expected}
        asked = {i: one for i, one in asked.items() if i not in found}
        if asked:
            others = self._measured + self._stored(set(labels))
            for i, one in asked.items():  # those that are believed speak for the next ones
                text = strange(one, others)
                if text:
                    found[i] = Doubt(text)
                else:
                    others.append(one)
        return found

    def _stored(self, without: set[str]) -> list[Residual]:
        """Residuals of the labels of this round that are stored already."""
        ids = [i for i in self._expected if i not in without]
        labels = self._ctx.store.get_labels(ids, self._ctx.plugins.labeler.theory().id)
        frames = self._ctx.store.get_frames(list(labels))
        return [residual(f, labels[f.id][1], self._expected[f.id]) for f in frames]

    def _off(self, frames: Mapping[str, Frame], labels: Mapping[str, Label]) -> dict[str, Doubt]:
        """Labels outside the window of their composition."""
        groups: dict[str, list[str]] = {}
        for i in labels:
            groups.setdefault(composition(frames[i]), []).append(i)
        found: dict[str, Doubt] = {}
        for name, ids in groups.items():
            known = self._known(name)
            window = Window.of(known + [labels[i].energy for i in ids], len(frames[ids[0]]))
            doubts = {i: window.doubt(labels[i].energy) for i in ids}
            found |= {i: doubt for i, doubt in doubts.items() if doubt and (doubt.absurd or self._asks)}
            known += [labels[i].energy for i in ids if i not in found]
        return found

    def _known(self, name: str) -> list[float]:
        """Energies of the labels of a composition: the stored ones, and those believed since."""
        if name not in self._energies:
            theory = self._ctx.plugins.labeler.theory().id
            self._energies[name] = self._ctx.store.label_energies(theory, name)
        return self._energies[name]
