"""Nequix: an ensemble of E(3)-equivariant message-passing networks, from scratch or from a foundation checkpoint.

Source: Koker, Kotak and Smidt, arXiv:2508.16067 (the network); doi:10.1038/s41467-022-29939-5 (NequIP).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from alfw.core.protocols import Potential
from alfw.core.records import Resources, TrainingData
from alfw.core.registry import private
from alfw.models.statistics import statistics as shared_statistics

# What a checkpoint fixes; the options of these names are for networks from scratch.
ARCHITECTURE = frozenset(
    {
        "cutoff_A",
        "hidden_irreps",
        "lmax",
        "n_layers",
        "radial_basis_size",
        "radial_mlp_size",
        "radial_mlp_layers",
    }
    | {"radial_polynomial_p", "mlp_init_scale", "index_weights", "layer_norm"}
)
# Fine-tuning: measured for 30 labels of malonaldehyde on nequix-mp-1 (docs/models.md); half the steps or half the rate
# gave larger errors there.
FINE_TUNING: Mapping[str, Any] = {"steps": 600, "batch_size": 5, "learning_rate": 2e-3}


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
    probe : bool
        Whether the learning rate is chosen on the first labels, among `learning_rate`, its half and its double, by
        short trainings; fixed for the lineage.
    warm_steps : int or None
        Steps of a training that starts from the member of the round before (`warm_start`); None = half of `steps`.
    bootstrap : bool or None
        Whether each member sees its own bootstrap sample of the training side. None: where several start from one
        checkpoint, since they would hardly differ otherwise.
    replay_fraction : float
        Share of the frames in each batch that are replayed (see `NequixModel.replay`), rounded, at least one.
    patience : int or None
        Stop when so many evaluations on the valid side (one every 100 steps) bring nothing better; None = never.
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
    probe: bool = False
    warm_steps: PositiveInt | None = None
    bootstrap: bool | None = None
    replay_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    patience: PositiveInt | None = None
    weight_decay: NonNegativeFloat = 1e-4
    clip_norm: PositiveFloat = 10.0
    energy_weight: NonNegativeFloat = 1.0
    force_weight: NonNegativeFloat = 10.0
    stress_weight: NonNegativeFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    keep_best_from: PositiveInt = 100


class NequixModel(BaseModel):
    """An ensemble of Nequix networks that share E0, scale and neighbour number.

    Attributes
    ----------
    members : int
        K; they differ by their random weights and by the order of the data.
    heads : int
        With one member only: how many readouts of a shallow ensemble are drawn on it (even); 0 = none. They are the
        members that a `Potential` shows, with the trained network as their mean.
    cutoff_A : float
    hidden_irreps : str
        Features of an atom: so many scalars (0e), vectors (1o) …
    lmax : int
        Highest degree of the spherical harmonics of an edge.
    mlp_init_scale : float
        Variance of the radial network's first random weights, in Nequix's unit; a smaller one begins smoother.
    index_weights, layer_norm : bool
        Nequix's per-element skip connections, and its normalisation. Nequix can convert to torch only what has no
        per-element weights; they stay on because 200 ethanol labels at 500 K then give 11 % smaller force errors at
        1000 K (four members, 0.19 against 0.21 eV/Å), with equal errors at 500 K and equal speed.
    start_from : str or None
        A foundation checkpoint (``.nqx``, or ``.pt`` of Nequix's torch back-end), or the name of a published one, which
        is downloaded where the network allows: every member is fine-tuned from it, and it fixes the architecture. E0
        are refitted to the labels, as close to the checkpoint's as these leave open. None: random weights.
    start_sha256 : str or None
        Pins the content of `start_from`; set when a campaign is added.
    warm_start : bool
        Whether a member of a later round starts from its weights of the round before.
    replay : str or None
        A file of frames (any that alfw reads) that stand for what the checkpoint must not forget: while it is
        fine-tuned, they are trained along with the energies, forces and stresses that the checkpoint itself gives
        them. Nobody has to label them, and no other theory gets in (pseudo-rehearsal, doi:10.1080/09540099550039318).
    replay_sha256 : str or None
        Pins the content of `replay`; set when a campaign is added.
    new_readout : bool or None
        Whether the last, linear layer is drawn anew before fine-tuning, so that members differ. None: with several
        members.
    atoms_per_batch : int or None
        About so many atoms are predicted at once; changes speed and memory only. None: suited to the device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset({"atoms_per_batch", "start_from", "replay"})

    kind: Literal["nequix"] = "nequix"
    members: PositiveInt = 4
    start_from: Annotated[str, Field(min_length=1)] | None = None
    start_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    replay: Annotated[str, Field(min_length=1)] | None = None
    replay_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    warm_start: bool = False
    new_readout: bool | None = None
    heads: Annotated[int, Field(ge=0, multiple_of=2)] = 0
    cutoff_A: PositiveFloat = 4.0
    hidden_irreps: str = "32x0e + 16x1o"
    lmax: Annotated[int, Field(ge=0, le=6)] = 1
    n_layers: PositiveInt = 3
    radial_basis_size: PositiveInt = 8
    radial_mlp_size: PositiveInt = 32
    radial_mlp_layers: PositiveInt = 2
    radial_polynomial_p: PositiveFloat = 6.0
    mlp_init_scale: PositiveFloat = 4.0
    index_weights: bool = True
    layer_norm: bool = False
    training: NequixTraining = NequixTraining()
    atoms_per_batch: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_checkpoint(cls, value: Any) -> Any:
        """With `start_from`, other defaults of the training, and no options of the architecture."""
        if not isinstance(value, Mapping):
            return value
        if value.get("start_from") is None:
            if value.get("replay") is not None:
                raise ValueError("replay needs start_from: it is the checkpoint that is not to forget")
            return value
        fixed = sorted(ARCHITECTURE & set(value))
        if fixed:
            raise ValueError(f"{', '.join(fixed)} cannot be set beside start_from: the checkpoint has them")
        training = value.get("training")
        if training is None or isinstance(training, Mapping):
            return {**value, "training": {**FINE_TUNING, **(training or {})}}
        return value

    @model_validator(mode="after")
    def _shallow_alone(self) -> Self:
        if self.heads and self.members > 1:
            raise ValueError(f"heads {self.heads} need members 1: a shallow ensemble stands on one network")
        return self

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the path of the checkpoint made absolute, and its content pinned; see `NamesFiles`.

        Raises
        ------
        DataError
            It is missing, or is not the one that `start_sha256` names.
        """
        from alfw.models.checkpoints import pinned

        return pinned(options, base)

    @field_validator("hidden_irreps")
    @classmethod
    def _irreps(cls, value: str) -> str:
        if not re.fullmatch(r"\s*\d+x\d+[eo](\s*\+\s*\d+x\d+[eo])*\s*", value):
            raise ValueError(f"{value!r} is not a sum of irreps such as '16x0e + 8x1o'")
        if not re.search(r"(^|\D)[1-9]\d*x0e", value):
            raise ValueError(f"{value!r} has no scalars: energies are read from 0e features")
        return value

    def known_species(self) -> frozenset[int] | None:
        """The checkpoint's elements; None: any can be learnt."""
        if self.start_from is None or not Path(self.start_from).is_file():
            return None
        from alfw.models.ensemble import read_header

        return frozenset(read_header(Path(self.start_from))["atomic_numbers"])

    def statistics(self, data: TrainingData, start: Path | None = None) -> dict[str, Any]:
        """What all members share, from the training side and, where there is one, the checkpoint `start`.

        Returns
        -------
        dict of JSON data
            species: atomic numbers, sorted; E0_eV: {str(Z): eV}; scale_eV: root mean square of the force
            components on free atoms, times 1 Å (1 where symmetry makes them vanish); avg_n_neighbors: edges per
            atom within the cutoff. Of a checkpoint: all but E0 are its own. learning_rate: where it was probed.

        Raises
        ------
        TrainingError
            There are no training labels, one is not finite, or the checkpoint lacks an element.
        """
        if start is None and not self.training.probe:
            return shared_statistics(data.train, self.cutoff_A)
        return private("alfw.models._nequix_start", "nequix").statistics(self, data, start)  # type: ignore[no-any-return]

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
        keep: Callable[[Path, int], None] | None = None,
    ) -> Path:
        """Path of the weights of one trained member (``member.nqx`` in `workdir`, beside ``metrics.json``).

        Parameters
        ----------
        start : Path or None
            Weights to start from: a checkpoint, or a member of the round before.
        workdir : Path
            A ``state.npz`` in it is the state of a training that was cut off: it is continued.
        keep : callable, optional
            Gets the path of ``state.npz`` and its step every minute or so.

        Raises
        ------
        TrainingError
            No labels; an element is missing in the statistics; the loss diverged (the last good weights are left in
            `workdir` as ``last_good.nqx``).
        """
        trainer = private("alfw.models._nequix_train", "nequix")
        return trainer.train(self, data, seed, start, workdir, resources, progress, keep)  # type: ignore[no-any-return]

    def export(self, weights: Sequence[Path], directory: Path, provenance: Mapping[str, Any]) -> None:
        """Write ``ensemble.json`` and the members, which Nequix's own calculator reads, into `directory`.

        Raises
        ------
        TrainingError
            The members do not share what they must.
        """
        from alfw.models.ensemble import write_ensemble

        write_ensemble(directory, weights, provenance=provenance)

    def load(self, weights: Sequence[Path]) -> Potential:
        """The ensemble of these members, a `JaxPotential`; ``.pt`` files of Nequix's torch back-end run in JAX, too.

        Raises
        ------
        TrainingError
            A file cannot be read, or the members do not share their statistics.
        PluginError
            There is a ``.pt``, and torch is not installed.
        """
        potential = private("alfw.models._nequix_potential", "nequix")
        return potential.open_ensemble([Path(path) for path in weights], self.atoms_per_batch)  # type: ignore[no-any-return]
