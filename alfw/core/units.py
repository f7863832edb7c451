"""Conversion factors to alfw's units: eV, Å, fs, eV/Å, e·Å, K, amu.

Source: CODATA 2018 (NIST); the same values as `ase.units` to 1e-9 relative, except that ASE defaults to CODATA 2014.
"""

from __future__ import annotations

HARTREE_eV = 27.211386245988
BOHR_A = 0.529177210903
HARTREE_PER_BOHR_eV_PER_A = HARTREE_eV / BOHR_A
DEBYE_eA = 0.20819433  # 1 D in e·Å
EV_PER_A3_GPa = 160.21766208
KB_eV_PER_K = 8.617333262e-5
# amu (Å/fs)^2 in eV: kinetic energy of 1 amu at 1 Å/fs is half of this.
AMU_A2_PER_FS2_eV = 103.64269652680505
# The time unit of a program that takes eV, Å and amu as they are (jax-md, ASE) is sqrt(amu Å^2/eV) = 10.18 fs.
FS = AMU_A2_PER_FS2_eV**-0.5
