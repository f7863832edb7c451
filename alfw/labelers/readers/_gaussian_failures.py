"""Why Gaussian has given no result, from the lines that it has printed.

Source: outputs of Gaussian 98 to 16; what computing centres list of rare ones (disk, licence, scratch).
"""

from __future__ import annotations

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    InputError,
    LabelError,
    LicenseError,
    MPIAbortError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    UnknownLabelError,
)

# %mem is too small; or larger than what the machine gives, which Gaussian says on stderr.
MEMORY_TOO_SMALL = (
    r"Out-of-memory error in routine|Unable to allocate space to process matrices"
    r"|needs +\d+ more words of memory|words are not enough for"
)
MEMORY_TOO_LARGE = r"galloc: +could not allocate memory|malloc failed"
CHECKPOINT = (
    r"Bad file opened by FileIO|FileIO operation on non-existent file|Operation on file out of range"
    r"|No data on chk file|Basis set data is not on the checkpoint file|Unable to project (?:full set of )?read-in"
)

# Regular expression → class, first match wins.
FAILURES: tuple[tuple[str, type[LabelError]], ...] = (
    (r"(?i)files in the gaussian directory are world accessible|failed to open execfile", ExecutableError),
    (r"(?:PGFIO/stdio|ntrex1.*): (?:Permission denied|No such file)|: Permission denied", ExecutableError),
    (
        r"(?i)not (?:authori[sz]ed|permitted|licensed) to (?:use|run) gaussian|no valid licen[sc]e",
        LicenseError,
    ),
    (r"(?i)Erroneous write|Write error in NtrExt|Probably out of disk space", OutOfDiskError),
    (f"{MEMORY_TOO_SMALL}|{MEMORY_TOO_LARGE}", OutOfMemoryLabelError),
    (r"The combination of multiplicity +\d+ and +\d+ electrons is impossible", ChargeError),
    (r"Atomic number out of range for .* basis|No (?:C6 coefficient|RCov radius) available", BasisError),
    (
        r"Problem with the distance matrix|Small interatomic distances encountered|Atom too close",
        GeometryError,
    ),
    (CHECKPOINT, InputError),
    (
        r"QPErr ---|A syntax error was detected|Illegal IT(?:py|yp)e or MSType|R6DS8: Unable to choose",
        DeckError,
    ),
    (r"(?:End of file|EOF) (?:in|(?:while )?reading) \w+|There are no atoms in this input", DeckError),
    (r"Atom specifications unexpectedly found|Z-matrix optimization but no Z-matrix", DeckError),
    (r"(?i)card seems defective|Unrecognized atomic symbol|Wanted an integer as input", DeckError),
    (r"Convergence failure|Inaccurate quadrature in CalDSu", NotConvergedError),
    (r"ntsnet: worker on node .* exited abnormally", MPIAbortError),
)
# Where nothing else is known.
GENERAL: tuple[tuple[str, type[LabelError]], ...] = (
    (r"Inv3 failed in PCMMkU|FormBX had a problem|[Ss]egmentation (?:violation|fault)", UnknownLabelError),
    (r"Number of steps exceeded|Error termination.*", UnknownLabelError),
)
