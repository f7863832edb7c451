"""Checkpoints of the mmml project's joint PhysNet + DCMNet trainer: pickles, rewritten as an NPZ of plain arrays.

Its networks are not those of `alfw.models.physnet`, so the weights are not turned into one of ours: beside the NPZ a
recipe is written that runs them by mmml's own code, as a model of kind ``external``.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import StrictUndefined, Template
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.core.ids import sha256
from alfw.io.files import write_file
from alfw.models._pickles import read_plain

FORMAT = "mmml PhysNet + DCMNet 1"
PARAMS, CONFIG = "best_params.pkl", "model_config.pkl"
# The configuration of the charge model, the name of its weights, and the class that has both networks.
NETWORKS = {
    "dcmnet_config": ("dcmnet", "JointPhysNetDCMNet"),
    "noneq_config": ("noneq_model", "JointPhysNetNonEquivariant"),
}


class Checkpoint(NamedTuple):
    """What the two pickles hold.

    Attributes
    ----------
    header : dict of JSON data
        format, network (class of mmml's trainer.py), configs, mix_coulomb_energy, source (file, sha256).
    arrays : {path: array}
        Weights by their place in the tree: ``params/physnet/Dense_0/0+/kernel``.
    """

    header: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def is_checkpoint(path: Path) -> bool:
    """Whether this is a folder of mmml's trainer."""
    return (path / PARAMS).is_file()


def read(path: Path) -> Checkpoint:
    """The checkpoint in a folder, or of its ``best_params.pkl``; only arrays and plain types are read.

    Raises
    ------
    TrainingError
        A file is missing or damaged, holds anything else, or the two are not of one model.
    """
    params = path / PARAMS if path.is_dir() else path
    config = params.with_name(CONFIG)
    if not config.is_file():
        raise TrainingError(
            f"{config} is missing: mmml's trainer writes it beside {PARAMS}; the weights alone do not tell the network"
        )
    found = _described(read_plain(config), config)
    tree = _tree(read_plain(params), params, found)
    header = {
        "format": FORMAT,
        **found,
        "source": [{"file": file.name, "sha256": sha256(file.read_bytes())} for file in (params, config)],
    }
    return Checkpoint(header, {f"params/{name}": array for name, array in _flat(tree, params)})


def outputs(target: Path) -> list[Path]:
    """The files of a converted checkpoint: the weights, the recipe, the code that it names."""
    module = re.sub(r"\W", "_", target.stem, flags=re.ASCII)
    return [target, target.with_suffix(".yaml"), target.with_name(f"mmml_{module}.py")]


def write(target: Path, checkpoint: Checkpoint) -> list[Path]:
    """The files written: see `outputs`.

    Raises
    ------
    DataError
        They cannot be written.
    """
    weights, recipe, code = outputs(target.resolve())
    templates = files("alfw.fw_templates") / "models"
    write_file(code, (templates / "mmml_calculator.py").read_bytes())
    template = Template(
        (templates / "mmml.yaml.in").read_text(encoding="utf-8"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    source = ", ".join(f"{each['file']} {each['sha256'][:12]}" for each in checkpoint.header["source"])
    text = template.render(
        network=checkpoint.header["network"],
        source=source,
        folder=code.parent,
        module=code.stem,
        weights=json.dumps(str(weights)),
    )
    write_file(recipe, text.encode())
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, header=np.array(json.dumps(checkpoint.header)), **checkpoint.arrays)
    write_file(weights, buffer.getvalue())
    return [weights, recipe, code]


def _described(content: Any, path: Path) -> dict[str, Any]:
    """Network, configurations and mixing of a ``model_config.pkl``, as JSON data."""
    names = [name for name in NETWORKS if isinstance(content, Mapping) and name in content]
    wanted = ["physnet_config", *names]
    if len(names) != 1 or not all(isinstance(content.get(name), Mapping) for name in wanted):
        raise TrainingError(
            f"{path}: not of mmml's trainer: it needs physnet_config, and either {' or '.join(NETWORKS)}"
        )
    return {
        "network": NETWORKS[names[0]][1],
        "configs": {name: _json(content[name]) for name in wanted},
        "mix_coulomb_energy": bool(content.get("mix_coulomb_energy", False)),
    }


def _tree(content: Any, path: Path, described: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights of both networks, checked against the configuration."""
    while isinstance(content, Mapping) and "params" in content:
        content = content["params"]
    charges = next(name for config, (name, _) in NETWORKS.items() if config in described["configs"])
    if not isinstance(content, Mapping) or not {"physnet", charges} <= set(content):
        raise TrainingError(f"{path}: has no weights of physnet and {charges}")
    try:
        shape = content["physnet"]["Embed_0"]["embedding"].shape
        config = described["configs"]["physnet_config"]
        fits = (shape[0], shape[-1]) == (config["max_atomic_number"] + 1, config["features"])
    except (KeyError, TypeError, AttributeError, IndexError):
        raise TrainingError(
            f"{path}: its physnet has no Embed_0/embedding, or its configuration no sizes"
        ) from None
    if not fits:
        raise TrainingError(f"{path} and {CONFIG} are not of one model: the sizes of physnet differ")
    return content


def _flat(tree: Mapping[Any, Any], path: Path, above: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and array of each leaf."""
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, path, f"{name}/")
        elif not isinstance(value, np.ndarray) or "/" in str(key):
            raise TrainingError(f"{path}: {name} is not an array")
        elif not np.isfinite(value).all():
            raise TrainingError(f"{path}: {name} has numbers that are not finite")
        else:
            yield name, np.ascontiguousarray(value.astype(value.dtype.newbyteorder("=")))


def _json(value: Any) -> Any:
    """The same with numbers and lists for arrays."""
    if isinstance(value, Mapping):
        return {str(key): _json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
