"""Why Q-Chem has given no result, from the lines that it has printed.

Source: outputs of Q-Chem 4.1 to 6.1; pymatgen's and ARC's lists of its errors for what is rare (licence, charge).
"""

from __future__ import annotations

from alfw.core.errors import (
    BasisError,
    ChargeError,
    DeckError,
    ExecutableError,
    GeometryError,
    LabelError,
    LicenseError,
    LinearDependencyError,
    MPIAbortError,
    NotConvergedError,
    OutOfMemoryLabelError,
    UnknownLabelError,
)

# Regular expression → class, first match wins.
FAILURES: tuple[tuple[str, type[LabelError]], ...] = (
    (
        r"FlexNet Licensing error|Unable to validate license|License server machine is down"
        r"|(?i:licen[sc]e (?:has )?expired|(?:invalid|no valid) licen[sc]e)",
        LicenseError,
    ),
    (
        r"QC(?:AUX|PLATFORM|SCRATCH|PROG)? (?:environment variable )?(?:is )?not (?:set|defined)",
        ExecutableError,
    ),
    (r"qcprog\S*: (?:not found|No such file)|: Permission denied", ExecutableError),
    (
        r"Please (?:increase|use larger) MEM_(?:TOTAL|STATIC)|Not enough (?:total )?memory|QAlloc.*[Ff]ailed"
        r"|malloc|exit codes: 137",
        OutOfMemoryLabelError,
    ),
    (r"Invalid charge/multiplicity combination", ChargeError),
    (r"Basis not supported for the above atom", BasisError),
    (
        r"no longer supports ECPs|failed to pass inspection|An unrecognized keyword|has been deprecated",
        DeckError,
    ),
    (
        r"Unrecognized (?:exchange|correlation) functional|method not available|is not correct \(rem",
        DeckError,
    ),
    (r"Could not find \$molecule section|Error opening input stream", DeckError),
    (r"(?i)atoms? (?:\S+ ){0,4}too close|nuclei (?:coincide|too close)", GeometryError),
    (r"Negative overlap matrix eigenvalue", LinearDependencyError),
    (r"SCF failed to converge|Convergence failure|zero or negative preconditioner", NotConvergedError),
    (r"(?i)mpi[ _]error", MPIAbortError),
)
# Where nothing else is known: the message below the line with the module, then an abort without words.
GENERAL: tuple[tuple[str, type[LabelError]], ...] = (
    (r"Q-Chem (?:fatal )?error occurred in module.*\n\s*(\S.*)", UnknownLabelError),
    (r"exit codes: 134", MPIAbortError),
)
