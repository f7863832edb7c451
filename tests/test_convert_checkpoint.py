"""`alfw convert checkpoint`: pickled checkpoints of mmml's trainer, read without running them; what else is refused."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from ruamel.yaml import YAML
from shell import Shell

from alfw.core.errors import TrainingError
from alfw.core.frame import Frame
from alfw.models._pickles import read_plain
from alfw.models.ase import ASEModel
from alfw.models.calculator import calculator
from alfw.models.ensemble import load_models
from alfw.models.nequix import NequixModel

F, Z, BASIS = 8, 9, 6  # features, highest element, radial functions; the trainer's defaults are 64, 28, 64
PHYSNET = {
    **{"features": F, "max_degree": 0, "num_iterations": 2, "num_basis_functions": BASIS, "cutoff": 6.0},
    **{"max_atomic_number": Z, "charges": True, "natoms": 3, "total_charge": 0.0, "n_res": 2, "zbl": False},
    **{"use_energy_bias": True, "debug": False, "efa": False},
}
DCMNET = {
    **{"features": F, "max_degree": 2, "num_iterations": 2, "num_basis_functions": BASIS, "cutoff": 10.0},
    **{"max_atomic_number": Z, "n_dcm": 3, "include_pseudotensors": False},
}
CONFIG = {"physnet_config": PHYSNET, "dcmnet_config": DCMNET, "mix_coulomb_energy": False}


def dense(inside: int, outside: int, degrees: int = 1, bias: bool = True) -> dict[str, Any]:
    """Shapes of an e3x.nn.Dense."""
    names = ["0+", "1-", "2+"][:degrees]
    shapes: dict[str, Any] = {name: {"kernel": (inside, outside)} for name in names}
    if bias:
        shapes["0+"]["bias"] = (outside,)
    return shapes


def message(l_in: int, l_basis: int, l_out: int) -> dict[str, Any]:
    """Shapes of an e3x.nn.MessagePass."""
    filters = {name: {"kernel": (BASIS, F)} for name in ["0+", "1-", "2+"][: l_basis + 1]}
    return {"filter": filters, "tensor": {"kernel": (1, l_in + 1, 1, l_basis + 1, 1, l_out + 1, F)}}


# What `init` of mmml's networks gives for these configurations.
SHAPES = {
    "physnet": {
        "Embed_0": {"embedding": (Z + 1, 1, 1, F)},
        **{f"MessagePass_{i}": message(0, 0, 0) for i in range(2)},
        **{f"Dense_{i}": dense(F, F) for i in range(6)},
        **{"Dense_6": dense(F, 1, bias=False), "Dense_7": {"kernel": (1, 1)}, "energy_bias": (Z + 1,)},
        **{"Dense_8": dense(F, 1, bias=False), "Dense_9": {"kernel": (1, 1)}, "charge_bias": (Z + 1,)},
    },
    "dcmnet": {
        "Embed_0": {"embedding": (Z + 1, 1, 1, F)},
        **{"MessagePass_0": message(0, 2, 2), "MessagePass_1": message(2, 2, 2)},
        **{f"Dense_{i}": dense(F, F, 3) for i in range(4)},
        "TensorDense_0": {"dense": dense(F, 6, 3), "tensor": {"kernel": (1, 3, 1, 3, 1, 2, 3)}},
        **{"element_bias": (Z + 1,), "Dense_4": {"kernel": (3, 3)}},
    },
    "charge_mixer": {
        **{"Dense_0": {"kernel": (33, 64), "bias": (64,)}, "Dense_1": {"kernel": (64, 64), "bias": (64,)}},
        "Dense_2": {"kernel": (64, 2), "bias": (2,)},
    },
}


def tree(shapes: Any, rng: np.random.Generator) -> Any:
    """Random JAX arrays of these shapes."""
    if isinstance(shapes, dict):
        return {name: tree(inside, rng) for name, inside in shapes.items()}
    return jnp.asarray(rng.standard_normal(shapes), jnp.float32)


PARAMS = {"params": tree(SHAPES, np.random.default_rng(0))}


def checkpoint(folder: Path, params: Any = PARAMS, config: Any = CONFIG, protocol: int = 4) -> Path:
    """A folder as mmml's trainer leaves it."""
    folder.mkdir(parents=True)
    (folder / "best_params.pkl").write_bytes(pickle.dumps(params, protocol))
    (folder / "model_config.pkl").write_bytes(pickle.dumps(config, protocol))
    return folder


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_pickle_becomes_an_npz_and_a_recipe(shell: Shell) -> None:
    folder = checkpoint(shell.folder / "ckpt" / "co2")
    said = shell.json("convert", "checkpoint", "ckpt/co2", "--trust", "-o", "co2.npz")
    assert said["format"] == "mmml PhysNet + DCMNet 1"
    assert [Path(path).name for path in said["files"]] == ["co2.npz", "co2.yaml", "mmml_co2.py"]
    with np.load(shell.folder / "co2.npz", allow_pickle=False) as file:
        header = json.loads(str(file["header"]))
        arrays = {name: file[name] for name in file.files if name != "header"}
    assert header["network"] == "JointPhysNetDCMNet" and header["mix_coulomb_energy"] is False
    assert header["configs"] == {"physnet_config": PHYSNET, "dcmnet_config": DCMNET}
    assert [source["file"] for source in header["source"]] == ["best_params.pkl", "model_config.pkl"]
    assert len(arrays) == 61
    tensor = PARAMS["params"]["dcmnet"]["MessagePass_1"]["tensor"]["kernel"]
    np.testing.assert_array_equal(arrays["params/dcmnet/MessagePass_1/tensor/kernel"], tensor)
    assert arrays["params/physnet/Dense_0/0+/bias"].dtype == np.float32
    # From the file itself; nothing there is replaced without --force.
    again = ("convert", "checkpoint", folder / "best_params.pkl", "--trust", "-o", "co2.npz")
    assert "co2.npz exists" in shell.here(*again, code=1).line
    before = (shell.folder / "co2.npz").read_bytes()
    assert "next: " in shell.here(*again, "--force").err
    assert (shell.folder / "co2.npz").read_bytes() == before
    with pytest.raises(TrainingError, match="of format 'mmml PhysNet"):
        load_models([shell.folder / "co2.npz"])


