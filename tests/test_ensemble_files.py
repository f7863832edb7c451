"""Ensembles on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.models.ensemble import read_ensemble, read_header, write_ensemble
from alfw.models.nequix import NequixModel

MODEL = NequixModel(hidden_irreps="4x0e + 2x1o", n_layers=2, radial_mlp_size=8, members=2)
STATISTICS = {"species": [1, 8], "E0_eV": {"1": -13.5, "8": -2041.0}, "scale_eV": 1.5, "avg_n_neighbors": 2.0}
WATER = Frame([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    return [MODEL.initialise(STATISTICS, seed, folder / str(seed)) for seed in range(2)]


@pytest.fixture
def stored(weights: list[Path], tmp_path: Path) -> Path:
    write_ensemble(tmp_path / "e", weights, [{"seed": 0, "metrics": {"steps": 5}}, {"seed": 1}])
    return tmp_path / "e"


def test_what_is_read_is_what_was_written(stored: Path, weights: list[Path]):
    paths, content = read_ensemble(stored)
    assert [path.name for path in paths] == ["member_0.nqx", "member_1.nqx"]
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in weights]
    assert content["K"] == 2 and content["kind"] == "nequix"
    assert content["shared"]["atom_energies"] == STATISTICS["E0_eV"] and content["shared"]["cutoff"] == 4.0
    assert content["members"][0]["seed"] == 0 and content["members"][0]["metrics"] == {"steps": 5}
    assert read_ensemble(stored / "ensemble.json") == (paths, content)


def test_a_stored_ensemble_predicts_the_same(stored: Path, weights: list[Path]):
    before, after = (MODEL.load(paths).predict([WATER]) for paths in (weights, read_ensemble(stored)[0]))
    assert (before.energy == after.energy).all() and (before.forces[0] == after.forces[0]).all()


def test_an_ensemble_can_be_moved_and_written_in_place(stored: Path):
    moved = stored.rename(stored.parent / "elsewhere")
    paths, _ = read_ensemble(moved)
    write_ensemble(moved, paths)
    assert read_ensemble(moved)[0] == paths
    assert np.isfinite(MODEL.load(paths).predict([WATER]).energy).all()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"scale_eV": 2.0}, "scale"),
        ({"avg_n_neighbors": 3.0}, "avg_n_neighbors"),
        (
            {"species": [1, 6, 8], "E0_eV": {"1": -13.5, "6": -1028.0, "8": -2041.0}},
            "atomic_numbers, atom_energies",
        ),
        ({"E0_eV": {"1": -13.0, "8": -2041.0}}, "atom_energies"),
    ],
)
def test_members_of_other_statistics_are_refused(weights: list[Path], tmp_path: Path, change: dict, key: str):
    other = MODEL.initialise({**STATISTICS, **change}, 0, tmp_path / "other")
    with pytest.raises(TrainingError, match=f"differ in {key}:"):
        write_ensemble(tmp_path / "e", [weights[0], other])
    assert not (tmp_path / "e").exists()


def test_members_of_another_cutoff_are_refused(weights: list[Path], tmp_path: Path):
    other = MODEL.model_copy(update={"cutoff_A": 5.0}).initialise(STATISTICS, 0, tmp_path / "other")
    with pytest.raises(TrainingError, match="differ in cutoff:"):
        write_ensemble(tmp_path / "e", [weights[0], other])


def test_missing_altered_and_foreign_files_are_refused(stored: Path, tmp_path: Path):
    member, index = stored / "member_1.nqx", stored / "ensemble.json"
    whole, content = member.read_bytes(), index.read_text()
    member.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(TrainingError, match="SHA-256"):
        read_ensemble(stored)
    member.unlink()
    with pytest.raises(TrainingError, match=r"member_1\.nqx is missing"):
        read_ensemble(stored)
    member.write_bytes(whole)
    index.write_text(json.dumps({**json.loads(content), "shared": {}}))
    with pytest.raises(TrainingError, match="not what their headers say"):
        read_ensemble(stored)
    for text, match in (
        ("{", "not JSON"),
        ("{}", "format 1"),
        ('{"format": 1, "members": []}', "not complete"),
    ):
        index.write_text(text)
        with pytest.raises(TrainingError, match=match):
            read_ensemble(stored)
    with pytest.raises(TrainingError, match="no ensemble there"):
        read_ensemble(tmp_path / "nowhere")
    with pytest.raises(TrainingError, match="needs weights"):
        write_ensemble(tmp_path / "empty", [])


def test_headers_are_read_without_the_model(weights: list[Path], tmp_path: Path):
    assert read_header(weights[0])["atomic_numbers"] == [1, 8]
    (tmp_path / "text.nqx").write_text("no json\n")
    with pytest.raises(TrainingError, match="first line is not JSON"):
        read_header(tmp_path / "text.nqx")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_header(tmp_path / "nowhere.nqx")
