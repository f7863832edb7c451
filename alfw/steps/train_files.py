"""Training of an ensemble from files into a folder, without a database: complete or not at all, and continued.

While it lasts, the folder has ``.training`` with ``request.json`` (what is trained, on what), ``statistics.json`` and a
folder a member, which holds the state of its training or, when done, its weights and ``done.json``.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alfw import __version__
from alfw.core.errors import AlfwError, ConfigError
from alfw.core.ids import derive_seed, sha256
from alfw.core.metrics import as_json, summarise
from alfw.core.protocols import Potential
from alfw.core.records import Labeled, Resources, TrainingData
from alfw.io.files import remove, write_file
from alfw.models.ensemble import ENSEMBLE, read_ensemble
from alfw.steps.replay import replay_of
from alfw.steps.train_start import Start
from alfw.steps.training_sides import Sides, file_sha256

TRAINING, REQUEST, STATISTICS, DONE = ".training", "request.json", "statistics.json", "done.json"
Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Job:
    """An ensemble to train.

    Attributes
    ----------
    folder : Path
        Where it goes.
    start : Start
    sides : Sides
    seed : int
        The seeds of all members derive from it.
    about : mapping
        JSON data to keep with the ensemble: how it was asked for.
    stem, first : str, int
        Names of the members' files: ``<stem>_<number>``, numbered from `first` on.
    """

    folder: Path
    start: Start
    sides: Sides
    seed: int = 0
    resources: Resources = field(default_factory=Resources)
    about: Mapping[str, Any] = field(default_factory=dict)
    stem: str = "member"
    first: int = 0

    @property
    def work(self) -> Path:
        """Where it is trained."""
        return self.folder / TRAINING

    @property
    def request(self) -> dict[str, Any]:
        """What the weights depend on, as JSON data."""
        model = self.start.model
        options = {k: v for k, v in self.start.options.items() if k not in model.execution_only}
        weights = [None if path is None else file_sha256(path) for path in self.start.weights]
        return {"model": options, "data": self.sides.id, "seed": self.seed, "start": weights}


def train_files(job: Job, force: bool = False, tell: Tell | None = None) -> dict[str, Any]:
    """What was trained, as JSON data; the same job again continues, or finds all done.

    Parameters
    ----------
    force : bool
        Replace another ensemble or unfinished training in the folder, and train again what is done.

    Raises
    ------
    ConfigError
        The folder holds something else, or another process trains there.
    TrainingError
        From the model.
    """
    say = tell or (lambda text: None)
    found = _finished(job)
    if found is not None and not force:
        remove(job.work)
        return _report(job, found, already=True)
    with _alone(job.folder):
        _check(job, force)
        job.work.mkdir(exist_ok=True)
        write_file(job.work / REQUEST, _bytes(job.request))
        data = _data(job, say)
        weights = [_member(job, k, data, say) for k in range(job.start.model.members)]
        content = _publish(job, weights, _errors(job, weights))
        remove(job.work)
    return _report(job, content, already=False)


def _finished(job: Job) -> dict[str, Any] | None:
    """The index of the ensemble in the folder, if it is the one asked for."""
    if not (job.folder / ENSEMBLE).is_file():
        return None
    try:
        _, content = read_ensemble(job.folder)
    except AlfwError:
        return None
    asked = json.loads(_bytes(job.request))
    return content if content.get("provenance", {}).get("request") == asked else None


def _check(job: Job, force: bool) -> None:
    """Refuse a folder with something else in it, unless it may be replaced; unfinished work of another job goes."""
    asked = json.loads(_bytes(job.request))
    try:
        unfinished = json.loads((job.work / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        unfinished = None
    if unfinished == asked:
        return
    begun = any(job.work.glob(f"member_*/{DONE}")) or any(job.work.glob("member_*/state.npz"))
    if unfinished is not None and begun and not force:
        raise ConfigError(
            f"{job.folder}: an unfinished training there differs in {_difference(unfinished, asked)}: the same"
            " command as before continues it, --force starts anew"
        )
    if (job.folder / ENSEMBLE).exists() and not force:
        raise ConfigError(
            f"{job.folder}: holds another ensemble: choose another folder, or --force replaces it"
        )
    remove(job.work)


def _difference(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """In which respects two requests differ."""
    return ", ".join(sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key)))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder, made if absent, for this process alone; one that was killed leaves nothing behind that says so."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}): choose another folder") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"{folder}: another process is training there") from None
    finally:
        os.close(handle)


def _data(job: Job, say: Tell) -> TrainingData:
    """Both sides with the statistics that all members share, computed once."""
    data = TrainingData(job.sides.train, job.sides.valid)
    path = job.work / STATISTICS
    if not path.exists():
        say("statistics of the training set")
        write_file(path, _bytes(job.start.model.statistics(data, job.start.weights[0])))
    statistics = json.loads(path.read_text(encoding="utf-8"))
    return TrainingData(data.train, data.valid, statistics, replay_of(job.start.model))


def _member(job: Job, k: int, data: TrainingData, say: Tell) -> tuple[Path, dict[str, Any]]:
    """Weights of member k and what is known of them; trained unless they are there."""
    folder = job.work / f"member_{k}"
    found = _done(folder)
    name = f"member {k + 1}/{job.start.model.members}"
    if found is None:
        seed = derive_seed(job.seed, "train", k)
        weights = job.start.model.train(
            data,
            seed=seed,
            start=job.start.weights[k],
            workdir=folder,
            resources=job.resources,
            progress=lambda text: say(f"{name}: {text}"),
            keep=state_kept,
        )
        metrics = weights.parent / "metrics.json"
        note = {"seed": seed, "metrics": json.loads(metrics.read_text()) if metrics.exists() else {}}
        note |= {"file": str(weights.relative_to(folder)), "sha256": sha256(weights.read_bytes())}
        write_file(folder / DONE, _bytes(note))
        found = weights, note
    say(f"{name}: trained")
    return found


def state_kept(path: Path, step: int) -> None:
    """Called when the state of a training has been written: it is where a continued one looks for it."""


def _done(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Weights and note of a member that is trained, if it is."""
    try:
        note = json.loads((folder / DONE).read_text(encoding="utf-8"))
        path = folder / note["file"]
        return (path, note) if sha256(path.read_bytes()) == note["sha256"] else None
    except (OSError, ValueError, KeyError):
        return None


