"""Nequix weights as its torch back-end stores them (``.pt``): the header line of a ``.nqx``, then torch's own file.

Only tensors are read (torch's `weights_only`). Both back-ends compute the same network, so weights go from one to the
other by name, and alfw runs them in JAX. Torch's linear layer has one flat vector where e3nn-jax has a matrix for each
irrep.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from nequix.model import Nequix
from numpy.typing import NDArray

from alfw.core.errors import TrainingError
from alfw.models._nequix_network import HEADS

ZIP = b"PK\x03\x04"  # how a file of torch begins
TRUST = "alfw convert checkpoint --trust reads arrays and plain types from a pickle, nothing else"
Slots = dict[str, tuple[jax.Array, ...]]


def save_model(
    path: Path, network: Nequix, header: Mapping[str, Any], heads: NDArray[np.float64] | None
) -> None:
    """Write a ``.pt`` that Nequix's torch back-end reads; a tensor more, `heads`, is not looked at there.

    Raises
    ------
    TrainingError
        That back-end has no such network.
    """
    try:
        check_twin(network)
    except ValueError as error:
        raise TrainingError(f"cannot be written as .pt: {error}") from None
    state = {
        name: torch.from_numpy(np.array(_tensor(name, parts), np.float32))
        for name, parts in _slots(network).items()
    }
    if heads is not None:
        state[HEADS] = torch.from_numpy(np.array(heads, np.float64))
    with open(path, "wb") as file:
        file.write(json.dumps(dict(header)).encode() + b"\n")
        torch.save(state, file)


def read(file: BinaryIO, template: Nequix) -> tuple[Nequix, NDArray[np.float64] | None]:
    """The network that follows a header, and the readouts of a shallow ensemble where there are some.

    Raises
    ------
    ValueError
        There is more than tensors in it, the network has no twin in JAX, or a weight is missing or of another shape.
    """
    check_twin(template)
    state = _state(file.read())
    slots = _slots(template)
    missing = sorted(set(slots) - set(state))
    if missing:
        raise ValueError(f"it lacks the weights {', '.join(missing[:3])}")
    new = [part for name, parts in slots.items() for part in _parts(name, state[name], parts)]
    network = eqx.tree_at(lambda n: [part for parts in _slots(n).values() for part in parts], template, new)
    return network, state.get(HEADS)


def check_twin(network: Nequix) -> None:
    """Raise ValueError for a network that Nequix's torch back-end does not have, or would compute otherwise."""
    if any(layer.index_weights for layer in network.layers):
        raise ValueError(
            "it has weights of its own for each element, which Nequix's torch back-end does not have: train with"
            " index_weights: false"
        )
    degrees = [irrep.l for _, irrep in network.layers[0].output_irreps]
    natural = all(irrep.p == (-1) ** irrep.l for _, irrep in network.layers[0].output_irreps)
    if not natural or degrees != sorted(set(degrees)):
        # Torch takes the features of an atom in this order, whatever hidden_irreps says; the sort of e3nn-jax differs.
        raise ValueError(
            f"Nequix's torch back-end computes hidden_irreps {network.layers[0].output_irreps} wrongly: it needs each"
            " degree once, in ascending order, with natural parity (0e, 1o, 2e …)"
        )


def _state(data: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a torch file, by name."""
    if not data.startswith(ZIP):
        raise ValueError(f"no file of torch follows its header: it is damaged, or a pickle; {TRUST}")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:  # torch does not look at the checksums that it writes
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"it is damaged: the checksum of {damaged} is not that of its content")
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds more than tensors ({named[1]})" if named else "is damaged, or holds more than tensors"
        raise ValueError(f"it {what} and is not read; {TRUST}") from None
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise ValueError("it is not a dictionary of tensors")
    return {str(name): tensor.detach().numpy() for name, tensor in found.items()}


def _slots(network: Nequix) -> Slots:
    """The arrays of a network by the name of the tensor that torch has for them."""
    slots: Slots = {"atom_energies": (network.atom_energies,)}
    for i, layer in enumerate(network.layers):
        name = f"layers.{i}"
        for part in ("linear_1", "linear_2", "skip"):
            slots[f"{name}.{part}.weight"] = _blocks(getattr(layer, part))
        for j, dense in enumerate(layer.radial_mlp.layers):
            slots[f"{name}.radial_mlp.layers.{j}.weights"] = (dense.weights,)
        if layer.layer_norm is not None:
            for j, weight in enumerate(layer.layer_norm.affine_weight):
                slots[f"{name}.layer_norm.affine_weight.{j}"] = (weight,)
    slots["readout.weight"] = _blocks(network.readout)
    return slots


def _blocks(linear: Any) -> tuple[jax.Array, ...]:
    """The matrices of a linear layer in the order in which torch strings them together.

    Their names are ``w[i,j] …``: from irrep i to irrep j. As text, ``w[10,10]`` would come before ``w[2,2]``.
    """
    names = sorted(linear._weights, key=lambda name: [int(n) for n in name[2 : name.index("]")].split(",")])
    return tuple(linear._weights[name] for name in names)


def _tensor(name: str, parts: Sequence[jax.Array]) -> NDArray[Any]:
    """One tensor of these arrays."""
    if name.endswith(".weight"):
        return np.concatenate([np.asarray(part).ravel() for part in parts] or [np.empty(0)])
    return np.asarray(parts[0])


def _parts(name: str, tensor: NDArray[Any], like: Sequence[jax.Array]) -> list[jax.Array]:
    """The arrays in one tensor; shapes and types as in `like`.

    Raises
    ------
    ValueError
        They do not fit.
    """
    if tensor.size != sum(part.size for part in like):
        raise ValueError(f"its {name} has {tensor.size} numbers: not the network that its header describes")
    pieces = np.split(tensor.ravel(), np.cumsum([part.size for part in like])[:-1])
    return [
        jnp.asarray(piece.reshape(part.shape), part.dtype) for piece, part in zip(pieces, like, strict=True)
    ]
