"""Nequix networks: their description, weights on disk, and the energies, forces and stress of padded graphs.

Members of an ensemble are built separately, but e3nn compares the static part of a network by identity. Therefore all
networks of one `Spec` share one template (`program`), from which only arrays differ: they can be stacked, and a
function compiled for one member serves all of them, in this round and the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from nequix.model import Nequix, save_model
from numpy.typing import NDArray

from alfw.core.errors import AlfwError, TrainingError
from alfw.core.registry import private
from alfw.models._jax import foreign_code
from alfw.models.ensemble import read_header
from alfw.models.graphs import Graphs

Params = Any  # a pytree with the arrays of a network
Heads = NDArray[np.float64]  # (K, D): the readouts of a shallow ensemble
Array = jax.Array
HEADS = "alfw_heads"  # key of a header: how many readouts follow the network


@dataclass(frozen=True)
class Spec:
    """All that is not a weight: the header of a ``.nqx`` file, in Nequix's own words (lengths in Å, energies in eV)."""

    atomic_numbers: tuple[int, ...]
    hidden_irreps: str
    lmax: int
    cutoff: float
    n_layers: int
    radial_basis_size: int
    radial_mlp_size: int
    radial_mlp_layers: int
    radial_polynomial_p: float
    mlp_init_scale: float
    index_weights: bool
    layer_norm: bool
    shift: float
    scale: float
    avg_n_neighbors: float

    @classmethod
    def from_header(cls, header: dict[str, Any], path: Path) -> Self:
        """The description in a header.

        Raises
        ------
        TrainingError
            A key is missing.
        """
        missing = [key for key in cls.__dataclass_fields__ if key not in header]
        if missing:
            raise TrainingError(
                f"{path}: not a Nequix model of version 0.4, its header lacks {', '.join(missing)}"
            )
        values = {key: header[key] for key in cls.__dataclass_fields__}
        return cls(**values | {"atomic_numbers": tuple(sorted(header["atomic_numbers"]))})

    def build(self, seed: int) -> Nequix:
        """A network with random weights and atomic energies of zero."""
        options = asdict(self)
        n_species = len(options.pop("atomic_numbers"))
        with foreign_code():
            return Nequix(key=jax.random.key(seed), n_species=n_species, **options)


@dataclass(frozen=True, eq=False)
class Program:
    """What the networks of one Spec have in common.

    Attributes
    ----------
    spec : Spec
    template : Nequix
        Weights without meaning.
    """

    spec: Spec
    template: Nequix

    @cached_property
    def _parts(self) -> tuple[Params, Any]:
        return eqx.partition(self.template, eqx.is_array)

    def arrays(self, network: Nequix) -> Params:
        """The arrays of any network of this Spec, in the template's structure."""
        leaves = jax.tree.leaves(eqx.filter(network, eqx.is_array))
        return jax.tree.unflatten(jax.tree.structure(self._parts[0]), leaves)

    def network(self, params: Params) -> Nequix:
        """The network with these arrays."""
        return eqx.combine(params, self._parts[1])

    @cached_property
    def atom_energies(self) -> Callable[..., Array]:
        """``f(params, vectors, species, senders, receivers) -> (N,) eV``: see `JaxPotential`."""

        def atom_energies(
            params: Params, vectors: Array, species: Array, senders: Array, receivers: Array
        ) -> Array:
            with foreign_code():
                return self.network(params).node_energies(vectors, species, senders, receivers)[:, 0]

        return atom_energies

    @cached_property
    def atom_features(self) -> Callable[..., Array]:
        """``f(params, vectors, species, senders, receivers) -> (N, D)``: what the readout sees of each atom.

        Scalars of the last layer; arguments as in `JaxPotential`. Source: the steps of `Nequix.node_energies`.
        """

        def atom_features(
            params: Params, vectors: Array, species: Array, senders: Array, receivers: Array
        ) -> Array:
            with foreign_code():
                network = eqx.tree_at(lambda m: m.readout, self.network(params), lambda features: features)
                raw = network.node_energies(vectors, species, senders, receivers)
            return (
                raw - self.spec.shift
            ) / self.spec.scale  # it scales and shifts what it takes for energies

        return atom_features


@lru_cache(maxsize=16)
def program(spec: Spec) -> Program:
    """The one Program of this Spec in this process."""
    shapes = eqx.filter_eval_shape(spec.build, 0)  # random weights would take seconds to compile
    return Program(spec, jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype)), shapes))


def readout_scale(spec: Spec, width: int) -> np.float32:
    """eV: what the weights (width,) of a readout are multiplied by in the energy of an atom; e3nn's normalisation."""
    return np.float32(spec.scale / np.sqrt(width))


def energy_and_gradient(
    energies: Callable[..., Array], params: Params, graphs: Graphs
) -> tuple[Array, Array, Array]:
    """Energies and forces of padded graphs, and the gradient by the edge vectors.

    Parameters
    ----------
    energies : callable
        `Program.atom_energies`.
    graphs : Graphs of B frames, n atoms, e edges

    Returns
    -------
    energy : (B,) float32, eV
    forces : (B, n, 3) float32, eV/Å
    gradient : (B, e, 3) float32, eV/Å
        dE/dvector.
    """
    frames, atoms = graphs.species.shape
    senders, receivers = flat_ends(graphs)

    def total(vectors: Array) -> tuple[Array, Array]:
        e = energies(params, vectors.reshape(-1, 3), graphs.species.ravel(), senders, receivers)
        per_frame = jnp.where(graphs.mask, e.reshape(frames, atoms), 0.0).sum(1)
        return per_frame.sum(), per_frame

    gradient, energy = jax.grad(total, has_aux=True)(graphs.vectors)
    return energy, forces_of(graphs, gradient), gradient


