"""PhysNet with DCMNet: energies, forces, dipoles, charges and electrostatic potentials of molecules.

Sources: doi:10.1021/acs.jctc.9b00181 (PhysNet), doi:10.1021/acs.jctc.4c00759 (DCMNet).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from ase.data import atomic_numbers, chemical_symbols
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

from alfw.core.errors import TrainingError
from alfw.core.protocols import Potential
from alfw.core.records import Resources, TrainingData
from alfw.core.reference import species_of
from alfw.core.registry import private
from alfw.models.statistics import statistics as shared_statistics

Source = Literal["physnet", "dcmnet", "mixed"]
Sources = Annotated[tuple[Source, ...], Field(min_length=1)]
Metric = Literal["l2", "mae", "rmse"]
# Isolated atoms as the seed's trainer has them (eV); its comment says PBE/def2-TZVP. Elements not listed count 0.
SEED_ENERGIES_eV = {
    **{"H": -13.587, "C": -1029.499, "N": -1484.274, "O": -2041.878},
    **{"F": -2713.473, "P": -8978.229, "S": -10831.086, "Cl": -12516.444},
}


class PhysNetTraining(BaseModel):
    """How one member is trained; names and defaults are those of the seed's trainer.

    The loss of a batch is the sum of weight × error. The errors: half the mean squares of energies (eV), of force
    components (eV/Å), of dipoles (e·Å), and of each atom's charge less the sum of its distributed ones (e); the mean
    square of potentials at points (Hartree/e). Dipoles and potentials may have another measure, and count once for each
    of their sources: the atomic charges (physnet), the distributed ones (dcmnet), or a learnt mixture of both.
    Points of the potential that are closer to an atom than twice its covalent radius never count.

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
    dipole_loss_sources, esp_loss_sources : some of physnet, dcmnet, mixed
    dipole_metric, esp_metric : {"l2", "mae", "rmse"}
        Mean square (of dipoles half of it), mean absolute error, or its root mean square over the batch.
    esp_min_distance_A : float
        Points that are closer to an atom do not count.
    esp_max_value : float or None, Hartree/e
        Points with a larger absolute potential do not count.
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
    dipole_loss_sources: Sources = ("physnet", "dcmnet")
    esp_loss_sources: Sources = ("dcmnet",)
    dipole_metric: Metric = "l2"
    esp_metric: Metric = "l2"
    esp_min_distance_A: NonNegativeFloat = 0.0
    esp_max_value: PositiveFloat | None = None


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
    dipole_source : {"physnet", "dcmnet", "mixed"}
        Whose dipole is the prediction's: of the atomic charges, of the distributed ones, or the learnt mixture.
    mix_coulomb_energy : bool
        Whether the Coulomb energy of the distributed charges is part of the energy, with a learnt weight. For neutral
        molecules smaller than 60 Å; 1/r is softened within 0.1 Å, because charges of bonded atoms may meet.
    subtract_atom_energies : bool
        Whether E0 is subtracted from energies, outside the network. Without it float32 has few digits left for
        interactions: only for small molecules of light elements.
    atomic_energies_eV : {symbol or atomic number: eV}, "seed" or None
        E0; None = fitted to the training set. "seed": the table of the seed's trainer. What a given table leaves over
        is where each element's energy starts from in the training.
    warm_start : bool
        Whether members of a later round start from themselves in the round before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset()
    has_stress: ClassVar[bool] = False

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
    dipole_source: Source = "dcmnet"
    mix_coulomb_energy: bool = False
    subtract_atom_energies: bool = True
    atomic_energies_eV: Literal["seed"] | dict[str, float] | None = None
    warm_start: bool = False
    training: PhysNetTraining = PhysNetTraining()

    @field_validator("atomic_energies_eV", mode="before")
    @classmethod
    def _by_symbol(cls, value: Any) -> Any:
        """Keys as chemical symbols, also those given as atomic numbers."""
        if not isinstance(value, Mapping):
            return value
        symbols = {
            key: chemical_symbols[int(key)] if str(key).isdigit() and 0 < int(key) < 119 else str(key)
            for key in value
        }
        unknown = [str(key) for key, symbol in symbols.items() if symbol not in atomic_numbers]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: neither a chemical symbol nor an atomic number")
        return {symbols[key]: energy for key, energy in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> PhysNetModel:
        """Options that contradict each other are refused."""
        if self.dipole_source == "mixed" and "mixed" not in self.training.dipole_loss_sources:
            raise ValueError(
                "dipole_source: mixed is only learnt when training.dipole_loss_sources has mixed, too"
            )
        if self.atomic_energies_eV is not None and not self.subtract_atom_energies:
            raise ValueError("atomic_energies_eV are of no use with subtract_atom_energies: false")
        return self

    def known_species(self) -> frozenset[int] | None:
        """None: any element can be learnt."""
        return None

    def statistics(self, data: TrainingData, start: Path | None = None) -> dict[str, Any]:
        """What all members share: elements, E0 (eV), scale (eV), neighbour numbers; see `NequixModel.statistics`.

        Raises
        ------
        TrainingError
            No labels; an element without a given E0, or one that the weights in `start` do not know.
        """
        shared = shared_statistics(data.train, self.physnet_cutoff_A)
        if start is not None:
            files = private("alfw.models._physnet_files", "physnet")
            return files.statistics(start, shared)  # type: ignore[no-any-return]
        if not self.subtract_atom_energies:
            shared["E0_eV"] = dict.fromkeys(shared["E0_eV"], 0.0)
        elif self.atomic_energies_eV is not None:
            shared["E0_eV"] = self._given_energies(species_of([item.frame for item in data.train]))
        return shared

    def _given_energies(self, species: Sequence[int]) -> dict[str, float]:
        """E0 (eV) of these elements by atomic number, as text."""
        if self.atomic_energies_eV == "seed":
            return {str(z): SEED_ENERGIES_eV.get(chemical_symbols[z], 0.0) for z in species}
        given: Mapping[str, float] = self.atomic_energies_eV or {}  # type: ignore[assignment]
        missing = [chemical_symbols[z] for z in species if chemical_symbols[z] not in given]
        if missing:
            raise TrainingError(
                f"atomic_energies_eV lacks {', '.join(missing)}: add them, or leave the key out for fitted ones"
            )
        return {str(z): given[chemical_symbols[z]] for z in species}

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
            No labels; a periodic frame; weights in `start` of another network; the loss diverged (the weights of
            before are then ``last_good.npz`` in `workdir`).
        """
        trainer = private("alfw.models._physnet_train", "physnet")
        return trainer.train(self, data, seed, start, workdir, resources, progress, keep)  # type: ignore[no-any-return]

    def load(self, weights: Sequence[Path]) -> Potential:
        """The ensemble, a `JaxPotential` with dipoles, charges and electrostatic potentials."""
        potential = private("alfw.models._physnet_potential", "physnet")
        return potential.PhysNetPotential([Path(path) for path in weights])  # type: ignore[no-any-return]

    def export(self, weights: Sequence[Path], directory: Path, provenance: Mapping[str, Any]) -> None:
        """Write ``ensemble.json`` and ``member_k.npz`` into `directory`."""
        from alfw.models.ensemble import write_ensemble

        write_ensemble(directory, weights, provenance=provenance, model=self.model_dump(mode="json"))
