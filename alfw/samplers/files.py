"""Frames from files of the user: trajectories made elsewhere, conformers, structure collections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import Potential
from alfw.core.records import Resources
from alfw.io.frames import expand_paths, read_frames


class FilesSampler(BaseModel):
    """A pool read from files; the potential only judges it later.

    Attributes
    ----------
    paths : tuple of str
        Files in any format that ASE reads, folders and globs.
    stride : int
        Every stride-th frame of each file is taken, from the first one on.
    charge, multiplicity : int
        Of frames whose file does not say.
    partial_pbc : "vacuum" or None
        Make frames that are periodic in one or two directions fully periodic with vacuum; None refuses them.
    unbiased : bool
        Whether the files hold unbiased samples of the region of interest (plain MD), so that audit labels may be drawn
        from them. False by default: only the user can know.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["files"] = "files"
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    stride: PositiveInt = 1
    charge: int = 0
    multiplicity: PositiveInt = 1
    partial_pbc: Literal["vacuum"] | None = None
    unbiased: bool = False

    def reading(self, paths: Sequence[str]) -> Self:
        """The same sampler, reading these files instead."""
        return self.model_copy(update={"paths": tuple(paths)})

    def run(
        self,
        potential: Potential,
        starts: Sequence[Frame],
        seed: int,
        workdir: Path,
        resources: Resources,
        progress: Callable[[str], None] | None = None,
    ) -> Exploration:
        """The frames: walker = index of the file (sorted by path), step = index in the file; no time, no temperature.

        Raises
        ------
        DataError
            A path without files, or a file that cannot be read, has no frames, or one with NaN (named in the message).
        """
        paths = expand_paths(self.paths)
        frames: list[Frame] = []
        walker: list[int] = []
        step: list[int] = []
        for w, path in enumerate(paths):
            read = read_frames(path, self.charge, self.multiplicity, self.partial_pbc)[:: self.stride]
            frames += [item.frame for item in read]
            walker += [w] * len(read)
            step += range(0, len(read) * self.stride, self.stride)
            if progress is not None:
                progress(f"read {path.name}: {len(read)} frames")
        nothing = np.full(len(frames), np.nan)
        return Exploration(
            frames=frames,
            walker=np.array(walker, np.int64),
            step=np.array(step, np.int64),
            time_fs=nothing,
            temperature_K=nothing.copy(),
            counters={"n_files": len(paths), "n_walkers": len(paths), "n_steps": 0, "time_ps": 0.0},
            unbiased=self.unbiased,
        )
