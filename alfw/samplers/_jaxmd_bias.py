"""Uncertainty-biased MD: the gradient of the energy σ of a walker, and the force made of it.

The bias energy is −τ·σ, where σ is the standard deviation over the members of E(x) − E(start): it pushes a walker to
where the members disagree. What they disagree about everywhere by the same amount, a constant, pushes nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from alfw.samplers._bias import UncertaintyBias
from alfw.samplers._jaxmd_system import Atoms

# Numbers that a bias carries from step to step for each walker, 0 where it begins: steps done, mean force, gradient.
BIAS_MEMORY = 3
TINY = np.float32(1e-20)  # where all members agree, σ is 0 and pushes nobody


class Bias(NamedTuple):
    """Numbers of a biased run.

    Attributes
    ----------
    strength : () float32
        Mean norm of the bias force over that of the force.
    max_force : () float32, eV/Å
        No atom is pushed harder.
    averaging_steps, first_step, ramp_steps : () float32
        The strength is 0 up to `first_step` and full `ramp_steps` later.
    offsets : (R+1, K) float32, eV
        Energies of the members in the start of each walker, less their mean.
    """

    strength: Array
    max_force: Array
    averaging_steps: Array
    first_step: Array
    ramp_steps: Array
    offsets: Array


class Spread(NamedTuple):
    """What drives N atoms of R walkers and the dummy one, and how far the members are apart.

    Attributes
    ----------
    force : (N, 3) float32, eV/Å
    virial : (R+1,) float32, eV
    force_std : (N,) float32, eV/Å
    energy_std : (R+1,) float32, eV
        Of the whole walker.
    gradient : (N, 3) float32, eV/Å
        Of the standard deviation of E - E(start); 0 on atoms that do not move.
    """

    force: Array
    virial: Array
    force_std: Array
    energy_std: Array
    gradient: Array


def bias_numbers(
    options: UncertaintyBias, dt_fs: float, first_step: int, energies: NDArray[np.float64]
) -> Bias:
    """The numbers of these options; energies (K, R) eV of the members in the starts."""
    numbers = (
        options.strength,
        options.max_force_eV_per_A,
        max(1.0, options.averaging_fs / dt_fs),
        first_step,
        max(1.0, options.ramp_fs / dt_fs),
        np.pad((energies - energies.mean(0)).T, ((0, 1), (0, 0))),
    )
    return Bias(*(jnp.asarray(number, jnp.float32) for number in numbers))


def bias_force(bias: Bias, memory: Array, atoms: Atoms, force: Array, gradient: Array) -> tuple[Array, Array]:
    """The bias force (N, 3) eV/Å, and the memory (R+1, BIAS_MEMORY) after this step.

    τ is the strength times the ratio of running means over the steps and the free atoms of a walker, that of |F| and
    that of |dσ/dx|; so the bias force is this share of the force, whatever the size of σ. Where an atom
    would be pushed too hard, its whole walker is pushed less: the direction stays, and no momentum is made.

    Source
    ------
    van der Oord et al., npj Comput. Mater. 9, 168 (2023), arXiv:2210.04225, the biased energy and the adaptive τ;
    Zaverkin et al., npj Comput. Mater. 10, 83 (2024), arXiv:2312.01416.
    """
    per_walker = partial(_sum, atoms)
    done, *means = memory.T
    weight = 1 / jnp.minimum(done + 1, bias.averaging_steps)
    n_free = jnp.maximum(per_walker(atoms.free[:, 0].astype(jnp.float32)), jnp.float32(1))
    norms = (per_walker(jnp.linalg.norm(vectors, axis=1)) / n_free for vectors in (force, gradient))
    mean_force, mean_gradient = (
        jnp.where(jnp.isfinite(norm), mean + weight * (norm - mean), mean)
        for mean, norm in zip(means, norms, strict=True)
    )
    ramp = jnp.clip((done - bias.first_step) / bias.ramp_steps, 0, 1)
    tau = ramp * bias.strength * mean_force / jnp.maximum(mean_gradient, TINY)
    push = tau[atoms.walker][:, None] * gradient
    hardest = jax.ops.segment_max(
        jnp.linalg.norm(push, axis=1), atoms.walker, len(done), indices_are_sorted=True
    )
    share = jnp.minimum(1, bias.max_force / jnp.maximum(hardest, TINY))
    return share[atoms.walker][:, None] * push, jnp.stack([done + 1, mean_force, mean_gradient], 1)


def spread_of_mean(
    function: Callable[[Any], tuple[Array, Array]],
    atoms: Atoms,
    place: tuple[Array, Array],
    offsets: Array,
    all_members: Array,
    wanted: Array,
) -> Spread:
    """Of a shallow ensemble, from one pass forward and one back for each: the mean, σ, and members if they are due.

    Parameters
    ----------
    function : callable
        Mean energies (N,) and deviations (K, N) at a `place`: positions (N, 3) and strains (R+1,).
    """
    (mean, deviations), back = jax.vjp(function, place)
    per_walker = _sum(atoms, deviations.T)
    sigma = jnp.sqrt((per_walker**2).mean(1))
    n_members, since = deviations.shape[0], per_walker - offsets
    spread = jnp.sqrt((since**2).mean(1))
    slope = (since / (n_members * jnp.maximum(spread, TINY))[:, None])[atoms.walker].T
    n_passes = jnp.where(wanted, jnp.where(all_members, 2 + n_members, 2), 0)

    def one(i: Array, sums: Spread) -> Spread:
        """The mean's gradient for i = 0, then that of σ, then of the deviation of member i - 2."""
        member = jnp.arange(n_members)[:, None] == i - 2
        weights = jnp.where(i == 1, slope, jnp.where(member, jnp.ones_like(slope), jnp.float32(0)))
        ((by_place, by_strain),) = back((jnp.where(i == 0, jnp.ones_like(mean), jnp.float32(0)), weights))
        by_place = jnp.where(atoms.free, by_place, jnp.float32(0))
        return sums._replace(
            force=jnp.where(i == 0, -by_place, sums.force),
            virial=jnp.where(i == 0, by_strain, sums.virial),
            gradient=jnp.where(i == 1, by_place, sums.gradient),
            force_std=sums.force_std + jnp.where(i < 2, jnp.float32(0), (by_place**2).sum(1)),
        )

    zero, none = jax.tree.map(jnp.zeros_like, place)
    sums = lax.fori_loop(0, n_passes, one, Spread(zero, none, zero[:, 0], sigma, zero))
    return sums._replace(force_std=jnp.sqrt(sums.force_std / n_members))


