"""The contracts of the four kinds of plug-ins, and of a loaded ensemble.

A plug-in is one frozen pydantic model: its fields are its options in campaign.yaml, its verb does the work.
Options that name how something is executed (a command, a device, a batch size) and never change a result are listed in
`execution_only`; ids leave them out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from alfw.core.exploration import Exploration, Pool, Selection
from alfw.core.frame import Float, Frame
from alfw.core.records import Attempt, Label, Prediction, Resources, Run, Theory, TrainingData


@runtime_checkable
class Potential(Protocol):
    """A loaded ensemble of K members; numpy in, numpy out, inputs untouched."""

    species: tuple[int, ...]
    cutoff_A: float
    members: int

    def predict(self, frames: Sequence[Frame]) -> Prediction:
        """What each member says of each frame, in the order of `frames`."""
        ...


@runtime_checkable
class JaxPotential(Potential, Protocol):
    """A Potential that jax-md can drive."""

    def atom_energy_function(self) -> tuple[Callable[..., Any], Any]:
        """A function and the parameters of all members.

        The function: ``f(params, vectors, species, senders, receivers) -> (N,) eV`` for one member, where
        `vectors` (E, 3) Å are the edges r_sender + shift·cell − r_receiver; `species` (N,) int32 the index of each
        atom's element in `Potential.species`; `senders`, `receivers` (E,) int32. An edge longer than `cutoff_A`
        contributes exactly nothing, so padded edges get a vector longer than that.
        The energy of a member is the sum, without its atomic reference energies E0.

        The parameters: a pytree whose leaves have a leading axis of length K; member k is ``tree.map(x[k])``.
        """
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """A Potential whose per-atom features can be had, for selection."""

    def features(self, frames: Sequence[Frame]) -> list[Float]:
        """B × (n, D) float32: what the readout of the network sees of each atom; invariant under rotation.

        Of an ensemble: of its first member. Of a checkpoint loaded as it was published: its frozen features.
        """
        ...


@runtime_checkable
class HasMembers(Potential, Protocol):
    """A Potential whose members can be asked one by one, each for its own share of the cost."""

    def member(self, k: int) -> Potential:
        """Member `k` alone."""
        ...


@runtime_checkable
class HasSpread(JaxPotential, Protocol):
    """A JaxPotential that knows how far its members are apart for hardly more than the cost of one."""

    def atom_spread_function(self) -> tuple[Callable[..., Any], Any]:
        """A function of the mean energy and of the members' deviations from it, and its parameters.

        The function: ``f(params, vectors, species, senders, receivers) -> (mean (N,) eV, deviations (K, N) eV)``.
        Arguments as in `JaxPotential.atom_energy_function`; `params` has no leading axis. The members share all but
        their last layer, so that all K cost one pass; a deviation is a member minus the mean, and they sum to zero. The
        energy σ of a frame is the root mean square over K of their sums over its atoms.
        """
        ...


@runtime_checkable
class NeedsSpread(Protocol):
    """A sampler or selector that looks at how far the members of an ensemble are apart."""

    def spread_needs(self) -> Mapping[str, Literal["members", "heads"]]:
        """Paths of the options, as the user wrote them, that ask for a spread, and what they need.

        "members": more than one, of whatever kind; "heads": a shallow ensemble (`HasSpread`). An option left at its
        default asks for nothing.
        """
        ...


def spread_lacking(plugin: object, members: int, cheap: bool) -> str | None:
    """What an ensemble of `members` lacks for this sampler or selector: one line, None = nothing.

    `cheap`: whether it is a shallow ensemble, whose spread of energies is known everywhere.
    """
    for key, need in (plugin.spread_needs() if isinstance(plugin, NeedsSpread) else {}).items():
        if need == "members" and members < 2:
            return f"{key}: an ensemble of one has no spread; set model.members or model.heads, or leave this out"
        if need == "heads" and not cheap:
            return f"{key}: needs a shallow ensemble (model.heads 8 or so, members 1); force_std_eV_per_A serves others"
    return None


@runtime_checkable
class NeedsStress(Protocol):
    """A sampler that changes cells: of use only where the model has a stress, and labels have one to train it on.

    Models and labelers that never have one say so by ``has_stress: ClassVar[bool] = False``.
    """

    def stress_needs(self) -> Sequence[str]:
        """Paths of the options, as the user wrote them, that ask for a stress; empty = none does."""
        ...


@runtime_checkable
class HasElectrostatics(Protocol):
    """A Potential of molecules with atomic and distributed charges."""

    def dipoles(self, frames: Sequence[Frame]) -> tuple[Float, Float]:
        """(K, B, 3) e·Å about the centres of mass: of the atomic charges, and of the distributed ones."""
        ...

    def charges(self, frames: Sequence[Frame]) -> list[Float]:
        """B × (K, n) e: atomic charges, which sum to the charge of the frame."""
        ...

    def esp(self, frame: Frame, points: Float) -> tuple[Float, Float]:
        """(K, G) V at `points` (G, 3) Å of one molecule: of the atomic charges, and of the distributed ones."""
        ...


class Model(Protocol):
    """A kind of potential that can be trained."""

    kind: str
    members: int
    execution_only: ClassVar[frozenset[str]]

    def statistics(self, data: TrainingData, start: Path | None = None) -> dict[str, Any]:
        """What all members share (JSON data): species, E0, scale, neighbour numbers; deterministic.

        `start`: the checkpoint that all members start from, where there is one.
        """
        ...

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
        """Path of the weights of one trained member inside `workdir`, self-describing, without pickle.

        Parameters
        ----------
        start : Path or None
            Weights to start from: the checkpoint of all members, or this member of the round before.
        workdir : Path
            A ``state.npz`` in it, as `keep` was given it, is a training cut off, to be continued.
        keep : callable, optional
            Called now and then with the path of the training's state and its step.
        """
        ...

    def load(self, weights: Sequence[Path]) -> Potential:
        """The ensemble of these members."""
        ...

    def export(self, weights: Sequence[Path], directory: Path, provenance: Mapping[str, Any]) -> None:
        """Write the ensemble of these members, self-describing, into a new folder for use outside alfw."""
        ...

    def known_species(self) -> frozenset[int] | None:
        """Atomic numbers the model can handle; None = any."""
        ...


class Sampler(Protocol):
    """A way to explore.

    An optional ``driven: ClassVar[bool]`` says whether forces of the model move the atoms (no by default): what such a
    sampler finds far from all that is labelled may be a hole of the model; see `EnvironmentsSelector.trust`.
    """

    kind: str
    execution_only: ClassVar[frozenset[str]]

    def run(
        self,
        potential: Potential,
        starts: Sequence[Frame],
        seed: int,
        workdir: Path,
        resources: Resources,
        progress: Callable[[str], None] | None = None,
    ) -> Exploration:
        """The frames kept and the events met, starting from `starts` (reused in turn when there are too few)."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A sampler that reads files of the user: `start` stores them, workers get copies."""

    paths: tuple[str, ...]

    def reading(self, paths: Sequence[str]) -> Sampler:
        """The same sampler, reading these files instead."""
        ...


