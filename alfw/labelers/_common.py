"""What every labeler needs before and around a calculation: frame checks, lazy loading, pinned threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.neighborlist import primitive_neighbor_list
from scipy.spatial.distance import pdist

from alfw.core.errors import ChargeError, ExecutableError, GeometryError, InputError, LabelError, PluginError
from alfw.core.frame import Float, Frame
from alfw.core.registry import private

MIN_DISTANCE_A = 0.3  # closer than this is a broken geometry for any program (H2 bonds are 0.74 Å)
SMALL = 64  # atoms of a molecule for which numpy is faster than scipy with its checks
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def check_electrons(frame: Frame) -> None:
    """Raise ChargeError when charge and multiplicity do not fit the number of electrons."""
    electrons = int(frame.numbers.sum()) - frame.charge
    unpaired = frame.multiplicity - 1
    if frame.multiplicity < 1:
        problem = "multiplicity is 2S + 1, at least 1"
    elif electrons < 1 or unpaired > electrons:
        problem = f"{electrons} electrons are too few; correct charge or multiplicity"
    elif (electrons - unpaired) % 2:
        problem = f"impossible with {electrons} electrons; correct charge or multiplicity"
    else:
        return
    state = f"charge {frame.charge:+d}, multiplicity {frame.multiplicity}"
    raise ChargeError(f"frame {frame.id[:12]} ({frame.formula}, {state}): {problem}")


def check_elements(frame: Frame, highest: int, program: str) -> None:
    """Raise InputError when an element is beyond the atomic number `highest`."""
    beyond = sorted({int(z) for z in frame.numbers if not 1 <= z <= highest})
    if beyond:
        names = ", ".join(chemical_symbols[z] for z in beyond)
        raise InputError(f"frame {frame.id[:12]}: {program} has no parameters for {names}")


def check_periodicity(frame: Frame, kind: str, *, molecules: bool = True, crystals: bool = True) -> None:
    """Raise InputError when a frame is periodic in a way that this labeler does not know."""
    if frame.periodic and not crystals:
        raise InputError(f"frame {frame.id[:12]} is periodic: labeler {kind!r} is for molecules")
    if not frame.periodic and not molecules:
        raise InputError(f"frame {frame.id[:12]} is not periodic: labeler {kind!r} is for periodic systems")
    if frame.periodic and not frame.pbc.all():
        raise InputError(
            f"frame {frame.id[:12]} is periodic in some directions only: set `partial_pbc: vacuum`"
        )


def refuse(check: Callable[[Frame], None], frame: Frame) -> None:
    """Raise InputError or GeometryError for a frame that is not worth a calculation."""
    check(frame)
    closest = _closest(frame)
    if closest is not None and closest < MIN_DISTANCE_A:
        raise GeometryError(f"frame {frame.id[:12]}: two atoms are {closest:.3f} Å apart")


def refused(check: Callable[[Frame], None], frame: Frame) -> bool:
    """Whether `refuse` raises: then `run` computes nothing and `parse` says why."""
    try:
        refuse(check, frame)
    except LabelError:
        return True
    return False


def _closest(frame: Frame) -> float | None:
    """Smallest distance (Å) between two atoms, periodic images included; None where none is short."""
    if not frame.periodic:
        if len(frame) > SMALL:
            return float(pdist(frame.positions).min())
        squares = ((frame.positions[:, None] - frame.positions) ** 2).sum(2)
        np.fill_diagonal(squares, np.inf)
        return float(np.sqrt(squares.min())) if len(frame) > 1 else None
    distances = primitive_neighbor_list("d", frame.pbc, frame.cell, frame.positions, MIN_DISTANCE_A)
    return float(distances.min()) if len(distances) else None


def about_mass_centre(dipole: Float, frame: Frame) -> Float:
    """Dipole (3,) e·Å about the centre of mass, from the one about the origin of the coordinates.

    μ(R) = μ(0) − q R; for neutral frames both are the same.
    """
    if frame.charge == 0:
        return np.asarray(dipole, np.float64)
    centre = np.average(frame.positions, axis=0, weights=frame.masses)
    return np.asarray(dipole, np.float64) - frame.charge * centre


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables that pin the threads of OpenMP, BLAS and friends."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def load(module: str, kind: str, threads: int = 1) -> Any:
    """A `_private` module; OpenMP libraries that come with it start with this number of threads.

    They read the environment once, when they are loaded: a later number in the same process has no effect.

    Raises
    ------
    ExecutableError
        The package it needs is not installed.
    """
    if module in sys.modules:  # no time is lost for labels that take a millisecond
        return sys.modules[module]
    try:
        with pinned_threads(threads):
            return private(module, kind)
    except PluginError as error:
        raise ExecutableError(str(error)) from error


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """`os.environ` with `thread_environment` for a while, for libraries that are loaded meanwhile."""
    variables = thread_environment(threads)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
