"""PhysNet with DCMNet: energies, forces, dipoles, charges and electrostatic potentials of molecules.

Sources: doi:10.1021/acs.jctc.9b00181 (PhysNet), doi:10.1021/acs.jctc.4c00759 (DCMNet).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from alfw.core.protocols import Potential
from alfw.core.records import Resources, TrainingData
from alfw.core.registry import private
from alfw.models.statistics import statistics as shared_statistics


class PhysNetTraining(BaseModel):
    """How one member is trained; names and defaults are those of the seed's trainer.

    The loss of a batch is the sum of weight × mean square: of energies (eV), of force components (eV/Å), of dipoles
    (e·Å) of atomic and of distributed charges, of potentials at points (Hartree/e), and of each atom's charge less
    the sum of its distributed ones (e).

    Attributes
    ----------
    epochs, batch_size : int
    learning_rate : float
        After a warm-up over 5 % of the steps; then a cosine down to 1 % of it.
    weight_decay : float
        Of AdamW.
    grad_clip_norm : float
        Largest global norm of a gradient.
    ema_decay : float
        The weights kept are an exponential moving average.
    energy_weight, forces_weight, dipole_weight, esp_weight, mono_weight : float
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 8
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-4
    grad_clip_norm: PositiveFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    energy_weight: NonNegativeFloat = 10.0
    forces_weight: NonNegativeFloat = 50.0
    dipole_weight: NonNegativeFloat = 25.0
    esp_weight: NonNegativeFloat = 10000.0
    mono_weight: NonNegativeFloat = 100.0


class PhysNetModel(BaseModel):
    """An ensemble of joint PhysNet and DCMNet networks; names of sizes as in the seed's trainer.

    Attributes
    ----------
    members : int
    physnet_features, physnet_iterations, physnet_basis, physnet_n_res : int
    physnet_cutoff_A, dcmnet_cutoff_A : float
    dcmnet_features, dcmnet_iterations, dcmnet_basis : int
    n_dcm : int
        Distributed charges of an atom.
    max_degree : int
        Highest degree of DCMNet's features; PhysNet has vectors at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["physnet"] = "physnet"
    members: PositiveInt = 2
    physnet_features: PositiveInt = 64
    physnet_iterations: PositiveInt = 3
    physnet_basis: PositiveInt = 64
    physnet_cutoff_A: PositiveFloat = 6.0
    physnet_n_res: PositiveInt = 3
    dcmnet_features: PositiveInt = 128
    dcmnet_iterations: PositiveInt = 2
    dcmnet_basis: PositiveInt = 64
    dcmnet_cutoff_A: PositiveFloat = 10.0
    n_dcm: PositiveInt = 3
    max_degree: Annotated[int, Field(ge=1, le=4)] = 2
    training: PhysNetTraining = PhysNetTraining()

    def known_species(self) -> frozenset[int] | None:
        """None: any element can be learnt."""
        return None

    def statistics(self, data: TrainingData, start: Path | None = None) -> dict[str, Any]:
        """What all members share: elements, E0 (eV), scale (eV), neighbour numbers; see `NequixModel.statistics`."""
        return shared_statistics(data.train, self.physnet_cutoff_A)

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
        """Path of the weights of one trained member (``member.npz`` in `workdir`, beside ``metrics.json``).

        Raises
        ------
        TrainingError
            No labels; a periodic frame; the loss diverged.
        """
        trainer = private("alfw.models._physnet_train", "physnet")
        return trainer.train(self, data, seed, start, workdir, resources, progress)  # type: ignore[no-any-return]

    def load(self, weights: Sequence[Path]) -> Potential:
        """The ensemble, a `JaxPotential` with dipoles, charges and electrostatic potentials."""
        potential = private("alfw.models._physnet_potential", "physnet")
        return potential.PhysNetPotential([Path(path) for path in weights])  # type: ignore[no-any-return]

    def export(self, weights: Sequence[Path], directory: Path, provenance: Mapping[str, Any]) -> None:
        """Write ``ensemble.json`` and ``member_k.npz`` into `directory`."""
        from alfw.models.ensemble import write_ensemble

        write_ensemble(directory, weights, provenance=provenance, model=self.model_dump(mode="json"))
