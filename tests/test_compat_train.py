"""`python -m alfw.compat.trainer` and `train_ensemble`: the lines of the seeds' documents."""

from __future__ import annotations

import shlex
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shell import Shell, Typed
from test_train_verb import clusters
from toy_electrostatics import toy, write_pair

pytest.importorskip("e3x", reason="needs e3x: pip install 'alfw[physnet]'")

from alfw.compat import train_ensemble, trainer
from alfw.core.errors import AlfwError
from alfw.io.frames import write_extxyz
from alfw.models.ensemble import load_models, read_ensemble
from alfw.models.physnet import PhysNetModel

# The lines of the documents, but for the number of epochs.
TRAINER = (
    "--train-efd ../physnet_train_charges/energies_forces_dipoles_train_v2.npz"
    " --train-esp ../dcmnet_train/grids_esp_train.npz"
    " --valid-efd ../physnet_train_charges/energies_forces_dipoles_valid.npz"
    " --valid-esp ../dcmnet_train/grids_esp_valid.npz"
    " --epochs 2 --batch-size 100 --name retrained_active_learning"
)
TRAIN_ENSEMBLE = "--dataset data/training_set/ --outdir models_new/"
SMALL = (
    " --physnet-features 8 --physnet-basis 8 --physnet-iterations 1 --physnet-n-res 1 --dcmnet-features 8"
    " --dcmnet-basis 8 --dcmnet-iterations 1 --max-degree 1 --n-dcm 2"
)
NAMED = "checkpoints/retrained_active_learning"
DEFAULTS = {
    **{"epochs": 100, "batch_size": 1, "learning_rate": 0.001, "weight_decay": 1e-4, "seed": 42},
    **{
        "energy_weight": 10,
        "forces_weight": 50,
        "dipole_weight": 25,
        "esp_weight": 10000,
        "mono_weight": 100,
    },
    **{"esp_min_distance": 0, "esp_max_value": None, "physnet_features": 64, "physnet_iterations": 3},
    **{"physnet_basis": 64, "physnet_cutoff": 6, "physnet_n_res": 3, "dcmnet_features": 128},
    **{"dcmnet_iterations": 2, "dcmnet_basis": 64, "dcmnet_cutoff": 10, "n_dcm": 3, "max_degree": 2},
    **{"max_atomic_number": 28, "grad_clip_norm": 1, "name": "co2_joint_physnet_dcmnet", "restart": None},
    **{
        "dipole_source": "physnet",
        "dipole_loss_sources": None,
        "esp_loss_sources": None,
        "loss_config": None,
    },
    **{
        "dipole_metric": "l2",
        "esp_metric": "l2",
        "mix_coulomb_energy": False,
        "subtract_atom_energies": True,
    },
    **{"plot_results": False, "verbose": True},
}


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seed's folders: the second version of the energies has four rows more than the old potentials."""
    folder = tmp_path_factory.mktemp("seed")
    items = [toy(("CO2", "H2O")[i % 2], i) for i in range(20)]
    for side, these, with_esp in (
        ("train_v2", items[:16], items[:12][::-1]),
        ("valid", items[16:], items[16:]),
    ):
        efd = folder / "physnet_train_charges" / f"energies_forces_dipoles_{side}.npz"
        write_pair(
            efd, folder / "dcmnet_train" / f"grids_esp_{side.removesuffix('_v2')}.npz", these, with_esp
        )
    (folder / "work").mkdir()
    return folder / "work"


def run(module: Any, folder: Path, line: str, capsys: pytest.CaptureFixture[str]) -> Typed:
    """What a command prints, in this process."""
    capsys.readouterr()
    with chdir(folder):
        assert module.work(module.parser().parse_args(shlex.split(line))) == 0
    return Typed(*capsys.readouterr())


def refused(module: Any, folder: Path, line: str, message: str) -> None:
    with chdir(folder), pytest.raises(AlfwError, match=message) as error:
        module.work(module.parser().parse_args(shlex.split(line)))
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def trained(seed: Path) -> Typed:
    """The line of the document, with small networks."""
    shell = Shell(seed)
    return shell.compat("trainer", *shlex.split(TRAINER + SMALL))


def test_the_line_of_the_document(seed: Path, trained: Typed) -> None:
    units, train, valid, *_ = trained.err.splitlines()
    assert units.startswith("units taken, where files do not say: R Å, E eV, F eV/Å, D e·Å, esp Hartree/e")
    assert train.endswith(
        "16 rows: 12 with a potential, 4 without one (masked: energies, forces and dipoles alone)"
    )
    assert valid.endswith("4 rows: 4 with a potential")
    assert trained.out.startswith(f"{NAMED}: 1 member of physnet, trained on 16 frames, 4 to validate")
    assert "esp RMSE of distributed charges, V: " in trained.out
    assert sorted(p.name for p in (seed / NAMED).iterdir()) == ["ensemble.json", "member_0.npz"]
    potential = load_models([seed / NAMED])
    assert potential.members == 1 and set(potential.species) == {1, 6, 8}
    assert read_ensemble(seed / NAMED)[1]["provenance"]["request"]["seed"] == 42


