"""Contract checks of models, for the authors of plug-ins and for our own: what every model and potential must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alfw.core.errors import AlfwError, TrainingError
from alfw.core.frame import Frame
from alfw.core.protocols import HasSpread, JaxPotential, Model, Potential
from alfw.core.records import Resources, TrainingData
from alfw.core.registry import private
from alfw.testing import laws, trial
from alfw.testing.case import Case, Skip, snapped
from alfw.testing.examples import example_data

FAULTS_SHOWN = 3  # of each clause


class ContractError(AlfwError, AssertionError):
    """A plug-in does not keep its contract; the message has a line for each broken clause."""


@dataclass(frozen=True)
class Report:
    """What was found in order, and what was not tried.

    Attributes
    ----------
    kept : tuple of str
        Clauses.
    skipped : {clause: why}
    """

    kept: tuple[str, ...]
    skipped: Mapping[str, str]


def _atom_energies(case: Case) -> Iterator[str]:
    if not isinstance(case.potential, JaxPotential):
        raise Skip("jax-md cannot drive the potential")
    yield from private("alfw.testing._jax_door", "nequix").atom_energies(case, case.potential)


def _spread(case: Case) -> Iterator[str]:
    if not isinstance(case.potential, HasSpread):
        raise Skip("the potential has none")
    yield from private("alfw.testing._jax_door", "nequix").spread(case, case.potential)


BASIC: Mapping[str, Callable[[Case], Iterator[str]]] = {
    "shapes and types": laws.shapes,
    "species, cutoff, members": laws.names,
}
LAWS: Mapping[str, Callable[[Case], Iterator[str]]] = {
    "inputs untouched": laws.untouched,
    "the same again": laws.repeatable,
    "batch = single": laws.batch_is_single,
    "order of the frames": laws.order,
    "members alone": laws.members_alone,
    "permutation of the atoms": laws.permutation,
    "translation": laws.translation,
    "rotation": laws.rotation,
    "mirror image": laws.mirror,
    "periodic images": laws.images,
    "supercell": laws.supercell,
    "forces = -dE/dx": laws.forces,
    "stress = (1/V) dE/dε": laws.stress,
    "molecules far apart": laws.far_apart,
    "unknown element": laws.unknown_element,
    "partly periodic frames": laws.partly_periodic,
    "features": laws.features,
    "charges and their potentials": laws.electrostatics,
    "atom energies for jax-md": _atom_energies,
    "cheap spread": _spread,
}
# What fails here makes all else fail: it is said alone.
FIRST: Mapping[str, Callable[[trial.Trial], Iterator[str]]] = {
    "options": trial.options,
    "statistics": trial.statistics,
    "training": trial.data_untouched,
    "loading": trial.files,
}
TRAINING: Mapping[str, Callable[[trial.Trial], Iterator[str]]] = {
    "known elements": trial.known,
    "members": trial.members,
    "exported ensemble": trial.exported,
    "seeds": trial.seeds,
    "bad labels": trial.labels,
}


def check_model(
    model: Model,
    workdir: Path,
    data: TrainingData | None = None,
    *,
    periodic: bool = True,
    start: Path | None = None,
    trains: bool = True,
    pickles: bool = False,
    rtol: float = 1e-5,
    resources: Resources | None = None,
) -> Report:
    """Which clauses of the contract of a model and its potential are kept, all of those that were tried.

    The model is trained up to three times: give it options that make that short; an untrained network obeys every law
    that a trained one does.

    Parameters
    ----------
    model : Model
    workdir : Path
        A new folder is made in it.
    data : TrainingData or None
        Labelled frames; None = `example_data`, clusters and crystals of copper and gold.
    periodic : bool
        Whether the model takes crystals; of the example data only.
    start : Path or None
        The checkpoint that all members start from.
    trains, pickles : bool
        Whether training does anything, and whether weights may be pickles of another program.
    rtol : float
        What rounding may cost, relative: of the energies per atom (at least 1 eV), and of forces (at least 1 eV/Å).

    Raises
    ------
    ContractError
        Clauses are broken: all of them, a line each, with what was found and what is allowed.
    """
    given = data or example_data(periodic)
    frames, folder = _frames(given), workdir / "contract"
    tried = trial.Trial(model, given, frames, folder, start, resources or Resources(), trains, pickles)
    found = _Found(type(model).__name__)
    found.tries(FIRST, tried)
    found.tries(BASIC, Case(tried.potential, frames, rtol))
    found.tries(TRAINING, tried, go_on=True)
    found.tries(LAWS, Case(tried.potential, frames, rtol), go_on=True)
    return found.verdict()


def check_potential(potential: Potential, frames: Sequence[Frame], *, rtol: float = 1e-5) -> Report:
    """As `check_model`, of a loaded ensemble alone: what it says of these frames, molecules, crystals or both.

    Raises
    ------
    ContractError
        Clauses are broken.
    """
    case = Case(potential, [snapped(frame) for frame in frames], rtol)
    found = _Found(type(potential).__name__)
    found.tries(BASIC, case)
    found.tries(LAWS, case, go_on=True)
    return found.verdict()


def _frames(data: TrainingData) -> list[Frame]:
    """Two molecules and a crystal at most, of different formulas: each costs a hundred predictions."""
    chosen: dict[tuple[str, bool], Frame] = {}
    for item in [*data.valid, *data.train]:
        chosen.setdefault((item.frame.formula, item.frame.periodic), item.frame)
    crystals = [frame for frame in chosen.values() if frame.periodic][:1]
    molecules = [frame for frame in chosen.values() if not frame.periodic][:2]
    if not chosen:
        raise TrainingError("no labelled frames to check the model on")
    return [snapped(frame) for frame in [*molecules, *crystals]]


class _Found:
    """Clauses that are broken, kept, or do not apply."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.broken: dict[str, list[str]] = {}
        self.kept: list[str] = []
        self.skipped: dict[str, str] = {}

    def tries(self, clauses: Mapping[str, Any], subject: Any, go_on: bool = False) -> None:
        """Try these clauses; unless we are to go on, raise ContractError where one is broken."""
        for name, clause in clauses.items():
            faults: list[str] = []
            try:
                faults.extend(clause(subject))
            except Skip as why:
                self.skipped[name] = str(why)
                continue
            except Exception as error:  # code of others, any error is a fault of it
                faults.append(f"{type(error).__name__}: {error}")
            if faults:
                self.broken[name] = faults
            else:
                self.kept.append(name)
            if not go_on:
                self.verdict()

    def verdict(self) -> Report:
        """What was kept; raises ContractError where something is broken."""
        if not self.broken:
            return Report(tuple(self.kept), self.skipped)
        lines = [f"{self.name} breaks its contract:"]
        for clause, faults in self.broken.items():
            more = len(faults) - FAULTS_SHOWN
            shown = "; ".join(faults[:FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            lines.append(f"- {clause}: {shown}")
        raise ContractError("\n".join(lines))
