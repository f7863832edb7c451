"""Nequix's torch back-end: its files in our ensembles, ours in its calculator."""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase import Atoms

pytest.importorskip("torch", reason="needs torch: make torch")
pytest.importorskip("torch_geometric", reason="needs torch: make torch")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch.jit in e3nn, of numpy 2 in nequix

from alfw.core.errors import DataError, TrainingError  # noqa: E402
from alfw.core.frame import Frame  # noqa: E402
from alfw.core.records import Label, Labeled, Resources, TrainingData  # noqa: E402
from alfw.models._nequix_network import Spec, load, program, save  # noqa: E402
from alfw.models.ensemble import load_models, read_ensemble, write_ensemble  # noqa: E402
from alfw.models.nequix import NequixModel  # noqa: E402
from alfw.steps.convert import convert_checkpoint  # noqa: E402

FOUNDATION = Path(__file__).resolve().parents[2] / "shared" / "models" / "nequix-mp-1.nqx"
SPEC = Spec(
    atomic_numbers=(1, 6, 8),
    hidden_irreps="4x0e + 2x1o",
    lmax=1,
    cutoff=4.0,
    n_layers=2,
    radial_basis_size=4,
    radial_mlp_size=8,
    radial_mlp_layers=2,
    radial_polynomial_p=6.0,
    mlp_init_scale=4.0,
    index_weights=False,
    layer_norm=True,
    shift=0.1,
    scale=0.7,
    avg_n_neighbors=5.5,
)
E0 = {1: -1.5, 6: -2.25, 8: -3.1}
MOLECULE = Atoms("COHH", [[0, 0, 0], [0.1, 0, 1.2], [0.95, 0, -0.55], [-0.93, 0.1, -0.6]])
CRYSTAL = Atoms(
    "COHC", [[0, 0, 0], [1.1, 1.2, 0.1], [2, 0.1, 1.3], [0.3, 2.2, 2.1]], cell=[3.3, 3.6, 3.9], pbc=True
)


def made(path: Path, spec: Spec = SPEC, seed: int = 0, heads: Any = None) -> Path:
    """A file with random weights."""
    path.parent.mkdir(exist_ok=True)
    save(path, spec, spec.build(seed), E0, heads)
    return path


def torch_made(path: Path, spec: Spec) -> Path:
    """A file with random weights as Nequix's own torch code writes it; nothing of ours is in it."""
    import torch
    from nequix.torch_impl.model import NequixTorch, save_model

    torch.manual_seed(1)
    options = asdict(spec)
    del options["atomic_numbers"]
    network = NequixTorch(n_species=3, atom_energies=list(E0.values()), **options)
    for weight in network.parameters():  # those of layer_norm begin as ones, which would hide a mistake
        weight.data += 0.1 * torch.randn_like(weight)
    save_model(str(path), network, asdict(spec) | {"atom_energies": {str(z): e for z, e in E0.items()}})
    return path


def by_torch(path: Path, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray | None]:
    """Energy, forces and stress of Nequix's own calculator."""
    from nequix.calculator import NequixCalculator

    atoms = atoms.copy()
    atoms.calc = NequixCalculator(model_path=os.fspath(path), backend="torch", use_kernel=False)
    stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else None
    return atoms.get_potential_energy(), atoms.get_forces(), stress


def assert_same(path: Path, other: Path) -> None:
    """Our prediction of `path` is that of torch for `other`.

    In float64 the two agree to 1e-12 eV. In float32 e3nn-jax rounds the norms of its activations, in Nequix's own JAX
    back-end as in ours, which is felt in the sixth digit.
    """
    for atoms in (MOLECULE, CRYSTAL):
        energy, forces, stress = by_torch(other, atoms)
        said = NequixModel().load([path]).predict([Frame.from_atoms(atoms)])
        assert np.abs(forces).max() > 0.02
        assert said.energy[0, 0] == pytest.approx(energy, abs=2e-5)
        np.testing.assert_allclose(said.forces[0][0], forces, atol=1e-4)
        if stress is not None:
            np.testing.assert_allclose(said.stress[0][0], stress, atol=1e-5)