def test_defaults_are_those_of_the_seed() -> None:
    given = trainer.parser().parse_args(shlex.split(TRAINER.split(" --epochs")[0]))
    assert {name: getattr(given, name) for name in DEFAULTS} == DEFAULTS


def test_flags_become_options() -> None:
    line = (
        "--lr 0.01 --weight-decay 0 --energy-weight 1 --forces-weight 2 --dipole-weight 3 --esp-weight 4"
        " --mono-weight 5"
        " --esp-min-distance 1.5 --esp-max-value 0.2 --grad-clip-norm 0 --dipole-source dcmnet"
        " --dipole-loss-sources physnet dcmnet --esp-loss-sources dcmnet mixed --dipole-metric mae --esp-metric rmse"
        " --mix-coulomb-energy --no-subtract-atom-energies --members 3 --physnet-cutoff 5 --dcmnet-cutoff 7"
    )
    arguments = trainer.parser().parse_args(shlex.split(f"{TRAINER}{SMALL} {line}"))
    model = PhysNetModel(**trainer._options(arguments))
    assert (model.members, model.physnet_cutoff_A, model.dcmnet_cutoff_A, model.n_dcm) == (3, 5.0, 7.0, 2)
    assert model.mix_coulomb_energy and not model.subtract_atom_energies and model.dipole_source == "dcmnet"
    found, weights = model.training, ("energy", "forces", "dipole", "esp", "mono")
    assert [getattr(found, f"{name}_weight") for name in weights] == [1, 2, 3, 4, 5]
    assert (found.epochs, found.batch_size, found.learning_rate, found.weight_decay) == (2, 100, 0.01, 0)
    assert (found.esp_min_distance_A, found.esp_max_value, found.grad_clip_norm) == (1.5, 0.2, 1e9)
    assert found.dipole_loss_sources == ("physnet", "dcmnet") and found.esp_loss_sources == (
        "dcmnet",
        "mixed",
    )
    assert (found.dipole_metric, found.esp_metric) == ("mae", "rmse")


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_loss_terms_of_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"loss.{suffix}"
    path.write_text(
        '{"dipole": [{"source": "physnet", "weight": 25}, {"source": "mixed", "weight": 25.0, "name": "m"}],'
        ' "esp": [{"source": "dcmnet", "weight": 7, "metric": "rmse"}]}'
    )
    assert trainer.loss_terms(path) == {
        **{"dipole_loss_sources": ["physnet", "mixed"], "dipole_weight": 25.0, "dipole_metric": "l2"},
        **{"esp_loss_sources": ["dcmnet"], "esp_weight": 7.0, "esp_metric": "rmse"},
    }
    for text, message in (
        (
            '{"esp": [{"source": "dcmnet", "weight": 1}, {"source": "physnet", "weight": 2}]}',
            "one weight and one",
        ),
        ('{"esp": [{"source": "nope"}]}', "source 'nope', metric 'l2': known are physnet, dcmnet, mixed"),
        ('{"dipole": {"source": "dcmnet"}}', "dipole has to be a list"),
        ("[1]", "has to be a mapping"),
        ("{", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(AlfwError, match=message):
            trainer.loss_terms(path)


def test_what_the_trainer_refuses(seed: Path, tmp_path: Path, trained: Typed) -> None:
    refused(trainer, seed, TRAINER + SMALL + " --natoms 2", "--natoms 2: there are molecules of 3 atoms")
    refused(trainer, seed, TRAINER + SMALL + " --max-atomic-number 7", "elements up to Z = 8: raise it")
    refused(trainer, seed, TRAINER + SMALL + " --units hartree", "energies are those of free atoms in eV")
    refused(trainer, seed, TRAINER + SMALL + " --dipole-source mixed --dipole-loss-sources physnet", "mixed")
    refused(trainer, seed, TRAINER, f"{NAMED}: holds another ensemble")
    pickled = tmp_path / "old"
    pickled.mkdir()
    (pickled / "best_params.pkl").write_bytes(b"\x80\x04N.")
    for path in (pickled, pickled / "best_params.pkl"):
        refused(trainer, seed, f"{TRAINER} --restart {path}", "a pickle, .* alfw convert checkpoint --trust")
    old = seed.parent / "dcmnet_train" / "grids_esp_train.npz"
    swapped = TRAINER.replace("energies_forces_dipoles_train_v2", "energies_forces_dipoles_valid")
    refused(trainer, seed, swapped, f"{old.name} row 0 .*: no row of .*_valid.npz has its elements")
    assert (
        Shell(seed)
        .compat("trainer", "--epochs", "2", code=1)
        .line.startswith("python -m alfw.compat.trainer: ")
    )


@pytest.mark.slow
def test_restart_and_flags_without_effect(
    seed: Path, trained: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{TRAINER}{SMALL} --name more --restart {NAMED} --no-verbose --print-freq 5 --plot-samples 3 --natoms 3"
    typed = run(trainer, seed, line, capsys)
    assert (
        "flags without effect here: --natoms (frames are padded to what they need), --print-freq (progress is told by"
        " time), --plot-samples (no --plot-results)"
    ) in typed.err
    assert "member 1/1" not in typed.err
    request = read_ensemble(seed / "checkpoints" / "more")[1]["provenance"]["request"]
    assert request["start"] == [entry["sha256"] for entry in read_ensemble(seed / NAMED)[1]["members"]]


@pytest.mark.slow
def test_alfw_train_makes_the_same_weights(seed: Path, trained: Typed) -> None:
    files, _, _ = TRAINER.partition(" --epochs")
    options = [word for name, value in zip(*[iter(shlex.split(SMALL))] * 2, strict=True)
               for word in ("--set", f"{name.strip('-').replace('-', '_')}={value}")]  # fmt: skip
    source = ["--set", "dipole_source=physnet", "--set", "training.dipole_loss_sources=[physnet]"]
    more = [
        "--epochs",
        2,
        "--batch-size",
        100,
        "--members",
        1,
        "--seed",
        42,
        "--units",
        "eV",
        "--name",
        "same",
    ]
    report = Shell(seed).json("train", "--model", "physnet", *shlex.split(files), *options, *source, *more)
    assert report["n_esp"] == {"train": 12, "valid": 4} and report["folder"] == "same"
    before = read_ensemble(seed / NAMED)[1]["members"]
    assert [entry["sha256"] for entry in report["members"]] == [entry["sha256"] for entry in before]


@pytest.mark.slow
def test_plots(seed: Path, trained: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    typed = run(trainer, seed, f"{TRAINER}{SMALL} --plot-results --plot-esp-examples 1", capsys)
    assert "already trained" in typed.err
    plots = sorted((seed / NAMED / "plots").iterdir())
    assert [path.name for path in plots] == ["dipole.png", "energy.png", "esp.png", "forces.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "data" / "training_set").mkdir(parents=True)
    items = clusters(16)
    write_extxyz(tmp_path / "data" / "training_set" / "first.extxyz", items[:12])
    write_extxyz(tmp_path / "data" / "training_set" / "update_0001.extxyz", items[12:])
    return tmp_path


@pytest.mark.slow
def test_the_ensemble_of_the_document(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And beside each member its twin for torch."""
    pytest.importorskip("torch")
    line = TRAIN_ENSEMBLE + " --epochs 1 --batch-size 4 --pt"
    typed = run(train_ensemble, dataset, line, capsys)
    assert typed.out.startswith("models_new: 5 members of nequix, trained on 12 frames, 4 to validate")
    names = [f"model_{k}.{suffix}" for k in range(1, 6) for suffix in ("nqx", "pt")]
    assert sorted(p.name for p in (dataset / "models_new").iterdir()) == ["ensemble.json", *names]
    paths, content = read_ensemble(dataset / "models_new")
    assert [path.name for path in paths] == names[::2] and len({e["sha256"] for e in content["members"]}) == 5
    assert [entry["metrics"]["steps"] for entry in content["members"]] == [3] * 5
    assert "already trained" in run(train_ensemble, dataset, line, capsys).err
    frame = clusters(1)[0].frame
    said = load_models([dataset / "models_new"]).predict([frame]).energy
    torch = load_models(sorted((dataset / "models_new").glob("*.pt"))).predict([frame]).energy
    np.testing.assert_allclose(torch, said, atol=1e-5)


def test_a_file_stands_for_its_newest_version(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("", "_v2"):
        write_extxyz(dataset / f"data{version}.extxyz", clusters(4))
    refused(train_ensemble, dataset, "--dataset data.extxyz --outdir m --start-from nope.nqx", "nope.nqx")
    assert "data.extxyz: its newest version is data_v2.extxyz" in capsys.readouterr().err


def test_what_the_ensemble_refuses(dataset: Path) -> None:
    refused(train_ensemble, dataset, "--dataset nope --outdir m", "nope: no such file")
    refused(train_ensemble, dataset, TRAIN_ENSEMBLE + " --members 0", "have to be 1 or more")
    refused(train_ensemble, dataset, TRAIN_ENSEMBLE + " --start-from nope.nqx", "nope.nqx is not there")
