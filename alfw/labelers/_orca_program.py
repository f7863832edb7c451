"""How ORCA is run: its files, and what is tried when it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from alfw.core.errors import (
    ExecutableError,
    InputError,
    LabelError,
    LinearDependencyError,
    MissingOutputError,
    MPIAbortError,
    NotConvergedError,
    OutOfMemoryLabelError,
)
from alfw.labelers._handlers import Files, Ladder
from alfw.labelers._program import Program
from alfw.labelers.readers._orca_failures import after_scf, bad_restart, too_many_processes, wants_memory
from alfw.labelers.readers.orca import ENGRAD, POTENTIAL, READER


@lru_cache(maxsize=1)
def _failure(files: tuple[tuple[str, bytes], ...]) -> type[LabelError] | None:
    """The class of a failure, read once for all ladders; None where there is none."""
    try:
        READER.output(dict(files))
    except LabelError as error:
        return type(error)
    return None


def _failed(*errors: type[LabelError]) -> Callable[[Files], bool]:
    """Whether an output is refused with one of these errors."""
    return lambda files: _failure(tuple(files.items())) in errors


OUT_OF_MEMORY, NOT_CONVERGED = _failed(OutOfMemoryLabelError), _failed(NotConvergedError)
NO_START, NO_RESULT = _failed(InputError, ExecutableError), _failed(MissingOutputError)

LADDERS = (
    Ladder(
        "SCF_NOT_CONVERGED",
        lambda files: NOT_CONVERGED(files) and not after_scf(files),
        steps=(
            {"cycles": 300, "restart": True},  # from the orbitals of the attempt before
            {"slow_conv": "SlowConv"},
            {"slow_conv": "VerySlowConv", "level_shift": 0.5, "cycles": 500},
            {"slow_conv": None, "level_shift": None, "second_order": True},
            {"second_order": None, "restart": False, "guess": "PAtom", "slow_conv": "SlowConv"},
            {"guess": "HCore", "slow_conv": "VerySlowConv"},
        ),
    ),
    Ladder(  # ORCA thinks that it would need more
        "OUT_OF_MEMORY",
        lambda files: OUT_OF_MEMORY(files) and wants_memory(files),
        ({"memory_share": 0.95}, {"split": 2}, {"split": 4}),
    ),
    Ladder(  # it has taken more than there is
        "OUT_OF_MEMORY",
        lambda files: OUT_OF_MEMORY(files) and not wants_memory(files),
        ({"memory_share": 0.5}, {"split": 2}),
    ),
    Ladder(
        "RESOURCES",
        lambda files: NO_START(files) and too_many_processes(files),
        ({"split": 2}, {"split": 4}, {"split": 1_000_000}),
    ),
    Ladder("MISSING_OUTPUT", lambda files: NO_RESULT(files) and bad_restart(files), ({"restart": False},)),
    Ladder("MPI_ABORT", _failed(MPIAbortError), ({"again": 1},)),
    Ladder(
        "LINEAR_DEPENDENCY",
        _failed(LinearDependencyError),
        steps=(),
        changes=({"sthresh": 1e-6}, {"sthresh": 1e-5}),
    ),
)
PROGRAM = Program(
    reader=READER,
    decks={"orca.inp": "orca.inp.j2"},
    outputs=(ENGRAD, POTENTIAL),
    checkpoints=("orca.gbw",),
    ladders=LADDERS,
    mpi=True,
)
SERIAL = replace(  # one process cannot be split
    PROGRAM,
    ladders=tuple(replace(each, steps=tuple(s for s in each.steps if "split" not in s)) for each in LADDERS),
)
