"""An MD run in progress: walkers that move together, stop at limits, and may begin again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alfw.core.exploration import Event
from alfw.core.frame import Float, Frame
from alfw.core.protocols import Potential
from alfw.core.units import FS, KB_eV_PER_K
from alfw.samplers._ase_md_ensembles import CHAIN, Clock, Ensemble, Motion
from alfw.samplers._ase_md_forces import MEASURED, Said, Surface, Verdict, judged
from alfw.samplers._physical import Kept, extent, last_physical
from alfw.samplers._walkers import Displacement, Walkers, frame_at, ring_every, ring_size
from alfw.samplers.ase_md import ASEMDSampler

# Frames that nobody is asked about: faster than so many times the limit, cells so many times as long or short.
ABSURD, MOST_SCALE = 10.0, 3.0


class Simulation:
    """A run in progress.

    Attributes
    ----------
    step : int
        Steps done; -1 = not even the starts are judged. A walker that began again counts its own from `born` on.
    stops : list of Event
        Of walkers that stopped.
    lasted : {number: int}
        Steps of each walker; that in which it stopped was done, and counts.
    most : {name: float}
        The largest finite values of what was measured, see `Said.measured`.
    n_failed : int
        Predictions that failed for single walkers.
    """

    def __init__(
        self,
        options: ASEMDSampler,
        potential: Potential,
        walkers: Walkers,
        seed: int,
        starts: Sequence[Frame] = (),
    ) -> None:
        """`starts`: the frames from which stopped walkers may begin again."""
        self.options, self.potential, self.seed, self.starts = options, potential, seed, starts
        self.surface = Surface.of(potential, seed, stress=options.ensemble == "npt")
        self._take(walkers)
        n, atoms = len(walkers.starts), len(self.ensemble.owner)
        self.step, self.born = -1, np.zeros(n, np.int64)
        self.alive = np.ones(n, bool)
        self.now = Motion(np.zeros((atoms, 3)), np.zeros((atoms, 3)), np.zeros((n, 2, CHAIN)), np.ones(n))
        self.force, self.virial = np.zeros((atoms, 3)), np.zeros(n)
        self.noise = [np.random.default_rng(0)] * n
        self.ring: list[deque[tuple[Float, float]]] = [
            deque(maxlen=ring_size(options.dt_fs)) for _ in range(n)
        ]
        self.said: list[Said | None] = [None] * n
        self.most: dict[str, float] = dict.fromkeys(MEASURED, 0.0)
        self.n_failed = 0
        self.stops: list[Event] = []
        self.lasted: dict[int, int] = {}
        self._kept: list[tuple[Frame, int, int, float, float, NDArray[np.float32]]] = []
        self._begin(range(n))

    def _take(self, walkers: Walkers) -> None:
        """Let these be the walkers, in the places that they have."""
        self.walkers, self.slices = walkers, walkers.slices
        self.ensemble = Ensemble(self.options, walkers)
        self.extents = [extent(frame) for frame in walkers.starts]

    @property
    def n_alive(self) -> int:
        """Walkers that have passed no limit."""
        return int(self.alive.sum())

    def _begin(self, which: Sequence[int]) -> None:
        """Put the walkers in these places where they start, with new velocities."""
        limits = self.options.limits
        displaced = Displacement(self.options.perturb_A, limits.min_distance_fraction)
        momenta = self.walkers.momenta(self.seed)
        for w in which:
            start, part = self.walkers.starts[w], self.slices[w]
            rng = self.walkers.generator(self.seed, "displacements", w)
            self.now.position[part] = displaced.positions(start, rng)
            self.now.momentum[part] = momenta[part]
            self.now.chain[w], self.now.scale[w] = 0.0, 1.0
            self.force[part], self.virial[w] = 0.0, 0.0
            self.noise[w] = self.walkers.generator(self.seed, "noise", w)
            self.alive[w], self.born[w] = True, self.step + 1
            self.ring[w].clear()
            self.lasted[self.walkers.number(w)] = 0

    def advance(self) -> None:
        """One step of all walkers; those beyond a limit stand where they were, or begin again."""
        options, before = self.options, self.now.copy()
        own = self.step - self.born
        dt = np.where(self.alive & (own >= 0), options.dt_fs * FS, 0.0)
        clock = Clock(dt, KB_eV_PER_K * self.walkers.target_K((own + 1) / options.n_steps))
        with np.errstate(over="ignore", invalid="ignore"):  # what explodes is judged, not warned of
            self.ensemble.drift(clock, self.now, self.force, self.virial, self.noise)
            moved = self._moved(before)
            frames = self._frames(moved)
            answers = self._ask(frames)
            self.ensemble.kick(clock, self.now, self.force)
            verdicts = self._judged(frames, answers, moved)
        self.step += 1
        self._stop(verdicts, frames, before)
        for w in self._living():
            self.lasted[self.walkers.number(w)] = int(self.step - self.born[w])
            if self.step % ring_every(options.dt_fs) == 0:
                self.ring[w].append((self.now.position[self.slices[w]].copy(), self.now.scale[w]))
        again = [w for w in verdicts if self._may_begin_again(w)]
        if again:
            self._take(self.walkers.again(again, self.starts, self.seed))
            self._begin(again)

    def _living(self) -> list[int]:
        return [int(w) for w in np.flatnonzero(self.alive)]

    def _frames(self, moved: Float) -> dict[int, Frame]:
        """Where the walkers are that somebody can be asked about: not those that are out of all bounds."""
        return {w: self._frame(w) for w in self._living() if self._lost(w, moved) is None}

    def _lost(self, w: int, moved: Float) -> Verdict | None:
        """Why nobody is asked about the walker in place w; None = it is where somebody can be."""
        scale = self.now.scale[w]
        if not (np.isfinite(moved[w]) and np.isfinite(scale)):
            return Verdict("nan", float("nan"))
        if moved[w] > ABSURD * self.options.limits.max_speed_A_per_fs:
            return Verdict("speed", float(moved[w]))
        if not 1 / MOST_SCALE <= scale <= MOST_SCALE:
            return Verdict("growth", self._growth(w))
        return None

    def _growth(self, w: int) -> float:
        """Å: by how much the longest edge of the cell has grown."""
        lengths = np.linalg.norm(self.walkers.starts[w].cell, axis=1)
        return float((self.now.scale[w] - 1) * lengths.max())

    def _frame(self, w: int) -> Frame:
        """The walker in place w as it is now."""
        part = self.slices[w]
        return frame_at(self.walkers.starts[w], self.now.position[part], self.now.scale[w])

    def _moved(self, before: Motion) -> Float:
        """(R,) Å/fs: the largest displacement of an atom in this step; without that of the cell."""
        dilated = before.position * (self.now.scale / before.scale)[self.ensemble.owner][:, None]
        return self._largest(self.now.position - dilated) / self.options.dt_fs

    def _largest(self, vectors: Float) -> Float:
        """(R,): the largest norm of each walker's vectors (N, 3)."""
        return np.maximum.reduceat(np.linalg.norm(vectors, axis=1), [part.start for part in self.slices])

    def _ask(self, frames: Mapping[int, Frame]) -> dict[int, Said | None]:
        """What is said of each frame; what is finite drives the rest of the step."""
        limit = self.options.limits.force_std_eV_per_A
        due = limit is not None and (self.step + 1) % self.options.force_std_every == 0
        said = self.surface.ask(list(frames.values()), due, first=self.step < 0) if frames else []
        answers = dict(zip(frames, said, strict=True))
        for w, answer in answers.items():
            if answer is None:
                self.n_failed += 1
            elif answer.finite:
                self.force[self.slices[w]], self.virial[w] = answer.force, answer.virial
                self.said[w] = answer
                for name, value in answer.measured.items():
                    self.most[name] = max(self.most[name], value)
        return answers

    def _judged(
        self, frames: Mapping[int, Frame], answers: Mapping[int, Said | None], moved: Float
    ) -> dict[int, Verdict]:
        """What stops the walkers that are stopped after this step."""
        found: dict[int, Verdict | None] = {}
        speed = np.maximum(self._largest(self.now.momentum / self.ensemble.mass) * FS, moved)
        for w in self._living():
            if w in frames:
                periodic = self.walkers.starts[w].periodic
                growth = self._growth(w) if periodic else extent(frames[w]) - self.extents[w]
                found[w] = judged(self.options.limits, frames[w], answers[w], float(speed[w]), growth)
            else:
                found[w] = self._lost(w, moved)
        return {w: verdict for w, verdict in found.items() if verdict is not None}

    def _stop(self, verdicts: Mapping[int, Verdict], frames: Mapping[int, Frame], before: Motion) -> None:
        """Let walkers stand where they were before the step that took them beyond a limit."""
        for w, verdict in verdicts.items():
            part, number, step = self.slices[w], self.walkers.number(w), int(self.step - self.born[w])
            self.now.position[part], self.now.scale[w] = before.position[part], before.scale[w]
            self.now.momentum[part], self.now.chain[w] = before.momentum[part], before.chain[w]
            self.alive[w], self.lasted[number] = False, step
            self.stops.append(
                Event(
                    reason=verdict.reason,
                    walker=number,
                    step=step,
                    time_fs=step * self.options.dt_fs,
                    temperature_K=self._target_K(w),
                    good=self._last_physical(w),
                    bad=frames.get(w),
                    value=verdict.value,
                    velocities=self._velocities(w),
                )
            )

    def _last_physical(self, w: int) -> Frame:
        """The last physical frame of a walker that stopped: where it stands, in its ring, or its start."""
        start = self.walkers.starts[w]
        frames = [self._frame(w), *(frame_at(start, x, scale) for x, scale in reversed(self.ring[w]))]
        unique = list({frame.id: frame for frame in frames}.values())
        return last_physical(self.options.limits, self.potential, start, unique)

    def _target_K(self, w: int) -> float:
        """The thermostat's target of the walker in place w; NaN without one."""
        own = (self.step - self.born) / self.options.n_steps
        return float(self.walkers.target_K(own)[w]) if self.options.thermostatted else float("nan")

    def _velocities(self, w: int) -> Float:
        """(n, 3) Å/fs."""
        part = self.slices[w]
        return np.asarray(self.now.momentum[part] / self.ensemble.mass[part] * FS)

    def _may_begin_again(self, w: int) -> bool:
        """Whether the walker in place w, which stopped, begins again: as long as there is time for a step."""
        in_time = bool(self.starts) and self.step + 2 <= self.options.n_steps
        return in_time and int(self.walkers.lives[w]) < self.options.restarts

    def keep(self) -> None:
        """Keep the frames of the walkers that live and are past their equilibration."""
        for w in self._living():
            own, said = int(self.step - self.born[w]), self.said[w]
            if own > self.options.equilibration_steps and said is not None:
                number, velocities = self.walkers.number(w), self._velocities(w).astype(np.float32)
                one = (self._frame(w), number, own, self._target_K(w), said.max_force, velocities)
                self._kept.append(one)

    def all_kept(self) -> Kept:
        """The frames kept and what is known of them."""
        columns = zip(*self._kept, strict=True) if self._kept else [()] * 6
        frames, walker, step, target, force, velocities = map(list, columns)
        return Kept(
            frames=frames,
            walker=np.array(walker, np.int64),
            step=np.array(step, np.int64),
            time_fs=np.array(step, np.float64) * self.options.dt_fs,
            temperature_K=np.array(target, np.float64),
            max_force=np.array(force, np.float64),
            velocities=velocities,
        )