def spread_of_members(
    function: Callable[[Array, Any], Array],
    n_members: int,
    atoms: Atoms,
    place: tuple[Array, Array],
    offsets: Array,
    wanted: Array,
) -> Spread:
    """Of an ensemble of networks: all of them are asked, and the first drives; moments by Welford, as in float32.

    The gradient of σ is the covariance of energy and gradient over the members, divided by σ.

    Parameters
    ----------
    function : callable
        Energies (N,) of the i-th member, counted from the driver, at a `place`.
    offsets : (R+1, K) float32, eV
        Of the members in the same order.

    Source
    ------
    Welford, doi:10.1080/00401706.1962.10490022.
    """

    def member(i: Array, sums: tuple[Any, ...]) -> tuple[Any, ...]:
        first, virial, energies, raw, mean, squares, mean_energy, energy_squares, covariance = sums
        said, back = jax.vjp(lambda at: function(i, at), place)
        ((by_place, by_strain),) = back(jnp.ones_like(said))
        force = jnp.where(atoms.free, -by_place, jnp.float32(0))
        energies = jnp.where(
            i == 0, said, energies
        )  # of the driver: differences are small, and exact in float32
        raw = raw.at[:, i].set(_sum(atoms, said - energies))
        energy = raw[:, i] - offsets[:, i] + offsets[:, 0]
        delta, delta_energy = force - mean, energy - mean_energy
        share = 1 / (i + 1).astype(jnp.float32)
        mean, mean_energy = mean + share * delta, mean_energy + share * delta_energy
        return (
            jnp.where(i == 0, force, first),
            jnp.where(i == 0, by_strain, virial),
            energies,
            raw,
            mean,
            squares + (delta * (force - mean)).sum(1),
            mean_energy,
            energy_squares + delta_energy * (energy - mean_energy),
            covariance + delta_energy[atoms.walker][:, None] * (force - mean),
        )

    zero, none = jax.tree.map(jnp.zeros_like, place)
    start = (zero, none, zero[:, 0], jnp.zeros_like(offsets), zero, zero[:, 0], none, none, zero)
    first, virial, _, raw, _, squares, _, energy_squares, covariance = lax.fori_loop(
        0, jnp.where(wanted, n_members, 0), member, start
    )
    spread = n_members * jnp.maximum(jnp.sqrt(energy_squares / n_members), TINY)
    by_place = -covariance / spread[atoms.walker][:, None]
    return Spread(first, virial, jnp.sqrt(squares / n_members), raw.std(1), by_place)


def _sum(atoms: Atoms, values: Any) -> Array:
    """(R+1, …): sums over the atoms of each walker."""
    return jax.ops.segment_sum(values, atoms.walker, atoms.count.shape[0], indices_are_sorted=True)
