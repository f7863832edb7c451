"""A cheap labeler's look at frames before costly labels: what is unphysical to it is not worth one.

A frame is rejected where the cheap calculation fails, where a cheap force is above ``max_force_eV_per_A``, or where the
cheap energy is farther than ``energy_window_eV_per_atom`` from the median of the cheap energies of labelled frames of
its composition (up to `REFERENCES` of them, spread evenly; fewer than `FEW` say nothing). What else goes wrong (no
program, no licence, disk full, out of time) is the worker's trouble, and is raised. Cheap labels are not stored as
labels; energies of labelled frames go with the result of the stage, so that later rounds do not compute them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import LabelError, StoreError
from alfw.core.frame import Frame
from alfw.core.protocols import label
from alfw.core.records import Label
from alfw.steps.context import Context
from alfw.steps.suspect import composition

REFERENCES, FEW = 30, 4
WORKERS_TROUBLE = ("OUT_OF_DISK", "OUT_OF_MEMORY", "WALLTIME", "NODE_LOST")


class PreScreen:
    """The pre-screen of one selection.

    Parameters
    ----------
    labelled : sequence of Frames
        Their cheap energies are what others are compared with.
    """

    def __init__(self, ctx: Context, labelled: Sequence[Frame]) -> None:
        labeler, options = ctx.at_work("select").prescreen, ctx.config.select.prescreen
        if labeler is None or options is None:
            raise StoreError(f"campaign {ctx.campaign} has no select.prescreen")
        self._ctx, self._labeler, self._options = ctx, labeler, options
        self._groups: dict[str, list[Frame]] = {}
        for frame in labelled:
            self._groups.setdefault(composition(frame), []).append(frame)
        self._energies = _known_energies(ctx, labeler.theory().id)
        self._medians: dict[str, float | None] = {}

    def objection(self, frame: Frame) -> str | None:
        """Why not to label a frame, as it is counted: "prescreen: force", "prescreen: energy", "prescreen: SCF_…"."""
        try:
            cheap = self._label(frame)
        except LabelError as error:
            return f"prescreen: {_told(error)}"
        limit, window = self._options.max_force_eV_per_A, self._options.energy_window_eV_per_atom
        force = np.linalg.norm(cheap.forces, axis=1)[frame.free].max(initial=0.0)
        if limit is not None and not force <= limit:
            return "prescreen: force"
        median = None if window is None else self._median(composition(frame))
        if window is None or median is None:
            return None
        return None if abs(cheap.energy - median) <= window * len(frame) else "prescreen: energy"

    def record(self) -> dict[str, Any]:
        """Cheap energies (eV) of labelled frames by frame id (JSON data), for the result of the stage."""
        return {"theory": self._labeler.theory().id, "energies": self._energies}

    def _label(self, frame: Frame) -> Label:
        workdir: Path = self._ctx.workdir / "prescreen" / frame.id[:16]
        workdir.mkdir(parents=True, exist_ok=True)
        return label(self._labeler, frame, workdir, self._ctx.resources("select").resources())

    def _median(self, name: str) -> float | None:
        """Median of the cheap energies (eV) of labelled frames of a composition; None where too few are known."""
        if name not in self._medians:
            frames = self._groups.get(name, [])
            chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, REFERENCES).astype(int))]
            values = [e for e in map(self._energy, chosen if frames else []) if e is not None]
            self._medians[name] = float(np.median(values)) if len(values) >= FEW else None
        return self._medians[name]

    def _energy(self, frame: Frame) -> float | None:
        """The cheap energy of a labelled frame; None where it cannot be had."""
        if frame.id not in self._energies:
            try:
                self._energies[frame.id] = float(self._label(frame).energy)
            except LabelError as error:
                _told(error)
                self._energies[frame.id] = None
        return self._energies[frame.id]


def _told(error: LabelError) -> str:
    """The class of a failure that says something of the frame; all others are raised again."""
    if error.policy == "pause" or error.failure_class in WORKERS_TROUBLE:
        raise error
    return error.failure_class


def _known_energies(ctx: Context, theory: str) -> dict[str, float | None]:
    """Cheap energies that the newest selection before left, where it had the same cheap labeler."""
    for number in range(ctx.round - 1, 0, -1):
        chosen = ctx.store.get_result(ctx.campaign, number, "select")
        blob = chosen["outputs"].get("prescreen") if chosen else None
        if blob is not None:
            left: Mapping[str, Any] = ctx.get_json(blob)
            return dict(left["energies"]) if left["theory"] == theory else {}
    return {}
