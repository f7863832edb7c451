"""Hand-made outputs of Gaussian, from the documented format: what is printed where in a Force or Opt job."""

from __future__ import annotations

import numpy as np

from alfw.core.units import BOHR_A, HARTREE_eV, HARTREE_PER_BOHR_eV_PER_A

HEAD = """ Entering Gaussian System, Link 0=g16
 Entering Link 1 = /opt/g16/l1.exe PID=      4711.
 Gaussian {major}:  ES64L-G{major}RevC.01  3-Jul-2019
 ----------------------------------------------------------------------
 {route}
 ----------------------------------------------------------------------
 Symbolic Z-matrix:
 Charge = {charge:2d} Multiplicity = {multiplicity}
 Standard basis: def2SVP (5D, 7F)
"""
END = " Normal termination of Gaussian 16 at Sat Nov 21 12:00:00 2026.\n"
ROUTE = "#P PBE1PBE/def2SVP Force Integral=(Grid=UltraFine) SCF=(Conver=8,\n MaxCycle=128)"
UNCONVERGED = " >>>>>>>>>> Convergence criterion not met.\n"


def orientation(name, numbers, positions):
    rows = "".join(
        f"{i:7d}{z:11d}{0:12d}    " + "".join(f"{x:12.6f}" for x in r) + "\n"
        for i, (z, r) in enumerate(zip(numbers, positions, strict=True), 1)
    )
    line = f" {'-' * 69}\n"
    title = " Center     Atomic      Atomic             Coordinates (Angstroms)\n"
    return f"{name + ' orientation:':>45s}\n{line}{title} Number     Number       Type   X  Y  Z\n{line}{rows}{line}"


def forces_table(numbers, forces):
    atomic = forces / HARTREE_PER_BOHR_eV_PER_A
    rows = "".join(
        f"{i:7d}{z:9d}     " + "".join(f"{x:15.9f}" for x in f) + "\n"
        for i, (z, f) in enumerate(zip(numbers, atomic, strict=True), 1)
    )
    line = f" {'-' * 67}\n"
    title = " Center     Atomic                   Forces (Hartrees/Bohr)\n"
    atomic = np.round(atomic, 9)
    extent = f"{np.abs(atomic).max():15.9f} RMS {np.sqrt((atomic**2).mean()):15.9f}"
    names = " Number     Number              X              Y              Z\n"
    return f"{line}{title}{names}{line}{rows}{line} Cartesian Forces:  Max {extent}\n"


def scf(energy, method="RPBE1PBE", converged=True):
    done = f" SCF Done:  E({method}) = {energy / HARTREE_eV:16.9f}     A.U. after   12 cycles\n"
    return ("" if converged else UNCONVERGED) + done


def mulliken(symbols, charges):
    rows = "".join(
        f"{i:6d}  {s:2s}{q:12.6f}\n" for i, (s, q) in enumerate(zip(symbols, charges, strict=True), 1)
    )
    return f" Mulliken charges:\n               1\n{rows}"


def fortran(number):
    mantissa, exponent = f"{number:.8e}".split("e")
    return f"{mantissa}D{int(exponent):+03d}".rjust(15)


def step(frame, energy, forces, *, dipole=None, turn=None, middle="", positions=None):
    """One ionic step; `turn`: from the frame's orientation to the standard one, where there is one.

    `dipole` (e·Å) is about the origin of the frame; `middle` is printed between SCF and forces.
    """
    positions = frame.positions if positions is None else positions
    text = orientation("Input", frame.numbers, positions)
    printed = dipole
    if turn is None:
        text += " Symmetry turned off by external request.\n"
    else:
        centre = np.average(positions, axis=0, weights=frame.numbers)
        text += orientation("Standard", frame.numbers, (positions - centre) @ turn.T)
        printed = None if dipole is None else turn @ (dipole - frame.charge * centre)
    text += scf(energy) if isinstance(energy, float) else energy
    text += middle
    if printed is not None:
        text += " Dipole        =" + "".join(fortran(x) for x in printed / BOHR_A) + "\n"
    return text + " ***** Axes restored to original set *****\n" + forces_table(frame.numbers, forces)


def log(frame, *parts, route=ROUTE, major="16", end=END):
    """A whole job."""
    head = HEAD.format(major=major, route=route, charge=frame.charge, multiplicity=frame.multiplicity)
    return (head + "".join(parts) + end).encode()


def failed(lines):
    """A job that ends with these lines."""
    head = HEAD.format(major="16", route=ROUTE, charge=0, multiplicity=1)
    return f"{head} (Enter /opt/g16/l502.exe)\n{lines}\n".encode()
