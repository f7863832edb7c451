"""From raw output to a label or the right error: success is read from the numbers, never from an exit code.

Programs that alfw drives itself leave ``result.json``: either numbers, or ``{"error": {"type", "message"}}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from alfw.core.errors import (
    BasisError,
    DeckError,
    DivergedError,
    ExecutableError,
    GeometryError,
    InputError,
    LabelError,
    LinearDependencyError,
    MissingOutputError,
    NotConvergedError,
    OutOfDiskError,
    OutOfMemoryLabelError,
    UnknownLabelError,
)
from alfw.core.frame import Frame
from alfw.core.records import Label, Run
from alfw.core.units import HARTREE_eV

RESULT = "result.json"
LOG = "output.log"
RETURN_CODE = "returncode"
MAX_FORCE_eV_per_A = 1e5

# Signature (regular expression) → class, first match wins. Source: what the programs print.
SIGNATURES: tuple[tuple[str, type[LabelError]], ...] = (
    (r"SCF not converged", NotConvergedError),  # PySCF, tblite
    (r"No space left on device|Disk quota exceeded", OutOfDiskError),
    (r"MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|oom-kill", OutOfMemoryLabelError),
    (r"No module named|not available\. Install them with", ExecutableError),
    (r"BasisNotFoundError|Basis set not found", BasisError),  # PySCF
    (r"Electron number .* not consistent", InputError),  # PySCF
    (r"LibXCFunctional: name .* not found", DeckError),  # PySCF, unknown functional
    (r"NotImplementedError: .*(supported|functional|laplacian)", DeckError),  # PySCF, known but not there
    (r"dispersion correction: .* not supported|Unknown dispersion version", DeckError),  # PySCF
    (r"linear dependency", LinearDependencyError),  # PySCF
    (r"NotImplementedError|is not supported", InputError),  # ASE
    (r"[Tt]oo close|singular matrix", GeometryError),  # two atoms in one place
    (r"[Nn]ot converge|failed to converge", NotConvergedError),  # ASE calculators
)

WHAT_TO_DO: Mapping[type[LabelError], str] = {
    ExecutableError: "install it there",
    OutOfDiskError: "free some space or set `scratch`",
    DeckError: "correct `method` or the options of the labeler",
    BasisError: "choose a `basis` that has all elements",
}


def failure_class(signature: str) -> type[LabelError] | None:
    """The class of a line of output; None where no signature is known."""
    return next((error for pattern, error in SIGNATURES if re.search(pattern, signature)), None)


def error_json(error: Exception) -> bytes:
    """``result.json`` of a calculation that raised."""
    text = {"type": type(error).__name__, "message": str(error)}
    return json.dumps({"error": text}).encode()


def worker_problem(run: Run) -> LabelError | None:
    """What would hit every other frame, too: program missing, disk full, unknown method; `Labeler.run` raises it."""
    result = _result(run)
    if result is not None and "error" not in result:
        return None
    signature = _signature(run, result)
    error = failure_class(signature)
    if error is None or not (error.policy == "pause" or error is OutOfDiskError):
        return None
    problem = error(f"{signature} (on {run.host}); {WHAT_TO_DO[error]}", signature)
    problem.partial = run
    return problem


def numbers(frame: Frame, run: Run, *required: str) -> Mapping[str, Any]:
    """The content of ``result.json`` of a calculation that ended well, with at least the `required` keys.

    Raises
    ------
    LabelError
        The subclass that the output calls for; `signature` is its literal line.
    """
    result = _result(run)
    if result is not None and "error" not in result:
        missing = [name for name in required if name not in result]
        if missing:
            raise MissingOutputError(f"frame {frame.id[:12]}: {RESULT} lacks {', '.join(missing)}")
        return result
    signature = _signature(run, result)
    error = failure_class(signature)
    if error is None:
        code = run.files.get(RETURN_CODE, b"0")
        error = (
            OutOfMemoryLabelError
            if code == b"-9"
            else MissingOutputError
            if result is None
            else UnknownLabelError
        )
    remedies = sum(1 for correction in run.corrections if correction["actions"])
    tried = f" after {remedies} remedies" if remedies else ""
    raise error(f"frame {frame.id[:12]}{tried}: {signature}", signature)


def checked(frame: Frame, run: Run, *, total_energy: bool, **values: Any) -> Label:
    """The label with these values, if they are complete, finite and sane.

    Parameters
    ----------
    total_energy : bool
        Whether the energy is counted from bare nuclei and electrons, so that it has known bounds.
    **values
        energy, forces, stress, dipole, charges, s_squared, esp, esp_points as in `Label`; arrays or nested lists.

    Raises
    ------
    MissingOutputError
        An array has the wrong shape.
    DivergedError
        A number is not finite or absurd.
    """
    n = len(frame)
    shapes: dict[str, tuple[int, ...]] = {"energy": (), "forces": (n, 3), "stress": (3, 3), "dipole": (3,)}
    points = len(values["esp"]) if values.get("esp") is not None else 0
    shapes |= {"charges": (n,), "s_squared": (), "esp": (points,), "esp_points": (points, 3)}
    arrays = {name: np.asarray(value, np.float64) for name, value in values.items() if value is not None}
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise MissingOutputError(
                f"frame {frame.id[:12]}: {name} has shape {array.shape}, not {shapes[name]}"
            )
        if not np.isfinite(array).all():
            raise DivergedError(f"frame {frame.id[:12]}: {name} is not finite")
    energy = float(arrays.pop("energy"))
    s_squared = arrays.pop("s_squared", None)
    largest = float(np.abs(arrays["forces"]).max())
    if largest > MAX_FORCE_eV_per_A:
        raise DivergedError(f"frame {frame.id[:12]}: a force of {largest:.3g} eV/Å is absurd")
    if total_energy and abs(energy) > energy_bound(frame):
        raise DivergedError(
            f"frame {frame.id[:12]}: an energy of {energy:.8g} eV is absurd for {frame.formula}"
        )
    return Label(
        energy=energy,
        **arrays,
        s_squared=None if s_squared is None else float(s_squared),
        corrections=run.corrections,
        changes=run.changes,
        wall_s=run.wall_s,
        version=run.version,
        command=run.command,
        host=run.host,
    )


def energy_bound(frame: Frame) -> float:
    """Magnitude (eV) that no total energy reaches: twice that of Thomas-Fermi atoms, and 1 Hartree each.

    E_TF = −0.7687 Z^(7/3) Hartree (E. H. Lieb, Rev. Mod. Phys. 53, 603 (1981), doi 10.1103/RevModPhys.53.603) lies
    below the energy of every neutral atom; valence-only methods are above it all the more.
    """
    return float(np.sum(2.0 * 0.7687 * frame.numbers ** (7.0 / 3.0) + 1.0)) * HARTREE_eV


def _result(run: Run) -> Mapping[str, Any] | None:
    """``result.json``, or None where it is missing or cut off."""
    try:
        result = json.loads(run.files.get(RESULT, b""))
    except ValueError:
        return None
    return result if isinstance(result, dict) else None


def _signature(run: Run, result: Mapping[str, Any] | None) -> str:
    """The literal line that says what went wrong."""
    if result is not None:
        error = result["error"]
        lines = str(error["message"]).strip().splitlines() or [""]
        return f"{error['type']}: {lines[0]}"
    code = run.files.get(RETURN_CODE, b"").decode()
    if code.startswith("-"):
        return f"killed by signal {code[1:]}"
    lines = [line for line in run.files.get(LOG, b"").decode(errors="replace").splitlines() if line.strip()]
    known = [line for line in lines[-50:] if failure_class(line) is not None]
    return (known or lines or ["no output"])[-1].strip()
