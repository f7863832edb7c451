"""A model on trial: options, statistics, training, files; one function a clause, each yields what is broken."""

from __future__ import annotations

import copy
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.core.protocols import Model, Potential
from alfw.core.records import Prediction, Resources, TrainingData
from alfw.core.reference import species_of
from alfw.models.calculator import calculator
from alfw.testing.case import Skip, off


@dataclass(frozen=True, eq=False)
class Trial:
    """A model, what it is trained on, and where.

    Attributes
    ----------
    trains : bool
        Whether training does something; an ensemble of given calculators only takes them as they are.
    pickles : bool
        Whether files of weights may be pickles: of programs of others, made by the user's own command.
    """

    model: Model
    data: TrainingData
    frames: list[Frame]
    workdir: Path
    start: Path | None
    resources: Resources
    trains: bool
    pickles: bool

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """What all members share."""
        return self.model.statistics(self.data, self.start)

    @cached_property
    def first(self) -> Path:
        """Weights of a member trained with seed 1."""
        return self.trained("first", 1)

    @cached_property
    def second(self) -> Path:
        """Weights of a member trained with seed 2, without validation side."""
        return self.trained("second", 2, valid=())

    @property
    def weights(self) -> list[Path]:
        """Two members, or the one that the model has."""
        return [self.first, self.second][: self.model.members]

    @cached_property
    def potential(self) -> Potential:
        """The ensemble of `weights`."""
        return self.model.load(self.weights)

    def trained(self, name: str, seed: int, **changes: Any) -> Path:
        """Weights of one member, in a folder of this name."""
        data = replace(self.data, **{"statistics": self.statistics, **changes})
        folder = self.workdir / name
        folder.mkdir(parents=True)
        return self.model.train(data, seed, self.start, folder, self.resources)

    def says(self, weights: list[Path]) -> Prediction:
        """What an ensemble of these says of the frames."""
        return self.model.load(weights).predict(self.frames)


def options(trial: Trial) -> Iterator[str]:
    """The options given are JSON and make the same model again; they cannot be changed, and no unknown one is taken."""
    model: Any = trial.model
    try:
        given = json.loads(json.dumps(model.model_dump(mode="json", exclude_unset=True)))
    except (AttributeError, TypeError, ValueError) as error:
        yield f"the options are not JSON: {error}"
        return
    if type(model)(**given) != model:
        yield "a model made of its own options is another one"
    fields = set(type(model).model_fields)
    if "kind" not in fields:
        yield "`kind` is not among its options"
    foreign = set(model.execution_only) - fields
    if foreign:
        yield f"execution_only names no option: {', '.join(sorted(foreign))}"
    for words, change in (
        ("an unknown option is taken", lambda: type(model)(**given, no_such_option=1)),
        ("an option can be changed", lambda: setattr(model, "kind", model.kind)),
    ):
        try:
            change()
        except ValueError:
            continue
        yield words


def known(trial: Trial) -> Iterator[str]:
    """`known_species` is None or a frozenset, with the elements of the data; the potential knows these, too."""
    of_data = set(species_of([item.frame for item in trial.data.train]))
    found = trial.model.known_species()
    if found is not None and not (isinstance(found, frozenset) and of_data <= found):
        yield f"known_species: {found!r} does not have {sorted(of_data)}"
    if not of_data <= set(trial.potential.species):
        yield f"species of the potential: {trial.potential.species!r} lack what it was trained on"


