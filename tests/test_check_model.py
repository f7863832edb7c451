"""Contract checks: every kind of model passes, and every clause finds a fault planted for it."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ConfigDict
from test_check_potential import PLANTED

from alfw.core.records import TrainingData
from alfw.core.registry import known
from alfw.models.ase import ASEModel
from alfw.models.nequix import NequixModel
from alfw.models.statistics import check_labels
from alfw.testing import ContractError, check_model, example_data
from alfw.testing.contract import BASIC, FIRST, LAWS, TRAINING

EMT = "ase.calculators.emt:EMT"
TINY = {"hidden_irreps": "4x0e + 2x1o", "n_layers": 2, "radial_mlp_size": 8}
SHORT = {"steps": 20, "batch_size": 4}
SMALL = {
    **dict.fromkeys(("physnet_features", "dcmnet_features", "physnet_basis", "dcmnet_basis"), 8),
    **{"physnet_iterations": 2, "physnet_n_res": 1, "n_dcm": 2, "max_degree": 1, "members": 2},
}
# What `check_model` is given for each registered kind: options of the model, and of the check.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ase": ({"calculator": EMT}, {"trains": False}),
    "external": ({"calculator": EMT, "python": sys.executable, "members": 2}, {"trains": False}),
    "nequix": ({**TINY, "members": 2, "training": SHORT}, {}),
    "physnet": ({**SMALL, "training": {"epochs": 2, "batch_size": 4}}, {"periodic": False}),
}
TRAINED = ("nequix", "physnet")


def model_of(kind: str, options: dict[str, Any]) -> Any:
    return known("alfw.models")[kind].load()(kind=kind, **options)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k in TRAINED)) for k in known("alfw.models")]
)
def test_every_registered_model_keeps_its_contract(kind: str, tmp_path: Path) -> None:
    assert kind in KINDS, f"give KINDS small options for {kind}"
    if kind == "physnet":
        pytest.importorskip("e3x", reason="needs e3x: pip install 'alfw[physnet]'")
    options, how = KINDS[kind]
    report = check_model(model_of(kind, options), tmp_path, **how)
    assert not set(report.skipped) & {"rotation", "forces = -dE/dx", "members", "exported ensemble"}
    if kind in TRAINED:
        assert not set(report.skipped) & {
            "seeds",
            "bad labels",
            "unknown element",
            "atom energies for jax-md",
        }


@pytest.mark.slow
def test_so_does_a_shallow_ensemble(tmp_path: Path) -> None:
    model = NequixModel(**TINY, members=1, heads=4, training=SHORT)
    assert "cheap spread" in check_model(model, tmp_path).kept


@pytest.mark.slow
def test_so_does_an_ensemble_fine_tuned_from_a_checkpoint(tmp_path: Path) -> None:
    scratch = NequixModel(**TINY)
    start = scratch.initialise(scratch.statistics(example_data()), 7, tmp_path)
    model = NequixModel(members=2, start_from=str(start), training=SHORT)
    assert "seeds" in check_model(model, tmp_path, start=start).kept


# Faults of models -------------------------------------------------------------------------------------------------


class Toy(ASEModel):
    """Springs whose strength is the seed's: a model that keeps the contract and trains in no time."""

    calculator: str = "ase_model_toy:Springs"
    weights_option: str | None = "path"
    train_command: str | None = "true"
    members: int = 2

    def train(self, data: TrainingData, seed: int, start: Any, workdir: Path, *rest: Any) -> Path:
        check_labels(data.train, data.valid)
        (workdir / "w.json").write_text(json.dumps({"E0": 1.0, "k": seed / 10, "cutoff": 3.5}))
        return workdir / "w.json"


class Loose(Toy):
    model_config = ConfigDict(frozen=False, extra="ignore")


class Narrow(Toy):
    def known_species(self) -> frozenset[int] | None:
        return frozenset({1})


class Tuples(Toy):
    def statistics(self, data: TrainingData, start: Path | None = None) -> dict[str, Any]:
        return {"species": (29, 79)}


class Unsteady(Toy):
    def statistics(self, data: TrainingData, start: Path | None = None) -> dict[str, Any]:
        return {"scale": float(np.random.default_rng().random())}


class Meddling(Toy):
    def train(self, data: TrainingData, *rest: Any) -> Path:
        data.statistics["more"] = 1  # type: ignore[index]
        return super().train(data, *rest)


class Failing(Toy):
    def train(self, data: TrainingData, *rest: Any) -> Path:
        raise KeyError("no such thing")


class Pickled(Toy):
    def train(self, data: TrainingData, *rest: Any) -> Path:
        path = super().train(data, *rest)
        path.write_bytes(pickle.dumps({}))
        return path


class Outside(Toy):
    def train(self, data: TrainingData, seed: int, start: Any, workdir: Path, *rest: Any) -> Path:
        return super().train(data, seed, start, workdir.parent, *rest)


class Backwards(Toy):
    def load(self, weights: Sequence[Path]) -> Any:
        return super().load(list(weights)[::-1])


class HalfExported(Toy):
    def export(self, weights: Sequence[Path], directory: Path, provenance: Any) -> None:
        super().export(list(weights)[:1], directory, provenance)


class Seedless(Toy):
    def train(self, data: TrainingData, seed: int, *rest: Any) -> Path:
        return super().train(data, 1, *rest)


class Restless(Toy):
    def train(self, data: TrainingData, seed: int, *rest: Any) -> Path:
        return super().train(data, float(np.random.default_rng().random()), *rest)  # type: ignore[arg-type]


class Careless(Toy):
    def train(self, data: TrainingData, *rest: Any) -> Path:
        return super().train(example_data(False), *rest)


FAULTS: dict[str, tuple[str, type[Toy], str]] = {
    "options may be anything": ("options", Loose, "an unknown option is taken; an option can be changed"),
    "elements it was not trained for": ("known elements", Narrow, "does not have [29, 79]"),
    "statistics are no JSON": ("statistics", Tuples, "sequences lists"),
    "statistics differ": ("statistics", Unsteady, "not the same the second time"),
    "changes what it is given": ("training", Meddling, "changed the training data"),
    "cannot be trained": ("training", Failing, "KeyError: 'no such thing'"),
    "pickles": ("loading", Pickled, "w.json is a pickle"),
    "writes elsewhere": ("loading", Outside, "not a file inside the working folder"),
    "members in another order": ("members", Backwards, "against file 0: off by"),
    "exports half of it": ("exported ensemble", HalfExported, "its energy: off by"),
    "seeds mean nothing": ("seeds", Seedless, "another seed makes the same member"),
    "another member every time": ("seeds", Restless, "the same seed again: energies: off by"),
    "takes any label": ("bad labels", Careless, "a label that is not finite is trained on"),
}


def test_a_model_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    report = check_model(Toy(), tmp_path, periodic=False)
    assert {*FIRST, *BASIC, *TRAINING} <= set(report.kept)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_of_a_model_is_found(fault: str, tmp_path: Path) -> None:
    clause, model, words = FAULTS[fault]
    with pytest.raises(ContractError) as caught:
        check_model(model(), tmp_path, periodic=False)
    [line] = str(caught.value).splitlines()[1:]  # and nothing else is blamed
    assert line.startswith(f"- {clause}: ") and words in line


def test_every_clause_has_a_planted_fault() -> None:
    found = {clause for clause, *_ in [*PLANTED.values(), *FAULTS.values()]}
    by_hand = {"species, cutoff, members", "atom energies for jax-md", "cheap spread"}
    assert found | by_hand == {*FIRST, *BASIC, *TRAINING, *LAWS}
