"""A molecule to begin with, relaxed by the potential that will move it."""

from __future__ import annotations

import io

import numpy as np
from ase.build import molecule

from alfw.core.errors import ConfigError, SamplingError
from alfw.core.frame import Frame
from alfw.core.protocols import Potential

MOLECULES = ("CO2", "H2O")
CALM_eV_PER_A, CONVERGED_eV_PER_A, MOST_STEPS = 0.1, 0.01, 100


def named_molecule(name: str) -> Frame:
    """The molecule of this name at its experimental geometry, as ASE has it.

    Raises
    ------
    ConfigError
        Another name.
    """
    if name.upper() not in MOLECULES:
        raise ConfigError(
            f"--molecule {name}: known are {', '.join(MOLECULES)}; others by --geometry FILE.xyz"
        )
    return Frame.from_atoms(molecule(name.upper()))


def relaxed(potential: Potential, frame: Frame) -> tuple[Frame, str, str]:
    """The frame relaxed with BFGS, where its largest force is above 0.1 eV/Å; the log; and what was done, in a line.

    Raises
    ------
    SamplingError
        A force is not finite.
    """
    from ase.optimize import BFGS

    from alfw.models.calculator import EnsembleCalculator

    atoms = frame.to_atoms()
    atoms.calc = EnsembleCalculator(potential)
    before = _largest(atoms.get_forces())
    if before <= CALM_eV_PER_A:
        return frame, "", f"geometry: not relaxed, its largest force is {before:.3g} eV/Å"
    log = io.StringIO()
    optimizer = BFGS(atoms, logfile=log)
    done = False
    for reached in optimizer.irun(fmax=CONVERGED_eV_PER_A, steps=MOST_STEPS):
        done = bool(reached)
        _largest(atoms.get_forces())
    text = log.getvalue()
    after = _largest(atoms.get_forces())
    how = "relaxed" if done else f"not relaxed to {CONVERGED_eV_PER_A} eV/Å"
    line = f"geometry: {how} in {optimizer.nsteps} steps, largest force {before:.3g} → {after:.3g} eV/Å"
    return frame.moved(atoms.positions), text, line


def _largest(forces: np.ndarray) -> float:
    if not np.isfinite(forces).all():
        raise SamplingError("the potential's forces on the start are not finite: another --geometry or model")
    return float(np.linalg.norm(forces, axis=1).max())
