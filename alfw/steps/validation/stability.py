"""Stability: how long molecular dynamics on the model lasts, and how sure one can be of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import SamplingError
from alfw.core.frame import Frame
from alfw.core.metrics import as_json
from alfw.core.protocols import JaxPotential, Potential
from alfw.core.records import Labeled, Resources
from alfw.core.registry import plugin_class
from alfw.core.survival import kaplan_meier, poisson_bounds
from alfw.io.imported import Imported
from alfw.samplers.jaxmd import JaxMDSampler
from alfw.steps.validation.bonds import pieces
from alfw.steps.validation.langevin import Stop, walk

# What an ensemble is unsure of is no failure.
UNSURE = {"force_std_eV_per_A", "energy_std_eV_per_atom"}
# How often at most a walker is looked at for having fallen into pieces.
LOOKS = 500
LEVEL = 0.95


@dataclass(frozen=True)
class Stability:
    """Runs of many walkers at each of some temperatures, until they fail or the time is over.

    A walker fails when it passes a limit of the jaxmd sampler (`alfw.samplers.jaxmd.MDLimits`: force, speed, distance,
    growth, numbers that are not finite), when a calculator fails, or when it comes apart for good: into more pieces
    than it started with. An atom that goes from one neighbour to another, as a proton does, breaks nothing, and what
    the ensemble is unsure of is no failure. Member ``seed % members`` drives, by jax-md where it can, else by ASE with
    the same limits.

    Attributes
    ----------
    temperatures_K : tuple of float
        High ones tell models apart (1000 K); at 300 K nearly every model is stable.
    walkers : int
        At each temperature; walker w starts from ``starts[w % len(starts)]``, the same at all of them.
    time_ps, dt_fs, friction_per_ps : float
    limits : mapping
        Values of `MDLimits` other than its own.
    """

    temperatures_K: tuple[float, ...] = (300.0,)
    walkers: int = 16
    time_ps: float = 10.0
    dt_fs: float = 0.5
    friction_per_ps: float = 5.0
    limits: Mapping[str, float] = field(default_factory=dict)

    def run(
        self,
        potential: Potential,
        starts: Sequence[Frame],
        seed: int,
        workdir: Path = Path(),
        resources: Resources = Resources(),  # noqa: B008  (frozen)
        progress: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """How long the walkers last.

        Returns
        -------
        dict
            JSON data. `engine` ("jax-md", "ase"), `driver` (member), `time_ps`, `dt_fs`, `friction_per_ps`, `limits`,
            `looked_for_pieces_every_fs`, `seed`, `level` of all intervals; and `temperatures`, one each:
            `temperature_K`, `n_walkers`, `n_failed`, `causes` {cause: count}; `median_ps` until failure (Kaplan–Meier;
            None: more than half lasted) with `median_interval_ps`, and `median_text` ("> 10 ps");
            `simulated_ps` of all walkers, `failures_per_ns` and its exact one-sided upper bound
            `failures_per_ns_upper` (as if the rate did not change with time); `survival`: lists `time_ps`, `at_risk`,
            `survival`, `std_error`, `lower`, `upper` (None where nothing survives); `walkers`: `start`, `time_ps`,
            `cause` (None: lasted).

        Raises
        ------
        SamplingError
            No starts, or an element that the potential does not know.
        PluginError
            jax-md is not installed.
        """
        if not starts:
            raise SamplingError("stability: no frame to start from")
        sampler = self._sampler()
        turns = [starts[w % len(starts)] for _ in self.temperatures_K for w in range(self.walkers)]
        if isinstance(potential, JaxPotential):
            stops = _by_jaxmd(sampler, potential, turns, seed, workdir, resources, progress)
        else:
            stops = _by_ase(sampler, potential, turns, seed, progress)
        limits = sampler.limits.model_dump(exclude=UNSURE)
        lasting = sampler.n_steps * self.dt_fs / 1000
        found = {
            "engine": "jax-md" if isinstance(potential, JaxPotential) else "ase",
            "driver": seed % potential.members,
            "time_ps": lasting,
            **{"dt_fs": self.dt_fs, "friction_per_ps": self.friction_per_ps, "limits": limits},
            "looked_for_pieces_every_fs": sampler.keep_every * self.dt_fs,
            **{"seed": seed, "level": LEVEL},
        }
        rows = []
        for t, kelvin in enumerate(self.temperatures_K):
            own = stops[t * self.walkers : (t + 1) * self.walkers]
            entries = [
                {"start": w % len(starts), "time_ps": stop.time_fs / 1000, "cause": stop.cause}
                for w, stop in enumerate(own)
            ]
            rows.append({"temperature_K": kelvin, **lifetimes(own, lasting), "walkers": entries})
        result: dict[str, Any] = as_json({**found, "temperatures": rows})
        return result

    def _sampler(self) -> JaxMDSampler:
        """The sampler of these runs; its limits hold whoever drives."""
        n_steps = max(1, round(1000 * self.time_ps / self.dt_fs))
        found: JaxMDSampler = plugin_class("alfw.samplers", "jaxmd")(
            temperatures_K=self.temperatures_K,
            walkers=self.walkers * len(self.temperatures_K),
            n_steps=n_steps,
            keep_every=max(1, n_steps // LOOKS),
            dt_fs=self.dt_fs,
            friction_per_ps=self.friction_per_ps,
            limits={**self.limits, **dict.fromkeys(UNSURE)},
        )
        return found


def _by_jaxmd(
    sampler: JaxMDSampler,
    potential: Potential,
    turns: Sequence[Frame],
    seed: int,
    workdir: Path,
    resources: Resources,
    progress: Callable[[str], None] | None,
) -> list[Stop]:
    """When and why each walker stopped."""
    seen = sampler.run(potential, turns, seed, workdir, resources, progress)
    end = Stop(sampler.n_steps * sampler.dt_fs, None)
    stopped = {event.walker: Stop(event.time_fs, event.reason) for event in seen.events}
    kept: list[list[Frame]] = [[] for _ in turns]
    for frame, w in zip(seen.frames, seen.walker.tolist(), strict=True):
        kept[w].append(frame)
    return [in_one_piece(sampler, start, stopped.get(w, end), kept[w]) for w, start in enumerate(turns)]


def _by_ase(
    sampler: JaxMDSampler,
    potential: Potential,
    turns: Sequence[Frame],
    seed: int,
    progress: Callable[[str], None] | None,
) -> list[Stop]:
    """The same, one walker after the other."""
    each = len(turns) // len(sampler.temperatures_K)
    stops = []
    for w, start in enumerate(turns):
        stop, kept = walk(sampler, potential, start, sampler.temperatures_K[w // each], seed, w)
        stops.append(in_one_piece(sampler, start, stop, kept))
        if progress is not None:
            progress(f"MD walker {w + 1}/{len(turns)}: {stops[-1].cause or 'lasted'}")
    return stops


def in_one_piece(sampler: JaxMDSampler, start: Frame, stop: Stop, kept: Sequence[Frame]) -> Stop:
    """`stop`, or the earlier one at the frame from which on all `kept` frames are in more pieces than the start."""
    whole, apart = pieces(start), len(kept)
    while apart > 0 and pieces(kept[apart - 1]) > whole:
        apart -= 1
    if apart == len(kept):
        return stop
    return Stop((apart + 1) * sampler.keep_every * sampler.dt_fs, "pieces")


def lifetimes(stops: Sequence[Stop], time_ps: float) -> dict[str, Any]:
    """Survival of some walkers, see `Stability.run`; `time_ps` is how long they could last."""
    lasted = np.array([stop.time_fs / 1000 for stop in stops])
    failed = np.array([stop.cause is not None for stop in stops])
    curve = kaplan_meier(lasted, failed, LEVEL)
    simulated, n = float(lasted.sum()), int(failed.sum())
    per_ns = 1000 / simulated if simulated else float("inf")
    return {
        "n_walkers": len(stops),
        "n_failed": n,
        "causes": dict(sorted(Counter(stop.cause for stop in stops if stop.cause is not None).items())),
        "median_ps": curve.median,
        "median_interval_ps": list(curve.median_interval),
        "median_text": f"> {time_ps:g} ps" if curve.median is None else f"{curve.median:.3g} ps",
        "simulated_ps": simulated,
        "failures_per_ns": n * per_ns if n else 0.0,
        "failures_per_ns_upper": poisson_bounds(n, LEVEL)[1] * per_ns,
        "survival": {
            "time_ps": curve.time,
            **{key: getattr(curve, key) for key in ("at_risk", "survival", "std_error", "lower", "upper")},
        },
    }


def calm_starts(items: Sequence[Labeled | Imported], seed: int, most: int = 64) -> list[Frame]:
    """Labelled frames to start from, in random order, each once; the tenth with the largest forces left out.

    A walker should start from a state that may well last. Where nothing is labelled, any of the frames.
    """
    known = {i.frame.id: (i.frame, i.label) for i in items if i.label is not None}
    if not known:
        frames = list({item.frame.id: item.frame for item in items}.values())
    else:
        largest = [float(np.linalg.norm(label.forces, axis=1).max()) for _, label in known.values()]
        limit = float(np.quantile(largest, 0.9))
        frames = [frame for (frame, _), force in zip(known.values(), largest, strict=True) if force <= limit]
    order = np.random.default_rng(seed).permutation(len(frames))
    return [frames[i] for i in order[:most]]