def _errors(job: Job, weights: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Errors of each member and of their mean, on the valid side where there is one."""
    side = "valid" if job.sides.valid else "train"
    items: list[Labeled] = getattr(job.sides, side)
    potential: Potential = job.start.model.load([path for path, _ in weights])
    said = potential.predict([item.frame for item in items])
    members = [
        summarise(items, said.energy[k], [forces[k] for forces in said.forces]).as_dict()
        for k in range(len(said.energy))
    ]
    mean = summarise(items, said.energy.mean(0), [forces.mean(0) for forces in said.forces]).as_dict()
    return {"side": side, "mean": mean, "members": members}


def _publish(
    job: Job, weights: list[tuple[Path, dict[str, Any]]], errors: Mapping[str, Any]
) -> dict[str, Any]:
    """Put the ensemble in its place; the content of its index.

    The index comes first: until the last member has come, with its checksum, nothing accepts the folder.
    """
    staged = job.work / "ensemble"
    remove(staged)
    provenance = {
        "request": json.loads(_bytes(job.request)),
        "files": job.sides.files,
        "n_train": len(job.sides.train),
        "n_valid": len(job.sides.valid),
        "errors": errors,
        "alfw": __version__,
        **job.about,
    }
    job.start.model.export([path for path, _ in weights], staged, as_json(provenance))
    content: dict[str, Any] = json.loads((staged / ENSEMBLE).read_text(encoding="utf-8"))
    notes = [{key: note[key] for key in ("seed", "metrics")} for _, note in weights]
    content["members"] = [{**as_json(n), **entry} for n, entry in zip(notes, content["members"], strict=True)]
    staged_files = [staged / entry["file"] for entry in content["members"]]
    for k, (entry, path) in enumerate(zip(content["members"], staged_files, strict=True)):
        entry["file"] = f"{job.stem}_{job.first + k}{path.suffix}"
    old = _members_of(job.folder)
    write_file(job.folder / ENSEMBLE, _bytes(content, indent=1))
    for entry, path in zip(content["members"], staged_files, strict=True):
        os.replace(path, job.folder / entry["file"])
    for name in old - {entry["file"] for entry in content["members"]}:
        remove(job.folder / name)
    return content


def _members_of(folder: Path) -> set[str]:
    """Names of the members' files of the ensemble in a folder, if there is one."""
    try:
        entries = json.loads((folder / ENSEMBLE).read_text(encoding="utf-8"))["members"]
        return {Path(entry["file"]).name for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _report(job: Job, content: Mapping[str, Any], already: bool) -> dict[str, Any]:
    """As in --json."""
    origin = content["provenance"]
    keys = ("file", "sha256", "seed", "metrics")
    return {
        "folder": str(job.folder),
        "kind": content["kind"],
        "already_trained": already,
        "n_train": origin["n_train"],
        "n_valid": origin["n_valid"],
        "n_esp": dict(zip(("train", "valid"), job.sides.n_esp, strict=True)),
        "members": [{key: entry.get(key) for key in keys} for entry in content["members"]],
        "errors": origin["errors"],
        "notes": job.sides.notes,
    }


def _bytes(value: Any, indent: int | None = None) -> bytes:
    return (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode()
