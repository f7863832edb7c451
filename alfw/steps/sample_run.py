"""What is to be explored, from files: a model, a sampler, frames to start from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from alfw.config.messages import one_line
from alfw.core.errors import ConfigError, PluginError
from alfw.core.frame import Frame
from alfw.core.protocols import Potential, Sampler
from alfw.core.records import Resources
from alfw.core.registry import plugin_class
from alfw.core.spectrum import Spectrum
from alfw.io.frames import expand_paths, read_frames
from alfw.io.trajectory_npz import Track
from alfw.models.ensemble import ENSEMBLE, load_models
from alfw.steps.md_spectrum import Infrared

MANY_FRAMES = 200_000  # from here on their user is told what they take
FRAME_kB, ATOM_kB = 2.0, 0.1  # memory of a frame and of each of its atoms, measured


@dataclass(frozen=True, eq=False)
class Run:
    """What is to be explored, and what is wanted of it.

    Attributes
    ----------
    potential : Potential
    sampler : Sampler
    starts : sequence of Frame
    seed : int
    resources : Resources
    infrared : Infrared or None
        The spectrum that is wanted.
    pool : {"extxyz", "npz", ""}
        Format of the frames kept; "" = not written beside the trajectories.
    trajectory : {"traj", "extxyz", ""}
        Format for ASE in which trajectories are written beside the NPZ.
    plot : str
        Name of the picture.
    events : Path or None
        Folder of the event files; None: ``active_learning`` in that of the results.
    save_events : bool
        Whether they are written.
    beside : callable
        Further files by name, given the trajectories.
    about : mapping
        JSON data for the summary: where the model and the structures are from.
    """

    potential: Potential
    sampler: Sampler
    starts: Sequence[Frame]
    seed: int = 0
    resources: Resources = field(default_factory=Resources)
    infrared: Infrared | None = None
    pool: Literal["extxyz", "npz", ""] = "extxyz"
    trajectory: Literal["traj", "extxyz", ""] = ""
    plot: str = "results.png"
    events: Path | None = None
    save_events: bool = True
    beside: Callable[[Sequence[Track]], Mapping[str, bytes]] = lambda tracks: {}
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def interval_fs(self) -> float:
        """Time between two frames kept; NaN without dynamics."""
        return getattr(self.sampler, "keep_every", np.nan) * getattr(self.sampler, "dt_fs", np.nan)

    @property
    def n_kept(self) -> int:
        """Frames that are kept at most; 0 without dynamics."""
        options: Any = self.sampler
        if not hasattr(options, "keep_every"):
            return 0
        steps = options.n_steps - getattr(options, "equilibration_steps", 0)
        return int(getattr(options, "walkers", 1) * (steps // options.keep_every))

    @property
    def friction_per_ps(self) -> float | None:
        """Of Langevin dynamics."""
        thermostat = getattr(self.sampler, "thermostat", "langevin")
        damped = getattr(self.sampler, "ensemble", "nve") != "nve" and thermostat == "langevin"
        return getattr(self.sampler, "friction_per_ps", None) if damped else None

    def warnings(self, found: Spectrum | None = None) -> list[str]:
        """What the user should know, before the run and, with the spectrum found, after it; one line each."""
        lines = []
        if self.n_kept > MANY_FRAMES:
            size = self.n_kept * (FRAME_kB + ATOM_kB * len(self.starts[0])) / 1e6
            lines.append(
                f"{self.n_kept} frames are kept in memory until the end, about {size:.1f} GB: a larger keep_every, or"
                " several runs with seeds of their own, need less"
            )
        if self.infrared is not None:
            lines += self.infrared.warnings(self.interval_fs, self.friction_per_ps, found)
        return lines


def make_sampler(options: Mapping[str, Any]) -> Sampler:
    """The sampler of these options, as in campaign.yaml.

    Raises
    ------
    ConfigError
        In one line: unknown kind, unknown or wrong option.
    """
    kind = str(options.get("kind"))
    try:
        cls = plugin_class("alfw.samplers", kind)
        sampler: Sampler = cls.model_validate(options)
    except PluginError as error:
        raise ConfigError(str(error)) from None
    except ValidationError as error:
        raise ConfigError(one_line(error, cls, kind)) from None
    return sampler


def from_files(
    models: Sequence[Path],
    sampler: Sampler,
    structures: Sequence[str],
    charge: int = 0,
    multiplicity: int = 1,
    partial_pbc: Literal["vacuum"] | None = None,
    **more: Any,
) -> Run:
    """A run with the model in these files, from the frames in those.

    Parameters
    ----------
    more
        Fields of `Run`.

    Raises
    ------
    DataError, TrainingError, PluginError
        Frames that cannot be read, a model that cannot be loaded (a pickle: the message has the command for it).
    """
    starts = [
        item.frame
        for path in expand_paths(structures)
        for item in read_frames(path, charge, multiplicity, partial_pbc)
    ]
    potential = load_models(models)
    about = {
        "model": model_id(models),
        "models": [str(path) for path in models],
        "structures": list(structures),
    }
    return Run(potential, sampler, starts, about=about, **more)


def model_id(paths: Sequence[Path]) -> str:
    """SHA-256 of what stands for an ensemble: its ``ensemble.json``, which has those of its members, or the files."""
    digest = hashlib.sha256()
    for path in paths:
        index = path / ENSEMBLE
        files = [path] if path.is_file() else [index] if index.is_file() else sorted(path.glob("*"))
        for file in files:
            digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()
