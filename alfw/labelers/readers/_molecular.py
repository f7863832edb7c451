"""What the readers of Gaussian and Q-Chem share: why an output ended badly, and forces that fit their geometry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from alfw.core.errors import LabelError, MPIAbortError, UnknownLabelError
from alfw.core.frame import Float, Int
from alfw.core.units import BOHR_A, HARTREE_eV
from alfw.labelers._judge import LOG, RETURN_CODE
from alfw.labelers._output import Step
from alfw.labelers.readers.endings import broken_off, from_system

Files = Mapping[str, bytes]
Signatures = Sequence[tuple[str, type[LabelError]]]

NET_FORCE_eV_per_A = 0.05  # recorded outputs of both codes stay below 1e-3
TORQUE_eV = 0.15  # grids of functionals and cavities of solvents are not invariant under rotation
TORQUE_SHARE = 0.05  # of the sum of the magnitudes of all single torques
SAME_ENERGY_eV = 1e-4
REPULSION_HARTREE, REPULSION_SHARE = 2e-4, 1e-6  # for coordinates of 6 decimals
ABORTED = (b"134", b"-6")  # how a program ends that aborts itself, in a shell and without


def text_of(files: Files, main: str) -> str:
    """The main output as text; what went to stdout instead, where there is no such file."""
    data = files.get(main, b"")
    return (data if data.strip() else files.get(LOG, b"")).decode(errors="replace").replace("\r\n", "\n")


def everything(files: Files, main: str) -> str:
    """The main output, and what stdout and stderr got."""
    return f"{text_of(files, main)}\n{files.get(LOG, b'').decode(errors='replace')}"


def failure(text: str, signatures: Signatures) -> LabelError | None:
    """The error of the first of these signatures that the text contains, with its literal line; None without any.

    A group in the regular expression tells in which of several lines it stands.
    """
    for pattern, error in signatures:
        match = re.search(pattern, text)
        if match is not None:
            line = line_at(text, match.start(match.lastindex or 0))
            return error(line, line)
    return None


def line_at(text: str, position: int) -> str:
    """The literal line around this position."""
    end = text.find("\n", position)
    return text[text.rfind("\n", 0, position) + 1 : None if end < 0 else end].strip()


def why(files: Files, main: str, signatures: Signatures, general: Signatures) -> LabelError:
    """The error that an output without its normal end calls for.

    What the program says comes first, then what shell, MPI and scheduler say, then what is said of any error.
    """
    text = everything(files, main)
    found = failure(text, signatures) or from_system(text) or failure(text, general)
    if found is None and files.get(RETURN_CODE) in ABORTED:
        found = MPIAbortError("the program aborted without a word", "exit code 134")
    return found or broken_off(files, text_of(files, main))


def one_level(found: Iterable[tuple[str, Step]]) -> Iterator[Step]:
    """The steps of (level of theory, step); one that repeats the geometry before it (opt, then freq) is left out.

    Raises
    ------
    UnknownLabelError
        There are two levels of theory, or two energies of one geometry.
    """
    last_level, last = "", None
    for level, step in found:
        if last_level not in ("", level):
            raise UnknownLabelError(f"two levels of theory in one output: {last_level} and {level}", level)
        if last is None or not np.array_equal(last.positions, step.positions):
            yield step
        elif abs(last.energy - step.energy) > SAME_ENERGY_eV:
            raise UnknownLabelError("two energies of one geometry in one output")
        last_level, last = level, step


def check_repulsion(
    numbers: Int, positions: Float, electrons: int, printed: float, dispersion_eV: float = 0.0
) -> None:
    """Raise UnknownLabelError where the repulsion of the nuclei (Hartree) is not that of this geometry (Å).

    It tells a coordinate with a wrong digit, and a geometry that what follows does not belong to.

    Parameters
    ----------
    electrons : int
        As a neutral molecule would have. Where they are fewer than the nuclei have, the codes count with the charges
        that effective core potentials leave, and nothing is checked.
    printed : float, Hartree
    dispersion_eV : float
        How much lower it may be, an atom, for an energy of dispersion that it contains.
    """
    if electrons != int(numbers.sum()):
        return
    one, other = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(positions[one] - positions[other], axis=1)
    found = BOHR_A * float(np.sum(numbers[one] * numbers[other] / distances))
    error = REPULSION_HARTREE + REPULSION_SHARE * found
    if not -error <= found - printed <= error + len(numbers) * dispersion_eV / HARTREE_eV:
        what = f"nuclear repulsion {found:.6f} Hartree of the coordinates, {printed:.6f} printed"
        raise UnknownLabelError(f"the coordinates are not those of the calculation: {what}", what)


def check_balance(positions: Float, forces: Float) -> None:
    """Raise UnknownLabelError for forces that cannot be those of this geometry in this orientation.

    A molecule by itself neither accelerates nor starts to turn: ΣF = 0 and Σ r × F = 0, whatever the method. Forces
    of another geometry, of another orientation, zeroed on frozen atoms, without their solvent's part or in an
    external field show here.

    Parameters
    ----------
    positions : (n, 3) float64, Å
    forces : (n, 3) float64, eV/Å
    """
    net = float(np.abs(forces.sum(0)).max())
    torques = np.cross(positions - positions.mean(0), forces)
    torque = float(np.linalg.norm(torques.sum(0)))
    single = float(np.linalg.norm(torques, axis=1).sum())
    if net > NET_FORCE_eV_per_A or torque > max(TORQUE_eV, TORQUE_SHARE * single):
        what = f"net force {net:.3g} eV/Å, net torque {torque:.3g} eV"
        raise UnknownLabelError(f"forces that do not belong to the geometry printed with them ({what})", what)
