"""Nequix: an ensemble of E(3)-equivariant message-passing networks, trained from scratch.

Source: Koker, Kotak and Smidt, arXiv:2508.16067 (the network); doi:10.1038/s41467-022-29939-5 (NequIP).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from alfw.core.errors import TrainingError
from alfw.core.protocols import Potential
from alfw.core.records import Resources, TrainingData
from alfw.core.registry import private
from alfw.models.statistics import statistics as shared_statistics

NO_START = "start_from is not available in this version"


class NequixTraining(BaseModel):
    """How one member is trained.

    The loss of a batch is energy_weight · ⟨|ΔE|/n⟩ + force_weight · ⟨|ΔF_a|₂⟩ + stress_weight · ⟨V |Δσ|_F / n⟩: means
    over frames, over free atoms, and over periodic frames whose label has a stress; in eV, eV/Å, eV.

    Attributes
    ----------
    steps, batch_size : int
        Optimiser steps, and frames in each.
    learning_rate : float
        Reached after a linear warm-up over `warmup_fraction` of the steps; then a cosine down to 1 % of it.
    weight_decay : float
        Of AdamW, on the weights that Nequix's own mask names.
    clip_norm : float
        Largest global norm of a gradient.
    ema_decay : float
        The weights kept are an exponential moving average with decay min(ema_decay, (1+k)/(10+k)) in step k.
    keep_best_from : int
        With so many training labels, and a validation side, the best average on the validation side is kept; below,
        the last one: the minimum over a handful of frames would be noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt = 3200
    batch_size: PositiveInt = 8
    learning_rate: PositiveFloat = 1e-2
    warmup_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    weight_decay: NonNegativeFloat = 1e-4
    clip_norm: PositiveFloat = 10.0
    energy_weight: NonNegativeFloat = 1.0
    force_weight: NonNegativeFloat = 10.0
    stress_weight: NonNegativeFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    keep_best_from: PositiveInt = 100


class NequixModel(BaseModel):
    """An ensemble of small Nequix networks that share E0, scale and neighbour number.

    Attributes
    ----------
    members : int
        K; they differ by their random weights and by the order of the data.
    cutoff_A : float
    hidden_irreps : str
        Features of an atom: so many scalars (0e), vectors (1o) …
    lmax : int
        Highest degree of the spherical harmonics of an edge.
    index_weights, layer_norm : bool
        Nequix's per-element skip connections, and its normalisation. Nequix can convert to torch only what has no
        per-element weights; they stay on because 200 ethanol labels at 500 K then give 11 % smaller force errors at
        1000 K (four members, 0.19 against 0.21 eV/Å), with equal errors at 500 K and equal speed.
    start_from : None
        Fine-tuning comes with a later version.
    atoms_per_batch : int or None
        About so many atoms are predicted at once; changes speed and memory only. None: suited to the device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset({"atoms_per_batch"})

    kind: Literal["nequix"] = "nequix"
    members: PositiveInt = 4
    start_from: None = None
    cutoff_A: PositiveFloat = 4.0
    hidden_irreps: str = "32x0e + 16x1o"
    lmax: Annotated[int, Field(ge=0, le=6)] = 1
    n_layers: PositiveInt = 3
    radial_basis_size: PositiveInt = 8
    radial_mlp_size: PositiveInt = 32
    radial_mlp_layers: PositiveInt = 2
    radial_polynomial_p: PositiveFloat = 6.0
    index_weights: bool = True
    layer_norm: bool = False
    training: NequixTraining = NequixTraining()
    atoms_per_batch: PositiveInt | None = None

    @field_validator("start_from", mode="before")
    @classmethod
    def _no_start(cls, value: Any) -> None:
        if value is not None:
            raise ValueError(NO_START)

    @field_validator("hidden_irreps")
    @classmethod
    def _irreps(cls, value: str) -> str:
        if not re.fullmatch(r"\s*\d+x\d+[eo](\s*\+\s*\d+x\d+[eo])*\s*", value):
            raise ValueError(f"{value!r} is not a sum of irreps such as '16x0e + 8x1o'")
        if not re.search(r"(^|\D)[1-9]\d*x0e", value):
            raise ValueError(f"{value!r} has no scalars: energies are read from 0e features")
        return value

    def known_species(self) -> frozenset[int] | None:
        """None: any element can be learnt."""
        return None

    def statistics(self, data: TrainingData) -> dict[str, Any]:
        """What all members share, from the training side.

        Returns
        -------
        dict of JSON data
            species: atomic numbers, sorted; E0_eV: {str(Z): eV}; scale_eV: root mean square of the force
            components on free atoms, times 1 Å (1 where symmetry makes them vanish); avg_n_neighbors: edges per
            atom within the cutoff.

        Raises
        ------
        TrainingError
            There are no training labels, or one is not finite.
        """
        return shared_statistics(data.train, self.cutoff_A)

    def initialise(self, statistics: dict[str, Any], seed: int, workdir: Path) -> Path:
        """Path of the weights of one untrained member (``member.nqx`` in `workdir`)."""
        return private("alfw.models._nequix_train", "nequix").initialise(self, statistics, seed, workdir)  # type: ignore[no-any-return]

    def train(
        self,
        data: TrainingData,
        seed: int,
        start: Path | None,
        workdir: Path,
        resources: Resources,
        progress: Callable[[str], None] | None = None,
    ) -> Path:
        """Path of the weights of one trained member (``member.nqx`` in `workdir`, beside ``metrics.json``).

        Raises
        ------
        TrainingError
            Weights to start from are given; no labels; an element is missing in the statistics; the loss diverged.
        """
        if start is not None:
            raise TrainingError(NO_START)
        trainer = private("alfw.models._nequix_train", "nequix")
        return trainer.train(self, data, seed, workdir, resources, progress)  # type: ignore[no-any-return]

    def export(self, weights: Sequence[Path], directory: Path, provenance: Mapping[str, Any]) -> None:
        """Write ``ensemble.json`` and ``member_k.nqx``, which Nequix's own calculator reads, into `directory`.

        Raises
        ------
        TrainingError
            The members do not share what they must.
        """
        from alfw.models.ensemble import write_ensemble

        write_ensemble(directory, weights, provenance=provenance)

    def load(self, weights: Sequence[Path]) -> Potential:
        """The ensemble of these members, a `JaxPotential`.

        Raises
        ------
        TrainingError
            A file cannot be read, or the members do not share their statistics.
        """
        potential = private("alfw.models._nequix_potential", "nequix")
        return potential.NequixPotential([Path(path) for path in weights], self.atoms_per_batch)  # type: ignore[no-any-return]
