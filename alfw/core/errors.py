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
    ├── GeometryError          the program refuses the geometry                      (final)
    ├── InputError             charge, multiplicity, unsupported element or method   (final)
    ├── MissingOutputError     the program left no (complete) result                 (retried)
    ├── OutOfMemoryLabelError  (retried)
    ├── OutOfDiskError         (retried)
    ├── WalltimeError          (retried)
    ├── ExecutableError        program or licence missing                            (pauses the campaign)
    └── UnknownLabelError      (retried)
"""

from __future__ import annotations

from typing import ClassVar, Literal

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
        ``final`` counts towards ``max_failed_fraction`` and is never tried again in this campaign.
    """

    failure_class: ClassVar[str] = "UNKNOWN"
    policy: ClassVar[Policy] = "retry"

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
    """The program refuses the input: charge, multiplicity, element, method or basis."""

    failure_class = "INPUT_ERROR"
    policy: ClassVar[Policy] = "final"


class MissingOutputError(LabelError):
    """The program left no result, or an incomplete one."""

    failure_class = "MISSING_OUTPUT"


class OutOfMemoryLabelError(LabelError):
    """The calculation ran out of memory."""

    failure_class = "OUT_OF_MEMORY"


class OutOfDiskError(LabelError):
    """The calculation ran out of disk."""

    failure_class = "OUT_OF_DISK"


class WalltimeError(LabelError):
    """The calculation was stopped at its time limit."""

    failure_class = "WALLTIME"


class ExecutableError(LabelError):
    """The program, a package or its licence is missing on this worker."""

    failure_class = "EXECUTABLE_MISSING"
    policy: ClassVar[Policy] = "pause"


class UnknownLabelError(LabelError):
    """The calculation failed for a reason that alfw does not know."""
