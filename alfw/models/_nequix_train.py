"""Training of Nequix members."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alfw.models._jax import use_compilation_cache
from alfw.models._nequix_network import Spec, save
from alfw.models.nequix import NequixModel

WEIGHTS = "member.nqx"
MLP_INIT_SCALE = 4.0  # Nequix's own default


def spec_of(model: NequixModel, statistics: dict[str, Any]) -> Spec:
    """The network that the options and the shared statistics describe."""
    return Spec(
        atomic_numbers=tuple(sorted(statistics["species"])),
        hidden_irreps=model.hidden_irreps,
        lmax=model.lmax,
        cutoff=model.cutoff_A,
        n_layers=model.n_layers,
        radial_basis_size=model.radial_basis_size,
        radial_mlp_size=model.radial_mlp_size,
        radial_mlp_layers=model.radial_mlp_layers,
        radial_polynomial_p=model.radial_polynomial_p,
        mlp_init_scale=MLP_INIT_SCALE,
        index_weights=model.index_weights,
        layer_norm=model.layer_norm,
        shift=0.0,
        scale=float(statistics["scale_eV"]),
        avg_n_neighbors=float(statistics["avg_n_neighbors"]),
    )


def reference_of(statistics: dict[str, Any]) -> dict[int, float]:
    """E0 (eV) by atomic number."""
    return {int(z): float(energy) for z, energy in statistics["E0_eV"].items()}


def initialise(model: NequixModel, statistics: dict[str, Any], seed: int, workdir: Path) -> Path:
    """Write one untrained member; see `NequixModel.initialise`."""
    use_compilation_cache()
    workdir.mkdir(parents=True, exist_ok=True)
    spec = spec_of(model, statistics)
    save(workdir / WEIGHTS, spec, spec.build(seed), reference_of(statistics))
    return workdir / WEIGHTS