def statistics(trial: Trial) -> Iterator[str]:
    """The statistics are JSON, the same every time, and those of one set of labels in whatever order."""
    found = trial.statistics
    try:
        text = json.dumps(found, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        yield f"not JSON: {error}"
        return
    if json.loads(text) != found:
        yield "JSON gives something else back: keys must be text, sequences lists"
    if json.dumps(trial.model.statistics(trial.data, trial.start), sort_keys=True) != text:
        yield "not the same the second time"


def data_untouched(trial: Trial) -> Iterator[str]:
    """Training changes neither labels nor statistics."""
    before = _fingerprint(trial.data, copy.deepcopy(trial.statistics))
    _ = trial.first, trial.second
    if _fingerprint(trial.data, trial.statistics) != before:
        yield "training or statistics changed the training data"


def _fingerprint(data: TrainingData, statistics: Any) -> tuple[Any, ...]:
    items = [*data.train, *data.valid]
    labels = [(replace(i.frame).id, float(i.label.energy), i.label.forces.tobytes()) for i in items]
    return labels, json.dumps(statistics, sort_keys=True, default=str)


def files(trial: Trial) -> Iterator[str]:
    """Weights lie in the working folder and are no pickle; elsewhere, under another name, they load the same."""
    for path, folder in ((trial.first, "first"), (trial.second, "second")):
        if not path.is_file() or (trial.workdir / folder).resolve() not in path.resolve().parents:
            yield f"the weights {path} are not a file inside the working folder"
            return
        if not trial.pickles and _is_pickle(path):
            yield f"{path.name} is a pickle: whoever made it can run code where it is loaded"
    copies = []
    for k, path in enumerate(trial.weights):
        target = trial.workdir / "elsewhere" / f"weights_{k}{path.suffix}"
        target.parent.mkdir(exist_ok=True)
        copies.append(Path(shutil.copyfile(path, target)))
    yield from _identical("copied elsewhere", trial.says(copies), trial.potential.predict(trial.frames))


def _is_pickle(path: Path) -> bool:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return path.read_bytes()[:1] == b"\x80"


def exported(trial: Trial) -> Iterator[str]:
    """`alfw.calculator` of the exported folder, moved, gives the mean of what the members say."""
    folder = trial.workdir / "exported"
    trial.model.export(trial.weights, folder, {"campaign": "contract"})
    calc = calculator(folder.rename(trial.workdir / "moved"))
    said = trial.potential.predict(trial.frames)
    for i in {0, len(trial.frames) - 1}:
        frame = trial.frames[i]
        calc.calculate(frame.to_atoms())
        found, mean, allowed = calc.results, said.forces[i].mean(0), _rounding(said.forces[i])
        yield from off("its energy", found["energy"], said.energy[:, i].mean(), len(frame) * allowed, "eV")
        yield from off("its forces", found["forces"], mean, allowed, "eV/Å")


def _rounding(forces: Any) -> float:
    return 1e-5 * max(1.0, float(np.abs(forces).max()))


def seeds(trial: Trial) -> Iterator[str]:
    """The same seed makes the same member, another seed another one."""
    if not trial.trains:
        raise Skip("the model has nothing to train")
    again = trial.trained("again", 1)
    before, other = trial.says([trial.first]), trial.says([trial.second])
    if again.read_bytes() != trial.first.read_bytes():
        yield from _identical("the same seed again", trial.says([again]), before)
    if all((a == b).all() for a, b in zip(before.forces, other.forces, strict=True)):
        yield "another seed makes the same member"


def members(trial: Trial) -> Iterator[str]:
    """One row a member, in the order of the files."""
    count = len(trial.weights)
    said, rows = trial.potential.predict(trial.frames), trial.potential.members
    if rows % count:
        yield f"{rows} members of {count} files"
        return
    each = rows // count  # a shallow ensemble has several in one file
    if each > 1 and count > 1:
        raise Skip("several members in each of several files")
    for k, path in enumerate(trial.weights):
        alone = trial.says([path])
        mine = slice(k * each, (k + 1) * each)
        for i, frame in enumerate(trial.frames):
            allowed = _rounding(alone.forces[i])
            rows_of = said.forces[i][mine]
            yield from off(f"row {k} of {frame.formula} against file {k}", rows_of, alone.forces[i], allowed)


def labels(trial: Trial) -> Iterator[str]:
    """No labels at all, and an energy or force that is not a number, are refused with a TrainingError."""
    if not trial.trains:
        raise Skip("the model has nothing to train")
    item = trial.data.train[0]
    nan = replace(item, label=replace(item.label, forces=np.full_like(item.label.forces, np.nan)))
    for words, train, name in (
        ("an empty train side", (), "train"),
        ("a label that is not finite", (nan, *trial.data.train[1:]), item.frame.id[:12]),
    ):
        try:
            trial.trained(words.replace(" ", "_"), 3, train=train)
        except TrainingError as error:
            if name not in str(error) or "\n" in str(error):
                yield f"{words}: the error must name {name} in one line; it says: {error}"
        except Exception as error:  # of whatever kind: that is the fault
            yield f"{words}: {type(error).__name__} instead of TrainingError: {error}"
        else:
            yield f"{words} is trained on"


def _identical(what: str, found: Prediction, expected: Prediction) -> Iterator[str]:
    yield from off(f"{what}: energies", found.energy, expected.energy, 0.0, "eV")
    for mine, theirs in zip(found.forces, expected.forces, strict=True):
        yield from off(f"{what}: forces", mine, theirs, 0.0, "eV/Å")
