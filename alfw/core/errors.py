"""Every error alfw raises on purpose.

AlfwError                      one line: what, which id or key, what to do
├── ConfigError                a key of campaign.yaml (its path comes first)
├── CampaignConflictError      the stored campaign has other content
├── StoreError                 missing record, corrupt blob, state conflict, database not reachable
├── PluginError                unknown kind, package of a plug-in not installed
├── DataError                  a file of the user cannot be used as it is
├── SamplingError              a sampler cannot run
├── TrainingError              a model cannot be trained or loaded
└── LabelError                 no label for this frame (`failure_class` says why)
    ├── NotConvergedError      SCF did not converge, after all remedies              (final)
    ├── DivergedError          normal end, absurd numbers                            (final)
    ├── LinearDependencyError  the basis is linearly dependent, after all remedies   (final)
    ├── GeometryError          the geometry is broken (atoms too close, lost atoms)  (final)
    ├── InputError             this frame cannot be labelled so (periodicity, size)  (final)
    ├── ChargeError            charge and multiplicity do not fit the electrons      (final)
    ├── SuspectError           far off what ensemble and neighbours say, unconfirmed (retried once)
    ├── MissingOutputError     the program left no (complete) result                 (retried)
    ├── GradientMissingError   an energy, but no (finite) gradient                   (retried)
    ├── StructureError         the output is of another structure                    (retried)
    ├── OutOfMemoryLabelError  (retried)
    ├── OutOfDiskError         (retried)
    ├── WalltimeError          (retried)
    ├── MPIAbortError          a parallel process died for no reason it tells        (retried)
    ├── UnknownLabelError      (retried)
    ├── DeckError              the program refuses the deck: keyword, method, option (pauses the campaign)
    ├── BasisError             element without basis or pseudopotential              (pauses the campaign)
    ├── LicenseError           no licence                                            (pauses the campaign)
    └── ExecutableError        program or package missing                            (pauses the campaign)
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Policy = Literal["final", "retry", "pause"]


class AlfwError(Exception):
    """Base of all errors that alfw raises on purpose."""


class ConfigError(AlfwError):
    """A key of campaign.yaml is wrong; the message starts with the path of the key."""


class CampaignConflictError(AlfwError):
    """A campaign of this name exists with other content."""


class StoreError(AlfwError):
    """The database lacks, refuses or contradicts something."""


class PluginError(AlfwError):
    """A plug-in is unknown, or the package it needs is not installed."""


class DataError(AlfwError):
    """A file of the user cannot be used as it is."""


class SamplingError(AlfwError):
    """A sampler cannot run."""


class TrainingError(AlfwError):
    """A model cannot be trained or loaded."""


class LabelError(AlfwError):
    """No label could be had for a frame.

    Attributes
    ----------
    failure_class : str
        One of the classes of the failure ledger, e.g. ``SCF_NOT_CONVERGED``.
    policy : {"final", "retry", "pause"}
        ``final`` is never tried again in this campaign unless its user wants it.
    partial : Run or None
        What was left, for the ledger, of a calculation that `Labeler.run` did not bring to its end.
    """

    failure_class: ClassVar[str] = "UNKNOWN"
    policy: ClassVar[Policy] = "retry"
    partial: Any = None

    def __init__(self, message: str, signature: str = "") -> None:
        super().__init__(message)
        self.signature = signature or message.splitlines()[0] if message else signature


class NotConvergedError(LabelError):
    """The SCF did not converge after all remedies."""

    failure_class = "SCF_NOT_CONVERGED"
    policy: ClassVar[Policy] = "final"


class DivergedError(LabelError):
    """The program ended normally with absurd or non-finite numbers."""

    failure_class = "SCF_DIVERGED"
    policy: ClassVar[Policy] = "final"


class GeometryError(LabelError):
    """The program refuses the geometry (atoms too close, lost atoms)."""

    failure_class = "GEOMETRY"
    policy: ClassVar[Policy] = "final"


class InputError(LabelError):
    """This frame cannot be labelled so: periodicity, electron count, element."""

    failure_class = "INPUT_ERROR"
    policy: ClassVar[Policy] = "final"


class ChargeError(InputError):
    """Charge and multiplicity do not fit the number of electrons."""

    failure_class = "CHARGE_MULT"


class LinearDependencyError(LabelError):
    """The basis set is linearly dependent, after all remedies."""

    failure_class = "LINEAR_DEPENDENCY"
    policy: ClassVar[Policy] = "final"


class SuspectError(LabelError):
    """A complete label that is far off what the ensemble and its neighbours say, and that nothing confirms."""

    failure_class = "SUSPECT"


class MissingOutputError(LabelError):
    """The program left no result, or an incomplete one."""

    failure_class = "MISSING_OUTPUT"


class GradientMissingError(LabelError):
    """The program left an energy, but no complete and finite gradient."""

    failure_class = "GRADIENT_MISSING"


class StructureError(LabelError):
    """The output is of another structure than the one submitted: other atoms, order or positions."""

    failure_class = "WRONG_STRUCTURE"


class OutOfMemoryLabelError(LabelError):
    """The calculation ran out of memory."""

    failure_class = "OUT_OF_MEMORY"


class OutOfDiskError(LabelError):
    """The calculation ran out of disk."""

    failure_class = "OUT_OF_DISK"


class WalltimeError(LabelError):
    """The calculation was stopped at its time limit."""

    failure_class = "WALLTIME"


class MPIAbortError(LabelError):
    """A parallel process died without telling why."""

    failure_class = "MPI_ABORT"


class DeckError(LabelError):
    """The program refuses the deck (keyword, method, option), and would do so for every frame."""

    failure_class = "INPUT_ERROR"
    policy: ClassVar[Policy] = "pause"


class BasisError(LabelError):
    """An element has no basis set or pseudopotential."""

    failure_class = "BASIS_MISSING"
    policy: ClassVar[Policy] = "pause"


class LicenseError(LabelError):
    """The program finds no licence on this worker."""

    failure_class = "LICENSE"
    policy: ClassVar[Policy] = "pause"


class ExecutableError(LabelError):
    """The program or a package it needs is missing on this worker."""

    failure_class = "EXECUTABLE_MISSING"
    policy: ClassVar[Policy] = "pause"


class UnknownLabelError(LabelError):
    """The calculation failed for a reason that alfw does not know."""
