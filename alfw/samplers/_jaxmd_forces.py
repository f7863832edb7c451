"""What moves the walkers: the force of one member, or of the mean of a shallow ensemble, and how far members are apart.

One loop serves the driving force and the others, so the model is compiled once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from alfw.core.protocols import HasSpread, JaxPotential
from alfw.samplers._jaxmd_bias import Bias, bias_force, spread_of_mean, spread_of_members
from alfw.samplers._jaxmd_system import Atoms, EdgeArrays

# Positions (N, 3) Å, and an isotropic strain (R+1,) of each walker's edges, which is 0: the virial is its gradient.
Place = tuple[Array, Array]


@dataclass(frozen=True)
class Surface:
    """The function that walkers move on; equal surfaces share a compiled program.

    Attributes
    ----------
    function : callable
        `JaxPotential.atom_energy_function`'s, or `HasSpread.atom_spread_function`'s where `cheap_spread`.
    cheap_spread : bool
        The mean of all members drives the run, and the spread of energies is known in every step.
    """

    function: Callable[..., Any]
    cheap_spread: bool


class Forces(NamedTuple):
    """What a potential says of N atoms of R walkers and the dummy one.

    Attributes
    ----------
    force : (N, 3) float32, eV/Å
    force_std : (N,) float32, eV/Å
        0 where it was not asked for.
    energy_std : (R+1,) float32, eV per atom
        0 without a cheap spread or a bias.
    virial : (R+1,) float32, eV
        Sum over a walker's edges of vector · dE/dvector, of what drives the run: 3V dE/dV.
    bias : (N, 3) float32, eV/Å
        What pushes the walkers beside `force`; 0 without a bias. It moves atoms, and is in nothing that is recorded.
    memory : (R+1, BIAS_MEMORY) float32
        What the bias remembers of each walker after this step.
    """

    force: Array
    force_std: Array
    energy_std: Array
    virial: Array
    bias: Array
    memory: Array


def surface_of(potential: JaxPotential) -> tuple[Surface, Any]:
    """The surface of a potential and its parameters."""
    if isinstance(potential, HasSpread):
        function, params = potential.atom_spread_function()
        return Surface(function, True), params
    function, params = potential.atom_energy_function()
    return Surface(function, False), params


def forces_on(
    surface: Surface,
    params: Any,
    atoms: Atoms,
    edges: EdgeArrays,
    position: Array,
    driver: Array,
    all_members: Array,
    wanted: Array,
    bias: Bias | tuple[()],
    memory: Array,
) -> Forces:
    """Forces at these positions.

    Parameters
    ----------
    driver : () int32
        The member that drives the run; not looked at with a cheap spread.
    all_members : () bool
        Whether force_std is due.
    wanted : () bool
        Nothing is computed if not.
    bias : Bias or ()
        Numbers of the bias; () = none, and none of its work is in the program.
    memory : (R+1, BIAS_MEMORY) float32
        Of the step before, see `Forces`.
    """

    def function(some: Any, at: Place) -> Any:
        x, strain = at
        vectors = x[edges.senders] - x[edges.receivers] + edges.offsets
        vectors = vectors * (1 + strain[atoms.walker[edges.receivers]])[:, None]
        return surface.function(some, vectors, atoms.species, edges.senders, edges.receivers)

    def free(gradient: Array) -> Array:
        return jnp.where(atoms.free, -gradient, jnp.float32(0))

    place = position, jnp.zeros(atoms.count.shape[0], jnp.float32)
    if isinstance(bias, Bias):
        return _biased(surface, function, params, atoms, place, driver, all_members, wanted, bias, memory)
    if surface.cheap_spread:
        said = _of_mean(function, params, atoms, place, free, all_members, wanted)
    else:
        said = _of_member(function, params, atoms, place, free, driver, all_members, wanted)
    return said._replace(memory=memory)


def _biased(
    surface: Surface,
    function: Callable[..., Any],
    params: Any,
    atoms: Atoms,
    place: Place,
    driver: Array,
    all_members: Array,
    wanted: Array,
    bias: Bias,
    memory: Array,
) -> Forces:
    """The same, and the bias force; of an ensemble of networks all members are asked in every step."""
    if surface.cheap_spread:
        spread = spread_of_mean(
            lambda at: function(params, at), atoms, place, bias.offsets, all_members, wanted
        )
    else:
        n_all = int(jax.tree.leaves(params)[0].shape[0])

        def member(i: Array, at: Place) -> Array:
            return function(jax.tree.map(lambda leaf: leaf[(driver + i) % n_all], params), at)  # type: ignore[no-any-return]

        offsets = jnp.roll(bias.offsets, -driver, axis=1)
        spread = spread_of_members(member, n_all, atoms, place, offsets, wanted)
    push, memory = bias_force(bias, memory, atoms, spread.force, spread.gradient)
    energy_std = spread.energy_std / atoms.count[:, 0]
    return Forces(spread.force, spread.force_std, energy_std, spread.virial, push, memory)


def _of_member(
    function: Callable[..., Array],
    params: Any,
    atoms: Atoms,
    place: Place,
    free: Callable[[Array], Array],
    driver: Array,
    all_members: Array,
    wanted: Array,
) -> Forces:
    """The driver's force; mean and squares of all by Welford (doi:10.1080/00401706.1962.10490022), exact in float32."""
    n_all = int(jax.tree.leaves(params)[0].shape[0])
    n_members = jnp.where(wanted, jnp.where(all_members, n_all, 1), 0)

    def member(i: Array, sums: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        first, virial, mean, squares = sums
        one = jax.tree.map(lambda leaf: leaf[(driver + i) % n_all], params)
        gradient, by_strain = jax.grad(lambda at: function(one, at).sum())(place)
        force = free(gradient)
        delta = force - mean
        mean = mean + delta / (i + 1).astype(jnp.float32)
        first, virial = jnp.where(i == 0, force, first), jnp.where(i == 0, by_strain, virial)
        return first, virial, mean, squares + (delta * (force - mean)).sum(1)

    zero, none = jax.tree.map(jnp.zeros_like, place)
    first, virial, _, squares = lax.fori_loop(0, n_members, member, (zero, none, zero, zero[:, 0]))
    spread = jnp.sqrt(squares / jnp.maximum(n_members, 1).astype(jnp.float32))
    return Forces(first, spread, none, virial, bias=zero, memory=none[:, None])


def _of_mean(
    function: Callable[..., tuple[Array, Array]],
    params: Any,
    atoms: Atoms,
    place: Place,
    free: Callable[[Array], Array],
    all_members: Array,
    wanted: Array,
) -> Forces:
    """The force of the mean, the spread of the energies from the same pass, and member by member that of the forces."""
    shape = jax.eval_shape(function, params, place)[1]
    n_members = jnp.where(wanted, jnp.where(all_members, 1 + shape.shape[0], 1), 0)

    def part(i: Array, sums: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        """The mean's force for i = 0, then the deviation of member i - 1 from it."""
        first, virial, squares, _ = sums

        def total(at: Place) -> tuple[Array, Array]:
            mean, deviations = function(params, at)
            return jnp.where(i == 0, mean.sum(), deviations[jnp.maximum(i - 1, 0)].sum()), deviations

        (gradient, by_strain), deviations = jax.grad(total, has_aux=True)(place)
        force = free(gradient)
        more = jnp.where(i == 0, jnp.float32(0), (force * force).sum(1))
        first, virial = jnp.where(i == 0, force, first), jnp.where(i == 0, by_strain, virial)
        return first, virial, squares + more, deviations

    zero, none = jax.tree.map(jnp.zeros_like, place)
    start = (zero, none, zero[:, 0], jnp.zeros(shape.shape, shape.dtype))
    force, virial, squares, deviations = lax.fori_loop(0, n_members, part, start)
    n = atoms.count.shape[0]
    per_walker = jax.ops.segment_sum(deviations.T, atoms.walker, n, indices_are_sorted=True)
    energy_std = jnp.sqrt((per_walker**2).mean(1)) / atoms.count[:, 0]
    spread = jnp.sqrt(squares / jnp.float32(shape.shape[0]))
    return Forces(force, spread, energy_std, virial, bias=zero, memory=none[:, None])