def flat_ends(graphs: Graphs) -> tuple[Array, Array]:
    """Senders and receivers (B·e,) int32 of padded graphs as one system of B·n atoms."""
    frames, atoms = graphs.species.shape
    first = (jnp.arange(frames, dtype=jnp.int32) * atoms)[:, None]
    return (graphs.senders + first).ravel(), (graphs.receivers + first).ravel()


def forces_of(graphs: Graphs, gradient: Array) -> Array:
    """(B, n, 3) float32, eV/Å: the forces that follow from dE/dvector (B, e, 3)."""
    frames, atoms = graphs.species.shape
    (senders, receivers), flat = flat_ends(graphs), gradient.reshape(-1, 3)
    forces = jnp.zeros((frames * atoms, 3), flat.dtype).at[receivers].add(flat).at[senders].add(-flat)
    return forces.reshape(frames, atoms, 3)


def virial(vectors: Array, gradient: Array) -> Array:
    """(B, 3, 3) float32, eV: dE/dε under a symmetric strain ε of positions and cell; both arguments (B, e, 3)."""
    w = jnp.einsum("bei,bej->bij", vectors, gradient)
    return 0.5 * (w + w.transpose(0, 2, 1))


def save(
    path: Path,
    spec: Spec,
    network: Nequix,
    reference: dict[int, float],
    heads: Heads | None = None,
) -> None:
    """Write a ``.nqx`` or ``.pt`` that Nequix itself reads: total energies, `reference` (eV) being its atomic energies.

    `heads` (K, D), the readouts of a shallow ensemble, follow the network, where Nequix does not look.

    Raises
    ------
    TrainingError
        Nequix's torch back-end, whose files are ``.pt``, has no such network.
    """
    energies = [reference[z] for z in spec.atomic_numbers]
    network = eqx.tree_at(lambda m: m.atom_energies, network, jnp.asarray(energies, jnp.float32))
    header = asdict(spec) | {"atom_energies": {str(z): reference[z] for z in spec.atomic_numbers}}
    if heads is not None:
        header |= {HEADS: len(heads)}
    if path.suffix == ".pt":
        private("alfw.models._nequix_torch", "torch").save_model(path, network, header, heads)
        return
    save_model(str(path), network, header)
    if heads is not None:
        with open(path, "ab") as file:
            np.save(file, heads.astype(np.float64), allow_pickle=False)


class Weights(NamedTuple):
    """What a file holds: `params` with atomic energies zeroed, `reference` (eV), `heads` (K, D) or None."""

    spec: Spec
    params: Params
    reference: dict[int, float]
    heads: Heads | None


def load(path: Path) -> Weights:
    """The content of a ``.nqx``, or of a ``.pt`` of Nequix's torch back-end.

    Raises
    ------
    TrainingError
        The file is missing, damaged or a pickle, or is not a Nequix model.
    """
    header = read_header(path)
    try:
        spec = Spec.from_header(header, path)
        exact = {int(z): float(e) for z, e in (header.get("atom_energies") or {}).items()}
        template = program(spec).template
        with open(path, "rb") as file:
            file.readline()
            if path.suffix == ".pt":
                network, heads = private("alfw.models._nequix_torch", "torch").read(file, template)
            else:
                network = eqx.tree_deserialise_leaves(file, template, _leaf)
                heads = np.load(file, allow_pickle=False) if HEADS in header else None
    except AlfwError:
        raise
    except Exception as error:  # a damaged file makes other people's code raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"{path}: cannot be read as a Nequix model: {reason}") from error
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array))):
        raise TrainingError(f"{path}: has weights that are not finite numbers: the file is damaged")
    stored = np.asarray(network.atom_energies, np.float64)
    reference = {z: exact.get(z, float(stored[i])) for i, z in enumerate(spec.atomic_numbers)}
    network = eqx.tree_at(lambda m: m.atom_energies, network, jnp.zeros_like(network.atom_energies))
    return Weights(spec, program(spec).arrays(network), reference, heads)


def _leaf(file: Any, like: Any) -> Any:
    """One array of a ``.nqx``, put on the device as it is; `jax.numpy.load` compiles a copy for each shape."""
    if eqx.is_array(like):
        return jax.device_put(np.load(file, allow_pickle=False))
    return eqx.default_deserialise_filter_spec(file, like)


def different(one: Weights, other: Weights) -> list[str]:
    """Keys of the headers of two files that have to be the same in one ensemble, but are not."""
    keys = [key for key, value in asdict(one.spec).items() if asdict(other.spec)[key] != value]
    return keys + ["atom_energies"] * (one.reference != other.reference)


def with_readout(params: Params, weights: NDArray[np.float64]) -> Params:
    """The network's arrays with other weights (D,) in the last, linear layer."""
    leaves, tree = jax.tree.flatten(params.readout)
    replaced = jnp.asarray(weights, leaves[0].dtype).reshape(leaves[0].shape)
    return eqx.tree_at(lambda p: p.readout, params, jax.tree.unflatten(tree, [replaced, *leaves[1:]]))


def stacked(members: Sequence[Params]) -> Params:
    """The arrays of K members on a leading axis of length K."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
