"""Exploration from files into a folder, without a database: the folder appears complete or not at all.

Everything that is kept is held in memory until the end (frames, velocities), and a run that is killed leaves nothing: a
very long one is better split in several with seeds of their own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from alfw import __version__
from alfw.core.errors import ConfigError, PluginError
from alfw.core.exploration import Exploration
from alfw.core.metrics import as_json
from alfw.core.registry import private
from alfw.core.spectrum import Spectrum
from alfw.io.ase_trajectory import write_ase
from alfw.io.files import replacing, write_file
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.io.shards import pack
from alfw.io.trajectory_npz import Track, write_trajectory
from alfw.steps.events import save_events
from alfw.steps.md_report import energy_drift, mean_temperature, stability
from alfw.steps.md_spectrum import NAME, long_enough, save_spectra
from alfw.steps.md_tracks import Dynamics, tracks
from alfw.steps.sample_run import Run

SUMMARY, EVENTS = "summary.json", "active_learning"
Tell = Callable[[str], None]
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Explored:
    """What came of a run: what the sampler saw, trajectories and spectra by name, and the summary as JSON data."""

    seen: Exploration
    tracks: Sequence[Track]
    spectra: Mapping[str, Spectrum]
    summary: dict[str, Any]


def check_folder(folder: Path, force: bool) -> None:
    """Refuse a folder that has something in it, unless it is a run that may be replaced.

    Raises
    ------
    ConfigError
        What is there, and what to do.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / SUMMARY).is_file():
        raise ConfigError(f"{folder}: has files that are not of such a run: choose another folder")
    if not force:
        raise ConfigError(f"{folder}: has a run already: --force replaces it, or choose another folder")


def sample_files(run: Run, folder: Path, force: bool = False, tell: Tell | None = None) -> Explored:
    """Explore, and write the results into `folder`.

    ``pool.extxyz`` (or ``.npz``: a shard), ``summary.json``, ``active_learning/`` with a file an event; of dynamics
    ``trajectory.npz``, of several walkers ``trajectory_0000.npz`` …, and a picture; with a spectrum
    ``ir_spectrum_md.npz``, ``.csv`` and ``.png``.

    Raises
    ------
    ConfigError
        The folder has something in it, or a spectrum is asked for that there cannot be.
    SamplingError, PluginError, TrainingError
        From sampler and potential.
    """
    check_folder(folder, force)
    found = explore(run, tell)
    with replacing(folder) as temporary:
        write_results(run, found, temporary)
    return found


def explore(run: Run, tell: Tell | None = None) -> Explored:
    """What `sample_files` writes."""
    if run.infrared is not None:
        if not isinstance(run.sampler, Dynamics):
            raise ConfigError(f"--ir: sampler {run.sampler.kind!r} has no time: --sampler jaxmd has")
        run.infrared.check(run.potential, run.starts)
    begun = perf_counter()
    with tempfile.TemporaryDirectory(prefix="alfw_sample_") as work:
        seen = run.sampler.run(run.potential, run.starts, run.seed, Path(work), run.resources, tell)
    followed: list[Track] = []
    numbers: dict[str, Any] = {"n_frames": len(seen.frames)}
    if isinstance(run.sampler, Dynamics):
        followed = tracks(seen, run.potential, run.sampler.dt_fs, tell)
        numbers = stability(seen, followed, run.sampler.n_steps, run.sampler.dt_fs)
    if getattr(run.sampler, "ensemble", "") == "nve":
        numbers |= energy_drift(followed)
    spectra = run.infrared.spectra(followed, run.interval_fs) if run.infrared is not None else {}
    options: Any = run.sampler
    about = {
        **{"format": FORMAT, "alfw": __version__, **run.about, "members": run.potential.members},
        **{"sampler": options.model_dump(mode="json"), "seed": run.seed, "starts": len(run.starts)},
        "formulas": sorted({frame.formula for frame in run.starts}),
        "counters": dict(seen.counters),
        **{"n_events": len(seen.events), "wall_s": perf_counter() - begun},
    }
    return Explored(seen, followed, spectra, as_json({**about, **numbers}))


def write_results(run: Run, found: Explored, folder: Path) -> None:
    """Write all files; the summary gets their names, and what the spectrum says."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_pool(run, found.seen, folder)
    names = ["trajectory"] if len(found.tracks) == 1 else [f"trajectory_{t.walker:04d}" for t in found.tracks]
    for name, track in zip(names, found.tracks, strict=True):
        write_trajectory(folder / f"{name}.npz", track)
        if run.trajectory:
            write_ase(folder / f"{name}.{run.trajectory}", track)
    for name, content in run.beside(found.tracks).items():
        write_file(folder / name, content)
    if run.save_events:
        save_events(run.events or folder / EVENTS, found.seen.events, run.potential, about_events(run))
    if found.spectra and run.infrared is not None:
        kelvin = mean_temperature(long_enough(found.tracks))
        found.summary["infrared"] = as_json(save_spectra(folder, found.spectra, run.infrared, kelvin))
    found.summary["notes"] = run.warnings(next(iter(found.spectra.values()), None))
    if run.infrared is not None and not found.spectra:
        found.summary["notes"].append("infrared spectrum: none, the run ended too soon")
    _draw(run, found, folder)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    found.summary["files"] = sorted([*files, SUMMARY])
    write_file(folder / SUMMARY, (json.dumps(found.summary, indent=1) + "\n").encode())


def about_events(run: Run) -> dict[str, Any]:
    """What event files say of the run beside what the event knows."""
    about = {
        "ensemble": getattr(run.sampler, "ensemble", ""),
        "timestep_fs": getattr(run.sampler, "dt_fs", None),
        "model": str(run.about.get("model", "")),
    }
    return {key: value for key, value in about.items() if value is not None}


def _write_pool(run: Run, seen: Exploration, folder: Path) -> None:
    if run.pool == "extxyz":
        rows = zip(seen.frames, seen.walker.tolist(), strict=True)
        write_extxyz(folder / "pool.extxyz", [Imported(frame, None, f"w{w}") for frame, w in rows])
    elif run.pool == "npz":
        columns = {name: np.asarray(getattr(seen, name)) for name in ("walker", "step", "time_fs")}
        write_file(folder / "pool.npz", pack(seen.frames, **columns))


def _draw(run: Run, found: Explored, folder: Path) -> None:
    """Pictures; a note where they cannot be drawn."""
    if not found.tracks:
        return
    try:
        plots = private("alfw.io._md_plots", "report")
    except PluginError as error:
        found.summary["notes"].append(f"no pictures: {error}")
        return
    limits: Any = getattr(run.sampler, "limits", None)
    title = f"{run.sampler.kind} {getattr(run.sampler, 'ensemble', '')}".strip()
    drawn = plots.course(found.tracks, title, getattr(limits, "max_force_eV_per_A", None))
    write_file(folder / run.plot, drawn)
    if found.spectra:
        write_file(folder / f"{NAME}.png", plots.spectra(found.spectra, "infrared spectrum from dynamics"))
