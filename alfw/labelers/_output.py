"""What a reader makes of a program's output, and how it fits the frame that was submitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from alfw.core.errors import GradientMissingError, StructureError, UnknownLabelError
from alfw.core.frame import Float, Frame, Int
from alfw.core.superposition import rotation

Files = Mapping[str, bytes]
MATCH_A = 1e-4  # how far an atom of the output may be from where it was submitted


@dataclass(frozen=True, eq=False)
class Step:
    """One complete ionic step, all of it in the orientation of `positions`.

    Attributes
    ----------
    numbers : (n,) int
    positions : (n, 3) float64, Å
        As the output prints them.
    energy : float, eV
        The force-consistent one.
    forces : (n, 3) float64, eV/Å
    cell : (3, 3) float64 or None, Å
    stress : (3, 3) float64 or None, eV/Å^3
        +(1/V) dE/dε.
    dipole : (3,) float64 or None, e·Å
        About the origin of `positions`.
    charges : (n,) float64 or None, e
    s_squared : float or None
    esp, esp_points : (G,) V and (G, 3) Å, or None
    """

    numbers: Int
    positions: Float
    energy: float
    forces: Float
    cell: Float | None = None
    stress: Float | None = None
    dipole: Float | None = None
    charges: Float | None = None
    s_squared: float | None = None
    esp: Float | None = None
    esp_points: Float | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """The content of a calculation that ended well.

    Attributes
    ----------
    code, version : str
        e.g. ``orca`` and ``orca 6.0.0``.
    steps : sequence of Step
        Every complete one, in order; at least one.
    theory : str
        What the output says of method and basis, for people.
    charge, multiplicity : int or None
        None where the output does not say.
    grouped : bool
        Whether the program puts the atoms of each element together, in the order among themselves in which they
        were submitted.
    """

    code: str
    version: str
    steps: Sequence[Step]
    theory: str = ""
    charge: int | None = None
    multiplicity: int | None = None
    grouped: bool = False


def _alone(path: Path) -> dict[str, Path]:
    """No further files."""
    return {}


@dataclass(frozen=True)
class Reader:
    """How the outputs of one code are recognised and read.

    Attributes
    ----------
    code : str
    mark : str
        Regular expression (multi-line) that its main output contains, good or bad, and that of no other code does.
    main : str
        The name that the main output has in `Files`.
    read : callable
        From files to Output; raises the LabelError subclass that the output calls for, with its literal line as
        `signature`. It refuses whatever it does not understand.
    companions : callable
        From the path of a main output to the further files that `read` can use, by their name in `Files`.
    """

    code: str
    mark: str
    main: str
    read: Callable[[Files], Output]
    companions: Callable[[Path], Mapping[str, Path]] = field(default=_alone)

    def output(self, files: Files) -> Output:
        """What `read` makes of the files, if it understands them.

        Raises
        ------
        LabelError
            Also where `read` stumbles, and where no step is complete.
        """
        try:
            found = self.read(files)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            what = f"output not understood ({type(error).__name__}: {error})"
            raise UnknownLabelError(what, what) from error
        if not found.steps:
            raise GradientMissingError("no complete step with energy and gradient")
        return found


def step_of(frame: Frame, output: Output) -> Step:
    """The step whose structure is the frame, turned into the frame's own orientation.

    Periodic structures have to lie as they were submitted, whole lattice vectors apart; molecules may have been moved
    and turned by the program (never mirrored).

    Raises
    ------
    StructureError
        There is none, or charge or multiplicity differ.
    """
    for name in ("charge", "multiplicity"):
        printed, wanted = getattr(output, name), getattr(frame, name)
        if printed is not None and printed != wanted:
            raise StructureError(f"the output is of {name} {printed}, submitted was {wanted}")
    closest = np.inf
    for step in output.steps:
        if output.grouped:
            step = ungrouped(step, frame.numbers)
        if not np.array_equal(step.numbers, frame.numbers):
            continue
        if frame.periodic:
            away = _periodic_distance(frame, step)
        else:
            step, away = superposed(step, frame.positions, frame.charge)
        if away <= MATCH_A:
            return step
        closest = min(closest, away)
    if np.isinf(closest):
        raise StructureError("the output is of other atoms, or of the same in another order")
    raise StructureError(
        f"the output is of another structure: an atom is {closest:.4f} Å from where it should be"
    )


def ungrouped(step: Step, numbers: Int) -> Step:
    """The step with its atoms in the order of `numbers` (n,): the k-th of an element stays the k-th of it.

    A step of other atoms comes back as it is.
    """
    if not np.array_equal(np.sort(step.numbers), np.sort(numbers)):
        return step
    row = np.empty(len(numbers), int)
    row[np.argsort(numbers, kind="stable")] = np.argsort(step.numbers, kind="stable")

    def taken(values: Float | None) -> Float | None:
        return None if values is None else values[row]

    return replace(
        step,
        numbers=step.numbers[row],
        positions=step.positions[row],
        forces=step.forces[row],
        charges=taken(step.charges),
    )


def _periodic_distance(frame: Frame, step: Step) -> float:
    """Largest displacement (Å) of an atom modulo lattice vectors; infinite where the cells differ."""
    if step.cell is None or np.abs(step.cell - frame.cell).max() > MATCH_A:
        return np.inf
    shift = (step.positions - frame.positions) @ np.linalg.inv(frame.cell)
    return float(np.linalg.norm((shift - np.round(shift)) @ frame.cell, axis=1).max())


def superposed(step: Step, positions: Float, charge: int) -> tuple[Step, float]:
    """The step moved and turned onto `positions` (n, 3) Å, and the largest displacement (Å) that is left.

    Where it lies there already nothing is turned, so that no digit is lost.
    """
    away = float(np.linalg.norm(step.positions - positions, axis=1).max())
    if away <= MATCH_A:
        return step, away
    turn = rotation(step.positions, positions)
    old, new = step.positions.mean(0), positions.mean(0)
    turned = turned_step(step, turn, new - old @ turn.T, charge)
    return turned, float(np.linalg.norm(turned.positions - positions, axis=1).max())


def turned_step(step: Step, turn: Float, shift: Float, charge: int) -> Step:
    """The step with every position r moved to ``turn r + shift`` (Å), and everything that moves with it.

    The dipole stays one about the origin of the coordinates: μ → turn μ + charge · shift.
    """

    def spun(vectors: Float | None) -> Float | None:
        return None if vectors is None else np.asarray(vectors @ turn.T)

    return replace(
        step,
        positions=step.positions @ turn.T + shift,
        forces=step.forces @ turn.T,
        cell=spun(step.cell),
        stress=None if step.stress is None else turn @ step.stress @ turn.T,
        dipole=None if step.dipole is None else step.dipole @ turn.T + charge * shift,
        esp_points=None if step.esp_points is None else step.esp_points @ turn.T + shift,
    )