class Selector(Protocol):
    """A way to choose what is worth a label."""

    kind: str
    execution_only: ClassVar[frozenset[str]]

    def select(self, pool: Pool, limit: int, seed: int) -> Selection:
        """At most `limit` frames of the pool, with reasons, and how many were turned down for which reason."""
        ...


FIRST = Attempt()


@runtime_checkable
class NamesFiles(Protocol):
    """A labeler or model whose options name files of the user: decks, pseudopotentials, checkpoints."""

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with small files read in, larger ones pinned by sha256, paths relative to `base` resolved.

        Called once, where the campaign is added; options that are so already come back unchanged.

        Raises
        ------
        DataError
            A file is missing or unreadable.
        """
        ...


class Labeler(Protocol):
    """A QM program, or anything that gives reference energies and forces.

    An optional ``can_guess: ClassVar[bool]`` says whether `Attempt.other_guess` makes a difference, so that a label far
    off what was expected is computed once more; by default it does for external programs, not for those in-process.
    """

    kind: str
    in_process: bool
    periodic: bool | None
    execution_only: ClassVar[frozenset[str]]

    def theory(self) -> Theory:
        """All that fixes the energy surface."""
        ...

    def check(self, frame: Frame) -> None:
        """Raise InputError when this labeler cannot label this frame (electron count, periodicity, element)."""
        ...

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """The raw output of the calculation under custodian, whatever its outcome.

        Raises only what would hit other frames as well: OutOfDiskError, WalltimeError (with what was left behind in
        `partial`), and the errors of policy ``pause`` (program, licence, basis, deck).
        """
        ...

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label, judged from the output alone; raises a LabelError subclass when there is none."""
        ...


def label(labeler: Labeler, frame: Frame, workdir: Path, resources: Resources) -> Label:
    """The label of one frame: run, then parse."""
    return labeler.parse(frame, labeler.run(frame, workdir, resources))
