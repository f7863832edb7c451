"""Weights that are cut off, altered or something else: one line that names the file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alfw.core.errors import PluginError, TrainingError
from alfw.core.ids import sha256
from alfw.models._nequix_network import load, program, save
from alfw.models.ensemble import load_models, read_ensemble, write_ensemble
from alfw.models.nequix import NequixModel

MODEL = NequixModel(hidden_irreps="4x0e + 2x1o", n_layers=2, radial_mlp_size=8, index_weights=False)
STATISTICS = {"species": [1, 8], "E0_eV": {"1": -13.5, "8": -2041.0}, "scale_eV": 1.5, "avg_n_neighbors": 2.0}


@pytest.fixture(scope="module")
def nqx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODEL.initialise(STATISTICS, 0, tmp_path_factory.mktemp("nqx"))


@pytest.fixture(scope="module")
def shallow(nqx: Path) -> Path:
    """With readouts behind the network."""
    found = load(nqx)
    network = program(found.spec).network(found.params)
    save(nqx.with_name("shallow.nqx"), found.spec, network, found.reference, np.ones((4, 4)))
    return nqx.with_name("shallow.nqx")


@pytest.fixture(scope="module")
def pt(nqx: Path) -> Path:
    pytest.importorskip("torch", reason="needs torch: make torch")
    found = load(nqx)
    save(nqx.with_name("member.pt"), found.spec, program(found.spec).network(found.params), found.reference)
    return nqx.with_name("member.pt")


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No more than the outside of PhysNet weights: damage is found before what is inside."""
    path = tmp_path_factory.mktemp("npz") / "member.npz"
    np.savez(path, allow_pickle=False, header=np.array("{}"), **{"params/kernel": np.ones((64, 64))})
    return path


@pytest.fixture(params=["nqx", "shallow", "pt", "npz"])
def weights(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def refused(load: Callable[[], object], path: Path) -> str:
    """The one line that names `path`."""
    with pytest.raises(TrainingError) as caught:
        load()
    message = str(caught.value)
    assert str(path) in message and "\n" not in message, message
    return message


@pytest.mark.parametrize(
    "cut", ["nothing", "in the header", "after the header", "quarter", "half", "last byte"]
)
def test_a_file_that_is_cut_off_is_refused(weights: Path, tmp_path: Path, cut: str) -> None:
    data, path = weights.read_bytes(), tmp_path / weights.name
    header = data.find(b"\n") + 1 or 100
    size = {"nothing": 0, "in the header": header // 2, "after the header": header}
    size |= {"quarter": len(data) // 4, "half": len(data) // 2, "last byte": len(data) - 1}
    path.write_bytes(data[: size[cut]])
    refused(lambda: load_models([path]), path)


def test_a_file_that_ends_between_two_arrays_is_refused(nqx: Path, tmp_path: Path) -> None:
    data, path = nqx.read_bytes(), tmp_path / "cut.nqx"
    starts = [found.start() for found in re.finditer(rb"\x93NUMPY", data)]
    assert len(starts) > 10
    for start in (starts[0], starts[5], starts[-1]):
        path.write_bytes(data[:start])
        refused(lambda: load_models([path]), path)


def test_one_byte_of_a_member_is_found_by_its_sha256(nqx: Path, tmp_path: Path) -> None:
    other = MODEL.initialise(STATISTICS, 1, tmp_path / "other")
    write_ensemble(tmp_path / "e", [nqx, other])
    member = tmp_path / "e" / "member_1.nqx"
    data = member.read_bytes()
    stated = sha256(data)
    for place in (len(data) // 3, len(data) // 2, len(data) - 2):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        member.write_bytes(changed)
        message = refused(lambda: load_models([tmp_path / "e"]), member)
        assert f"SHA-256 is {sha256(changed)[:12]}…, not {stated[:12]}… as in ensemble.json" in message
    member.write_bytes(data[:-5])
    assert stated[:12] in refused(lambda: read_ensemble(tmp_path / "e"), member)
    member.write_bytes(data)
    assert load_models([tmp_path / "e"]).members == 2


def test_one_byte_of_a_file_with_checksums_is_found_without_ensemble(
    pt: Path, npz: Path, tmp_path: Path
) -> None:
    for weights in (pt, npz):
        data, path = weights.read_bytes(), tmp_path / weights.name
        place = len(data) // 2 if weights is npz else data.index(b"readout.weight") - 200
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        refused(lambda path=path: load_models([path]), path)


def test_where_torch_is_missing_the_line_that_installs_it_is_said(
    nqx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "alfw.models._nequix_torch", raising=False)
    (tmp_path / "member.pt").write_bytes(nqx.read_bytes())
    with pytest.raises(PluginError, match="needs the package 'torch': make torch, or: pip install torch"):
        load_models([tmp_path / "member.pt"])


def test_weights_that_are_no_numbers_are_refused(nqx: Path, tmp_path: Path) -> None:
    data, path = nqx.read_bytes(), tmp_path / "nan.nqx"
    path.write_bytes(data[:-4] + np.array([np.nan], np.float32).tobytes())
    assert "not finite" in refused(lambda: load_models([path]), path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"4x0e + 2x1o"', b'"4x0e + 2x1q"'),
        (b'"n_layers": 2', b'"n_layers": 3'),
        (b'"lmax": 1', b'"lmax": "1"'),
        (b'"atomic_numbers": [1, 8]', b'"atomic_numbers": null'),
        (b'"atom_energies": {', b'"atom_energies": [{'),
    ],
)
def test_a_header_that_does_not_fit_is_refused(nqx: Path, tmp_path: Path, old: bytes, new: bytes) -> None:
    data, path = nqx.read_bytes(), tmp_path / "other.nqx"
    assert old in data
    header, rest = data.replace(old, new).split(b"\n", 1)
    path.write_bytes(header.replace(b"}}", b"}]}" if b"[{" in new else b"}}") + b"\n" + rest)
    refused(lambda: load_models([path]), path)
