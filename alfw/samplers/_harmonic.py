"""The harmonic surface about a minimum of a potential: relaxation, Hessian, vibrations, thermal amplitudes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS

from alfw.core.errors import SamplingError
from alfw.core.frame import Float, Frame
from alfw.core.protocols import Potential
from alfw.core.records import Prediction
from alfw.core.units import FS, KB_eV_PER_K

HBAR_eV_fs = 0.6582119569  # CODATA 2018
C_cm_PER_fs = 2.99792458e-5
AT_ONCE = 64  # frames predicted at once
Statistics = Literal["classical", "wigner"]


class NotFiniteError(SamplingError):
    """The potential says NaN or infinity of a frame."""


class MeanCalculator(Calculator):
    """Mean energy and forces of an ensemble, for ASE's optimizers; raises NotFiniteError."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, potential: Potential, start: Frame) -> None:
        super().__init__()
        self.potential, self.start = potential, start

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute energy and forces; ASE calls it."""
        super().calculate(atoms, properties, system_changes)
        frame = self.start.moved(self.atoms.positions)  # type: ignore[union-attr]
        said = self.potential.predict([frame])
        self.results = {"energy": float(said.energy[:, 0].mean()), "forces": finite_mean(said, [frame])[0]}


def mean_forces(potential: Potential, frames: Sequence[Frame]) -> list[Float]:
    """B × (n, 3) eV/Å: means over the members; raises NotFiniteError."""
    found: list[Float] = []
    for first in range(0, len(frames), AT_ONCE):
        some = frames[first : first + AT_ONCE]
        found += finite_mean(potential.predict(some), some)
    return found


def finite_mean(said: Prediction, frames: Sequence[Frame]) -> list[Float]:
    """B × (n, 3) eV/Å: means over the members of the forces predicted; raises NotFiniteError."""
    for frame, forces in zip(frames, said.forces, strict=True):
        if not np.isfinite(forces).all():
            raise NotFiniteError(f"frame {frame.id[:12]}: the potential's forces are not finite")
    return [forces.mean(0) for forces in said.forces]


def relaxed(potential: Potential, start: Frame, force_eV_per_A: float, steps: int) -> tuple[Frame, bool]:
    """The frame after at most so many steps downhill in its cell, and whether all forces are below the tolerance."""
    atoms = start.to_atoms()
    atoms.calc = MeanCalculator(potential, start)
    done = BFGS(atoms, logfile=None).run(fmax=force_eV_per_A, steps=steps)
    return start.moved(atoms.positions), bool(done)


@dataclass(frozen=True, eq=False)
class Vibrations:
    """Normal modes about a frame.

    Attributes
    ----------
    frame : Frame
        Where the surface is expanded.
    curvature : (m,) float64, eV/(Å² amu)
        ω² of each mode; negative where the surface falls.
    modes : (m, n, 3) float64, amu^−½
        Cartesian displacements of the modes per unit of their normal coordinate.
    """

    frame: Frame
    curvature: Float
    modes: Float

    def per_cm(self) -> Float:
        """(m,) cm^−1: wavenumbers; negative = imaginary."""
        omega = np.sqrt(np.abs(self.curvature)) * FS  # rad/fs
        return np.asarray(np.sign(self.curvature) * omega / (2 * np.pi * C_cm_PER_fs))

    def widths(self, temperature_K: float, statistics: Statistics, least_per_cm: float) -> Float:
        """(m,) Å amu^½: standard deviations of the normal coordinates, of frequencies of `least_per_cm` at least.

        Source
        ------
        Classical: ½ ω² <q²> = kT / 2. Wigner: <q²> = ħ / 2ω · coth(ħω / 2kT), R. Schinke, Photodissociation Dynamics
        (1993), eq. 5.32.
        """
        omega = 2 * np.pi * C_cm_PER_fs / FS * np.maximum(self.per_cm(), least_per_cm)
        kT, hbar = KB_eV_PER_K * temperature_K, HBAR_eV_fs * FS
        if statistics == "classical":
            return np.asarray(np.sqrt(kT) / omega)
        return np.asarray(np.sqrt(hbar / (2 * omega) / np.tanh(hbar * omega / (2 * kT))))

    def displaced(self, q: Float) -> Frame:
        """The frame at normal coordinates q (m,) Å amu^½."""
        return self.frame.moved(self.frame.positions + np.tensordot(q, self.modes, 1))


def vibrations(potential: Potential, frame: Frame, step_A: float) -> Vibrations:
    """The normal modes of the atoms that may move, without translations and, of molecules, rotations.

    The Hessian is a central difference of the mean forces; raises NotFiniteError.
    """
    free = np.flatnonzero(frame.free)
    root = np.sqrt(np.repeat(frame.masses[free], 3))  # type: ignore[index]
    shifts = np.zeros((3 * len(free), len(frame), 3))
    shifts[np.arange(3 * len(free)), np.repeat(free, 3), np.tile(np.arange(3), len(free))] = step_A
    there = [frame.moved(frame.positions + sign * shift) for sign in (1, -1) for shift in shifts]
    forces = np.array([f[free].ravel() for f in mean_forces(potential, there)])
    forward, backward = np.split(forces, 2)
    hessian = (backward - forward) / (2 * step_A)
    weighted = (hessian + hessian.T) / 2 / root / root[:, None]
    inner = _inner_space(frame, root)
    curvature, vectors = np.linalg.eigh(inner.T @ weighted @ inner)
    modes = np.zeros((len(curvature), len(frame), 3))
    modes[:, free] = ((inner @ vectors).T / root).reshape(len(curvature), -1, 3)
    return Vibrations(frame, curvature, modes)


def _inner_space(frame: Frame, root: Float) -> Float:
    """(3f, m): orthonormal mass-weighted displacements that neither shift nor, of a molecule, turn the free atoms.

    With atoms that are fixed there is nothing to take out.
    """
    if frame.fixed is not None:
        return np.eye(len(root))
    outer: list[Any] = [np.tile(axis, len(frame)) for axis in np.eye(3)]
    if not frame.periodic:
        x = frame.positions - np.average(frame.positions, axis=0, weights=frame.masses)
        outer += [np.cross(axis, x).ravel() for axis in np.eye(3)]
    u, size, _ = np.linalg.svd((np.array(outer) * root).T)
    return u[:, int((size > 1e-4 * size.max()).sum()) :]  # of linear molecules one rotation is none
