"""Any ASE calculator as a model: an ensemble of them, in this process or in an interpreter of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveFloat, PositiveInt, model_validator

from alfw.core.protocols import Potential
from alfw.core.records import Resources, TrainingData
from alfw.core.reference import species_of
from alfw.core.registry import private
from alfw.models import _ase_training as training
from alfw.models.statistics import check_labels

Factory = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


class ASEModel(BaseModel):
    """An ensemble of ASE calculators: kind ``ase`` in this process, ``external`` in another interpreter.

    The latter is for models that cannot share one environment: a process with the other interpreter is started once,
    gets batches over a pipe, and ends with this one.

    Attributes
    ----------
    calculator : str
        ``module:callable``, e.g. ``mace.calculators:MACECalculator``; only trusted code, it runs on every worker.
    kwargs : mapping
        Options of every member.
    member_kwargs : sequence of mappings
        Options of each member, on top; empty, or one each.
    weights_option : str or None
        The option that gets the path of a member's weights.
    train_command : str or None
        Command that trains one member, e.g. ``{python} train.py {train} {valid} {seed} {weights}``. In its own folder,
        ``{train}`` and ``{valid}`` are extxyz files of labelled frames (the latter may be empty), ``{seed}`` the
        member's, ``{start}`` the member's weights of the round before (empty text: none, or no `warm_start`),
        ``{threads}`` and ``{device}`` (cpu or gpu) what it may use, ``{python}`` the interpreter of the model,
        ``{recipes}`` the folder of alfw's own training scripts; it has to leave the file ``{weights}``. None: the
        calculators are taken as they are, and training does nothing.
    warm_start : bool
        Whether ``{start}`` is given.
    weights : str
        Name of that file.
    species : tuple of int
        Atomic numbers that the model knows; empty = any.
    python : str or None
        The other interpreter, e.g. ``>>mace_python<<``; it needs numpy and ASE beside the model.
    timeout_s : float or None
        How long the other interpreter may take for a batch of frames; None = as long as it wants.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    execution_only: ClassVar[frozenset[str]] = frozenset({"python", "timeout_s"})

    kind: Literal["ase", "external"] = "ase"
    members: PositiveInt = 1
    calculator: Factory
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    member_kwargs: tuple[dict[str, JsonValue], ...] = ()
    weights_option: str | None = None
    train_command: Annotated[str, Field(min_length=1)] | None = None
    warm_start: bool = False
    weights: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "weights.model"
    species: tuple[Annotated[int, Field(ge=1, le=118)], ...] = ()
    python: Annotated[str, Field(min_length=1)] | None = None
    timeout_s: PositiveFloat | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "external") != (self.python is not None):
            raise ValueError("kind external needs `python`, the other interpreter; kind ase has none")
        if len(self.member_kwargs) not in (0, self.members):
            raise ValueError(
                f"member_kwargs has {len(self.member_kwargs)} entries for {self.members} members"
            )
        if self.train_command is not None and self.weights_option is None:
            raise ValueError(
                "train_command needs weights_option: what the calculator calls the path of its weights"
            )
        if self.timeout_s is not None and self.python is None:
            raise ValueError("timeout_s is of kind external: calculators in this process cannot be given up")
        return self

    def known_species(self) -> frozenset[int] | None:
        """`species`, where given."""
        return frozenset(self.species) or None

    def statistics(self, data: TrainingData, start: Path | None = None) -> dict[str, Any]:
        """The elements of the training side; raises TrainingError where its labels cannot be trained on."""
        if self.train_command is not None:
            check_labels(data.train)
        return {"species": list(species_of([item.frame for item in data.train]))}

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
        """Path of the file that the training command left, or of a placeholder where there is no command.

        Raises
        ------
        TrainingError
            There is nothing to train on; the command cannot be started, fails, or leaves no weights.
        """
        return training.train(self, data, seed, start, workdir, resources)

    def load(self, weights: Sequence[Path]) -> Potential:
        """The ensemble; raises TrainingError where a calculator cannot be made."""
        options: list[dict[str, Any]] = []
        for k, path in enumerate(weights):
            own = self.member_kwargs[k % len(self.member_kwargs)] if self.member_kwargs else {}
            found = {self.weights_option: str(path)} if self.weights_option and self.train_command else {}
            options.append({**self.kwargs, **own, **found})
        members = private("alfw.models._ase_members", self.kind)
        return members.ASEPotential(self.calculator, options, self.python, self.species, self.timeout_s)  # type: ignore[no-any-return]

    def export(self, weights: Sequence[Path], directory: Path, provenance: Mapping[str, Any]) -> None:
        """Write ``ensemble.json`` and the members' files into `directory`."""
        from alfw.models.ensemble import write_ensemble

        write_ensemble(directory, weights, provenance=provenance, model=self.model_dump(mode="json"))