# Stands for mmml: E = the sum of all weights, so that no weight can be lost or misplaced unseen.
TRAINER = """
import numpy as np

class JointPhysNetDCMNet:
    def __init__(self, physnet_config, dcmnet_config, mix_coulomb_energy=False):
        self.physnet_config, self.dcmnet_config = physnet_config, dcmnet_config
        self.sizes = physnet_config["features"], dcmnet_config["n_dcm"], mix_coulomb_energy
"""
CALCULATOR = """
import numpy as np
from ase.calculators.calculator import Calculator, all_changes

class SimpleInferenceCalculator(Calculator):
    implemented_properties = ["energy", "forces", "dipole", "charges"]

    def __init__(self, model, params, cutoff=10.0, use_dcmnet_dipole=False, **kwargs):
        super().__init__(**kwargs)
        self.model, self.params, self.use_dcmnet_dipole = model, params, use_dcmnet_dipole
        assert cutoff == 10.0 and model.sizes == (8, 3, False)

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] = float(self.params["params"]["dcmnet"]["Dense_3"]["1-"]["kernel"].sum())
        self.results["forces"] = np.zeros((len(atoms), 3))
        self.results["dipole"] = np.array([1.0, 2.0, 3.0 + self.use_dcmnet_dipole])
"""


def test_the_recipe_runs_the_weights_in_another_interpreter(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    mmml = shell.folder / "mmml-main"
    (mmml / "mmml" / "calculators").mkdir(parents=True)
    (mmml / "trainer.py").write_text(TRAINER)
    (mmml / "mmml" / "calculators" / "simple_inference.py").write_text(CALCULATOR)
    checkpoint(shell.folder / "c", freeze(PARAMS))
    shell.here("convert", "checkpoint", "c", "--trust", "-o", "my-model.npz")
    recipe = YAML(typ="safe").load((shell.folder / "my-model.yaml").read_text())["model"]
    assert recipe["calculator"] == "mmml_my_model:calculator" and recipe["python"] == ">>mmml_python<<"
    monkeypatch.setenv("PYTHONPATH", f"{shell.folder}:{mmml}")
    potential = ASEModel(**{**recipe, "python": sys.executable}).load([Path("unused")])
    said = potential.predict([Frame([6, 8, 8], [[0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]])])
    weights = PARAMS["params"]["dcmnet"]["Dense_3"]["1-"]["kernel"]
    assert said.energy[0, 0] == pytest.approx(float(weights.sum()) - 1029.499 - 2 * 2041.878, abs=1e-4)
    assert said.dipole[0, 0].tolist() == [1.0, 2.0, 4.0]


def test_a_pickle_is_never_a_model(shell: Shell, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c")
    (tmp_path / "weights.npz").write_bytes((folder / "best_params.pkl").read_bytes())
    (tmp_path / "weights.nqx").write_bytes(pickle.dumps({}, 2))
    np.savez(tmp_path / "objects.npz", allow_pickle=True, header=np.array({"a": 1}, object))
    for path in (folder, folder / "best_params.pkl", *sorted(tmp_path.glob("*.n*"))):
        for load in (lambda path: load_models([path]), calculator):
            with pytest.raises(TrainingError, match=r"a pickle.*: alfw convert checkpoint --trust"):
                load(path)
    with pytest.raises(TrainingError, match="a pickle"):
        NequixModel().load([tmp_path / "weights.nqx"])
    with pytest.raises(TrainingError, match="a pickle"):
        NequixModel.with_files({"start_from": "c/best_params.pkl"}, tmp_path)
    for source in ("c", "c/best_params.pkl", "weights.npz", "objects.npz"):
        line = shell.here("convert", "checkpoint", source, "-o", "out.npz", code=1).line
        assert "a pickle" in line and "--trust" in line
    assert not (tmp_path / "out.npz").exists()


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_in_a_pickle_is_executed(shell: Shell, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    evil = [
        ({"params": {**PARAMS["params"], "more": Evil(owned)}}, CONFIG),
        ({"params": np.array([Evil(owned)], object)}, CONFIG),
        (PARAMS, {**CONFIG, "mix_coulomb_energy": Evil(owned)}),
    ]
    for number, (params, config) in enumerate(evil):
        checkpoint(tmp_path / str(number), params, config)
        line = shell.here("convert", "checkpoint", number, "--trust", "-o", "x.npz", code=1).line
        assert "nothing of it was executed" in line and ("pathlib.Path.touch" in line or "'O8'" in line)
    (tmp_path / "x.pkl").write_bytes(
        b"cnumpy\ndtype\n}(S'_function'\nI1\nub."
    )  # not even the calls that are allowed
    with pytest.raises(TrainingError, match="holds a change of a function"):
        read_plain(tmp_path / "x.pkl")
    assert not owned.exists() and not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({1, 2}, "a set"),
        ([b"bytes"], "a bytes"),
        (1j, r"builtins\.complex"),
        (np.array(["text"]), "an array of type 'U4'"),
        (np.zeros(2, [("a", float)]), "an array of type 'V8'"),
        (np.ma.zeros(2), r"numpy\.ma\.core\._mareconstruct"),
        (jnp.zeros(2, jnp.bfloat16), r"ml_dtypes\.bfloat16"),
        (Path("x"), r"pathlib\.PosixPath"),
        ({(1, 2): 3}, "a key that is a tuple"),
    ],
)
def test_what_is_neither_array_nor_plain_is_named(tmp_path: Path, content: Any, named: str) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(TrainingError, match=rf"x\.pkl: holds {named}, which is neither"):
        read_plain(tmp_path / "x.pkl")


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_plain_types_are_read_from_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = {
        "jax": jnp.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "other end": np.arange(3, dtype=">f8"),
        "scalar": np.float32(0.1),
        "plain": [1, 2.5, None, True, "text", (1,)],
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(freeze(content), protocol))
    found = read_plain(tmp_path / "x.pkl")
    assert found["plain"] == content["plain"]
    for name in ("jax", "columns", "other end", "scalar"):
        assert type(found[name]) is np.ndarray
        np.testing.assert_array_equal(found[name], content[name])


def test_a_checkpoint_that_is_not_whole_is_refused(shell: Shell, tmp_path: Path) -> None:
    whole = checkpoint(tmp_path / "whole") / "best_params.pkl"
    data = whole.read_bytes()
    other = {**PARAMS["params"], "physnet": {**PARAMS["params"]["physnet"]}}
    other["physnet"]["Embed_0"] = {"embedding": jnp.zeros((Z + 1, 1, 1, F + 1))}
    broken = {**PARAMS["params"], "charge_mixer": {"Dense_0": {"kernel": jnp.array([jnp.inf])}}}
    cases = [
        (checkpoint(tmp_path / "a", {"weights": 1}), "has no weights of physnet and dcmnet"),
        (checkpoint(tmp_path / "b", config={"model": 1}), "not of mmml's trainer"),
        (checkpoint(tmp_path / "c", other), "are not of one model"),
        (checkpoint(tmp_path / "d", broken), "charge_mixer/Dense_0/kernel has numbers that are not finite"),
        (
            checkpoint(tmp_path / "e", config={**CONFIG, "noneq_config": {}}),
            "either dcmnet_config or noneq_config",
        ),
    ]
    for folder, expected in cases:
        line = shell.here("convert", "checkpoint", folder, "--trust", "-o", "x.npz", code=1).line
        assert expected in line
    for cut in (0, 1, 20, len(data) // 2, len(data) - 1):
        whole.write_bytes(data[:cut])
        line = shell.here("convert", "checkpoint", whole, "--trust", "-o", "x.npz", code=1).line
        assert "best_params.pkl: not a complete pickle" in line
    whole.write_bytes(data)
    (whole.parent / "model_config.pkl").unlink()
    line = shell.here("convert", "checkpoint", whole, "--trust", "-o", "x.npz", code=1).line
    assert "model_config.pkl is missing" in line
    assert not (tmp_path / "x.npz").exists()


def test_other_files_and_names_are_refused(shell: Shell, tmp_path: Path) -> None:
    checkpoint(tmp_path / "c")
    (tmp_path / "model.nqx").write_text("{}\n")
    for words, expected in (
        (("nowhere.nqx", "-o", "x.pt"), "nowhere.nqx: cannot be read"),
        (("model.nqx", "-o", "x.nqx"), "its name must end in .pt"),
        (("model.nqx", "-o", "x.pt"), "its header lacks atomic_numbers"),
        (("c", "--trust", "-o", "x.pt"), "its name must end in .npz"),
        (("notes.txt", "-o", "x.pt"), "not a checkpoint"),
    ):
        assert expected in shell.here("convert", "checkpoint", *words, code=1).line
