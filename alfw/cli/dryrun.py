"""`alfw check --dry-run`: one frame through every back-end, without a database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from alfw.cli.output import say
from alfw.cli.work import this_fworker
from alfw.config import CampaignConfig
from alfw.core.exploration import Pool
from alfw.core.protocols import label
from alfw.core.records import Labeled, TrainingData
from alfw.steps.screen import screened
from alfw.steps.start import Import


def dry_run(config: CampaignConfig, data: Import) -> dict[str, Any]:
    """What one frame gave: label, a model trained on it, exploration with that, selection from that."""
    plugins = config.plugins(this_fworker().env)
    resources = config.file.resources
    frame = next(entry.frame for entry in data.entries if entry.side == "train")
    with tempfile.TemporaryDirectory(prefix="alfw_") as name:
        folder = Path(name)
        for part in ("label", "train", "sample"):
            os.mkdir(folder / part)
        say(f"labelling one frame with {plugins.labeler.kind}")
        found = label(plugins.labeler, frame, folder / "label", resources.label.resources())
        if plugins.prescreen is not None:
            say(f"labelling it with {plugins.prescreen.kind}, the pre-screen")
            os.mkdir(folder / "prescreen")
            label(plugins.prescreen, frame, folder / "prescreen", resources.control.resources())
        training = TrainingData([Labeled(frame, found)])
        named = getattr(plugins.model, "start_from", None)
        start = None if named is None else Path(named)
        training = TrainingData(training.train, (), plugins.model.statistics(training, start))
        say(f"training one member of {plugins.model.kind} on it")
        weights = plugins.model.train(training, 1, start, folder / "train", resources.train.resources())
        potential = plugins.model.load([weights] * plugins.model.members)  # as many as limits may ask for
        say(f"exploring with {plugins.samplers[0].kind}")
        seen = plugins.samplers[0].run(potential, [frame], 1, folder / "sample", resources.sample.resources())
        frames = seen.frames[:20] or [frame]
        std, force = screened(frames, potential.predict(frames))
        chosen = plugins.selector.select(Pool(frames, std, force, [frame]), limit=1, seed=1)
    return {
        "energy_eV": found.energy,
        "label_wall_s": round(found.wall_s, 3),
        "corrections": len(found.corrections),
        "explored_frames": len(seen.frames),
        "events": len(seen.events),
        "selected": len(chosen.chosen),
    }