LARGER = replace(SPEC, hidden_irreps="6x0e + 3x1o + 2x2e", lmax=2, n_layers=3, layer_norm=False)


@pytest.mark.parametrize("spec", [SPEC, LARGER], ids=["layer norm", "larger"])
def test_weights_of_torch_predict_what_they_do_in_torch(tmp_path: Path, spec: Spec) -> None:
    path = torch_made(tmp_path / "torch.pt", spec)
    assert_same(path, path)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_nequix_opens_in_torch_what_we_write(tmp_path: Path, layer_norm: bool) -> None:
    ours = made(tmp_path / "ours.nqx", replace(SPEC, layer_norm=layer_norm))
    report = convert_checkpoint(ours, tmp_path / "ours.pt")
    assert report["format"] == "nequix torch" and report["n_members"] == 1
    assert_same(ours, tmp_path / "ours.pt")


def test_there_and_back_is_the_same_file(tmp_path: Path) -> None:
    heads = np.random.default_rng(0).standard_normal((4, 4))
    ours = made(tmp_path / "ours.nqx", heads=heads)
    convert_checkpoint(ours, tmp_path / "ours.pt")
    assert load(tmp_path / "ours.pt").heads.dtype == np.float64
    convert_checkpoint(tmp_path / "ours.pt", tmp_path / "again.nqx")
    assert (tmp_path / "again.nqx").read_bytes() == ours.read_bytes()


def test_an_ensemble_may_have_members_of_both(tmp_path: Path) -> None:
    paths = [made(tmp_path / "a.nqx"), made(tmp_path / "b.pt", seed=1)]
    twin = made(tmp_path / "b.nqx", seed=1)
    write_ensemble(tmp_path / "e", paths, [{"seed": 3}, {"seed": 4}])
    stored, content = read_ensemble(tmp_path / "e")
    assert [path.name for path in stored] == ["member_0.nqx", "member_1.pt"]
    assert content["shared"]["cutoff"] == 4.0 and content["shared"]["atom_energies"]["8"] == -3.1
    frames = [Frame.from_atoms(MOLECULE)]
    said = load_models([tmp_path / "e"]).predict(frames)
    assert (said.energy == NequixModel().load([paths[0], twin]).predict(frames).energy).all()
    # A folder without index: the .pt beside its .nqx is no member of its own.
    assert load_models([tmp_path]).members == 2
    report = convert_checkpoint(tmp_path / "e", tmp_path / "jax")
    assert [Path(path).name for path in report["files"]] == ["member_0.nqx", "member_1.nqx", "ensemble.json"]
    assert [entry["seed"] for entry in read_ensemble(tmp_path / "jax")[1]["members"]] == [3, 4]
    assert (load_models([tmp_path / "jax"]).predict(frames).energy == said.energy).all()


