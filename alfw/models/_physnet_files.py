"""Weights of PhysNet and DCMNet on disk: an NPZ of plain arrays, without pickle."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols

from alfw.core.errors import TrainingError
from alfw.models._physnet_network import Sizes

FORMAT = "alfw physnet 2"


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


def statistics(path: Path, of_data: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics that the weights in a file stand on; `of_data`: those of the training set.

    Raises
    ------
    TrainingError
        The training set has an element that the weights do not know.
    """
    sizes, _, reference = load(path)
    unknown = [chemical_symbols[z] for z in of_data["species"] if z not in sizes.atomic_numbers]
    if unknown:
        raise TrainingError(
            f"{path}: these weights do not know {', '.join(unknown)}, which the labels have: start without them"
        )
    return {
        **of_data,
        "species": list(sizes.atomic_numbers),
        "E0_eV": {str(z): energy for z, energy in sorted(reference.items())},
        "scale_eV": sizes.scale_eV,
    }


def different(one: Weights, other: Weights) -> str:
    """Names of what the headers of two files do not share; empty where they share all."""
    a, b = asdict(one.sizes), asdict(other.sizes)
    names = [name for name in a if a[name] != b[name]]
    return ", ".join([*names, *(["E0_eV"] if one.reference != other.reference else [])])
