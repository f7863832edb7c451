"""validate: how good an ensemble is on labelled frames, from files, without a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alfw import __version__
from alfw.core.metrics import HISTOGRAM_EDGES, as_json
from alfw.core.protocols import Potential
from alfw.io.files import write_file
from alfw.models.ensemble import load_models
from alfw.steps.validation.errors import errors_of, frames_of
from alfw.steps.validation.physics import Physics
from alfw.steps.validation.predicted import Predicted, predict
from alfw.steps.validation.spread import ONE_MEMBER, spread_of
from alfw.steps.validation.testset import Reading, TestSet, read_testset

FORMAT = "alfw validation 1"
COVERAGE = 0.9
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """What a model must reach; None = nothing.

    Attributes
    ----------
    force_rmse_eV_per_A, energy_rmse_eV_per_atom : float or None
        Of each region.
    spread : bool
        Whether there has to be more than one member.
    """

    force_rmse_eV_per_A: float | None = None
    energy_rmse_eV_per_atom: float | None = None
    spread: bool = False

    def missed(self, report: Mapping[str, Any]) -> list[str]:
        """One line for each that is not reached; an error that is not finite reaches none."""
        found = []
        for key, flag, unit in (
            ("force_rmse_eV_per_A", "--max-force-rmse", "eV/Å"),
            ("energy_rmse_eV_per_atom", "--max-energy-rmse", "eV/atom"),
        ):
            limit = getattr(self, key)
            for name, region in report["regions"].items():
                value = region[key]
                if limit is not None and not (value is not None and value <= limit):
                    what = key.split("_")[0]
                    size = "not finite" if value is None else f"{value:.4g} {unit}"
                    found.append(f"{name}: {what} RMSE {size}, more than {flag} {limit:g}")
        if self.spread and report["members"] < 2:
            found.append(f"{ONE_MEMBER}, but --require-spread: give an ensemble")
        return found


@dataclass(frozen=True, eq=False)
class Validation:
    """What was found.

    Attributes
    ----------
    report : dict
        JSON data: models, members, species, labels, regions {name: errors and spread}, all (the regions pooled),
        frames (errors of each), and what was asked for besides: curves, relaxations, stability.
    predicted : Predicted
        What the pictures are made of.
    """

    report: dict[str, Any]
    predicted: Predicted

    @property
    def summary(self) -> dict[str, Any]:
        """The report without its long list of frames."""
        return {key: value for key, value in self.report.items() if key != "frames"}


def validate(
    models: Sequence[Path],
    testsets: Sequence[str],
    reading: Reading | None = None,
    physics: Physics | None = None,
    coverage: float = COVERAGE,
    progress: Progress | None = None,
) -> Validation:
    """Errors, by region and pooled, of the ensemble in these files on the labelled frames of these.

    Parameters
    ----------
    models : sequence of Path
        As for `alfw.models.ensemble.load_models`.
    testsets : sequence of str
        Files, folders, globs, each as it is or as ``region=path``.
    physics : Physics or None
        What is wanted beside errors: curves, relaxations, stability.
    coverage : float
        Of the conformal bound on force errors.
    progress : callable, optional
        Gets a line now and then.

    Raises
    ------
    TrainingError
        The models cannot be loaded, or do not know an element.
    DataError
        The test set cannot be read, or a frame has no label.
    """
    testset = read_testset(testsets, reading)
    potential = load_models(models)
    names = [str(path) for path in models]
    found = validate_potential(potential, testset, names, coverage, progress)
    if physics is None:
        return found
    more = physics.of(potential, found.predicted.items, progress)
    return replace(found, report={**found.report, **as_json(more)})


def validate_potential(
    potential: Potential,
    testset: TestSet,
    models: Sequence[str] = (),
    coverage: float = COVERAGE,
    progress: Progress | None = None,
) -> Validation:
    """The same for a potential that is loaded, and a test set that is read."""

    def tell(done: int, of: int) -> None:
        if progress is not None:
            progress(f"predicting {done}/{of}")

    predicted = predict(potential, testset.references, tell)
    whole = _region(predicted, coverage)
    names = testset.regions
    regions = {name: _region(predicted.region(name), coverage) for name in names} if len(names) > 1 else {}
    report = {
        "format": FORMAT,
        "alfw": __version__,
        "models": list(models),
        "members": potential.members,
        "species": list(potential.species),
        "labels": testset.said(),
        "n_repeated": testset.n_repeated,
        "note": ONE_MEMBER if potential.members < 2 else None,
        "histogram_edges": HISTOGRAM_EDGES,
        "all": whole,
        "regions": regions or dict.fromkeys(names, whole),
        "frames": frames_of(predicted),
    }
    return Validation(as_json(report), predicted)


def _region(predicted: Predicted, coverage: float) -> dict[str, Any]:
    return {**errors_of(predicted), "spread": spread_of(predicted, coverage)}


def save_report(path: Path, validation: Validation) -> None:
    """Write the report as JSON; complete or not at all."""
    text = json.dumps(validation.report, indent=1, ensure_ascii=False, allow_nan=False)
    write_file(path, (text + "\n").encode())


def save_html(path: Path, validation: Validation) -> None:
    """Write the report as one HTML file with its pictures inside; complete or not at all.

    Raises
    ------
    PluginError
        matplotlib is not installed.
    """
    from alfw.io.report import render
    from alfw.steps.validation.pictures import pictures

    page = render(
        "validation.html",
        report=validation.summary,
        pictures=pictures(validation.report, validation.predicted),
    )
    write_file(path, page.encode())
