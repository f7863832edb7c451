"""FilesSampler: frames from files of the user."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, molecule
from pydantic import ValidationError

from alfw.core.errors import DataError
from alfw.core.exploration import Exploration
from alfw.core.frame import Frame
from alfw.core.protocols import ReadsFiles, Sampler
from alfw.core.records import Resources
from alfw.core.registry import plugin_class
from alfw.samplers.files import FilesSampler


def images(n: int) -> list[Atoms]:
    """Ethanol, each a little more stretched."""
    out = [molecule("CH3CH2OH") for _ in range(n)]
    for i, atoms in enumerate(out):
        atoms.positions *= 1 + 0.01 * i
    return out


def explore(sampler: FilesSampler, tmp_path: Path) -> Exploration:
    return sampler.run(None, [], seed=0, workdir=tmp_path, resources=Resources())  # type: ignore[arg-type]


def test_reads_files_folders_and_globs(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    ase.io.write(tmp_path / "a.extxyz", images(5))
    ase.io.write(tmp_path / "d" / "b.traj", images(2))
    ase.io.write(tmp_path / "x.xyz", images(3))
    texts: list[str] = []
    sampler = FilesSampler(
        paths=(str(tmp_path / "a.extxyz"), str(tmp_path / "d"), str(tmp_path / "*.xyz")), stride=2
    )
    pool = sampler.run(None, [], 0, tmp_path, Resources(), texts.append)  # type: ignore[arg-type]
    assert pool.walker.tolist() == [0, 0, 0, 1, 2, 2]
    assert pool.step.tolist() == [0, 2, 4, 0, 0, 2]
    assert pool.frames[1].id == Frame.from_atoms(images(3)[2]).id
    assert np.isnan(pool.temperature_K).all() and np.isnan(pool.time_fs).all()
    assert len(texts) == 3 and not pool.unbiased and not pool.events


def test_is_a_sampler_that_reads_files(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.xyz", images(1))
    sampler = FilesSampler(paths=("elsewhere.xyz",), unbiased=True)
    assert plugin_class("alfw.samplers", "files") is FilesSampler
    assert isinstance(sampler, ReadsFiles) and hasattr(sampler, "run") and Sampler
    pool = explore(sampler.reading([str(tmp_path / "a.xyz")]), tmp_path)
    assert len(pool.frames) == 1 and pool.unbiased and sampler.paths == ("elsewhere.xyz",)


def test_charge_and_multiplicity_are_defaults(tmp_path: Path) -> None:
    own, other = images(2)
    own.info.update(charge=-1, multiplicity=3)
    ase.io.write(tmp_path / "a.extxyz", [own, other])
    pool = explore(FilesSampler(paths=(str(tmp_path / "a.extxyz"),), charge=1, multiplicity=2), tmp_path)
    assert [(f.charge, f.multiplicity) for f in pool.frames] == [(-1, 3), (1, 2)]


def test_partial_periodicity_is_refused_unless_vacuum_is_asked_for(tmp_path: Path) -> None:
    slab = fcc111("Cu", (1, 1, 3), vacuum=3.0)
    slab.info.clear()
    ase.io.write(tmp_path / "slab.extxyz", slab)
    with pytest.raises(DataError, match="slab.extxyz"):
        explore(FilesSampler(paths=(str(tmp_path / "slab.extxyz"),)), tmp_path)
    pool = explore(FilesSampler(paths=(str(tmp_path / "slab.extxyz"),), partial_pbc="vacuum"), tmp_path)
    assert pool.frames[0].pbc.all()


@pytest.mark.parametrize(
    "text",
    ["", "not a structure\n", "1\nProperties=species:S:1:pos:R:3\nH 0 0 nan\n"],
    ids=["empty", "garbage", "nan"],
)
def test_unusable_files_are_named_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.extxyz").write_text(text)
    with pytest.raises(DataError, match="bad.extxyz") as error:
        explore(FilesSampler(paths=(str(tmp_path / "bad.extxyz"),)), tmp_path)
    assert "\n" not in str(error.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.xyz"):
        explore(FilesSampler(paths=(str(tmp_path / "nowhere.xyz"),)), tmp_path)


@pytest.mark.parametrize(
    "options", [{"paths": []}, {"paths": ["a"], "stride": 0}, {"paths": ["a"], "every": 2}]
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FilesSampler.model_validate(options)
