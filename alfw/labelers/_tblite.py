"""One GFN-xTB single point through tblite's Python interface."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from tblite import library
from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError
from tblite.interface import Calculator

from alfw.core.frame import Frame
from alfw.core.units import BOHR_A, HARTREE_eV, KB_eV_PER_K
from alfw.labelers._judge import RESULT, error_json

REMEDIES = {"mixer_damping": "mixer-damping", "mixer_memory": "mixer-memory", "guess": "guess"}


def version() -> str:
    """Version of the library, e.g. ``0.8.0``."""
    return ".".join(str(part) for part in library.get_version())


def compute(frame: Frame, settings: Mapping[str, Any]) -> dict[str, bytes]:
    """``result.json`` in atomic units, or with the library's error.

    Parameters
    ----------
    frame : Frame
    settings : mapping
        method, accuracy, electronic_temperature_K, max_iterations; those of `REMEDIES` where given.
    """
    try:
        calculator = _calculator(frame, settings)
        result = calculator.singlepoint()
    except (TBLiteRuntimeError, TBLiteValueError) as error:
        return {RESULT: error_json(error)}
    values = {
        "energy_hartree": float(result.get("energy")),
        "gradient_hartree_per_bohr": np.asarray(result.get("gradient")).tolist(),
        "charges_e": np.asarray(result.get("charges")).tolist(),
    }
    if frame.periodic:
        values["virial_hartree"] = np.asarray(result.get("virial")).tolist()
    else:
        values["dipole_e_bohr"] = np.asarray(result.get("dipole")).tolist()
    return {RESULT: json.dumps(values).encode()}


def _calculator(frame: Frame, settings: Mapping[str, Any]) -> Calculator:
    """The calculator of this frame."""
    calculator = Calculator(
        settings["method"],
        frame.numbers,
        frame.positions / BOHR_A,
        charge=float(frame.charge),
        uhf=frame.multiplicity - 1,
        lattice=frame.cell / BOHR_A if frame.periodic else None,
        periodic=frame.pbc if frame.periodic else None,
    )
    calculator.set("verbosity", 0)
    calculator.set("accuracy", settings["accuracy"])
    calculator.set("max-iter", settings["max_iterations"])
    calculator.set("temperature", settings["electronic_temperature_K"] * KB_eV_PER_K / HARTREE_eV)
    for name, attribute in REMEDIES.items():
        if name in settings:
            calculator.set(attribute, settings[name])
    return calculator
