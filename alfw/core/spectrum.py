"""Infrared spectrum of a trajectory: what its changing dipole moment absorbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from alfw.core.autocorrelation import autocorrelation
from alfw.core.errors import DataError
from alfw.core.frame import Float
from alfw.core.units import AMU_A2_PER_FS2_eV, KB_eV_PER_K

Window = Literal["blackman", "hann"]
Correction = Literal["harmonic", "standard", "schofield"]

C_CM_PER_FS = 2.99792458e-5
HBAR_eV_FS = 0.6582119569
# Integrated absorption of a mode whose dipole moment changes by 1 e per amu^(1/2) Å of its coordinate:
# N_A e^2 / (12 ε0 c^2 amu), CODATA 2018; 1 (D/Å)^2/amu has 42.256 km/mol.
KM_PER_MOL = 974.8801
# Width at half height of the transform of a window, over that of an oblong one of the same length.
# Source: Harris, doi:10.1109/PROC.1978.10837, table 1, 6.0-dB bandwidth.
WIDTH: dict[str, float] = {"hann": 2.00, "blackman": 2.35}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """An infrared spectrum.

    Attributes
    ----------
    wavenumber_per_cm : (M,) float64
        Equally spaced, from 0.
    intensity_km_cm_per_mol : (M,) float64
        Napierian molar absorption per wavenumber: its integral over a band in 1/cm is the band's intensity in km/mol.
        Slightly negative beside strong bands, as the window's transform is.
    resolution_per_cm : float
        Width at half height of a sharp line.
    nyquist_per_cm : float
        The highest wavenumber that the interval between frames can show; what vibrates faster appears elsewhere.
    """

    wavenumber_per_cm: Float
    intensity_km_cm_per_mol: Float
    resolution_per_cm: float
    nyquist_per_cm: float

    def band(self, low: float, high: float) -> float:
        """Intensity (km/mol) between two wavenumbers (1/cm)."""
        inside = (self.wavenumber_per_cm >= low) & (self.wavenumber_per_cm <= high)
        return float(np.trapezoid(self.intensity_km_cm_per_mol[inside], self.wavenumber_per_cm[inside]))

    def peaks(self, share: float = 0.02, most: int = 10) -> list[tuple[float, float]]:
        """(wavenumber, intensity) of maxima above this share of the highest, the strongest first.

        Of maxima closer than five times the resolution only the strongest: a band that rotation splits is one band.
        """
        x, y = self.wavenumber_per_cm, self.intensity_km_cm_per_mol
        rises = np.flatnonzero((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:]) & (y[1:-1] > share * y.max())) + 1
        found: list[tuple[float, float]] = []
        for i in rises[np.argsort(-y[rises], kind="stable")]:
            if len(found) < most and all(
                abs(x[i] - place) > 5 * self.resolution_per_cm for place, _ in found
            ):
                found.append((float(x[i]), float(y[i])))
        return found


def nyquist_per_cm(interval_fs: float) -> float:
    """Wavenumber (1/cm) whose period is twice the interval between frames."""
    return 1 / (2 * interval_fs * C_CM_PER_FS)


def resolution_per_cm(lags: int, interval_fs: float, window: Window) -> float:
    """Width at half height (1/cm) of a sharp line when the autocorrelation is known for this many lags."""
    return WIDTH[window] / (2 * max(lags - 1, 1) * interval_fs * C_CM_PER_FS)


def lags_for(resolution: float, interval_fs: float, window: Window) -> int:
    """Lags of the autocorrelation that this resolution (1/cm) takes; a trajectory should have twice as many frames."""
    return 1 + int(np.ceil(WIDTH[window] / (2 * resolution * interval_fs * C_CM_PER_FS) - 1e-9))


def infrared(
    dipoles: Sequence[ArrayLike],
    interval_fs: float,
    temperature_K: float,
    resolution: float = 10.0,
    window: Window = "blackman",
    correction: Correction = "harmonic",
) -> Spectrum:
    """The infrared spectrum of one molecule, from its dipole moment along trajectories.

    Parameters
    ----------
    dipoles : sequence of (S, 3) float64, e·Å
        Of each trajectory; those shorter than the others count less. At least 4 frames each.
    interval_fs : float
        Between two frames.
    temperature_K : float
        Of the classical motion: the intensity of a band is its motion over the energy kT that a mode should have.
    resolution : float
        1/cm; what half of the shortest trajectory gives, if that is coarser (see `Spectrum.resolution_per_cm`).
    window : {"blackman", "hann"}
        On the autocorrelation. A Hann window resolves a little better and has side lobes of 2.7 % of a line
        (Blackman: 0.1 %).
    correction : {"harmonic", "standard", "schofield"}
        Of a classical correlation function to a quantum one. "harmonic" leaves the classical expression below as it is,
        and is right for harmonic vibrations; the others multiply it by 2 tanh(x/2)/x ("standard") and by
        2 sinh(x/2)/x ("schofield"), x = ħω/kT.

    Raises
    ------
    DataError
        No trajectory, or one that is too short or not finite.

    Source
    ------
    Thomas, Brehm, Fligg, Vöhringer and Kirchner, doi:10.1039/C3CP44302G: the spectrum is the Fourier transform of the
    autocorrelation of dμ/dt, times N_A/(6 ε0 c kT); for a harmonic mode its integral is
    N_A/(12 ε0 c²) |∂μ/∂Q|². Corrections: Ramírez, López-Ciudad, Kumar and Marx, doi:10.1063/1.1774986.
    """
    tracks = [np.asarray(track, np.float64) for track in dipoles]
    if not tracks or min(map(len, tracks)) < 4 or not all(np.isfinite(track).all() for track in tracks):
        raise DataError("a spectrum needs trajectories of 4 frames or more with finite dipole moments")
    lags = min(lags_for(resolution, interval_fs, window), min(map(len, tracks)) // 2)
    change = [np.diff(track, axis=0) / interval_fs for track in tracks]
    weights = np.array([len(each) for each in change], np.float64)
    memory = np.average([autocorrelation(each, lags) for each in change], axis=0, weights=weights)
    wavenumber, power = _transform(memory, interval_fs, window)
    # A difference over one interval is smaller than the derivative; by how much is known for each frequency.
    half = np.pi * wavenumber * C_CM_PER_FS * interval_fs
    power = power / np.sinc(half / np.pi) ** 2
    intensity = KM_PER_MOL * power * AMU_A2_PER_FS2_eV / (KB_eV_PER_K * temperature_K)
    return Spectrum(
        wavenumber,
        intensity * _factor(wavenumber, temperature_K, correction),
        resolution_per_cm(lags, interval_fs, window),
        nyquist_per_cm(interval_fs),
    )


def overlap(a: Spectrum, b: Spectrum) -> float:
    """Cosine of the angle between two spectra, over the wavenumbers that both have: 1 = equal but for a factor."""
    end = min(a.wavenumber_per_cm[-1], b.wavenumber_per_cm[-1])
    step = min(a.wavenumber_per_cm[1], b.wavenumber_per_cm[1])
    grid = np.arange(0.0, end + step / 2, step)
    x, y = (np.interp(grid, s.wavenumber_per_cm, s.intensity_km_cm_per_mol) for s in (a, b))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else float("nan")


def _transform(memory: Float, interval_fs: float, window: Window) -> tuple[Float, Float]:
    """Wavenumbers (1/cm), and the power per wavenumber, whose integral is the autocorrelation at lag 0."""
    lags = len(memory)
    turn = np.pi * np.arange(lags) / max(lags - 1, 1)
    shape = 0.5 + 0.5 * np.cos(turn)
    if window == "blackman":
        shape = 0.42 + 0.5 * np.cos(turn) + 0.08 * np.cos(2 * turn)
    size = 1 << int(8 * lags - 1).bit_length()  # zeros beyond: some points for each line
    padded = np.zeros(size)
    padded[:lags] = memory * shape
    padded[size - lags + 1 :] = padded[1:lags][::-1]  # even, so that its transform is real
    power = 2 * np.fft.rfft(padded).real * interval_fs * C_CM_PER_FS
    return np.asarray(np.fft.rfftfreq(size, interval_fs) / C_CM_PER_FS, np.float64), np.asarray(power)


def _factor(wavenumber: Float, temperature_K: float, correction: Correction) -> Float:
    """What a quantum correction does to the classical expression, by wavenumber (1/cm)."""
    if correction == "harmonic":
        return np.ones_like(wavenumber)
    x = 2 * np.pi * C_CM_PER_FS * HBAR_eV_FS * wavenumber / (KB_eV_PER_K * temperature_K)
    x = np.maximum(x, 1e-9)
    grows = np.tanh if correction == "standard" else np.sinh
    return 2 * grows(x / 2) / x
