"""Infrared spectra from dipole moments whose spectrum is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from alfw.core.autocorrelation import autocorrelation
from alfw.core.errors import DataError
from alfw.core.frame import Frame
from alfw.core.spectrum import (
    C_CM_PER_FS,
    KM_PER_MOL,
    HBAR_eV_FS,
    infrared,
    lags_for,
    nyquist_per_cm,
    overlap,
    resolution_per_cm,
)
from alfw.core.units import AMU_A2_PER_FS2_eV, DEBYE_eA, KB_eV_PER_K

KELVIN = 300.0


def vibration(wavenumber: float, change: float, n: int, dt_fs: float, phase: float = 0.3) -> np.ndarray:
    """(n,) e·Å: the dipole of a harmonic mode with the energy kT; `change` e/√amu per Å of its coordinate."""
    omega = 2 * np.pi * C_CM_PER_FS * wavenumber
    amplitude = np.sqrt(2 * KB_eV_PER_K * KELVIN / AMU_A2_PER_FS2_eV) / omega
    return change * amplitude * np.sin(omega * dt_fs * np.arange(n) + phase)


def modes(
    frame: Frame, bonds: Sequence[tuple[int, int]], spring: float, charges: Sequence[float]
) -> list[Any]:
    """(wavenumber 1/cm, intensity km/mol) of the harmonic vibrations of springs along these bonds, ascending."""
    n, hessian = len(frame), np.zeros((3 * len(frame), 3 * len(frame)))
    for i, j in bonds:
        along = np.zeros((n, 3))
        along[i] = frame.positions[i] - frame.positions[j]
        along[i] /= np.linalg.norm(along[i])
        along[j] = -along[i]
        hessian += spring * np.outer(along.ravel(), along.ravel())
    roots = np.sqrt(np.repeat(np.asarray(frame.masses), 3))
    square, vectors = np.linalg.eigh(hessian / np.outer(roots, roots))
    moves = (vectors / roots[:, None]).reshape(n, 3, -1)
    change = np.einsum("a,akm->km", np.asarray(charges), moves)  # of the dipole with each mode's coordinate
    place = np.sqrt(np.maximum(square, 0) / AMU_A2_PER_FS2_eV) / (2 * np.pi * C_CM_PER_FS)
    strength = KM_PER_MOL * (change**2).sum(0)
    return [(p, s) for p, s in zip(place, strength, strict=True) if p > 1.0]


def test_the_autocorrelation_is_the_sum_it_says():
    series = np.random.default_rng(0).normal(size=(40, 3))
    direct = [np.mean([series[i] @ series[i + lag] for i in range(40 - lag)]) for lag in range(12)]
    assert autocorrelation(series, 12) == pytest.approx(np.array(direct))


@pytest.mark.parametrize("window", ["hann", "blackman"])
@pytest.mark.parametrize("dt_fs", [0.5, 2.0])
def test_two_vibrations_have_their_wavenumbers_and_intensities(window, dt_fs):
    n = int(16000 / dt_fs)
    dipole = np.zeros((n, 3))
    dipole[:, 0] = vibration(1234.0, 0.20, n, dt_fs) + 5.0  # a permanent dipole moment does not absorb
    dipole[:, 2] = vibration(3600.0, 0.10, n, dt_fs)
    found = infrared([dipole], dt_fs, KELVIN, 10.0, window)
    (strong, _), (weak, _) = found.peaks(most=2)
    assert abs(strong - 1234.0) < 1.0 and abs(weak - 3600.0) < 1.0
    # 42.256 km/mol for a change of 1 D/Å amu^(1/2); the difference of dipoles over 2 fs must not weaken the fast one
    assert found.band(1100, 1400) == pytest.approx(42.2561 * (0.20 / DEBYE_eA) ** 2, rel=2e-3)
    assert found.band(3400, 3800) == pytest.approx(KM_PER_MOL * 0.10**2, rel=2e-3)


@pytest.mark.parametrize("window", ["hann", "blackman"])
def test_a_sharp_line_is_as_wide_as_the_resolution(window):
    found = infrared([np.outer(vibration(1500.0, 0.2, 20000, 1.0), [0, 0, 1])], 1.0, KELVIN, 20.0, window)
    x, y = found.wavenumber_per_cm, found.intensity_km_cm_per_mol
    fine = np.linspace(1400, 1600, 20001)
    above = fine[np.interp(fine, x, y) > y.max() / 2]
    assert np.ptp(above) == pytest.approx(found.resolution_per_cm, rel=0.04)
    assert found.resolution_per_cm == pytest.approx(20.0, rel=0.01)


def test_a_short_run_resolves_less_and_says_so():
    found = infrared([np.outer(vibration(1500.0, 0.2, 400, 1.0), [0, 0, 1])], 1.0, KELVIN, 5.0)
    assert found.resolution_per_cm == pytest.approx(resolution_per_cm(200, 1.0, "blackman"))
    assert found.resolution_per_cm > 100
    assert resolution_per_cm(lags_for(5.0, 1.0, "hann"), 1.0, "hann") <= 5.0


def test_what_is_faster_than_nyquist_appears_elsewhere():
    """4000/cm saved every 5 fs: folded about 3336/cm."""
    assert nyquist_per_cm(5.0) == pytest.approx(3335.6, abs=0.1)
    found = infrared([np.outer(vibration(4000.0, 0.2, 4000, 5.0), [1, 0, 0])], 5.0, KELVIN)
    [(seen, _), *_] = found.peaks()
    assert seen == pytest.approx(2 * nyquist_per_cm(5.0) - 4000.0, abs=2.0)


def test_corrections_are_what_their_names_say():
    dipole = np.outer(vibration(2000.0, 0.2, 16000, 1.0), [1, 0, 0])
    x = HBAR_eV_FS * 2 * np.pi * C_CM_PER_FS * 2000.0 / (KB_eV_PER_K * KELVIN)
    plain = infrared([dipole], 1.0, KELVIN).band(1900, 2100)
    # (1 − exp(−x))/x times the factor of the correlation function: 2/(1 + exp(−x)), and exp(x/2)
    left = (1 - np.exp(-x)) / x
    standard = infrared([dipole], 1.0, KELVIN, correction="standard").band(1900, 2100)
    schofield = infrared([dipole], 1.0, KELVIN, correction="schofield").band(1900, 2100)
    assert standard / plain == pytest.approx(left * 2 / (1 + np.exp(-x)), rel=1e-3)
    assert schofield / plain == pytest.approx(left * np.exp(x / 2), rel=1e-3)


def test_trajectories_are_averaged_by_their_length():
    long, short = (np.outer(vibration(1000.0, 0.2, n, 1.0), [1, 0, 0]) for n in (12001, 4001))
    silent = np.zeros_like(short)
    whole = infrared([long], 1.0, KELVIN, 50.0).band(900, 1100)
    assert infrared([long, silent], 1.0, KELVIN, 50.0).band(900, 1100) == pytest.approx(
        0.75 * whole, rel=1e-3
    )


def test_spectra_overlap():
    one, other = (
        infrared([np.outer(vibration(nu, 0.2, 8000, 1.0), [1, 0, 0])], 1.0, KELVIN) for nu in (1500, 1700)
    )
    finer = infrared([np.outer(vibration(1500, 0.4, 16000, 0.5), [1, 0, 0])], 0.5, KELVIN)
    assert overlap(one, one) == pytest.approx(1.0)
    assert overlap(one, finer) == pytest.approx(1.0, abs=0.01)  # four times as strong, another grid
    assert abs(overlap(one, other)) < 0.01


def test_no_spectrum_of_nothing():
    for bad in ([], [np.zeros((3, 3))], [np.full((10, 3), np.nan)]):
        with pytest.raises(DataError, match="4 frames or more with finite"):
            infrared(bad, 1.0, KELVIN)


def test_the_symmetric_stretch_of_carbon_dioxide_is_dark():
    """A linear molecule whose two stretches move with kT each: only the antisymmetric one changes the dipole."""
    frame, charges = Frame([6, 8, 8], [[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]]), np.array([0.7, -0.35, -0.35])
    (dark, nothing), (bright, strength) = modes(frame, [(0, 1), (0, 2)], 90.0, charges)
    assert nothing == pytest.approx(0.0, abs=1e-9) and strength > 10
    masses, n = np.asarray(frame.masses), 8000
    symmetric = np.array([0.0, 1.0, -1.0]) / np.sqrt(2 * masses[1])
    other = np.array([-2 * masses[1] / masses[0], 1.0, 1.0])
    other /= np.sqrt((masses * other**2).sum())
    z = np.outer(vibration(dark, 1.0, n, 1.0), symmetric) + np.outer(vibration(bright, 1.0, n, 1.0), other)
    dipole = np.zeros((n, 3))
    dipole[:, 2] = (z + frame.positions[:, 2]) @ charges
    found = infrared([dipole], 1.0, KELVIN)
    [(place, _)] = found.peaks()
    assert place == pytest.approx(bright, abs=1.0)
    assert found.band(bright - 150, bright + 150) == pytest.approx(strength, rel=5e-3)
    assert abs(found.band(dark - 150, dark + 150)) < 1e-3 * strength