@pytest.mark.parametrize("suffix", [".nqx", ".pt"])
@pytest.mark.parametrize(("key", "value"), [("cutoff", 5.0), ("scale", 0.8), ("avg_n_neighbors", 6.0)])
def test_members_that_differ_are_refused(tmp_path: Path, suffix: str, key: str, value: float) -> None:
    one = made(tmp_path / "one.pt")
    other = made(tmp_path / f"other{suffix}", replace(SPEC, **{key: value}))
    with pytest.raises(TrainingError, match=f"differ in {key}:"):
        write_ensemble(tmp_path / "e", [one, other])
    with pytest.raises(TrainingError, match=f"differ in {key}$"):
        load_models([one, other])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"index_weights": True}, "train with index_weights: false"),
        ({"hidden_irreps": "2x1o + 4x0e"}, r"needs each degree once, in ascending order"),
        ({"hidden_irreps": "2x0e + 2x1o + 2x0e"}, r"needs each degree once, in ascending order"),
    ],
)
def test_what_torch_does_not_have_is_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    ours = made(tmp_path / "ours.nqx", replace(SPEC, **change))
    with pytest.raises(TrainingError, match=rf"ours\.nqx: cannot be written as \.pt: .*{match}"):
        convert_checkpoint(ours, tmp_path / "ours.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.nqx"]


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pt_that_holds_code_is_not_run(tmp_path: Path) -> None:
    import torch

    path, good = tmp_path / "evil.pt", made(tmp_path / "good.pt")
    header = good.read_bytes().split(b"\n")[0] + b"\n"
    with open(path, "wb") as file:
        file.write(header)
        torch.save({"weight": Evil(tmp_path / "owned")}, file)
    with pytest.raises(
        TrainingError, match=r"evil\.pt: .*holds more than tensors \(getattr\).*convert checkpoint --trust"
    ):
        load_models([path])
    for content in (header + pickle.dumps(Evil(tmp_path / "owned")), pickle.dumps(Evil(tmp_path / "owned"))):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=r"evil\.pt: .*convert checkpoint --trust"):
            load_models([path])
    torch.save(torch.nn.Linear(1, 1), path)  # a whole module, without Nequix's header
    with pytest.raises(TrainingError, match=r"evil\.pt: a pickle.*convert checkpoint --trust"):
        load_models([path])
    assert not (tmp_path / "owned").exists()


def test_a_pt_of_another_network_than_its_header_is_refused(tmp_path: Path) -> None:
    small = made(tmp_path / "small.pt")
    large = made(tmp_path / "large.pt", replace(SPEC, hidden_irreps="5x0e + 2x1o"))
    less = made(tmp_path / "less.pt", replace(SPEC, layer_norm=False))
    header = small.read_bytes().split(b"\n")[0] + b"\n"
    for other, match in (
        (large, "not the network that its header describes"),
        (less, r"lacks the weights layers\.0\.layer_norm"),
    ):
        small.write_bytes(header + other.read_bytes().split(b"\n", 1)[1])
        with pytest.raises(TrainingError, match=match):
            load(small)


@pytest.mark.slow  # it trains
def test_a_campaign_starts_from_weights_of_torch(tmp_path: Path) -> None:
    made(tmp_path / "start.pt")
    options = NequixModel.with_files({"kind": "nequix", "start_from": "start.pt", "members": 1}, tmp_path)
    model = NequixModel(**options, training={"steps": 3, "batch_size": 2})
    assert model.known_species() == {1, 6, 8}
    frames = [Frame.from_atoms(MOLECULE), Frame.from_atoms(MOLECULE[:3])]
    data = TrainingData([Labeled(frame, Label(-9.0, np.zeros((len(frame), 3)))) for frame in frames])
    statistics = model.statistics(data, tmp_path / "start.pt")
    assert statistics["scale_eV"] == SPEC.scale
    data = TrainingData(data.train, data.valid, statistics)
    weights = model.train(data, 0, tmp_path / "start.pt", tmp_path / "m", Resources())
    assert weights.suffix == ".nqx" and load(weights).spec == SPEC
    (tmp_path / "start.pt").write_bytes(b"\x80\x04")
    with pytest.raises((DataError, TrainingError), match="a pickle"):
        NequixModel.with_files({"start_from": "start.pt"}, tmp_path)


@pytest.mark.slow
def test_the_published_checkpoint_predicts_the_same_in_torch(tmp_path: Path) -> None:
    if not FOUNDATION.is_file():
        pytest.skip(f"needs nequix-mp-1.nqx: {FOUNDATION}")
    convert_checkpoint(FOUNDATION, tmp_path / "mp.pt")
    before, after = load(FOUNDATION), load(tmp_path / "mp.pt")
    assert before.spec == after.spec and before.reference == after.reference
    for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert program(before.spec) is program(after.spec)
    energy, forces, _ = by_torch(tmp_path / "mp.pt", MOLECULE)
    said = NequixModel().load([FOUNDATION]).predict([Frame.from_atoms(MOLECULE)])
    assert said.energy[0, 0] == pytest.approx(energy, abs=1e-5)
    np.testing.assert_allclose(said.forces[0][0], forces, atol=1e-4)
