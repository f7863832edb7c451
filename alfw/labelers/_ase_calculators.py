"""One single point with any ASE calculator."""

from __future__ import annotations

import json
from contextlib import chdir, suppress
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from alfw.core.errors import ExecutableError
from alfw.core.frame import Frame
from alfw.labelers._judge import RESULT, error_json


@lru_cache(maxsize=4)
def calculator(target: str, options: str) -> Calculator:
    """The calculator ``module:callable`` with these options (JSON); kept, as making one may load a model.

    Raises
    ------
    ExecutableError
        There is no such callable here, or it refuses the options.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)(**json.loads(options))  # type: ignore[no-any-return]
    except Exception as error:  # code of others, any error: this worker or these options cannot work
        raise ExecutableError(f"calculator {target!r}: {type(error).__name__}: {error}") from error


def version(target: str) -> str:
    """Package and version that a calculator comes from, as far as the installation tells."""
    package = target.partition(":")[0].partition(".")[0]
    try:
        return f"{package} {installed(package)}"
    except PackageNotFoundError:
        return package


def compute(calc: Calculator, frame: Frame, workdir: Path) -> dict[str, bytes]:
    """``result.json`` in eV and Å, or with the calculator's error; what the calculator writes goes to `workdir`.

    The energy is the free one where the calculator has it: the forces are its derivative, not that of the energy
    for σ → 0. A dipole of a charged frame depends on an origin that ASE does not define, and is left out.
    """
    atoms = frame.to_atoms()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with chdir(workdir):  # programs behind a calculator leave files that the next frame must not find
            calc.reset()  # nothing of an earlier frame, which may have failed half-way
            atoms.calc = calc
            values: dict[str, Any] = {"forces": atoms.get_forces(apply_constraint=False).tolist()}
            energy = atoms.get_potential_energy()
            values["energy"] = float(calc.results.get("free_energy", energy))
            values |= _optional(calc, atoms, frame)
    except Exception as error:  # any calculator, any error: recorded with its own words, judged by the parser
        return {RESULT: error_json(error)}
    return {RESULT: json.dumps(values).encode()}


def _optional(calc: Calculator, atoms: Atoms, frame: Frame) -> dict[str, Any]:
    """Stress, dipole and charges, as far as they mean something and the calculator has them after all."""
    offered = set(calc.implemented_properties)
    values: dict[str, Any] = {}
    if frame.pbc.all() and "stress" in offered:
        with suppress(PropertyNotImplementedError):
            values["stress"] = atoms.get_stress(voigt=False, apply_constraint=False).tolist()
    if not frame.periodic and frame.charge == 0 and "dipole" in offered:
        with suppress(PropertyNotImplementedError):
            values["dipole"] = np.asarray(atoms.get_dipole_moment()).tolist()
    if np.shape(calc.results.get("charges")) == (len(atoms),):
        values["charges"] = np.asarray(calc.results["charges"]).tolist()
    return values
