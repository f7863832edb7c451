"""Weights of PhysNet and DCMNet on disk: an NPZ of plain arrays, without pickle."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from alfw.core.errors import TrainingError
from alfw.models._physnet_network import Sizes

FORMAT = "alfw physnet 1"


class Weights(NamedTuple):
    """What a file holds: sizes, weights, E0 (eV) by atomic number."""

    sizes: Sizes
    params: Any
    reference: dict[int, float]


def save(path: Path, sizes: Sizes, params: Any, reference: dict[int, float]) -> None:
    """Write one member; the file is there as a whole or not at all."""
    arrays = {
        f"params/{name}": np.asarray(leaf)
        for name, leaf in flax.traverse_util.flatten_dict(params, sep="/").items()
    }
    header = {
        "format": FORMAT,
        "sizes": asdict(sizes),
        "E0_eV": {str(z): e for z, e in sorted(reference.items())},
    }
    temporary = path.with_suffix(".part")
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)
    os.replace(temporary, path)


def load(path: Path) -> Weights:
    """The content of a file.

    Raises
    ------
    TrainingError
        It is missing, damaged, pickled or of another format.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            flat = {
                name.removeprefix("params/"): jnp.asarray(file[name]) for name in file.files if "/" in name
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: cannot be read as PhysNet weights ({error})") from error
    if header.get("format") != FORMAT:
        raise TrainingError(f"{path}: of format {header.get('format')!r}, not {FORMAT!r}")
    sizes = Sizes(**{**header["sizes"], "atomic_numbers": tuple(header["sizes"]["atomic_numbers"])})
    reference = {int(z): float(e) for z, e in header["E0_eV"].items()}
    return Weights(sizes, flax.traverse_util.unflatten_dict(flat, sep="/"), reference)
