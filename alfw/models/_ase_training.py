"""Training of one member by a command of the user."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from alfw.core.errors import TrainingError
from alfw.core.records import Labeled, Resources, TrainingData
from alfw.io.frames import write_extxyz
from alfw.io.imported import Imported
from alfw.models.statistics import check_elements, check_labels

if TYPE_CHECKING:
    from alfw.models.ase import ASEModel

MEMBER = "member.json"  # what stands for a member that has no weights of its own
TAIL = 3  # lines of a failed training that its error quotes


def train(
    model: ASEModel, data: TrainingData, seed: int, start: Path | None, workdir: Path, resources: Resources
) -> Path:
    """See `ASEModel.train`."""
    workdir.mkdir(parents=True, exist_ok=True)
    if model.train_command is None:
        (workdir / MEMBER).write_text(json.dumps({"calculator": model.calculator, "seed": seed}))
        return workdir / MEMBER
    check_labels(data.train, data.valid)
    if start is None:  # what it starts from may know more
        check_elements(data.train, data.valid)
    names: dict[str, object] = {
        "train": "train.extxyz",
        "valid": "valid.extxyz",
        "seed": seed,
        "start": "" if start is None else start.resolve(),
        "weights": model.weights,
        "threads": resources.threads,
        "device": resources.device,
        "python": model.python or sys.executable,
        "recipes": files("alfw.fw_templates") / "models",
    }
    for side in ("train", "valid"):
        _write(workdir / str(names[side]), getattr(data, side))
    _run(model.train_command, names, workdir, resources)
    if not (workdir / model.weights).is_file():
        raise TrainingError(
            f"{model.train_command}: left no file {model.weights}; {_tail(workdir / 'train.log')}"
        )
    return workdir / model.weights


def _write(path: Path, items: Sequence[Labeled]) -> None:
    if items:
        write_extxyz(path, [Imported(item.frame, item.label) for item in items])
    else:
        path.write_text("")


def _run(template: str, names: Mapping[str, object], workdir: Path, resources: Resources) -> None:
    """Run the command in `workdir`; its words go to ``train.log``; its whole process group ends with us."""
    try:
        command = shlex.split(
            template.format(**{name: shlex.quote(str(value)) for name, value in names.items()})
        )
    except (KeyError, IndexError, ValueError) as error:
        raise TrainingError(
            f"train_command {template!r}: {error} is not known; known: {', '.join(names)}"
        ) from error
    environment = {**os.environ, "OMP_NUM_THREADS": str(resources.threads)}
    try:
        with open(workdir / "train.log", "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=workdir,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        raise TrainingError(f"train_command: cannot start {command[0]!r}: {error.strerror}") from error
    try:
        code = process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if code:
        raise TrainingError(f"train_command ended with status {code}: {_tail(workdir / 'train.log')}")


def _tail(log: Path) -> str:
    """Its last words in one line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-TAIL:]) or "it said nothing"
